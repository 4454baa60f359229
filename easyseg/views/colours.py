"""The colour of each class in figures and notebooks, and which class is the background."""

from __future__ import annotations

from collections.abc import Iterator

from easyseg.data.colours import hex_colour, palette_colours
from easyseg.data.label_map import LabelMap
from easyseg.visualize import PALETTE

__all__ = ["background_of", "class_colours", "raw_background"]


def background_of(label_map: LabelMap, problem_type: str) -> int | None:
    """Return the class that is no object, and is not tinted in figures; None if each class is one.

    That is the first class of a binary problem. Of a multi-class problem it is the one of the raw
    value 0 (or black), unless it was given another name than "background".

    Args:
        label_map: The classes.
        problem_type: ``"binary"`` or ``"multiclass"``.

    Example:
        >>> background_of(LabelMap((0, 1, 2), ("sky", "road", "car"), None, "uint8"), "multiclass")
        >>> background_of(LabelMap((3, 7), ("skin", "lesion"), None, "uint8"), "binary")
        0
    """
    if problem_type == "binary":
        return 0
    for index, (value, name) in enumerate(zip(label_map.values, label_map.names, strict=True)):
        if value == 0 and name.lower() in ("background", f"class_{label_map.shown(0)}"):
            return index
    return None


def raw_background(label_map: LabelMap, problem_type: str) -> int:
    """Return the raw value of the background, which overlays leave as it is; 0 if there is none.

    Args:
        label_map: The classes.
        problem_type: ``"binary"`` or ``"multiclass"``.

    Example:
        >>> inverted = LabelMap((255, 0), ("background", "lesion"), None, "uint8")
        >>> raw_background(inverted, "binary")
        255
    """
    background = background_of(label_map, problem_type)
    return 0 if background is None else label_map.values[background]


def class_colours(label_map: LabelMap) -> tuple[str, ...]:
    """Return a colour of its own for each class, as ``"#rrggbb"``, in the order of the class ids.

    Masks coded in colours and palette masks keep theirs. Otherwise it is the colour that
    `easyseg.overlay` gives the raw value, or the next free one if another class has that; beyond
    the palette's colours the first one comes again.

    Args:
        label_map: The classes.

    Example:
        >>> class_colours(LabelMap((0, 1, 13), ("a", "b", "c"), None, "uint8"))
        ('#E69F00', '#56B4E9', '#009E73')
    """
    wished = [_wished(label_map, value) for value in label_map.values]
    spare = (colour for colour in _shades() if colour not in wished)
    found: list[str] = []
    for wish in wished:
        if wish is None or wish in found:
            wish = next(spare, wish or PALETTE[0])
        found.append(wish)
    return tuple(found)


def _wished(label_map: LabelMap, value: int) -> str | None:
    if label_map.coloured:
        return hex_colour(value)
    if label_map.palette is not None:
        return hex_colour(int(palette_colours(label_map.palette)[value]))
    return PALETTE[(value - 1) % len(PALETTE)] if value else None


def _shades() -> Iterator[str]:
    """Yield the palette, then its colours half-way to white, then half-way to black."""
    yield from PALETTE
    for end in (255, 0):
        for colour in PALETTE:
            parts = [(part + end) // 2 for part in bytes.fromhex(colour[1:])]
            yield f"#{bytes(parts).hex().upper()}"
