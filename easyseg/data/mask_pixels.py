"""What the decoded pixels of a mask mean: one whole number each, a class id or a colour."""

from __future__ import annotations

import numpy as np

from easyseg.data.colours import GREY, WHITE, pack_colours, palette_colours
from easyseg.errors import DataError

__all__ = ["mask_numbers"]

_INT32_MAX = int(np.iinfo(np.int32).max)


def mask_numbers(
    pixels: np.ndarray, where: str, *, palette: bytes | None = None, colour: bool = False
) -> tuple[np.ndarray, bool]:
    """Return one number a pixel.

    Args:
        pixels: ``[H, W]``, or ``[H, W, C]`` with one to four channels: grey, grey and alpha, RGB,
            RGB and alpha.
        where: What the mask is called in messages.
        palette: Red, green and blue of each value, if the values are indices of a palette.
        colour: Whether grey levels and indices stand for their colours, too.

    Returns:
        A fresh array ``[H, W]``, and whether it holds colours: int32, see
        `easyseg.data.colours`. Otherwise it is bool, uint8, uint16, or int32 (everything wider,
        and floats that hold whole numbers).

    Raises:
        DataError: There is no such number.
    """
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 2, 3, 4)):
        raise DataError(
            f"{where}: a mask has the shape [H, W], or [H, W, 3] if it is coded in colours"
        )
    if pixels.size == 0:
        raise DataError(f"{where}: has no pixels")
    if pixels.ndim == 3 and pixels.shape[2] == 2 and _is_one_hot(pixels):
        raise DataError(
            f"{where}: of its two channels one is 1 and the other 0, as in one-hot masks; expected"
            " class ids: save the channel's number, mask.argmax(axis=2)"
        )
    if pixels.ndim == 2 or pixels.shape[2] <= 2:
        numbers = whole = _whole_numbers(pixels if pixels.ndim == 2 else pixels[..., 0], where)
        told = colour
        if colour:
            numbers = _as_colours(whole, palette, where)
    else:
        numbers, told = _of_channels(_whole_numbers(pixels[..., :3], where), colour, where)
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        alpha = pixels[..., -1]
        if (alpha != alpha[0, 0]).any() and (numbers == numbers[0, 0]).all():
            raise DataError(
                f"{where}: the mask is drawn in the alpha channel, its colour is constant;"
                " save it as grey values"
            )
    return (numbers.copy() if np.may_share_memory(numbers, pixels) else numbers), told


def _is_one_hot(pixels: np.ndarray) -> bool:
    """Return whether in each pixel one channel is 1 and the others 0, now this one, now that."""
    return bool((pixels.sum(axis=2) == 1).all() and (pixels == 1).any(axis=(0, 1)).all())


def _of_channels(pixels: np.ndarray, colour: bool, where: str) -> tuple[np.ndarray, bool]:
    """Return the grey levels of pixels ``[H, W, 3]`` that are all grey, else their colours."""
    if pixels.dtype == np.uint8:
        numbers = pack_colours(pixels)
        levels = numbers & 255
        if not colour and (levels * GREY == numbers).all():
            return levels.astype(np.uint8), False
        return numbers, True
    differ = (pixels != pixels[..., :1]).any(axis=-1)
    if not colour and not differ.any():
        return pixels[..., 0].copy(), False
    if pixels.max() > 255:
        example = pixels[differ][0] if differ.any() else pixels.reshape(-1, 3).max(axis=0)
        raise DataError(
            f"{where}: a mask coded in colours of more than 8 bits (such as {example.tolist()});"
            " expected red, green and blue from 0 to 255: save it with 8 bits a channel"
        )
    scale = 255 if pixels.dtype == np.bool_ else 1
    return pack_colours(pixels.astype(np.uint8) * np.uint8(scale)), True


def _as_colours(values: np.ndarray, palette: bytes | None, where: str) -> np.ndarray:
    """Return the colours that grey levels, or indices of a palette, are shown in."""
    if values.max() > 255:
        raise DataError(
            f"{where}: the mask holds the value {int(values.max())}, which is no colour; other"
            " masks of the table are coded in colours: save all in one format"
        )
    if palette is not None:
        return palette_colours(palette)[values]
    return values.astype(np.int32) * (WHITE if values.dtype == np.bool_ else GREY)


def _whole_numbers(values: np.ndarray, where: str) -> np.ndarray:
    """Return the same values as bool, uint8, uint16 or int32, possibly as a view."""
    kind = values.dtype.newbyteorder("=")
    if kind.name == "bool":
        return values.view(np.uint8) != 0  # PIL's True is a byte of 255
    if kind.name in ("uint8", "uint16"):
        return values.astype(kind, copy=False)
    if kind.kind not in "uif":
        raise DataError(f"{where}: a mask holds whole numbers, not {values.dtype}")
    if kind.kind == "f" and not (values == np.rint(values)).all():
        raise DataError(
            f"{where}: the mask holds fractions or NaN; expected whole class ids"
            " (threshold a probability map first)"
        )
    low, high = values.min(), values.max()
    if low < 0:
        raise DataError(
            f"{where}: the mask holds the negative value {low:.0f}; give ignored pixels a value"
            " of their own, such as 255, and name it with ignore_index"
        )
    if high > _INT32_MAX:
        raise DataError(
            f"{where}: the mask's value {high} exceeds {_INT32_MAX}: number the classes from 0"
        )
    return values.astype(np.int32)
