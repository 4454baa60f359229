"""Colour PNG and TIFF of 16 bits a channel, of which PIL by itself keeps the high byte only.

PIL decodes such files with a raw mode that takes the first or the second byte of each value. Read
once as PIL would and once with the other byte order, the two halves make the whole.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

__all__ = ["is_deep_colour", "read_deep_colour"]

_OTHER_BYTE = {
    f"{bands};16{order}": f"{bands};16{other}"
    for bands in ("RGB", "RGBA", "RGBX")
    for order, other in (("B", "L"), ("L", "B"), ("N", "B" if sys.byteorder == "little" else "L"))
}
_GREY_ALPHA = "LA;16B"  # PIL has no such mode, but the four bytes of a pixel read as RGBA
_BITS_PER_SAMPLE, _PLANAR_CONFIGURATION = 258, 284  # TIFF tags


def is_deep_colour(image: Image.Image) -> bool:
    """Return whether a file holds more than the 8 bits a channel that PIL would give.

    Args:
        image: A file opened by PIL, not decoded yet.

    Raises:
        ValueError: It does, in a layout that PIL misreads.
    """
    tags = getattr(image, "tag_v2", {})
    bits = int(np.max(tags.get(_BITS_PER_SAMPLE, 8)))
    coloured = image.mode in ("RGB", "RGBA", "RGBX")
    if coloured and bits > 8 and tags.get(_PLANAR_CONFIGURATION) == 2:
        raise ValueError(
            f"a TIFF of {bits} bits a channel stored plane by plane, which PIL misreads;"
            " interleave the channels"
        )
    raws = [_raw_mode(tile) for tile in getattr(image, "tile", None) or ()]
    return bool(raws) and all(raw in _OTHER_BYTE or raw == _GREY_ALPHA for raw in raws)


def read_deep_colour(path: Path, *, turned: bool) -> np.ndarray:
    """Read such a file, upright.

    Args:
        path: A file of which `is_deep_colour` is true.
        turned: Whether its EXIF orientation is another one than upright.

    Returns:
        uint16 ``[H, W, 3]``, or ``[H, W]`` for grey with alpha; alpha is dropped.
    """
    with Image.open(path) as image:
        grey = _raw_mode(image.tile[0]) == _GREY_ALPHA
        high = None if grey else _upright(image, turned).astype(np.uint16)
    with Image.open(path) as image:
        tiles: Any = [_other_byte(tile) for tile in image.tile]
        image.tile = tiles
        low = _upright(image, turned)
    if high is None:
        return low[..., 0].astype(np.uint16) << 8 | low[..., 1]
    return (high << 8 | low)[..., :3]


def _upright(image: Image.Image, turned: bool) -> np.ndarray:
    return np.array(ImageOps.exif_transpose(image) if turned else image)


def _raw_mode(tile: Any) -> str:
    args = tile[3]
    return args if isinstance(args, str) else str(args[0]) if args else ""


def _other_byte(tile: Any) -> Any:
    raw = _raw_mode(tile)
    raw = "RGBA" if raw == _GREY_ALPHA else _OTHER_BYTE[raw]
    changed = (*tile[:3], raw if isinstance(tile[3], str) else (raw, *tile[3][1:]))
    return type(tile)._make(changed) if hasattr(tile, "_make") else changed
