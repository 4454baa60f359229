"""A mask drawn over its image, in colours that stay apart for colour-blind readers too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from easyseg.errors import DataError, OptionError
from easyseg.files import whole_file

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    Source: TypeAlias = str | Path | np.ndarray | Image.Image

__all__ = ["PALETTE", "overlay", "shrink_mask", "write_overlays"]

PALETTE = (
    "#56B4E9",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#F0E442",
    "#CC79A7",
    "#0072B2",
    "#882255",
    "#999933",
    "#332288",
    "#DDDDDD",
    "#117733",
)
"""Okabe and Ito's colours, then some of Paul Tol's; the value v takes entry (v - 1) modulo 12."""

_THICK_FROM = 512  # pixels of the longer side from which contours are two pixels wide


def overlay(
    image: Source,
    mask: Source,
    *,
    alpha: float = 0.45,
    background: int = 0,
    ignore: int | None = None,
    colors: Mapping[int, str | tuple[int, int, int]] | Sequence[str] | None = None,
    coloured: bool = False,
) -> Image.Image:
    """Draw a mask over its image: a tint inside every class, an opaque line along its border.

    The background stays as it is. The colour of any other value depends on the value alone, so that
    one class has one colour in all pictures of a set. Masks coded in colours show those, and black
    is their background.

    Args:
        image: Path, array ``[H, W]`` or ``[H, W, 3]``, or PIL image.
        mask: Path, array ``[H, W]`` or PIL image of raw label values, of the image's size; or
            ``[H, W, 3]`` coded in colours.
        alpha: Strength of the tint, 0 (only lines) to 1 (opaque).
        background: Raw value of the background.
        ignore: Raw value of ignored pixels; they stay as they are.
        colors: Colours by raw value, which win over the palette; or a palette to take instead.
            A colour is a name or ``"#rrggbb"`` as Pillow reads it, or a tuple (red, green, blue).
        coloured: The mask is coded in colours, even if all of them are grey.

    Returns:
        An RGB picture of the image's size.

    Raises:
        DataError: If image and mask differ in size or cannot be read.
        OptionError: If ``alpha`` is outside 0..1 or a colour cannot be understood.

    Example:
        >>> import numpy as np
        >>> picture = overlay(np.zeros((4, 6), np.uint8), np.ones((4, 6), bool), alpha=1.0)
        >>> picture.size, picture.getpixel((2, 2))
        ((6, 4), (86, 180, 233))
    """
    import numpy as np
    from PIL import Image

    from easyseg.data.io import load_mask, read_image

    if not 0 <= alpha <= 1:
        raise OptionError(f"alpha is a share between 0 and 1, found {alpha}.")
    pixels = read_image(_source(image)).astype(np.float32)
    loaded = load_mask(_source(mask), colour=coloured)
    values = loaded.values.astype(np.int64)
    if pixels.shape[:2] != values.shape:
        raise DataError(
            f"Image and mask differ in size: {pixels.shape[:2]} and {values.shape} (height, "
            "width); a mask is drawn at its image's own size."
        )
    border = _border(values, 2 if max(values.shape) >= _THICK_FROM else 1)
    for value in np.unique(values).tolist():
        if value in (background, ignore):
            continue
        inside = values == value
        color = np.array(_color(value, colors, coloured=loaded.dtype == "rgb"), np.float32)
        pixels[inside] += alpha * (color - pixels[inside])
        pixels[inside & border] = color
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def write_overlays(
    images: Iterable[Source],
    masks: Iterable[str | Path],
    *,
    masks_in: Path,
    folder: Path,
    background: int = 0,
    ignore: int | None = None,
    coloured: bool = False,
    on_picture: Callable[[int], None] = lambda count: None,
) -> None:
    """Draw written masks over their images, one JPEG each, named after the mask.

    Args:
        images: The images.
        masks: Their mask files, in the same order.
        masks_in: The folder of the masks.
        folder: The folder of the pictures, which mirrors that of the masks.
        background: As for :func:`overlay`.
        ignore: As for :func:`overlay`.
        coloured: As for :func:`overlay`.
        on_picture: Called with 1 after each picture.
    """
    for image, mask in zip(images, masks, strict=True):
        picture = (folder / Path(mask).relative_to(masks_in)).with_suffix(".jpg")
        picture.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(picture) as beside:
            drawn = overlay(image, mask, background=background, ignore=ignore, coloured=coloured)
            drawn.save(beside, quality=90)
        on_picture(1)


def shrink_mask(values: np.ndarray, longest: int) -> np.ndarray:
    """Make a mask small enough to show: every n-th pixel, so that no value is made up.

    Args:
        values: ``[H, W]``.
        longest: The longer side that is wanted; smaller masks stay as they are.

    Example:
        >>> import numpy as np
        >>> shrink_mask(np.arange(12).reshape(2, 6), 3).tolist()
        [[7, 9, 11]]
    """
    import numpy as np

    factor = max(1.0, max(values.shape) / longest)
    rows, columns = (
        (np.arange(max(1, round(side / factor))) * factor + factor / 2)
        .astype(int)
        .clip(0, side - 1)
        for side in values.shape
    )
    return values[rows[:, None], columns]


def _source(source: Source) -> Path | np.ndarray | Image.Image:
    return Path(source) if isinstance(source, str) else source


def _color(
    value: int,
    colors: Mapping[int, str | tuple[int, int, int]] | Sequence[str] | None,
    *,
    coloured: bool,
) -> tuple[int, ...]:
    from PIL import ImageColor

    palette: Sequence[str] = PALETTE
    color: str | tuple[int, int, int] | None = None
    if isinstance(colors, Mapping):
        color = colors.get(value)
    elif colors:
        palette = colors
    if color is None and coloured and not isinstance(colors, Sequence):
        color = (value >> 16, value >> 8 & 255, value & 255)
    if color is None:
        color = palette[(value - 1) % len(palette)]
    try:
        rgb = ImageColor.getrgb(color)[:3] if isinstance(color, str) else tuple(color)
    except ValueError:
        rgb = ()
    if len(rgb) != 3 or not all(0 <= part <= 255 for part in rgb):
        raise OptionError(
            f"{color!r} is no colour; expected a name, '#rrggbb', or three numbers in 0..255."
        )
    return rgb


def _border(values: np.ndarray, width: int) -> np.ndarray:
    """Pixels that have another value within ``width`` steps to a side: bool ``[H, W]``."""
    import numpy as np

    height, length = values.shape
    framed = np.pad(values, width, mode="edge")
    border = np.zeros(values.shape, bool)
    for step in (*range(-width, 0), *range(1, width + 1)):
        rows = framed[width + step : width + step + height, width : width + length]
        columns = framed[width : width + height, width + step : width + step + length]
        border |= (rows != values) | (columns != values)
    return border
