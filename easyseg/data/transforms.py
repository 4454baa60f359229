"""Augmentations of image and mask together, on torchvision's transforms v2; windows to train on.

All random numbers come from the generator that is given. Ignored pixels stay ignored, and places
that hold nothing of the image become ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from easyseg.data.geometry import Window
from easyseg.data.label_map import IGNORE

__all__ = [
    "AUGMENTATIONS",
    "FOREGROUND_SHARE",
    "Augmentation",
    "augment",
    "random_window",
    "wants_own_pixels",
]

FOREGROUND_SHARE = 1 / 3
"""Share of the training windows that are chosen to hold foreground, as nnU-Net does: windows of
large images would hardly ever meet a small object by chance."""

_CROP_PROBABILITY = 0.8
_CROP_AREA = (0.4, 1.0)
_CROP_ASPECT = 1.2
_ROTATION_PROBABILITY = 0.5
_ROTATION_DEGREES = 20.0
_COLOUR_PROBABILITY = 0.8
_COLOUR_STRENGTH = 0.3
_HUE_STRENGTH = 0.03

Change = Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]]


class Augmentation(NamedTuple):
    """A random change of an image and its mask.

    Attributes:
        change: Maps image uint8 ``[3, h, w]``, class ids uint8 ``[h, w]`` and a generator to image
            and ids.
        resized: True if it works on what was already brought to the network's size (cheap for
            images of any size), False if on the image's own pixels.
    """

    change: Change
    resized: bool


def _hflip(image: Tensor, ids: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    if rng.random() < 0.5:
        return image.flip(-1), ids.flip(-1)
    return image, ids


def _vflip(image: Tensor, ids: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    if rng.random() < 0.5:
        return image.flip(-2), ids.flip(-2)
    return image, ids


def _rot90(image: Tensor, ids: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Turn by 0, 90, 180 or 270 degrees."""
    turns = int(rng.integers(4))
    return image.rot90(turns, (-2, -1)), ids.rot90(turns, (-2, -1))


def _crop(image: Tensor, ids: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Keep a part of 40 to 100 % of the area: another scale, another place."""
    height, width = ids.shape
    share, aspect, top, left = rng.random(4)
    if rng.random() >= _CROP_PROBABILITY:
        return image, ids
    side = math.sqrt(_CROP_AREA[0] + share * (_CROP_AREA[1] - _CROP_AREA[0]))
    stretch = _CROP_ASPECT ** (2 * aspect - 1)
    rows = max(1, min(height, round(height * side * stretch)))
    cols = max(1, min(width, round(width * side / stretch)))
    row, col = round(top * (height - rows)), round(left * (width - cols))
    part = (slice(row, row + rows), slice(col, col + cols))
    return image[(slice(None), *part)], ids[part]


def _rotate(image: Tensor, ids: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Turn by up to 20 degrees; the corners become ignored, in the image's mean colour."""
    angle = float(_ROTATION_DEGREES * (2 * rng.random() - 1))
    if rng.random() >= _ROTATION_PROBABILITY:
        return image, ids
    # The mean colour: black corners would change the range that "minmax" normalises to.
    fill = image.float().mean(dim=(1, 2)).tolist()
    turned = TF.rotate(image, angle, interpolation=InterpolationMode.BILINEAR, fill=fill)
    return turned, TF.rotate(ids[None], angle, fill=[float(IGNORE)])[0]


def _colour(image: Tensor, ids: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Change brightness, contrast and saturation by up to 30 %, the hue by up to 3 % of a turn."""
    brightness, contrast, saturation, hue = 2 * rng.random(4) - 1
    if rng.random() >= _COLOUR_PROBABILITY:
        return image, ids
    image = TF.adjust_brightness(image, 1 + _COLOUR_STRENGTH * brightness)
    image = TF.adjust_contrast(image, 1 + _COLOUR_STRENGTH * contrast)
    image = TF.adjust_saturation(image, 1 + _COLOUR_STRENGTH * saturation)
    return TF.adjust_hue(image, _HUE_STRENGTH * hue), ids


AUGMENTATIONS: dict[str, Augmentation] = {
    "crop": Augmentation(_crop, resized=False),
    "hflip": Augmentation(_hflip, resized=True),
    "vflip": Augmentation(_vflip, resized=True),
    "rot90": Augmentation(_rot90, resized=True),
    # Before a squash, which would make a shear of the rotation.
    "rotate": Augmentation(_rotate, resized=False),
    "colour": Augmentation(_colour, resized=True),
}


def wants_own_pixels(names: Sequence[str]) -> bool:
    """Return True if one of the augmentations changes an image before it is resized.

    Args:
        names: Keys of :data:`AUGMENTATIONS`.
    """
    return not all(AUGMENTATIONS[name].resized for name in names)


def augment(
    image: Tensor,
    ids: Tensor,
    names: Sequence[str],
    rng: np.random.Generator,
    *,
    resized: bool,
) -> tuple[Tensor, Tensor]:
    """Apply augmentations in their order.

    Args:
        image: uint8 ``[3, h, w]``.
        ids: Class ids uint8 ``[h, w]``, 255 ignored.
        names: Keys of :data:`AUGMENTATIONS`.
        rng: Source of all random numbers.
        resized: Apply those that work on resized images, or those that do not.

    Returns:
        Image and ids of one size, which may be another one than before.
    """
    for name in names:
        augmentation = AUGMENTATIONS[name]
        if augmentation.resized == resized:
            image, ids = augmentation.change(image, ids, rng)
    return image, ids


def random_window(ids: Tensor, size: tuple[int, int], rng: np.random.Generator) -> Window:
    """Choose a window to train on, anywhere on the content, each place as likely as another.

    With a probability of :data:`FOREGROUND_SHARE` it is one that holds a certain pixel: one of a
    foreground class there is, chosen first, so that a rare class is met as often as a common one.

    Args:
        ids: Class ids uint8 ``[h, w]`` of the content, 255 ignored.
        size: Height and width of a window; a side of the content that is not longer is taken whole.
        rng: Source of all random numbers; none are drawn where there is nothing to choose.
    """
    room = [max(0, content - side) for content, side in zip(ids.shape, size, strict=True)]
    if not any(room):
        return Window(0, 0)
    first, last = [0, 0], room
    pixel = _foreground_pixel(ids, rng) if rng.random() < FOREGROUND_SHARE else None
    if pixel is not None:
        first = [max(0, at - side + 1) for at, side in zip(pixel, size, strict=True)]
        last = [min(at, end) for at, end in zip(pixel, room, strict=True)]
    top, left = rng.integers(first, last, endpoint=True).tolist()
    return Window(top, left)


def _foreground_pixel(ids: Tensor, rng: np.random.Generator) -> tuple[int, int] | None:
    """Return a random pixel of a random foreground class, if there is any."""
    counts = torch.bincount(ids.flatten(), minlength=IGNORE + 1)[1:IGNORE]
    present = counts.nonzero().flatten() + 1
    if not len(present):
        return None
    chosen = ids == present[int(rng.integers(len(present)))]
    # Found by its number row by row: indices of all pixels would take more memory than the image.
    up_to_row = chosen.sum(dim=1).cumsum(dim=0)
    number = int(rng.integers(int(up_to_row[-1])))
    row = int(torch.searchsorted(up_to_row, number, right=True))
    before = int(up_to_row[row - 1]) if row else 0
    return row, int(chosen[row].nonzero()[number - before])
