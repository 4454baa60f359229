"""The rules by which raw mask values become classes, each with its message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral

from easyseg.errors import DataError, OptionError

IGNORE = 255
"""The training id of ignored pixels; class ids are 0..254."""

# More values than these, without names, are taken for grey levels.
MOST_IDS = 200
MOST_IDS_WITH_GAPS = 32

Classes = Mapping[int, str] | Sequence[str]

_SMEARED = (
    "Masks saved as JPEG or resized with interpolation hold smeared values: save them as PNG,"
    " resize with nearest neighbour"
)


def check_options(classes: Classes | None, ignore_index: int | None) -> None:
    """Refuse a ``classes`` or ``ignore_index`` that makes no sense whatever the masks hold."""
    if not (ignore_index is None or _raw_value(ignore_index)):
        raise OptionError(
            f"ignore_index={ignore_index!r}: expected a raw mask value from 0 up, such as 255"
        )
    if classes is None:
        return
    if isinstance(classes, str) or not isinstance(classes, (Mapping, Sequence)):
        raise OptionError(f"classes={classes!r}: expected {{value: name}} or a list of names")
    names = list(classes.values() if isinstance(classes, Mapping) else classes)
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise OptionError(f"classes={classes!r}: each name is a text that is not empty")
    if len(set(names)) != len(names):
        raise OptionError(f"classes={classes!r}: two classes have the same name")
    if isinstance(classes, Mapping):
        if not all(_raw_value(key) for key in classes):
            raise OptionError(f"classes={dict(classes)}: each key is a raw mask value from 0 up")
        if ignore_index in classes:
            raise OptionError(f"ignore_index={ignore_index} is also listed in classes=")


def _raw_value(value: object) -> bool:
    return isinstance(value, Integral) and int(value) >= 0


def void_value(present: Sequence[int]) -> int | None:
    """Return 255 if these values say that it is ignored, None if they say that it is a class."""
    rest = [value for value in present if value != IGNORE]
    if len(rest) == len(present) or rest in ([], [0]):
        return None
    if len(rest) > 1 and rest[0] in (0, 1) and rest[-1] - rest[0] + 1 == len(rest):
        return IGNORE
    raise DataError(
        f"the masks hold {some(present)}: whether 255 is a class or ignored cannot be told. Say"
        f" which, with classes={{value: name, ...}} or ignore_index=255. {_SMEARED}"
    )


def default_names(values: Sequence[int], problem_type: str) -> list[str]:
    """Return the names of classes to which the user gave none."""
    if len(values) == 2 and problem_type != "multiclass":
        return ["background", "foreground"]
    return [f"class_{value}" for value in values]


def check_classes(
    known: Sequence[int],
    present: Sequence[int],
    ignore: int | None,
    problem_type: str,
    *,
    named: bool,
) -> None:
    """Refuse fewer classes than two, more than ids, and other than two if binary."""
    if len(present) < 2:
        found = some(present) if present else "no value that is not ignored"
        hint = "; check that the label column holds the masks"
        if ignore == IGNORE and list(present) == [0]:
            hint = "; in masks of 0 and 255, 255 is the foreground: leave ignore_index out"
        raise DataError(f"all masks hold {found} (ignored: {ignore}), expected two classes{hint}")
    if len(known) > IGNORE:
        raise DataError(
            f"the masks hold {len(known)} different values, at most {IGNORE} classes are possible."
            f" {_SMEARED}"
        )
    gaps = max(known) - min(known) + 1 - len(known)
    if not named and len(known) > (MOST_IDS_WITH_GAPS if gaps else MOST_IDS):
        raise DataError(
            f"the masks hold {some(known)}: so many are grey levels rather than classes."
            f" {_SMEARED}; if they are classes, name them with classes={{value: name, ...}}"
        )
    if problem_type == "binary" and len(known) != 2:
        raise DataError(
            f"problem_type='binary' needs two classes, found {some(known)} (ignored: {ignore});"
            " use 'multiclass', or name an ignored value with ignore_index="
        )


def one_or(values: Sequence[int], one: str, several: str) -> str:
    """Return the word for one value or for several."""
    return one if len(values) == 1 else several


def some(values: Sequence[int], most: int = 12) -> str:
    """Return the values in words, the first ones if there are many."""
    listed = ", ".join(str(value) for value in values[:most])
    more = f", ... ({len(values)} in all)" if len(values) > most else ""
    return f"the {one_or(values, 'value', 'values')} {listed}{more}"
