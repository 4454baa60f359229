"""How an image of any size meets the network's input size, and the way back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Geometry", "Normalization", "Window", "normalize", "value_span"]

Normalization = Literal["sam", "minmax"]

# One logit stands for 1 pixel (LiteMedSAM) or 4 pixels (SAM) of the input. What is resized covers
# whole cells of 4 and windows start at multiples of 4, so the way back is an exact crop.
_CELL = 4
# Windows overlap by at least this share of their side, less the rounding to cells.
_OVERLAP = 0.25

_SAM_MEAN = (123.675, 116.28, 103.53)
_SAM_STD = (58.395, 57.12, 57.375)


class Window(NamedTuple):
    """What the network sees at once: where it starts on the resized image, in pixels."""

    top: int
    left: int


@dataclass(frozen=True)
class Geometry:
    """The one description of resizing and windows: used by data set, prediction and scoring.

    An image is resized to its *content*, which the network sees through *windows* of the input's
    size. Squash and letterbox have one window; what the content does not fill of a window is
    padded below and to the right.

    Attributes:
        kind: ``"squash"`` resizes each side on its own; ``"letterbox"`` keeps the aspect ratio (to
            within 4 pixels); ``"tile"`` keeps the image's scale and takes as many windows as that
            needs.
        size: Height and width of the network's input in pixels.
        scale: Pixels of the content for one of the image, for tiles only.

    Example:
        >>> Geometry("letterbox", (128, 128)).content((480, 640))
        (96, 128)
        >>> Geometry("tile", (128, 128)).windows((100, 200))
        (Window(top=0, left=0), Window(top=0, left=72))
    """

    kind: Literal["squash", "letterbox", "tile"]
    size: tuple[int, int]
    scale: float = 1.0

    def content(self, own: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of an image of size ``own`` after resizing.

        At scale 1 that is its own size, else whole cells of 4 pixels.
        """
        if self.kind == "squash":
            return self.size
        if self.kind == "tile":
            return own if self.scale == 1 else _whole_cells(own, self.scale)
        scale = min(side / mine for side, mine in zip(self.size, own, strict=True))
        height, width = _whole_cells(own, scale)
        return min(self.size[0], height), min(self.size[1], width)

    def windows(self, own: tuple[int, int]) -> tuple[Window, ...]:
        """Return the windows that cover an image of size ``own``, row by row.

        The last ones may reach up to 3 pixels beyond the content.
        """
        tops, lefts = self._offsets(own)
        return tuple(Window(top, left) for top in tops for left in lefts)

    def extent(self, own: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of what the windows of an image cover, padding included."""
        tops, lefts = self._offsets(own)
        return tops[-1] + self.size[0], lefts[-1] + self.size[1]

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

    def cut(self, content: Tensor, window: Window) -> Tensor:
        """Return the part of content ``[..., h, w]`` that lies in a window, of its size at most."""
        below, right = window.top + self.size[0], window.left + self.size[1]
        return content[..., window.top : below, window.left : right]

    def pad(self, part: Tensor, value: float = 0) -> Tensor:
        """Fill up what was cut ``[..., h, w]`` below and to the right to ``[..., H, W]``."""
        below, right = self.size[0] - part.shape[-2], self.size[1] - part.shape[-1]
        return F.pad(part, (0, right, 0, below), value=value)

    def restore(self, logits: Tensor, own: tuple[int, int]) -> Tensor:
        """Bring an image's logits back to its own size, in one resampling.

        Args:
            logits: ``[K, h, w]`` of all that its windows cover, one logit for 1, 2 or 4 pixels.
            own: The image's own height and width.

        Returns:
            float32 ``[K, *own]``, padding cut off.
        """
        cell = self.extent(own)[0] // logits.shape[-2]
        content = self.content(own)
        rows, cols = (math.ceil(filled / cell) for filled in content)
        # Only at scale 1 may the last cells reach beyond the content: as far beyond the image.
        size = (rows * cell * own[0] // content[0], cols * cell * own[1] // content[1])
        inside = logits[None, :, :rows, :cols].float()
        whole = F.interpolate(inside, size, mode="bilinear", align_corners=False)[0]
        return whole[:, : own[0], : own[1]]

    def _offsets(self, own: tuple[int, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the tops and the lefts of the windows: they form a grid."""
        height, width = self.content(own)
        return _spread(height, self.size[0]), _spread(width, self.size[1])


def _whole_cells(own: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return the scaled size of an image in whole cells, one at least."""
    height, width = (max(_CELL, round(side * scale / _CELL) * _CELL) for side in own)
    return height, width


def _spread(content: int, side: int) -> tuple[int, ...]:
    """Return where windows start along an axis: evenly, at multiples of 4, as few as possible.

    Example:
        >>> _spread(300, 128)
        (0, 88, 172)
    """
    last = math.ceil(max(0, content - side) / _CELL)
    steps = math.ceil(last * _CELL / (side * (1 - _OVERLAP)))
    return tuple(round(step * last / max(1, steps)) * _CELL for step in range(steps + 1))


def value_span(part: Tensor, whole: tuple[int, int]) -> tuple[float, float]:
    """Return where the values of a part lie in those of its image.

    Args:
        part: uint8 ``[3, h, w]``.
        whole: Smallest and largest value of the image.

    Returns:
        Where the part's smallest and largest value are, 0..1; (0, 1) for the whole image.
    """
    low, high = whole
    own_low, own_high = part.aminmax()
    width = max(1, high - low)
    return (int(own_low) - low) / width, (int(own_high) - low) / width


def normalize(image: Tensor, kind: Normalization, span: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """Map an image, or a window of it, to the range its backbone was trained on.

    Args:
        image: uint8 ``[3, H, W]``.
        kind: ``"sam"``: SAM's mean and deviation of each channel; ``"minmax"``: the image's own
            minimum and maximum to 0..1, as LiteMedSAM.
        span: What ``"minmax"`` maps the smallest and the largest value to. :func:`value_span` of a
            window makes its values those of the whole image's normalisation: a dark window of a
            bright image stays dark, and neighbours agree where they overlap. In training it is
            taken before colours change, so a change of brightness means for a window what it means
            for a whole image: nothing, as its own range is undone.

    Returns:
        float32 ``[3, H, W]``.
    """
    image = image.float()
    if kind == "sam":
        mean, std = (torch.tensor(v)[:, None, None] for v in (_SAM_MEAN, _SAM_STD))
        return (image - mean) / std
    low, high = image.aminmax()
    unit = (image - low) / (high - low).clamp(min=1e-8)
    return span[0] + (span[1] - span[0]) * unit
