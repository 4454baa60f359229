"""SSF: scale and shift what each frozen layer puts out (Lian et al., NeurIPS 2022)."""

from __future__ import annotations

import torch
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn

from easyseg.models.tiny_vit import ConvBN

__all__ = ["ScaleShift", "scale_and_shift_layers"]


class ScaleShift(nn.Module):
    """A frozen layer whose output is scaled and shifted by channel: ``y = gamma * f(x) + beta``.

    It starts as the frozen layer: gamma at 1, beta at 0 (the authors' code draws them around 1 and
    0 with a deviation of 0.02).

    Args:
        base: The layer, which is frozen.
        features: Channels of its output.
        dim: Their axis: -1, or 1 for maps ``[B, C, H, W]``.

    Example:
        >>> ScaleShift(nn.Conv2d(3, 8, 1), features=8, dim=1)(torch.zeros(2, 3, 4, 4)).shape
        torch.Size([2, 8, 4, 4])
    """

    def __init__(self, base: nn.Module, features: int, dim: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.shape = (features,) if dim == -1 else (features, 1, 1)
        like = next(base.parameters())
        self.scale = nn.Parameter(like.new_ones(features))
        self.shift = nn.Parameter(like.new_zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer, then scale and shift."""
        y: Tensor = self.base(x)
        scale, shift = (v.view(self.shape).to(y.dtype) for v in (self.scale, self.shift))
        return torch.addcmul(shift, y, scale)


def scale_and_shift_layers(module: nn.Module) -> None:
    """Scale and shift behind every linear, convolution and norm layer of a module, in place.

    Convolution and batch normalisation count as one layer, as they are computed.
    """
    for name, layer in module.named_children():
        if isinstance(layer, nn.Linear):
            setattr(module, name, ScaleShift(layer, layer.out_features, -1))
        elif isinstance(layer, nn.LayerNorm):
            setattr(module, name, ScaleShift(layer, len(layer.weight), -1))
        elif isinstance(layer, nn.Conv2d):
            setattr(module, name, ScaleShift(layer, layer.out_channels, 1))
        elif isinstance(layer, ConvBN):
            setattr(module, name, ScaleShift(layer, layer.c.out_channels, 1))
        elif isinstance(layer, LayerNorm2d):
            setattr(module, name, ScaleShift(layer, len(layer.weight), 1))
        else:
            scale_and_shift_layers(layer)
