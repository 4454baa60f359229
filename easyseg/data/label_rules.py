"""The rules by which raw mask values become classes, each with its message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, TypeAlias

from easyseg.data.colours import GREY, hex_colour, palette_colours, parse_colour
from easyseg.errors import DataError, OptionError

IGNORE = 255
"""The training id of ignored pixels; class ids are 0..254."""

# More values than these, without names, are taken for grey levels.
MOST_IDS = 200
MOST_IDS_WITH_GAPS = 32

SMEARED_VALUES = (0, 255)
"""What binary masks hold before a JPEG or an interpolation smears them."""

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
        f"{option}{written!r} names the colour {hex_colour(colour)}; the masks hold {found}"
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
) -> None:
    """Refuse fewer classes than two, more than ids, and other than two if binary."""
    ignored = shown(ignore, dtype)
    if len(present) < 2:
        found = some(present, dtype) if present else "no value that is not ignored"
        hint = "; check that the label column holds the masks"
        if ignore == IGNORE and list(present) == [0] and dtype != "rgb":
            hint = "; in masks of 0 and 255, 255 is the foreground: leave ignore_index out"
        raise DataError(f"all masks hold {found} (ignored: {ignored}), expected two classes{hint}")
    if len(known) > IGNORE:
        raise DataError(
            f"the masks hold {len(known)} different values, at most {IGNORE} classes are possible."
            f" {SMEARED_HINT}"
        )
    gaps = dtype == "rgb" or max(known) - min(known) + 1 > len(known)
    if not named and len(known) > (MOST_IDS_WITH_GAPS if gaps else MOST_IDS):
        kind = "shades of few colours" if dtype == "rgb" else "grey levels"
        raise DataError(
            f"the masks hold {some(known, dtype)}: so many are {kind} rather than classes."
            f" {SMEARED_HINT}; if they are classes, name them with classes={{value: name, ...}}"
        )
    if problem_type == "binary" and len(known) != 2:
        raise DataError(
            f"problem_type='binary' needs two classes, found {some(known, dtype)} (ignored:"
            f" {ignored}); use 'multiclass', or name an ignored value with ignore_index="
        )


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


def some(values: Sequence[int], dtype: str = "int32", *, most: int = 12) -> str:
    """Return the values in words, the first ones if there are many."""
    listed = ", ".join(shown(value, dtype) for value in values[:most])
    more = f", ... ({len(values)} in all)" if len(values) > most else ""
    return f"the {one_or(values, 'value', 'values')} {listed}{more}"
