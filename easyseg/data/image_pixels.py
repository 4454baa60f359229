"""What the decoded pixels of an image mean: 8-bit RGB, stretched where they have not 8 bits."""

from __future__ import annotations

import numpy as np

from easyseg.errors import DataError

__all__ = ["image_pixels"]


def image_pixels(pixels: np.ndarray, where: str) -> np.ndarray:
    """Return 8-bit RGB.

    Args:
        pixels: ``[H, W]``, or ``[H, W, C]`` with one, three or four channels: grey, RGB, RGB and
            alpha, of any real type.
        where: What the image is called in messages.

    Returns:
        A fresh uint8 array ``[H, W, 3]``. Grey is repeated, alpha dropped, 1 bit is black and
        white; everything else that has not 8 bits is stretched linearly from its own smallest to
        its own largest value, over all colours together; a constant image becomes black.

    Raises:
        DataError: The array has no such shape or type, no pixels, or no finite value.
    """
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise DataError(
            f"{where}: an image has the shape [H, W], [H, W, 1], [H, W, 3] or"
            " [H, W, 4]; move the channels last, and give several images as a list"
        )
    if pixels.dtype.kind not in "buif":
        raise DataError(f"{where}: an image holds bool, integer or float values")
    if pixels.size == 0:
        raise DataError(f"{where}: has no pixels")
    pixels = pixels[..., :3]
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    elif pixels.dtype != np.uint8:
        pixels = _stretch(pixels, where)
    return np.array(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), order="C")


def _stretch(pixels: np.ndarray, where: str) -> np.ndarray:
    """Map the image's own smallest..largest finite value to 0..255; NaN to 0."""
    values = pixels.astype(np.float32 if pixels.dtype.itemsize <= 2 else np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        raise DataError(f"{where}: holds no finite value")
    low, high = values[finite].min(), values[finite].max()
    span = high / 2 - low / 2  # halved: the largest floats must not overflow
    if span == 0:
        return np.zeros(pixels.shape, np.uint8)
    values = np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
    return np.rint((values / 2 - low / 2) / span * 255).astype(np.uint8)
