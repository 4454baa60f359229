"""What shapes a mask holds: how many regions of each value, how large, and how thick."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

__all__ = ["LONG_SIDE", "MOST_AREAS", "MOST_VALUES", "Shapes", "mask_shapes", "shrunk"]

LONG_SIDE = 256
"""Longest side, in pixels, of the copy of a mask that is looked at, so that a mask of a few values
takes about 2 ms, whatever its size. What is smaller than a pixel of the copy may be missed."""

MOST_AREAS = 64
"""Areas that are kept of the regions of one value in one mask: memory does not grow with specks."""

MOST_VALUES = 32
"""Values of a mask that are looked at: a smeared one holds all grey levels and costs no more."""

_TOUCHING = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Shapes:
    """The regions of one value in one mask.

    Attributes:
        components: Number of regions; pixels that touch at a side or corner are in one region.
        areas: Areas of the regions, ascending, as shares of the image. Of more than `MOST_AREAS`
            regions, so many that lie evenly in the order of all.
        thickness: Twice the area by the perimeter of all regions together, as a share of the
            image's long side: the width of a long strip (between 0.7 of it, if the strip runs
            diagonally, and all of it), about 0.4 of a disk's diameter.
    """

    components: int
    areas: tuple[float, ...]
    thickness: float


def mask_shapes(raw: np.ndarray, background: int | None = None) -> dict[int, Shapes]:
    """Find the regions of each value of a mask.

    The mask is looked at in a copy whose long side is at most `LONG_SIDE` pixels, each of which has
    the value of the nearest pixel of the mask.

    Args:
        raw: Raw values ``[H, W]``, bool or whole numbers.
        background: A value that is left out.

    Returns:
        The shapes of each value of the copy, in ascending order of the values; of more than
        `MOST_VALUES`, those of the most frequent ones.

    Example:
        >>> mask = np.zeros((100, 200), np.uint8)
        >>> mask[40:60] = 7
        >>> mask_shapes(mask, background=0)
        {7: Shapes(components=1, areas=(0.2,), thickness=0.1)}
    """
    small = shrunk(raw)
    values, ids, counts = _numbered(small)
    most = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    edges, boxes = _edges(ids, len(values)), ndimage.find_objects(ids)
    long_side, short_side = max(small.shape), min(small.shape)
    shapes = {}
    for i in sorted(most.tolist()):
        if values[i] == background:
            continue
        labels, components = ndimage.label(ids[boxes[i]] == i + 1, structure=_TOUCHING)
        areas = np.sort(np.bincount(labels.ravel())[1:]) / small.size
        # What fills the mask has no perimeter: it is as thick as the mask.
        thickness = min(2 * counts[i] / max(edges[i], 1), short_side)
        shapes[int(values[i])] = Shapes(components, _some(areas), float(thickness / long_side))
    return shapes


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """Return a copy whose long side is at most `LONG_SIDE`, of the nearest pixels.

    Args:
        pixels: ``[H, W]`` or ``[H, W, C]``.
    """
    scale = min(1.0, LONG_SIDE / max(pixels.shape[:2]))
    rows, columns = (_centres(side, scale) for side in pixels.shape[:2])
    return pixels.take(rows, axis=0).take(columns, axis=1)


def _centres(side: int, scale: float) -> np.ndarray:
    """Return which pixels of a side are nearest to the centres of the copy's."""
    count = max(1, round(side * scale))
    return ((np.arange(count) + 0.5) * (side / count)).astype(np.intp)


def _numbered(small: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the values there are, ascending, their numbers 1, 2, ... in place, their pixels."""
    if small.dtype.itemsize > 2:
        values, ids, counts = np.unique(small, return_inverse=True, return_counts=True)
        return values, (ids.reshape(small.shape) + 1).astype(np.int32), counts
    counts = np.bincount(small.ravel())
    values = np.flatnonzero(counts)
    numbers = np.zeros(len(counts), np.int32)
    numbers[values] = np.arange(1, len(values) + 1)
    return values, numbers.take(small), counts[values]


def _edges(ids: np.ndarray, count: int) -> np.ndarray:
    """Return the perimeter of each number in sides of pixels; sides on the border do not count."""
    total = np.zeros(count + 1, np.intp)
    for here, there in ((ids[1:], ids[:-1]), (ids[:, 1:], ids[:, :-1])):
        differ = here != there
        for side in (here, there):
            total += np.bincount(side[differ], minlength=count + 1)
    return total[1:]


def _some(areas: np.ndarray) -> tuple[float, ...]:
    if len(areas) > MOST_AREAS:
        areas = areas[np.linspace(0, len(areas) - 1, MOST_AREAS).round().astype(np.intp)]
    return tuple(areas.tolist())
