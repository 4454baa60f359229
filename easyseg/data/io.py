"""The one reader: an image or a mask, from wherever it comes, as an upright array.

Audit, training, prediction and scoring read through this module, so that a file means the same
everywhere. The rules:

* Pixels are turned as the EXIF orientation says; a file with several frames gives its first.
* Images become 8-bit RGB. Grey is repeated, a palette is looked up, 1 bit is black and white,
  CMYK is converted, an alpha channel is dropped. Everything that has not 8 bits (16 and 32 bit,
  float, 16-bit colour PNG and TIFF) is stretched linearly from its own smallest to its own largest
  value, over all colours together; a constant image becomes black. (16-bit colour needs the
  file: PIL drops the low byte of what it holds in memory.)
* Masks keep their raw values: palette indices instead of colours, 16-bit ids as they are. Masks
  coded in colours give `easyseg.data.colours` as whole numbers; colours that are all grey give grey
  levels, unless the caller knows that the other masks of the set are coded in colours.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from easyseg.data.deep_colour import is_deep_colour, read_deep_colour
from easyseg.data.image_pixels import image_pixels
from easyseg.data.mask_pixels import mask_numbers
from easyseg.errors import DataError

__all__ = [
    "ImageSource",
    "Mask",
    "Picture",
    "describe",
    "image_size",
    "load_image",
    "load_mask",
    "num_pages",
    "orientation",
    "read_image",
    "read_mask",
    "turns",
]

ImageSource = Path | np.ndarray | Image.Image

_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap height and width
# Modes whose channels may hold class ids; every other mode is colour for certain.
_MASK_MODES = frozenset({"1", "L", "P", "PA", "I", "F", "LA", "RGB", "RGBA", "RGBX"})
_LOSSY_FORMATS = ("JPEG", "MPO")
# How far the channels of a grey pixel differ at most where a lossy file kept them as colours.
_GREY_SPREAD = 8
_PAGED_FORMATS = ("TIFF", "GIF", "WEBP")
_UNPAGED_NAMES = (".png", ".jpg", ".jpeg")  # not worth opening once more
_ARRAY_NAMES = (".npy", ".npz")
_WEBP_HEADER = 4096  # bytes: chunks of metadata may come before the pixels


@dataclass(frozen=True, eq=False)
class Picture:
    """An image as it is read, with what its file says about it.

    Attributes:
        pixels: Upright, uint8 ``[H, W, 3]``, see `read_image`.
        mode: The PIL mode before any conversion, such as ``"RGB"`` or ``"I;16"``; ``"RGB;16"`` for
            files of 16-bit colour, for which PIL has no mode; of an array its dtype.
        orientation: The EXIF orientation that it was turned from, 1 (upright) to 8.
    """

    pixels: np.ndarray
    mode: str
    orientation: int


@dataclass(frozen=True, eq=False)
class Mask:
    """A mask as it was saved.

    Attributes:
        values: ``[H, W]``, see `read_mask`.
        dtype: ``"bool"``, ``"uint8"``, ``"uint16"`` or ``"int32"``; ``"rgb"`` if the values are
            colours.
        palette: Red, green and blue of each value, if the values are indices of a palette.
        lossy: Whether the file is a JPEG or a lossy WebP, which smear values.
        mode: As of a `Picture`.
        orientation: As of a `Picture`.
    """

    values: np.ndarray
    dtype: str
    palette: bytes | None
    lossy: bool
    mode: str
    orientation: int


class _Decoded(NamedTuple):
    """Upright pixels, an array if PIL has no mode for them, and what the file says about them."""

    pixels: Image.Image | np.ndarray
    mode: str
    orientation: int
    lossy: bool


def describe(source: ImageSource) -> str:
    """Return what an image is called in a message.

    Args:
        source: A path, an array or a PIL image.

    Returns:
        The path, or the kind and shape of what is in memory.

    Example:
        >>> describe(np.zeros((4, 6), np.uint8))
        'array uint8 [4, 6]'
    """
    if isinstance(source, np.ndarray):
        return f"array {source.dtype} {list(source.shape)}"
    if isinstance(source, Image.Image):
        return f"PIL image {source.mode} {source.height}x{source.width}"
    return Path(source).as_posix()


def read_image(source: ImageSource) -> np.ndarray:
    """Read an image as 8-bit RGB, upright.

    Args:
        source: A path, an array ``[H, W]``, ``[H, W, 1]``, ``[H, W, 3]`` or ``[H, W, 4]`` of any
            real type, or a PIL image.

    Returns:
        A fresh uint8 array ``[H, W, 3]``; the module's docstring says how other types are mapped.

    Raises:
        DataError: The file cannot be read, or the array has no such shape.

    Example:
        >>> read_image(np.array([[0, 1000], [2000, 4000]], np.uint16))[..., 0].tolist()
        [[0, 64], [128, 255]]
    """
    return load_image(source).pixels


def load_image(source: ImageSource) -> Picture:
    """Read an image as `read_image` does, with what its file says about it.

    Args:
        source: As for `read_image`.

    Returns:
        The image.

    Raises:
        DataError: As for `read_image`.
    """
    with _problems(source, "an image"):
        pixels, mode, turned, _ = _decode(source)
        if isinstance(pixels, Image.Image):
            if pixels.mode not in ("I", "F") and not pixels.mode.startswith("I;"):
                if pixels.mode == "P" and "transparency" in pixels.info:
                    # PIL warns of the direct way, and changes the palette that it converts.
                    pixels = pixels.copy().convert("RGBA")
                if pixels.mode != "RGB":  # a conversion to the same mode is a copy
                    pixels = pixels.convert("RGB")
            pixels = np.asarray(pixels)
        return Picture(image_pixels(pixels, describe(source)), mode, turned)


def read_mask(source: ImageSource, *, colour: bool = False) -> np.ndarray:
    """Read the raw values of a mask, upright.

    Args:
        source: A path, an array ``[H, W]`` or ``[H, W, 3]`` (an alpha channel is dropped), or a
            PIL image.
        colour: Read every mask as if it were coded in colours, also one that is all grey: for sets
            of which other masks are.

    Returns:
        A fresh array ``[H, W]`` of bool (1 bit), uint8 (8-bit grey, palette indices), uint16, or
        int32 (everything wider, floats that hold whole numbers, and colours as
        ``R << 16 | G << 8 | B``).

    Raises:
        DataError: The file cannot be read, is drawn in its alpha channel, or has negative,
            fractional or too large values.

    Example:
        >>> read_mask(np.array([[0.0, 7.0]])).dtype
        dtype('int32')
        >>> read_mask(np.array([[[0, 0, 0], [128, 64, 128]]], np.uint8)).tolist()
        [[0, 8405120]]
    """
    return load_mask(source, colour=colour).values


def load_mask(source: ImageSource, *, colour: bool = False) -> Mask:
    """Read a mask, upright, with what its file says about the values.

    Args:
        source: As for `read_mask`.
        colour: As for `read_mask`.

    Returns:
        The mask.

    Raises:
        DataError: As for `read_mask`.
    """
    with _problems(source, "a mask"):
        pixels, mode, turned, lossy = _decode(source)
        palette = None
        if isinstance(pixels, Image.Image):
            if pixels.mode not in _MASK_MODES and not pixels.mode.startswith("I;16"):
                raise DataError(
                    f"{describe(source)}: a mask coded in colours of the mode {pixels.mode};"
                    " expected red, green and blue: save it as RGB"
                )
            if pixels.mode in ("P", "PA"):
                palette = bytes(pixels.getpalette() or ()) or None
                pixels = pixels.getchannel(0) if pixels.mode == "PA" else pixels
            pixels = np.array(pixels)
            if lossy and not colour:
                pixels = _grey_if_nearly(pixels)
        values, told = mask_numbers(pixels, describe(source), palette=palette, colour=colour)
        dtype = "rgb" if told else str(values.dtype)
        return Mask(values, dtype, palette, lossy, mode, turned)


def image_size(source: ImageSource) -> tuple[int, int]:
    """Return the size that `read_image` would give, from the header where that suffices.

    Only a PNG without EXIF before its pixels is read to the end (EXIF may follow them).

    Args:
        source: A path, an array or a PIL image.

    Returns:
        Height and width in pixels, after the EXIF orientation.

    Raises:
        DataError: The file cannot be read.
    """
    if isinstance(source, np.ndarray):
        return int(source.shape[0]), int(source.shape[1])
    with _problems(source, "an image"), _opened(source) as image:
        if isinstance(source, Image.Image):
            image.load()  # turns a TIFF, here and now
        turned = turns(_orientation(image))
        width, height = image.size
        tags = getattr(image, "tag_v2", None)
        if tags is not None and image is not source:  # some versions of PIL have turned its size
            width, height = int(tags[256]), int(tags[257])
        return (width, height) if turned else (height, width)


def orientation(source: ImageSource) -> int:
    """Return the EXIF orientation of a readable image, 1 to 8; 1 is upright.

    Args:
        source: A path, an array or a PIL image (the latter two: as far as they still carry EXIF).
    """
    if isinstance(source, np.ndarray):
        return 1
    with _opened(source) as image:
        return _orientation(image)


def num_pages(source: ImageSource) -> int:
    """Return how many pages or frames a readable TIFF or GIF has; 1 for everything else.

    Args:
        source: A path, an array or a PIL image; of the latter the user has chosen the frame.

    Raises:
        DataError: The list of its pages is damaged.
    """
    if not isinstance(source, Path) or source.suffix.lower() in _UNPAGED_NAMES:
        return 1
    with _problems(source, "an image"), _opened(source) as image:
        return getattr(image, "n_frames", 1) if image.format in _PAGED_FORMATS else 1


def turns(orientation: int) -> bool:
    """Return whether an EXIF orientation swaps height and width."""
    return orientation in _TURNED


@contextmanager
def _problems(source: ImageSource, kind: str) -> Iterator[None]:
    """Turn whatever a decoder raises on a damaged file into a DataError that names the file."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except FileNotFoundError:
        raise DataError(f"{describe(source)}: there is no such file") from None
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{describe(source)}: {error}. If you trust the file, raise PIL.Image.MAX_IMAGE_PIXELS"
            " or cut the image into tiles"
        ) from error
    except Exception as error:
        remedy = "replace the file or drop the row"
        if isinstance(source, Path) and source.suffix.lower() in _ARRAY_NAMES:
            remedy = "put the array itself into the cell, as numpy.load reads it"
        raise DataError(
            f"{describe(source)}: cannot be read as {kind} ({type(error).__name__}: {error});"
            f" expected a whole PNG, JPEG, TIFF, BMP or WebP: {remedy}"
        ) from error


