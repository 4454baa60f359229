"""How bright an image is in each colour, and how much that varies over it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from easyseg.auditing.shapes import shrunk

__all__ = ["Intensities", "intensities"]


@dataclass(frozen=True)
class Intensities:
    """The intensities of an image, in 0..255.

    Attributes:
        channels: Means of red, green and blue.
        deviation: Standard deviation of the brightness (the mean of the colours) of its pixels.
    """

    channels: tuple[float, float, float]
    deviation: float


def intensities(pixels: np.ndarray) -> Intensities:
    """Measure an image, in a copy of at most 256 pixels a side (see `shrunk`).

    Args:
        pixels: uint8 ``[H, W, 3]``.

    Example:
        >>> intensities(np.full((4, 6, 3), (30, 60, 90), np.uint8))
        Intensities(channels=(30.0, 60.0, 90.0), deviation=0.0)
    """
    red, green, blue = np.moveaxis(shrunk(pixels), -1, 0).copy()
    # A sum of colours is a whole number: constant images deviate by exactly 0.
    total = red.astype(np.uint16) + green + blue
    return Intensities(
        (float(red.mean()), float(green.mean()), float(blue.mean())),
        float(total.std()) / 3,
    )
