"""The rules by which raw mask values become classes, each with its message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np

from easyseg.data.colours import GREY, WHITE, hex_colour, palette_colours, parse_colour
from easyseg.errors import DataError, OptionError

IGNORE = 255
"""The training id of ignored pixels; class ids are 0..254."""

# More values than these, without names, are taken for grey levels.
MOST_IDS = 200
MOST_IDS_WITH_GAPS = 32

SMEARED_VALUES = (0, 255)
"""What binary masks hold before a JPEG or an interpolation smears them."""

NEAR_END = 32
"""Levels within which a JPEG leaves the pixels of 0, and those of 255."""

RawValue: TypeAlias = int | str | Sequence[int]
"""How users write a mask value: the number, or a colour as ``"#804080"`` or ``(128, 64, 128)``."""

Classes: TypeAlias = Mapping[Any, str] | Sequence[str]
"""Names by raw value (a `RawValue`), or names alone."""

_WRITTEN = "a raw mask value from 0 up, or a colour such as '#804080' or (128, 64, 128)"

SMEARED_HINT = (
    "Masks saved as JPEG or resized with interpolation hold smeared values: save them as PNG,"
    " resize with nearest neighbour"
)


def check_options(classes: Classes | None, ignore_index: RawValue | None) -> None:
    """Refuse a ``classes`` or ``ignore_index`` that makes no sense whatever the masks hold."""
    # True would be taken for 1.
    if isinstance(ignore_index, bool) or not (ignore_index is None or _is_raw_value(ignore_index)):
        raise OptionError(f"ignore_index={ignore_index!r}: expected {_WRITTEN}")
    if classes is None:
        return
    if isinstance(classes, str) or not isinstance(classes, (Mapping, Sequence)):
        raise OptionError(f"classes={classes!r}: expected {{value: name}} or a list of names")
    names = list(classes.values() if isinstance(classes, Mapping) else classes)
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise OptionError(f"classes={classes!r}: each name is a text that is not empty")
    if len(set(names)) != len(names):
        raise OptionError(f"classes={classes!r}: two classes have the same name")
    if isinstance(classes, Mapping) and not all(map(_is_raw_value, classes)):
        raise OptionError(f"classes={dict(classes)}: each key is {_WRITTEN}")


def _is_raw_value(written: object) -> bool:
    number = isinstance(written, Integral) and int(written) >= 0
    return number or parse_colour(written) is not None


def raw_value(
    written: RawValue, option: str, present: Sequence[int], dtype: str, palette: bytes | None
) -> int:
    """Return the mask value that a user means, in the masks' own encoding.

    Args:
        written: What the user wrote; `check_options` has seen it.
        option: Where the user wrote it, for the message.
        present: The values that occur.
        dtype: The type of the masks, see `LabelMap`.
        palette: Red, green and blue of each value, if the values are indices of a palette.

    Returns:
        A number as it is; of a colour its index, its grey level, or the colour itself.

    Raises:
        DataError: The masks cannot show that colour.
    """
    colour = parse_colour(written)
    if colour is None:
        assert isinstance(written, Integral)
        return int(written)
    if dtype == "rgb":
        return colour
    found = some(present, dtype)
    if palette is not None:
        shades = palette_colours(palette)[: len(palette) // 3].tolist()
        indices = [index for index, shade in enumerate(shades) if shade == colour]
        used = [index for index in indices if index in present]
        if len(used) > 1:
            found = f"{some(used)} in that colour: name the values"
        elif indices:
            return (used or indices)[0]
        else:
            found += f" of a palette without it: {', '.join(map(hex_colour, shades[:12]))}"
    elif colour == (colour & 255) * GREY and (dtype != "bool" or colour & 255 in (0, 255)):
        return colour & 255 if dtype != "bool" else colour & 1
    raise DataError(
        f"{option}{written!r} names the colour {hex_colour(colour)}; the masks hold {found}",
        advice="name values, or colours that the masks show",
    )


def names_by_value(
    classes: Mapping[Any, str], present: Sequence[int], dtype: str, palette: bytes | None
) -> dict[int, str]:
    """Return the user's names by mask value, in the order of their class ids.

    That is the order in which the user lists them; but of two classes the background comes first,
    since the other one is what gets found.
    """
    pairs = [
        (raw_value(key, "classes: ", present, dtype, palette), name)
        for key, name in classes.items()
    ]
    if len(pairs) == 2:
        pairs.sort(key=lambda pair: pair[1].strip().lower() != "background")
    listed = dict(pairs)
    if len(listed) < len(pairs):
        raise OptionError(f"classes={dict(classes)}: two keys mean the same mask value")
    return listed


def check_listed(
    listed: Mapping[int, str], present: Sequence[int], classes: Classes | None, dtype: str
) -> None:
    """Refuse values that occur and that the user's ``classes`` do not list.

    Args:
        listed: The names by mask value.
        present: The values that occur and are not ignored.
        classes: What the user wrote, for the message.
        dtype: The type of the masks, see `LabelMap`.
    """
    unlisted = [value for value in present if value not in listed]
    if unlisted:
        hint = f". {SMEARED_HINT}" if len(unlisted) > 2 else ""
        raise DataError(
            f"the masks hold {some(unlisted, dtype)}, which classes={classes} does not list",
            advice=f"add {one_or(unlisted, 'it', 'them')}, or ignore one with ignore_index={hint}",
        )


def fits_smeared(classes: Classes | None) -> bool:
    """Return whether the user's classes leave room for two smeared values."""
    if isinstance(classes, Mapping):
        return sorted(classes) == [*SMEARED_VALUES]
    return classes is None or len(classes) == len(SMEARED_VALUES)