@contextmanager
def _opened(source: Path | Image.Image) -> Iterator[Image.Image]:
    if isinstance(source, Image.Image):
        yield source
        return
    # Through a file object: PIL maps an uncompressed TIFF given by path into memory, and then
    # scrambles it if its orientation swaps height and width.
    with Path(source).open("rb") as file, Image.open(file) as image:
        yield image


def _decode(source: ImageSource) -> _Decoded:
    if isinstance(source, np.ndarray):
        return _Decoded(source, str(source.dtype), 1, False)
    if isinstance(source, Image.Image):
        source.load()  # turns a TIFF, here and now
        lossy, turned = source.format in _LOSSY_FORMATS, _orientation(source)
        upright = source if turned == 1 else ImageOps.exif_transpose(source)
        return _Decoded(upright, source.mode, turned, lossy)
    with _opened(source) as image:
        deep = is_deep_colour(image)
        turned = _orientation(image)  # before the pixels: some versions of PIL turn a TIFF then
        if not deep:
            image.load()
            mode = image.mode
            if turned != 1:
                ImageOps.exif_transpose(image, in_place=True)
            lossy = image.format in _LOSSY_FORMATS or _is_lossy_webp(image, source)
            return _Decoded(image, mode, turned, lossy)
    return _Decoded(read_deep_colour(source, turned=turned != 1), "RGB;16", turned, False)


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        image.load()  # It may come behind the pixels; what is wrong with them is not passed over.
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except (SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return 1  # A damaged block of EXIF, which viewers do not mind either.
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _is_lossy_webp(image: Image.Image, file: Path) -> bool:
    """Return whether the pixels of a WebP are not in its lossless chunk; PIL does not say."""
    if image.format != "WEBP":
        return False
    with file.open("rb") as opened:
        return b"VP8L" not in opened.read(_WEBP_HEADER)


def _grey_if_nearly(pixels: np.ndarray) -> np.ndarray:
    """Make colours ``[H, W, C]`` grey if all are grey but for rounding; alpha stays as it is."""
    if pixels.ndim == 3 and pixels.shape[2] >= 3:
        spread = np.ptp(pixels[..., :3], axis=-1)
        if spread.max(initial=0) <= _GREY_SPREAD:
            pixels[..., :3] = pixels[..., 1:2]
    return pixels
