"""The label map of a set, found from the raw values that its masks hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from easyseg.data.label_map import LabelMap
from easyseg.data.label_rules import (
    SMEARED_VALUES,
    Classes,
    RawValue,
    check_classes,
    check_listed,
    check_options,
    default_names,
    fits_smeared,
    largest_value,
    names_by_value,
    padded_palette,
    raw_value,
    shown,
    some,
    void_value,
)
from easyseg.errors import DataError, OptionError, nearest

__all__ = ["PROBLEM_TYPES", "infer_label_map"]

PROBLEM_TYPES = ("auto", "binary", "multiclass")


def infer_label_map(
    values: Iterable[int],
    dtype: str,
    *,
    palette: bytes | None = None,
    smeared: bool = False,
    regions: bool = False,
    problem_type: str = "auto",
    classes: Classes | None = None,
    ignore_index: RawValue | None = None,
) -> LabelMap:
    """Find the label map from the raw values that the training masks hold.

    Without ``classes``, values become ids in ascending order, and 255 is read like this:
    {0, 255} is background and foreground; in ids without a gap (from 0 or 1) followed by 255, as
    {0, 1, 255}, it is ignored; any other set that holds 255 is ambiguous and an error. In masks
    coded in colours no value is special.

    Args:
        values: All raw values that occur.
        dtype: The type of the masks, see `LabelMap`.
        palette: Red, green and blue of each value, if the masks are palette images.
        smeared: Whether the masks look like masks of 0 and 255 that were smeared: they are read as
            such, unless ``classes`` or ``ignore_index`` say otherwise.
        regions: Whether the values fill regions in several masks, few of them in each. Otherwise
            many values, or fewer with gaps, are taken for grey levels and refused, unless
            ``classes`` names them.
        problem_type: ``"auto"``, ``"binary"`` (exactly two classes) or ``"multiclass"``.
        classes: ``{raw value: name}``, which lists all classes (one may not occur) in the order of
            their ids; of two classes, one called ``"background"`` has the id 0. Or the names of
            the values that occur, in ascending order; as many names as there are values make 255
            a class. A raw value is a number, or a colour as ``"#804080"`` or ``(128, 64, 128)``,
            which also names an index of a palette or a grey level.
        ignore_index: The raw value of ignored pixels; it wins over the rule for 255.

    Returns:
        The map.

    Raises:
        DataError: The values are ambiguous, of one class only, or do not fit ``classes``.
        OptionError: ``problem_type``, ``classes`` or ``ignore_index`` makes no sense.

    Example:
        >>> print(infer_label_map([0, 1, 2, 255], "uint8"))
        0 class_0 <- 0 · 1 class_1 <- 1 · 2 class_2 <- 2 · ignored: 255
        >>> print(infer_label_map([0, 0x804080], "rgb", classes={"#804080": "road", 0: "none"}))
        0 road <- #804080 · 1 none <- #000000 · ignored: none
    """
    if problem_type not in PROBLEM_TYPES:
        raise OptionError(f"problem_type={problem_type!r}. {nearest(problem_type, PROBLEM_TYPES)}")
    check_options(classes, ignore_index)
    present = sorted({int(value) for value in values})
    ignore = None
    if ignore_index is not None:
        ignore = raw_value(ignore_index, "ignore_index=", present, dtype, palette)
    listed = None
    if isinstance(classes, Mapping):
        listed = names_by_value(classes, present, dtype, palette)
        if ignore in listed:
            raise OptionError(f"ignore_index={ignore_index!r} is also listed in classes=")
    smeared = smeared and ignore is None and fits_smeared(listed or classes)
    present = [*SMEARED_VALUES] if smeared else [value for value in present if value != ignore]
    if listed is not None:
        known, names = list(listed), list(listed.values())
        check_listed(listed, present, classes, dtype)
    else:
        whole = classes is not None and len(classes) == len(present)
        if ignore is None and dtype != "rgb" and not whole:
            ignore = void_value(present)
        known = present = [value for value in present if value != ignore]
        names = default_names(known, problem_type, dtype) if classes is None else list(classes)
    named = classes is not None
    check_classes(known, present, ignore, problem_type, dtype, named=named, regions=regions)
    if max(known) > largest_value(dtype):
        raise DataError(
            f"classes={classes} lists the value {max(known)}, which masks of"
            f" {'1 bit' if dtype == 'bool' else dtype} cannot hold",
            advice="correct the value; or, if it is to come, save a mask with more bits",
        )
    if len(names) != len(known):
        raise DataError(
            f"classes= gives {len(names)} {'name' if len(names) == 1 else 'names'}, but the masks"
            f" hold {some(known, dtype)} (ignored: {shown(ignore, dtype)})",
            advice="name each, or give {value: name} if a class does not occur",
        )
    colours = padded_palette(palette, [*known, ignore or 0]) if dtype == "uint8" else None
    return LabelMap(tuple(known), tuple(names), ignore, dtype, colours, smeared)
