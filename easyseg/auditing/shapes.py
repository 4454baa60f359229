"""What shapes a mask holds: how many regions of each value, how large, and how thick."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from easyseg.data.label_rules import IGNORE

__all__ = ["LONG_SIDE", "MOST_AREAS", "Shapes", "mask_shapes", "shrunk"]

LONG_SIDE = 256
"""Longest side, in pixels, of the copy of a mask that is looked at: 1 to 2 ms a mask, whatever its
size. A region of fewer pixels than one of the copy may be missed."""

MOST_AREAS = 64
"""Areas that are kept of the regions of one value in one mask: memory does not grow with specks."""

_MOST_VALUES = IGNORE + 1
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
        The shapes of each value of the copy, in ascending order of the values; of more values than
        there may be classes, those of the most frequent ones.

    Example:
        >>> mask = np.zeros((100, 200), np.uint8)
        >>> mask[40:60] = 7
        >>> mask_shapes(mask, background=0)
        {7: Shapes(components=1, areas=(0.2,), thickness=0.1)}
    """
    small = shrunk(raw)
    values, ids, counts = _dense(small)
    most = np.argsort(-counts, kind="stable")[:_MOST_VALUES]
    edges = _edges(ids, len(values))
    boxes = ndimage.find_objects(ids + 1)
    long_side, short_side = max(small.shape), min(small.shape)
    shapes = {}
    for i in sorted(most.tolist()):
        if values[i] == background:
            continue
        labels, components = ndimage.label(ids[boxes[i]] == i, structure=_TOUCHING)
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
    return pixels[rows[:, None], columns]


def _centres(side: int, scale: float) -> np.ndarray:
    """Return which pixels of a side are nearest to the centres of the copy's."""
    count = max(1, round(side * scale))
    return ((np.arange(count) + 0.5) * (side / count)).astype(np.intp)


def _dense(small: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the values there are, in ascending order, their positions in it, and their pixels."""
    if small.dtype.itemsize > 2:
        values, ids, counts = np.unique(small, return_inverse=True, return_counts=True)
        return values, ids.reshape(small.shape), counts
    counts = np.bincount(small.ravel())
    values = np.flatnonzero(counts)
    places = np.zeros(len(counts), np.intp)
    places[values] = np.arange(len(values))
    return values, places[small.astype(np.intp)], counts[values]


def _edges(ids: np.ndarray, count: int) -> np.ndarray:
    """Return the perimeter of each id in sides of pixels; sides on the border do not count."""
    total = np.zeros(count, np.intp)
    for here, there in ((ids[1:], ids[:-1]), (ids[:, 1:], ids[:, :-1])):
        differ = here != there
        for side in (here, there):
            total += np.bincount(side[differ], minlength=count)
    return total


def _some(areas: np.ndarray) -> tuple[float, ...]:
    if len(areas) > MOST_AREAS:
        areas = areas[np.linspace(0, len(areas) - 1, MOST_AREAS).round().astype(np.intp)]
    return tuple(areas.tolist())