def void_value(present: Sequence[int]) -> int | None:
    """Return 255 if these values say that it is ignored, None if they say that it is a class."""
    rest = [value for value in present if value != IGNORE]
    if len(rest) == len(present) or rest in ([], [0]):
        return None
    if len(rest) > 1 and rest[0] in (0, 1) and rest[-1] - rest[0] + 1 == len(rest):
        return IGNORE
    raise DataError(
        f"the masks hold {some(present)}: whether 255 is a class or ignored cannot be told. Say"
        f" which, with classes={{value: name, ...}} or ignore_index=255. {SMEARED_HINT}"
    )


def default_names(values: Sequence[int], problem_type: str, dtype: str) -> list[str]:
    """Return the names of classes to which the user gave none."""
    if len(values) == 2 and problem_type != "multiclass":
        return ["background", "foreground"]
    return [f"class_{shown(value, dtype)}" for value in values]


def check_classes(
    known: Sequence[int],
    present: Sequence[int],
    ignore: int | None,
    problem_type: str,
    dtype: str,
    *,
    named: bool,
    regions: bool,
) -> None:
    """Refuse fewer classes than two, more than ids, and other than two if binary.

    Args:
        known: The values of the classes.
        present: Those that occur.
        ignore: The value that is ignored.
        problem_type: ``"auto"``, ``"binary"`` or ``"multiclass"``.
        dtype: The type of the masks, see `LabelMap`.
        named: Whether the user named the classes.
        regions: Whether the values fill regions, few in a mask: then many of them are classes.
    """
    ignored = shown(ignore, dtype)
    if len(present) < 2:
        found = some(present, dtype) if present else "no value that is not ignored"
        advice = "check that the label column holds the masks, and that something is drawn in them"
        if ignore == IGNORE and list(present) == [0] and dtype != "rgb":
            advice = "in masks of 0 and 255, 255 is the foreground: leave ignore_index out"
        raise DataError(
            f"all masks hold {found} (ignored: {ignored}), expected two classes", advice=advice
        )
    if len(known) > IGNORE:
        raise DataError(
            f"the masks hold {len(known)} different values, at most {IGNORE} classes are possible",
            advice=f"{SMEARED_HINT}; numbers of objects are no classes",
        )
    gaps = dtype == "rgb" or max(known) - min(known) + 1 > len(known)
    if not (named or regions) and len(known) > (MOST_IDS_WITH_GAPS if gaps else MOST_IDS):
        kind = "shades of few colours" if dtype == "rgb" else "grey levels"
        raise DataError(
            f"the masks hold {some(known, dtype)}: so many are {kind} rather than classes",
            advice=f"{SMEARED_HINT}; if they are classes, name them with classes={{value: name,"
            " ...}",
        )
    if problem_type == "binary" and len(known) != 2:
        raise DataError(
            f"problem_type='binary' needs two classes, found {some(known, dtype)} (ignored:"
            f" {ignored})",
            advice="use 'multiclass', or name an ignored value with ignore_index=",
        )


