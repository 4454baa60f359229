"""SAM's vision transformer (Kirillov et al., 2023; ViTDet), for any input size and batch.

Parameter names are those of the ``segment_anything`` package, whose building blocks are used; the
attention is our own, which keeps no N x N matrix (``models/attention.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.image_encoder import PatchEmbed
from torch import Tensor, nn
from torch.nn import functional as F

from easyseg.models.adapters import project
from easyseg.models.attention import append_tokens, attention_with_positions, key_positions
from easyseg.models.backbone import (
    Backbone,
    crop_windows,
    fill_windows,
    in_autocast_dtype,
    merge_windows,
    split_windows,
)

__all__ = ["MlpBlock", "RelPosAttention", "SamBlock", "SamViT", "fit_state_to_grid"]


class RelPosAttention(nn.Module):
    """Multi-head attention with SAM's decomposed relative positions.

    Args:
        dim: Number of channels.
        num_heads: Number of heads.
        grid: Height and width of the token grid, of the window in windowed blocks.
    """

    row_offsets: Tensor
    col_offsets: Tensor
    onehot: Tensor

    def __init__(self, dim: int, num_heads: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.num_heads = num_heads
        head_dim = dim // num_heads
        height, width = grid
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * height - 1, head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * width - 1, head_dim))
        rows, cols = torch.arange(height), torch.arange(width)
        self.register_buffer("row_offsets", rows[:, None] - rows + height - 1, persistent=False)
        self.register_buffer("col_offsets", cols[:, None] - cols + width - 1, persistent=False)
        self.register_buffer("onehot", key_positions(grid), persistent=False)

    def rows_of(self, parts: Sequence[str]) -> list[int]:
        """Return the outputs of ``qkv`` that make some of ``"q"``, ``"k"`` and ``"v"``."""
        dim = self.proj.in_features
        starts = ["qkv".index(part) * dim for part in parts]
        return [start + channel for start in starts for channel in range(dim)]

    def forward(
        self, x: Tensor, images: int | None = None, prompts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attend within each grid.

        Args:
            x: Tokens ``[B, H, W, C]``, (H, W) the grid of the constructor.
            images: Number of images that the B grids come from, each B / images in a row.
            prompts: Tokens ``[P, C]`` without a position that all tokens attend to as well.

        Returns:
            Tokens of the same shape and the auxiliary loss of the projections.
        """
        b, h, w, c = x.shape
        qkv, aux = project(self.qkv, x, images)
        # Taken apart where they lie: their gradients need one copy to become that of the product.
        parts = qkv.reshape(b, h * w, 3, self.num_heads, -1).unbind(2)
        q, k, v = (part.transpose(1, 2) for part in parts)
        if prompts is not None:
            own = self.qkv(prompts).view(-1, 3, self.num_heads, k.shape[-1]).permute(1, 2, 0, 3)
            k, v = append_tokens(k, own[1]), append_tokens(v, own[2])
        grid = q.unflatten(2, (h, w))
        rel_h = torch.einsum("bnhwc,hkc->bnhwk", grid, self.rel_pos_h[self.row_offsets].to(q.dtype))
        rel_w = torch.einsum("bnhwc,wkc->bnhwk", grid, self.rel_pos_w[self.col_offsets].to(q.dtype))
        out = attention_with_positions(
            q, k, v, rel_h.flatten(2, 3), rel_w.flatten(2, 3), self.onehot
        )
        out, more = project(self.proj, out.transpose(1, 2).reshape(b, h, w, c), images)
        return out, aux + more


