"""How an image of any size meets the network's input size, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from easyseg.data.label_map import IGNORE

__all__ = ["Geometry", "Normalization", "normalize"]

Normalization = Literal["sam", "minmax"]

# Letterboxed content covers a whole number of logit cells for every backbone (one logit a pixel for
# LiteMedSAM, one for four pixels for SAM), so the way back is an exact crop.
_CELL = 4

_SAM_MEAN = (123.675, 116.28, 103.53)
_SAM_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Geometry:
    """The one description of resizing: used by data set, prediction and scoring.

    Attributes:
        kind: ``"squash"`` resizes each side on its own; ``"letterbox"`` keeps the aspect ratio (to
            within 4 pixels) and pads below and to the right.
        size: Height and width of the network's input in pixels.

    Example:
        >>> Geometry("letterbox", (128, 128)).content((480, 640))
        (96, 128)
    """

    kind: Literal["squash", "letterbox"]
    size: tuple[int, int]

    def content(self, own: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the part of the input that an image of size ``own`` fills."""
        if self.kind == "squash":
            return self.size
        scale = min(side / mine for side, mine in zip(self.size, own, strict=True))
        height, width = (
            min(side, max(_CELL, round(mine * scale / _CELL) * _CELL))
            for side, mine in zip(self.size, own, strict=True)
        )
        return height, width

    def image(self, image: Tensor, normalization: Normalization) -> Tensor:
        """Resize, normalise and pad an image.

        Args:
            image: uint8 ``[3, h, w]``.
            normalization: See :func:`normalize`; padding is 0 after it, as SAM does.

        Returns:
            float32 ``[3, H, W]``.
        """
        return self.pad(normalize(self.resize(image), normalization))

    def mask(self, ids: Tensor) -> Tensor:
        """Resize class ids uint8 ``[h, w]`` to ``[H, W]``; padding is ignored (255)."""
        return self.pad(self.resize_ids(ids), IGNORE)

    def resize(self, image: Tensor) -> Tensor:
        """Resize an image uint8 ``[3, h, w]`` to its content's size (bilinear, antialiased)."""
        size = self.content((image.shape[-2], image.shape[-1]))
        return F.interpolate(
            image[None], size, mode="bilinear", align_corners=False, antialias=True
        )[0]

    def resize_ids(self, ids: Tensor) -> Tensor:
        """Resize class ids uint8 ``[h, w]`` to their content's size (nearest)."""
        size = self.content((ids.shape[-2], ids.shape[-1]))
        return F.interpolate(ids[None, None], size, mode="nearest-exact")[0, 0]

    def pad(self, content: Tensor, value: float = 0) -> Tensor:
        """Fill up content ``[..., h, w]`` below and to the right to ``[..., H, W]``."""
        below, right = self.size[0] - content.shape[-2], self.size[1] - content.shape[-1]
        return F.pad(content, (0, right, 0, below), value=value)

    def restore(self, logits: Tensor, own: tuple[int, int]) -> Tensor:
        """Bring logits back to the image's own size, in one resampling.

        Args:
            logits: ``[K, h, w]`` of the whole input, h and w a divisor of its size.
            own: The image's own height and width.

        Returns:
            float32 ``[K, *own]``, padding cut off.
        """
        height, width = self.content(own)
        rows = height * logits.shape[-2] // self.size[0]
        cols = width * logits.shape[-1] // self.size[1]
        inside = logits[None, :, :rows, :cols].float()
        return F.interpolate(inside, own, mode="bilinear", align_corners=False)[0]


def normalize(image: Tensor, kind: Normalization) -> Tensor:
    """Map an image to the range its backbone was trained on.

    Args:
        image: uint8 ``[3, H, W]``.
        kind: ``"sam"``: SAM's mean and deviation of each channel; ``"minmax"``: the image's own
            minimum and maximum to 0..1, as LiteMedSAM.

    Returns:
        float32 ``[3, H, W]``.
    """
    image = image.float()
    if kind == "sam":
        mean, std = (torch.tensor(v)[:, None, None] for v in (_SAM_MEAN, _SAM_STD))
        return (image - mean) / std
    low, high = image.aminmax()
    return (image - low) / (high - low).clamp(min=1e-8)
