"""Augmentations of image and mask together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

__all__ = ["AUGMENTATIONS", "augment"]


def _hflip(image: Tensor, target: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    if rng.random() < 0.5:
        return image.flip(-1), target.flip(-1)
    return image, target


def _vflip(image: Tensor, target: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    if rng.random() < 0.5:
        return image.flip(-2), target.flip(-2)
    return image, target


AUGMENTATIONS: dict[str, Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]]] = {
    "hflip": _hflip,
    "vflip": _vflip,
}


def augment(
    image: Tensor, target: Tensor, names: Sequence[str], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Apply augmentations in their order.

    Args:
        image: float32 ``[3, H, W]``.
        target: Class ids uint8 ``[H, W]``, 255 ignored.
        names: Keys of :data:`AUGMENTATIONS`.
        rng: Source of all random numbers.

    Returns:
        Image and target of the same shapes.
    """
    for name in names:
        image, target = AUGMENTATIONS[name](image, target, rng)
    return image, target
