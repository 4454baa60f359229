"""SAM's mask decoder without user prompts: batches of images, one mask token a class."""

from __future__ import annotations

import math
from typing import Literal

import torch
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.mask_decoder import MLP
from segment_anything.modeling.transformer import TwoWayTransformer
from torch import Tensor, nn

__all__ = ["Decoder"]


class Decoder(nn.Module):
    """Image embedding to mask logits, four times as fine.

    The two-way transformer, the up-scaling and a hypernetwork MLP for each mask token, as in SAM,
    are trained; SAM's IoU head is left out. All MLPs start as SAM's first one. (A single one for
    all tokens learns to tell classes apart far more slowly: near-equal tokens, near-equal masks.)

    The prompt is constant and frozen: none (the paper), or a box around the whole image, for
    decoders that only ever saw boxes. With the box, SAM's three other mask tokens stay beside as
    frozen companions, for the pretrained decoder attends to them: so it starts where its
    pretraining ended.

    Args:
        num_masks: Number of mask tokens K.
        prompt: ``"none"`` or ``"box"``.
        dim: Channels of the image embedding.
        mlp_dim: Width of the transformer's MLP.
        num_heads: Number of heads of the transformer.
        stride: Input pixels per token of the embedding: the box's corners lie at pixel centres.
    """

    pe_matrix: Tensor
    no_mask_embed: Tensor
    corner_embed: Tensor
    companion_tokens: Tensor

    def __init__(
        self,
        num_masks: int,
        prompt: Literal["none", "box"],
        *,
        dim: int = 256,
        mlp_dim: int = 2048,
        num_heads: int = 8,
        stride: int = 16,
    ) -> None:
        super().__init__()
        self.prompt = prompt
        self.stride = stride
        self.transformer = TwoWayTransformer(
            depth=2, embedding_dim=dim, mlp_dim=mlp_dim, num_heads=num_heads
        )
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(num_masks, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, kernel_size=2, stride=2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.hypernetworks = nn.ModuleList(
            MLP(dim, dim, dim // 8, num_layers=3) for _ in range(num_masks)
        )
        # Frozen parts of SAM's prompt encoder.
        self.register_buffer("pe_matrix", torch.randn(2, dim // 2))
        self.register_buffer("no_mask_embed", torch.randn(dim))
        self.register_buffer("corner_embed", torch.randn(2, dim))
        self.register_buffer("companion_tokens", torch.randn(3, dim))

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Decode a batch.

        Args:
            embedding: Image embeddings ``[B, C, h, w]``.

        Returns:
            Mask logits ``[B, K, 4h, 4w]``, and the decoded mask tokens ``[B, K, C]`` that they
            were made from.
        """
        b, _, h, w = embedding.shape
        num_masks = self.mask_tokens.num_embeddings
        tokens = torch.cat(
            [self.iou_token.weight, self.mask_tokens.weight, self._prompt_tokens(h, w)]
        ).expand(b, -1, -1)
        source = embedding + self.no_mask_embed[:, None, None]
        hidden, source = self.transformer(
            source, self._dense_pe(h, w).expand(b, -1, -1, -1), tokens
        )
        upscaled = self.output_upscaling(source.transpose(1, 2).unflatten(2, (h, w)))
        decoded = hidden[:, 1 : 1 + num_masks]
        kernels = [mlp(decoded[:, k]) for k, mlp in enumerate(self.hypernetworks)]
        masks = torch.einsum("bkc,bchw->bkhw", torch.stack(kernels, dim=1), upscaled)
        return masks, decoded

    def _position_encoding(self, xy: Tensor) -> Tensor:
        """Encode positions in 0..1, ``[..., 2]`` as (x, y), to ``[..., C]`` (random Fourier)."""
        with torch.autocast(xy.device.type, enabled=False):
            phase = 2 * math.pi * ((2 * xy - 1) @ self.pe_matrix)
            return torch.cat([phase.sin(), phase.cos()], dim=-1)

    def _dense_pe(self, h: int, w: int) -> Tensor:
        """Return the positions of the embedding's cells ``[1, C, h, w]``."""
        like = self.pe_matrix
        y = (torch.arange(h, device=like.device, dtype=like.dtype) + 0.5) / h
        x = (torch.arange(w, device=like.device, dtype=like.dtype) + 0.5) / w
        xy = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        return self._position_encoding(xy).permute(2, 0, 1)[None]

    def _prompt_tokens(self, h: int, w: int) -> Tensor:
        """Return the constant prompt: companions and the corners of the whole box, or none."""
        if self.prompt == "none":
            return self.corner_embed[:0]
        # Fills, not a copy of a Python list: no host synchronisation on a GPU.
        fill = self.pe_matrix.new_full
        low = torch.cat([fill((1,), 0.5 / (w * self.stride)), fill((1,), 0.5 / (h * self.stride))])
        corners = self._position_encoding(torch.stack([low, 1 - low])) + self.corner_embed
        return torch.cat([self.companion_tokens, corners])
