"""LST: a small side network climbs beside the frozen encoder (Sung et al., NeurIPS 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from easyseg.models.backbone import Backbone
from easyseg.models.sam_vit import SamBlock, SamViT

__all__ = ["LadderSide"]

_TEMPERATURE = 0.1


class LadderSide(Backbone):
    """SAM's encoder without a graph, and a ladder of narrow blocks that read from it.

    Beside block i stands a block of the same kind, ``reduction`` times as narrow. It gets ``s_i =
    mu_i D_i(h_i) + (1 - mu_i) s'_(i-1)``: h_i what block i puts out, D_i a trained projection,
    s'_(i-1) what the side block before it put out (at the bottom the projection of what enters the
    first block), ``mu_i = sigmoid(a_i / 0.1)``. No gradient passes through the frozen encoder:
    that saves memory.

    What differs from the paper: the output of the ladder, projected up from zero, is added to that
    of the last block, for neck and decoder were trained on it (theirs takes its place, before a
    head that is not); side blocks start fresh instead of from pruned weights. So the network
    starts as the frozen one.

    Args:
        base: The encoder, which is frozen.
        blocks: The last blocks that have a side block.
        reduction: How many times as narrow the side blocks are; it divides the channels into whole
            ones for each head.
    """

    def __init__(self, base: SamViT, blocks: int, reduction: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.neck = base.neck
        beside = [block for block in base.steps() if isinstance(block, SamBlock)][-blocks:]
        dim = base.pos_embed.shape[-1]
        width = dim // reduction
        self.side_down = nn.ModuleList(nn.Linear(dim, width) for _ in range(blocks + 1))
        self.side_blocks = nn.ModuleList(
            SamBlock(width, block.attn.num_heads, block.window, base.grid) for block in beside
        )
        self.side_gates = nn.Parameter(torch.zeros(blocks))
        self.side_norm = nn.LayerNorm(width, eps=1e-6)
        self.side_up = nn.Linear(width, dim)
        nn.init.zeros_(self.side_up.weight)
        nn.init.zeros_(self.side_up.bias)

    def steps(self) -> Sequence[nn.Module]:
        """Return the frozen blocks."""
        return self.base.steps()

    def attention_blocks(self) -> Sequence[nn.Module]:
        """Return the frozen blocks."""
        return self.base.attention_blocks()

    def embed(self, images: Tensor) -> Tensor:
        """Map images ``[B, 3, H, W]`` to tokens, as the encoder does."""
        return self.base.embed(images)

    def finish(self, features: Tensor) -> Tensor:
        """Map tokens ``[B, h, w, C]`` to the image embedding, as the encoder does."""
        return self.base.finish(features)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch; see :meth:`Backbone.forward`."""
        return self._climb(self._read(images))

    def prefix(self, images: Tensor) -> Tensor:
        """Run the frozen encoder.

        Returns:
            What enters the first block with a side block, and what each of these puts out,
            ``[B, blocks + 1, h, w, C]``.
        """
        return torch.stack(self._read(images), dim=1)

    def suffix(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Run ladder and neck on what :meth:`prefix` returned."""
        return self._climb(features.unbind(1))

    @torch.no_grad()
    def _read(self, images: Tensor) -> list[Tensor]:
        features = self.embed(images)
        read = [features]
        for step in self.steps():
            features, _ = step(features)
            read.append(features)
        return read[-len(self.side_down) :]

    def _climb(self, read: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        side = self.side_down[0](read[0])
        gates = (self.side_gates / _TEMPERATURE).sigmoid()
        rungs = zip(gates, self.side_down[1:], read[1:], self.side_blocks, strict=True)
        for gate, down, features, block in rungs:
            mixed = gate * down(features) + (1 - gate) * side
            side, _ = self._run([block], mixed)
        embedding = self.finish(read[-1] + self.side_up(self.side_norm(side)))
        return embedding, embedding.new_zeros((), dtype=torch.float32)
