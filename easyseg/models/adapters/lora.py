"""LoRA: a trainable low-rank term beside a frozen linear layer (Hu et al., ICLR 2022)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["LoRALinear"]


class LoRALinear(nn.Module):
    """A frozen linear layer plus a trainable low-rank term: ``W0 x + b + (alpha / r) B A x``.

    ``A`` starts Kaiming-uniform and ``B`` at zero, so the layer starts as the frozen one.

    Args:
        base: The pretrained layer; its weight and bias are taken over (not copied) and frozen.
        rank: Width r of the low-rank term, at least 1.
        alpha: The term is scaled by ``alpha / rank``.
        rows: The outputs that get the term, such as queries and values of a fused projection; by
            default all.

    Raises:
        ValueError: If ``rank`` is smaller than 1.

    Example:
        >>> layer = LoRALinear(nn.Linear(8, 12), rank=2)
        >>> layer(torch.zeros(4, 5, 8)).shape
        torch.Size([4, 5, 12])
    """

    rows: Tensor | None

    def __init__(
        self,
        base: nn.Linear,
        rank: int = 3,
        *,
        alpha: float = 32.0,
        rows: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank is {rank}, expected at least 1; leave the layer as it is for 0")
        self.weight = base.weight.requires_grad_(False)
        self.bias = None if base.bias is None else base.bias.requires_grad_(False)
        self.rank = rank
        self.alpha = alpha
        device = base.weight.device
        places = None if rows is None else torch.tensor(rows, dtype=torch.int64, device=device)
        self.register_buffer("rows", places, persistent=False)
        changed = base.out_features if rows is None else len(rows)
        self.lora_A = nn.Parameter(base.weight.new_empty(rank, base.in_features))
        self.lora_B = nn.Parameter(base.weight.new_zeros(changed, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    @property
    def scaling(self) -> float:
        """The factor ``alpha / rank`` of the low-rank term."""
        return self.alpha / self.rank

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            x: Features ``[..., in_features]``.

        Returns:
            Features ``[..., out_features]``.
        """
        return self.forward_with_aux(x)[0]

    def forward_with_aux(self, x: Tensor, images: int | None = None) -> tuple[Tensor, Tensor]:
        """Apply the layer and return its auxiliary loss, which is zero for LoRA.

        Args:
            x: Features ``[..., in_features]``.
            images: Number of images that the first axis of ``x`` comes from; LoRA does not ask.

        Returns:
            Features ``[..., out_features]`` and a float32 scalar.
        """
        y = self._frozen_plus_low_rank(x, F.linear(x, self.lora_A))
        return y, x.new_zeros((), dtype=torch.float32)

    def _frozen_plus_low_rank(self, x: Tensor, z: Tensor) -> Tensor:
        """Return ``W0 x + b + (alpha / r) B z``; the term is added in place, in the product itself.

        Args:
            x: Features ``[..., in_features]``.
            z: Low-rank features ``[..., r]``.
        """
        # As a matrix from the start: changing a view in place would cost a copy of its gradient.
        y = F.linear(x.reshape(-1, x.shape[-1]), self.weight, self.bias)
        z = z.reshape(-1, self.rank).to(y.dtype)
        y.addmm_(z, self._whole_b().T.to(y.dtype), alpha=self.scaling)
        return y.view(*x.shape[:-1], y.shape[-1])

    def _whole_b(self) -> Tensor:
        """Return B ``[out_features, r]``, zero for outputs that do not get the term."""
        if self.rows is None:
            return self.lora_B
        return self.lora_B.new_zeros(len(self.weight), self.rank).index_copy(
            0, self.rows, self.lora_B
        )

    def extra_repr(self) -> str:
        """Describe the layer in ``print(module)``."""
        out_features, in_features = self.weight.shape
        return f"{in_features}, {out_features}, rank={self.rank}, alpha={self.alpha}"
