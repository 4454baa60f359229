"""The convolution experts of Conv-LoRA, exact and at a cost that hardly depends on their scale.

The reference enlarges a map bicubically by s, convolves, applies GELU and reduces bicubically. The
reduction has no antialias, so it reads few of the s * s enlarged pixels of a cell: one row and one
column for an odd s, four of each for an even s. Convolution and GELU are computed there only, and
each value that the convolution reads is a fixed combination of the small map. Nothing is enlarged.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = [
    "AxisProducts",
    "ConvExpert",
    "Stencil",
    "apply_expert",
    "apply_experts",
    "axis_products",
    "stencil",
    "stencil_table",
]

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


class AxisProducts(NamedTuple):
    """The stencil of an axis as the products of one expert take it.

    Attributes:
        before: ``[3, n, P n]``: n values times ``before[e]`` are what tap e reads at all places.
        after: ``[P n, 3 n]``: times what three taps made of n values, summed over the taps.
        reduce: ``[P n, n]``: values at all places times this are what the reduction makes of them.
        weights: ``[P]``, as in :class:`Stencil`.
    """

    before: Tensor
    after: Tensor
    reduce: Tensor
    weights: Tensor


@lru_cache(maxsize=256)
def axis_products(n: int, scale: int, device: torch.device, dtype: torch.dtype) -> AxisProducts:
    """Return the products of an axis of n cells, kept for each size, scale, device and dtype."""
    with torch.inference_mode(False), torch.no_grad():  # As for the tables.
        matrix, weights = (part.to(device, dtype) for part in stencil(n, scale))
        places = len(weights)
        before = matrix.permute(1, 3, 0, 2).reshape(_TAPS, n, places * n)
        after = matrix.transpose(1, 2).reshape(places * n, _TAPS * n)
        reduce = torch.kron(weights[:, None], torch.eye(n, device=device, dtype=dtype))
        return AxisProducts(before, after, reduce, weights)


def apply_expert(z: Tensor, kernel: Tensor, bias: Tensor, scale: int) -> Tensor:
    """Apply one expert to all maps, in few and large products.

    Its gradients have no gradients, and ``torch.func`` does not take it apart. Autocast has to be
    off.

    Args:
        z: Maps ``[S, r, H, W]``.
        kernel: Convolution kernel ``[r, r, 3, 3]``.
        bias: ``[r]``.
        scale: Factor of the enlargement.

    Returns:
        Maps ``[S, r, H, W]``.
    """
    if torch.is_grad_enabled():
        out = _Expert.apply(z, kernel, bias, scale)
        assert isinstance(out, Tensor)
        return out
    return _convolve(z, kernel, bias, scale)[0]


class _Expert(torch.autograd.Function):
    """One expert with its derivative written out.

    The products are small: what autograd adds to each of them, and to each of the views between
    them, takes as long as they do.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, kernel: Tensor, bias: Tensor, scale: int) -> Tensor:
        out, *kept = _convolve(z, kernel, bias, scale)
        ctx.save_for_backward(*kept)
        ctx.shape, ctx.scale = z.shape, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        across, mix, before_gelu = ctx.saved_tensors
        s, r, h, w = ctx.shape
        rows, cols = (axis_products(n, ctx.scale, mix.device, mix.dtype) for n in (h, w))
        places = len(cols.weights)
        own = gradient.permute(1, 2, 0, 3).reshape(r * h * s, w)
        if places > 1:
            own = rows.weights[:, None] * own.mm(cols.reduce.T).view(r, 1, -1)
        own = torch.ops.aten.gelu_backward(own.reshape(before_gelu.shape), before_gelu)
        of_bias = own.sum(dim=(1, 2))
        own = rows.after.T.expand(r, -1, -1).bmm(own).view(r * _TAPS, -1)
        of_mix = own.mm(across.view(_TAPS * r, -1).T)
        of_kernel = of_mix.view(r, _TAPS, _TAPS, r).permute(0, 3, 1, 2)
        own = mix.T.mm(own).view(_TAPS, r * h * s, places * w)
        of_z = own.bmm(cols.before.mT).sum(dim=0)
        return of_z.view(r, h, s, w).permute(2, 0, 1, 3), of_kernel, of_bias, None


def _convolve(
    z: Tensor, kernel: Tensor, bias: Tensor, scale: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what an expert makes of the maps, and what its derivative needs of the way.

    Channels stand in front and maps further behind, so that nothing is copied between the products.
    """
    s, r, h, w = z.shape
    rows, cols = (axis_products(n, scale, z.device, z.dtype) for n in (h, w))
    places = len(cols.weights)
    # The three column taps, mixed over taps and channels to three row taps, then the rows.
    columns = z.permute(1, 2, 0, 3).reshape(r * h * s, w)
    across = columns.expand(_TAPS, -1, -1).bmm(cols.before)
    mix = kernel.permute(0, 2, 3, 1).reshape(r * _TAPS, _TAPS * r)
    mixed = mix.mm(across.view(_TAPS * r, -1)).view(r, _TAPS * h, -1)
    before_gelu = torch.baddbmm(bias[:, None, None], rows.after.expand(r, -1, -1), mixed)
    out = F.gelu(before_gelu)
    if places > 1:
        out = rows.weights.expand(r, 1, -1).bmm(out.view(r, places, -1))
        out = out.view(-1, places * w).mm(cols.reduce)
    return out.view(r, h, s, w).permute(2, 0, 1, 3), across, mix, before_gelu


def apply_experts(z: Tensor, kernel: Tensor, bias: Tensor, rows: Stencil, cols: Stencil) -> Tensor:
    """Apply to each map its own expert, without asking the device which.

    Args:
        z: Maps ``[S, r, H, W]``.
        kernel: Convolution kernels ``[S, r, r, 3, 3]``.
        bias: ``[S, r]``.
        rows: Stencils of the rows, ``[S, P, 3, H, H]``.
        cols: Stencils of the columns, ``[S, P, 3, W, W]``.

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
    return torch.einsum("srpyqx,spq->sryx", out, weights)


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
        with torch.autocast(z.device.type, enabled=False):
            return apply_expert(z, self.weight.to(z.dtype), self.bias.to(z.dtype), self.scale)