class MlpBlock(nn.Module):
    """Two-layer perceptron."""

    def __init__(self, dim: int, expand: int = 4) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, dim * expand)
        self.lin2 = nn.Linear(dim * expand, dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[B, H, W, C]`` to the same shape and the auxiliary loss of the layers."""
        hidden, aux = project(self.lin1, x)
        y, more = project(self.lin2, F.gelu(hidden))
        return y, aux + more


class SamBlock(nn.Module):
    """Transformer block; ``window`` 0 attends to the whole grid.

    Args:
        dim: Number of channels.
        num_heads: Number of heads.
        window: Side of the windows in tokens, or 0.
        grid: Height and width of the whole token grid.

    Attributes:
        prompts: Trained tokens ``[P, C]`` that all windows attend to (VPT), or None.
    """

    prompts: nn.Parameter | None

    def __init__(self, dim: int, num_heads: int, window: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.window = window
        self.register_parameter("prompts", None)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = RelPosAttention(dim, num_heads, (window, window) if window else grid)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MlpBlock(dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map tokens ``[B, H, W, C]`` to tokens of the same shape and an auxiliary loss."""
        images, height, width, _ = x.shape
        y = in_autocast_dtype(self.norm1(x))
        prompts = None if self.prompts is None else self.norm1(self.prompts)
        if self.window:
            y = fill_windows(y, self.window)
            padded = y.shape[1:3]
            y, aux = self.attn(split_windows(y, self.window), images, prompts)
            y = crop_windows(merge_windows(y, *padded), height, width)
        else:
            y, aux = self.attn(y, images, prompts)
        x = x + y
        y, more = self.mlp(in_autocast_dtype(self.norm2(x)))
        return x + y, aux + more


class SamViT(Backbone):
    """The image encoder of SAM.

    Args:
        grid: Height and width of the token grid, input size / 16.
        embed_dim: Number of channels.
        depth: Number of blocks.
        num_heads: Number of heads.
        global_blocks: Indices of the blocks that attend to the whole grid.
        out_chans: Channels of the image embedding.
        window: Side of the windows of the other blocks, in tokens.
        patch: Side of a patch in pixels.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        *,
        embed_dim: int,
        depth: int,
        num_heads: int,
        global_blocks: Sequence[int],
        out_chans: int = 256,
        window: int = 14,
        patch: int = 16,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.patch_embed = PatchEmbed((patch, patch), (patch, patch), embed_dim=embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, *grid, embed_dim))
        self.blocks = nn.ModuleList(
            SamBlock(embed_dim, num_heads, 0 if i in global_blocks else window, grid)
            for i in range(depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(embed_dim, out_chans, kernel_size=1, bias=False),
            LayerNorm2d(out_chans),
            nn.Conv2d(out_chans, out_chans, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(out_chans),
        )

    def steps(self) -> Sequence[nn.Module]:
        """Return the transformer blocks."""
        return list(self.blocks)

    def attention_blocks(self) -> Sequence[nn.Module]:
        """Return the transformer blocks."""
        return list(self.blocks)

    def embed(self, images: Tensor) -> Tensor:
        """Map images ``[B, 3, H, W]`` to tokens with positions ``[B, H/16, W/16, C]``."""
        return self.patch_embed(images) + self.pos_embed

    def finish(self, features: Tensor) -> Tensor:
        """Map tokens ``[B, h, w, C]`` to the image embedding ``[B, 256, h, w]``."""
        return self.neck(features.permute(0, 3, 1, 2))


def fit_state_to_grid(state: Mapping[str, Tensor], encoder: SamViT) -> dict[str, Tensor]:
    """Resize the positions of a pretrained encoder to the grid of ``encoder``.

    The absolute embedding is resized bicubically without antialias, the relative positions linearly
    as ``segment_anything.modeling.image_encoder.get_rel_pos`` does on each call.

    Args:
        state: State dict of an encoder for some other grid.
        encoder: The encoder that will load it.

    Returns:
        A state dict that fits; tensors that already fit are passed on.
    """
    fitted = dict(state)
    for name, target in encoder.state_dict().items():
        value = fitted.get(name)
        if value is None or value.shape == target.shape:
            continue
        if name == "pos_embed":
            size = target.shape[1:3]
            resized = F.interpolate(value.permute(0, 3, 1, 2), size=size, mode="bicubic")
            fitted[name] = resized.permute(0, 2, 3, 1)
        elif name.endswith(("rel_pos_h", "rel_pos_w")):
            resized = F.interpolate(value.T[None], size=target.shape[0], mode="linear")
            fitted[name] = resized[0].T
    return fitted
