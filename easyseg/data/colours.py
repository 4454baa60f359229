"""Colours of masks as whole numbers, ``R << 16 | G << 8 | B``, and as users write them.

A grey level ``v`` is the colour ``v * GREY``, so that a mask whose colours happen to be all grey
means the same in a set that is coded in colours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from numbers import Integral

import numpy as np

__all__ = [
    "GREY",
    "WHITE",
    "hex_colour",
    "pack_colours",
    "palette_colours",
    "parse_colour",
    "unpack_colours",
]

GREY = 0x010101
WHITE = 0xFFFFFF
_HEX = re.compile(r"#([0-9a-fA-F]{6})")


def pack_colours(pixels: np.ndarray) -> np.ndarray:
    """Turn colours into whole numbers.

    Args:
        pixels: uint8 ``[..., 3]`` or more channels, of which the first three count.

    Returns:
        int32 ``[...]``, 0 to ``WHITE``.

    Example:
        >>> pack_colours(np.array([128, 64, 128], np.uint8)) == 0x804080
        np.True_
    """
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    red <<= 16
    green <<= 8
    red |= green
    red |= blue
    return red


def unpack_colours(values: np.ndarray) -> np.ndarray:
    """Turn whole numbers into colours.

    Args:
        values: Whole numbers ``[...]``, 0 to ``WHITE``.

    Returns:
        uint8 ``[..., 3]``.

    Example:
        >>> unpack_colours(np.array(0x804080)).tolist()
        [128, 64, 128]
    """
    return np.stack([values >> 16 & 255, values >> 8 & 255, values & 255], -1).astype(np.uint8)


def palette_colours(palette: Sequence[int] | bytes) -> np.ndarray:
    """Return the colour of each index of a palette.

    Args:
        palette: Red, green and blue, 0 to 255, of each index in turn.

    Returns:
        int32 ``[256]``; black where the palette ends.

    Example:
        >>> palette_colours([0, 0, 0, 128, 64, 128])[:3].tolist()
        [0, 8405120, 0]
    """
    table = np.zeros((256, 3), np.uint8)
    table.ravel()[: len(palette)] = np.array([*palette], np.uint8)
    return pack_colours(table)


def hex_colour(value: int) -> str:
    """Return a colour as users write it.

    Args:
        value: 0 to ``WHITE``.

    Example:
        >>> hex_colour(0x804080)
        '#804080'
    """
    return f"#{value:06X}"


def parse_colour(written: object) -> int | None:
    """Read a colour that a user wrote.

    Args:
        written: ``"#804080"``, or red, green and blue from 0 to 255 as a tuple, list or array.

    Returns:
        The whole number; None if it is no colour.

    Example:
        >>> parse_colour("#804080") == parse_colour((128, 64, 128)) == 0x804080
        True
        >>> parse_colour("804080") is parse_colour((0, 0, 256)) is parse_colour(7) is None
        True
    """
    if isinstance(written, str):
        match = _HEX.fullmatch(written.strip())
        return None if match is None else int(match[1], 16)
    if isinstance(written, (tuple, list, np.ndarray)) and len(written) == 3:
        parts = [int(part) for part in written if isinstance(part, Integral) and 0 <= part <= 255]  # type: ignore[operator]
        if len(parts) == 3:
            return parts[0] << 16 | parts[1] << 8 | parts[2]
    return None
