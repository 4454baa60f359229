"""The size of a mask beside that of its image: what is the same picture, and how the two meet.

Two differences are certain enough to repair while reading: a few pixels, as rounding leaves them
(the mask is resized, nearest neighbour), and height and width swapped by the EXIF orientation of
one of the two files (the mask is turned).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from easyseg.data.io import ImageSource, orientation, turns

__all__ = ["SizeMatch", "fit_to_image", "size_match"]

SizeMatch = Literal["equal", "near", "image turned", "mask turned", "other"]

# What rounding to even sizes, to multiples of 8 and to a scale leaves; beyond it is another image.
_NEAR_PIXELS = 8
_NEAR_SHARE = 0.02

# An orientation that swaps height and width, and how an array is turned as it says.
_TRANSPOSE, _CLOCKWISE, _TRANSVERSE, _COUNTERCLOCKWISE = 5, 6, 7, 8
_INVERSE = {_CLOCKWISE: _COUNTERCLOCKWISE, _COUNTERCLOCKWISE: _CLOCKWISE}


def size_match(
    image_size: tuple[int, int], mask_size: tuple[int, int], turned: tuple[bool, bool]
) -> SizeMatch:
    """Say how the size of a mask relates to that of its image.

    Args:
        image_size: Height and width of the upright image.
        mask_size: Height and width of the upright mask.
        turned: Whether the EXIF orientations of image and mask swap height and width.

    Returns:
        ``"equal"``; ``"near"``: each side differs by at most 8 pixels and 2 %; ``"image turned"``
        or ``"mask turned"``: only the orientation of one of them makes them differ; ``"other"``.

    Example:
        >>> size_match((480, 640), (479, 640), (False, False))
        'near'
        >>> size_match((640, 480), (480, 640), (True, False))
        'image turned'
        >>> size_match((640, 480), (480, 640), (False, False))
        'other'
    """
    if image_size == mask_size:
        return "equal"
    # Sides of a nearly square image are near in both ways: what an orientation explains wins.
    if turned[0] != turned[1] and _near(image_size, mask_size[::-1]):
        return "image turned" if turned[0] else "mask turned"
    return "near" if _near(image_size, mask_size) else "other"


def fit_to_image(
    raw: np.ndarray, size: tuple[int, int], image: ImageSource, mask: ImageSource
) -> np.ndarray:
    """Give a mask the size of its image where it is certain how; otherwise leave it as it is.

    Args:
        raw: The upright mask ``[h, w]``.
        size: Height and width of the upright image.
        image: Where the image comes from, for its orientation.
        mask: Where the mask comes from, for its orientation.

    Returns:
        The mask ``[H, W]`` of the image's size, with the same values and type, or ``raw`` itself.
    """
    if raw.shape == size:
        return raw
    orientations = orientation(image), orientation(mask)
    turned = turns(orientations[0]), turns(orientations[1])
    match = size_match(size, (raw.shape[0], raw.shape[1]), turned)
    if match == "other":
        return raw
    if match == "image turned":
        raw = _turn(raw, orientations[0])
    elif match == "mask turned":
        raw = _turn(raw, _INVERSE.get(orientations[1], orientations[1]))
    rows, columns = (_nearest(out, own) for out, own in zip(size, raw.shape, strict=True))
    return raw[rows[:, None], columns]


def _near(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(
        abs(a - b) <= min(_NEAR_PIXELS, _NEAR_SHARE * a) for a, b in zip(one, other, strict=True)
    )


def _turn(raw: np.ndarray, how: int) -> np.ndarray:
    if how == _CLOCKWISE:
        return np.rot90(raw, -1)
    if how == _COUNTERCLOCKWISE:
        return np.rot90(raw)
    return raw.T if how == _TRANSPOSE else np.rot90(raw, 2).T


def _nearest(out: int, own: int) -> np.ndarray:
    """Return for each of ``out`` pixels the one of ``own`` pixels whose centre is nearest."""
    return ((2 * np.arange(out) + 1) * own) // (2 * out)
