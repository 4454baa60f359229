"""The convolution experts of Conv-LoRA, exact and at a cost that hardly depends on their scale.

The reference enlarges a map bicubically by s, convolves, applies GELU and reduces bicubically. The
reduction has no antialias, so it reads few of the s * s enlarged pixels of a cell: one row and one
column for an odd s, four of each for an even s. Convolution and GELU are computed there only, and
each value that the convolution reads is a fixed combination of the small map. Nothing is enlarged.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ConvExpert", "Stencil", "apply_experts", "stencil", "stencil_table"]

_TAPS = 3
# What bicubic reduction by an even factor gives the four values that it reads (a = -0.75).
_EVEN_WEIGHTS: tuple[float, ...] = (-0.09375, 0.59375, 0.59375, -0.09375)
_ODD_WEIGHTS: tuple[float, ...] = (1.0,)


class Stencil(NamedTuple):
    """One axis of one expert's way from the small map to the small map.

    Attributes:
        matrix: ``[P, 3, n, n]``: ``matrix[p, d]`` takes n values to what tap d of the convolution
            reads at the p-th of the P enlarged places that a cell's reduction reads.
        weights: ``[P]``: what the reduction gives each of them.
    """

    matrix: Tensor
    weights: Tensor


def stencil(n: int, scale: int) -> Stencil:
    """Return the stencil of an axis of n cells, float64 on the CPU.

    Args:
        n: Cells of the axis.
        scale: Factor of the enlargement.
    """
    enlarge = torch.eye(n, dtype=torch.float64)
    if scale > 1:
        columns = enlarge[None, :, :, None].transpose(1, 2)
        enlarge = F.interpolate(columns, scale_factor=(float(scale), 1.0), mode="bicubic")
        enlarge = enlarge[0, :, :, 0].T
    if scale % 2:
        first, weights = (scale - 1) // 2, _ODD_WEIGHTS
    else:
        first, weights = scale // 2 - 2, _EVEN_WEIGHTS
    # The reduction repeats the border, the convolution pads with zeros.
    places = torch.arange(n) * scale + first + torch.arange(len(weights))[:, None]
    places = places.clamp(0, n * scale - 1)
    padded = F.pad(enlarge, (0, 0, 1, 1))
    matrix = torch.stack([padded[places + tap] for tap in range(_TAPS)], dim=1)
    return Stencil(matrix, torch.tensor(weights, dtype=torch.float64))


@lru_cache(maxsize=256)
def stencil_table(
    n: int, scales: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> Stencil:
    """Return the stencils of several experts, filled up with zeros to the same number of places.

    Kept for each size, device and dtype: layers of one grid share them.

    Args:
        n: Cells of the axis.
        scales: Scale of each of the E experts.
        device: Where the maps are.
        dtype: Of the maps.

    Returns:
        ``matrix`` ``[E, P, 3, n, n]`` and ``weights`` ``[E, P]``.
    """
    # Whoever asks first may be predicting: an inference tensor would break later training steps.
    with torch.inference_mode(False), torch.no_grad():
        parts = [stencil(n, scale) for scale in scales]
        places = max(len(part.weights) for part in parts)
        matrix = torch.zeros(len(scales), places, _TAPS, n, n, dtype=torch.float64)
        weights = torch.zeros(len(scales), places, dtype=torch.float64)
        for index, part in enumerate(parts):
            matrix[index, : len(part.weights)] = part.matrix
            weights[index, : len(part.weights)] = part.weights
        return Stencil(matrix.to(device, dtype), weights.to(device, dtype))


def apply_experts(z: Tensor, kernel: Tensor, bias: Tensor, rows: Stencil, cols: Stencil) -> Tensor:
    """Apply to each map its own expert, or one expert to all maps.

    Args:
        z: Maps ``[S, r, H, W]``.
        kernel: Convolution kernels ``[S, r, r, 3, 3]``, or ``[1, ...]`` for all maps.
        bias: ``[S, r]`` or ``[1, r]``.
        rows: Stencils of the rows, ``[S, P, 3, H, H]`` or ``[1, ...]``.
        cols: Stencils of the columns, ``[S, P, 3, W, W]`` or ``[1, ...]``.

    Returns:
        Maps ``[S, r, H, W]``.
    """
    s, r, h, w = z.shape
    places = cols.weights.shape[1]
    # One column tap after the other, mixed over the channels, then the rows.
    across = z.reshape(s, r * h, w) @ cols.matrix.flatten(1, 3).mT
    across = across.view(s, r, h, places, _TAPS, w).permute(0, 1, 4, 2, 3, 5)
    mix = kernel.permute(0, 1, 3, 2, 4).reshape(-1, r * _TAPS, r * _TAPS)
    mixed = mix @ across.reshape(s, r * _TAPS, h * places * w)
    down = rows.matrix.transpose(2, 3).reshape(-1, 1, places * h, _TAPS * h)
    out = down @ mixed.view(s, r, _TAPS * h, places * w)
    out = F.gelu(out + bias[:, :, None, None]).view(s, r, places, h, places, w)
    if places == 1:
        return out[:, :, 0, :, 0]
    weights = rows.weights[:, :, None] * cols.weights[:, None, :]
    return torch.einsum("srpyqx,spq->sryx", out, weights.expand(s, -1, -1))


class ConvExpert(nn.Conv2d):
    """One expert: a 3x3 convolution on the feature map seen at ``scale`` times its resolution.

    Bicubic enlargement, convolution, GELU, bicubic reduction to the original grid, as in the
    reference code.

    Args:
        rank: Number of channels r.
        scale: Factor of the enlargement, 1 leaves the map as it is.
    """

    bias: Tensor

    def __init__(self, rank: int, scale: int) -> None:
        super().__init__(rank, rank, kernel_size=_TAPS, padding=1)
        nn.init.zeros_(self.bias)
        self.scale = scale

    def forward(self, z: Tensor) -> Tensor:
        """Apply the expert to feature maps ``[S, r, H, W]``, in their dtype; the shape stays."""
        rows, cols = (stencil_table(n, (self.scale,), z.device, z.dtype) for n in z.shape[-2:])
        kernel, bias = self.weight[None].to(z.dtype), self.bias[None].to(z.dtype)
        return apply_experts(z, kernel, bias, rows, cols)