def other_foreground(known: Sequence[int], ignore: int | None, values: Sequence[int]) -> int | None:
    """Return what the foreground of a binary mask should be, if it is coded in the other way.

    Args:
        known: The values of the classes.
        ignore: The value that is ignored.
        values: The values of the mask, ascending.

    Returns:
        255 for a mask of 0 and 1 where masks hold 0 and 255, 1 for the reverse, else None.

    Example:
        >>> other_foreground((0, 255), None, [0, 1]), other_foreground((0, 255), None, [0, 255])
        (255, None)
    """
    for own, other in ((255, 1), (1, 255)):
        if set(known) == {0, own} and ignore != other and list(values) in ([0, other], [other]):
            return own
    return None


def are_ids(values: Sequence[int], dtype: str) -> bool:
    """Return whether a mask beside smeared ones of 0 and 255 holds ids rather than dark levels.

    1 bit has no shades; and of a smear that holds dark levels alone, as the rim of an object that
    a crop has cut off, some are left out.

    Args:
        values: The values of the mask, ascending.
        dtype: The type of the mask, see `LabelMap`.
    """
    in_a_row = 1 < len(values) <= NEAR_END + 1 and list(values) == [*range(len(values))]
    return 1 in values if dtype == "bool" else in_a_row


def unknown_line(values: Sequence[int], known: Sequence[int], dtype: str, where: str) -> str:
    """Return the message about raw values that a label map does not know, in one line.

    Args:
        values: The unknown values.
        known: The values that it knows, the ignored one included.
        dtype: The type of the masks, see `LabelMap`.
        where: The file's name, or nothing.
    """
    hint = f". {SMEARED_HINT}" if len(values) > 2 else ""
    return (
        f"{where + ': ' if where else ''}the mask holds {some(values, dtype)}, expected only"
        f" {some(known, dtype)}; list a class in classes= at fit, or ignore it with"
        f" ignore_index={hint}"
    )


def padded_palette(palette: bytes | None, values: Sequence[int]) -> tuple[int, ...] | None:
    """Return a palette that covers the values, with black beyond its end."""
    if palette is None:
        return None
    return tuple(palette.ljust(3 * max(value for value in values if value <= 255) + 3, b"\0"))


def largest_value(dtype: str) -> int:
    """Return the largest value that masks of a type can hold."""
    if dtype == "rgb":
        return WHITE
    return 1 if dtype == "bool" else int(np.iinfo(dtype).max)


def one_or(values: Sequence[int], one: str, several: str) -> str:
    """Return the word for one value or for several."""
    return one if len(values) == 1 else several


def shown(value: int | None, dtype: str) -> str:
    """Return a raw value as users read it: a number, a colour as ``#804080``, or ``none``."""
    if value is None:
        return "none"
    return hex_colour(value) if dtype == "rgb" else str(value)


def written(value: int, dtype: str) -> str:
    """Return a raw value as it is written in Python: ``255``, ``'#804080'``."""
    return repr(shown(value, dtype)) if dtype == "rgb" else str(value)


def some(
    values: Sequence[int], dtype: str = "int32", *, most: int = 12, number: int | None = None
) -> str:
    """Return the values in words, the first ones if there are many.

    Args:
        values: The values, or the first ones.
        dtype: Their type, see `LabelMap`.
        most: How many are named.
        number: How many there are; None: as many as ``values``.
    """
    number = len(values) if number is None else number
    listed = ", ".join(shown(value, dtype) for value in values[:most])
    more = f", ... ({number} in all)" if number > most else ""
    return f"the {one_or(values, 'value', 'values')} {listed}{more}"
