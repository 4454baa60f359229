"""Raw mask values -> class ids 0..K-1 and back, found from the masks, with names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from easyseg.data.label_rules import (
    IGNORE,
    Classes,
    check_classes,
    check_options,
    default_names,
    one_or,
    some,
    void_value,
)
from easyseg.errors import DataError, OptionError, nearest

__all__ = ["IGNORE", "PROBLEM_TYPES", "LabelMap", "infer_label_map"]

PROBLEM_TYPES = ("auto", "binary", "multiclass")
_DTYPES = ("bool", "uint8", "uint16", "int32")


@dataclass(frozen=True)
class LabelMap:
    """The two-way map between the user's mask values and class ids.

    Args:
        values: The raw value of each class id.
        names: The name of each class id.
        ignore: The raw value of pixels that neither train nor score; None if there is none.
        dtype: The type of the user's masks, and of predictions: ``"bool"``, ``"uint8"``,
            ``"uint16"`` or ``"int32"``.

    Example:
        >>> masks = LabelMap((0, 255), ("background", "lesion"), None, "uint8")
        >>> masks.encode(np.array([[0, 255]], np.uint8)).tolist()
        [[0, 1]]
        >>> print(masks)
        0 background <- 0 · 1 lesion <- 255 · ignored: none
    """

    values: tuple[int, ...]
    names: tuple[str, ...]
    ignore: int | None
    dtype: str

    def __post_init__(self) -> None:
        taken = self.values if self.ignore is None else (*self.values, self.ignore)
        if not 1 <= len(self.values) <= IGNORE or len(self.values) != len(self.names):
            raise DataError(f"label map: {len(self.values)} values, {len(self.names)} names")
        if len(set(taken)) != len(taken) or min(taken) < 0:
            raise DataError(f"label map: values {list(taken)} are repeated or negative")
        if len(set(self.names)) != len(self.names) or not all(n.strip() for n in self.names):
            raise DataError(f"label map: class names {list(self.names)} are repeated or empty")
        if self.dtype not in _DTYPES:
            raise DataError(f"label map: dtype {self.dtype!r}; known: {', '.join(_DTYPES)}")
        if max(self.values) > _largest(self.dtype):
            raise DataError(f"label map: value {max(self.values)} does not fit {self.dtype}")

    def __str__(self) -> str:
        return self.describe()

    @property
    def num_classes(self) -> int:
        """Number of classes, the background included, ignored pixels not."""
        return len(self.values)

    @property
    def binary(self) -> bool:
        """Whether there are two classes, so that id 1 can be called the foreground."""
        return self.num_classes == 2

    def encode(self, raw: np.ndarray, where: str = "") -> np.ndarray:
        """Turn raw mask values into class ids.

        Args:
            raw: Whole numbers or bool, of any shape, as `easyseg.data.io.read_mask` gives them.
            where: The file's name, for the message.

        Returns:
            uint8 ids of the same shape; `IGNORE` where pixels are ignored.

        Raises:
            DataError: The mask holds a value that the map does not know.
        """
        if raw.dtype in (np.bool_, np.uint8):
            ids = self._lookup(np.arange(256))[raw.view(np.uint8)]
        else:
            ids = self._lookup(raw)
        if (ids < 0).any():
            raise DataError(self.unknown(np.unique(raw[ids < 0]).tolist(), where))
        return ids.astype(np.uint8)

    def decode(self, ids: np.ndarray) -> np.ndarray:
        """Turn class ids back into the user's values and dtype.

        Args:
            ids: uint8 (or bool) class ids of any shape; `IGNORE` is allowed if the map ignores a
                value.

        Returns:
            Raw values of the same shape in `dtype`.

        Raises:
            DataError: An id is not of this map.
        """
        if ids.dtype not in (np.bool_, np.uint8):
            raise TypeError(f"class ids are uint8, not {ids.dtype}")
        ids = ids.view(np.uint8)
        table = np.zeros(256, dtype=self.dtype)
        table[: self.num_classes] = self.values
        known = np.arange(256) < self.num_classes
        if self.ignore is not None and self.ignore <= _largest(self.dtype):
            table[IGNORE], known[IGNORE] = self.ignore, True
        if not known[ids].all():
            found = sorted(set(np.unique(ids).tolist()) - set(np.flatnonzero(known).tolist()))
            raise DataError(f"class ids {found} are not in the label map: {self}")
        return table[ids]

    def unknown(self, values: Sequence[int], where: str = "") -> str:
        """Return the message about raw values that the map does not know.

        Args:
            values: The unknown raw values.
            where: The file's name.

        Returns:
            One line for a report.
        """
        known = [*self.values] if self.ignore is None else [*self.values, self.ignore]
        return (
            f"{where + ': ' if where else ''}the mask holds {some(values)}, expected only"
            f" {some(known)}; list a class in classes= at fit, or ignore it with ignore_index="
        )

    def describe(self) -> str:
        """Return the map in one line: id, name, raw value of each class, and what is ignored."""
        rows = [
            f"{i} {name} <- {value}"
            for i, (name, value) in enumerate(zip(self.names, self.values, strict=True))
        ]
        ignored = "none" if self.ignore is None else str(self.ignore)
        return " · ".join([*rows, f"ignored: {ignored}"])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, from which `from_dict` rebuilds the map."""
        return {
            "values": list(self.values),
            "names": list(self.names),
            "ignore": self.ignore,
            "dtype": self.dtype,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> LabelMap:
        """Rebuild a map.

        Args:
            record: What `to_dict` returned.

        Returns:
            The equal map.
        """
        return cls(
            values=tuple(int(value) for value in record["values"]),
            names=tuple(str(name) for name in record["names"]),
            ignore=None if record["ignore"] is None else int(record["ignore"]),
            dtype=str(record["dtype"]),
        )

    def _lookup(self, raw: np.ndarray) -> np.ndarray:
        """Return int16 ids of raw values, -1 for unknown ones."""
        ignored = () if self.ignore is None else (self.ignore,)
        values = np.array([*self.values, *ignored], dtype=np.int64)
        ids = np.array([*range(self.num_classes), *(IGNORE for _ in ignored)], dtype=np.int16)
        order = np.argsort(values)
        values, ids = values[order], ids[order]
        place = np.minimum(np.searchsorted(values, raw), len(values) - 1)
        return np.where(values[place] == raw, ids[place], np.int16(-1))


def infer_label_map(
    values: Iterable[int],
    dtype: str,
    *,
    problem_type: str = "auto",
    classes: Classes | None = None,
    ignore_index: int | None = None,
) -> LabelMap:
    """Find the label map from the raw values that the training masks hold.

    Without ``classes``, values become ids in ascending order, and 255 is read like this:
    {0, 255} is background and foreground; in ids without a gap (from 0 or 1) followed by 255, as
    {0, 1, 255}, it is ignored; any other set that holds 255 is ambiguous and an error.

    Args:
        values: All raw values that occur.
        dtype: The type of the masks, see `LabelMap`.
        problem_type: ``"auto"``, ``"binary"`` (exactly two classes) or ``"multiclass"``.
        classes: ``{raw value: name}``, which lists all classes (one may not occur), or the names
            of the values that occur, in ascending order; as many names as there are values make
            255 a class.
        ignore_index: The raw value of ignored pixels; it wins over the rule for 255.

    Returns:
        The map; values ascend with the ids.

    Raises:
        DataError: The values are ambiguous, of one class only, or do not fit ``classes``.
        OptionError: ``problem_type``, ``classes`` or ``ignore_index`` makes no sense.

    Example:
        >>> print(infer_label_map([0, 1, 2, 255], "uint8"))
        0 class_0 <- 0 · 1 class_1 <- 1 · 2 class_2 <- 2 · ignored: 255
    """
    if problem_type not in PROBLEM_TYPES:
        raise OptionError(f"problem_type={problem_type!r}. {nearest(problem_type, PROBLEM_TYPES)}")
    check_options(classes, ignore_index)
    present = sorted({int(value) for value in values} - {ignore_index})
    ignore = ignore_index
    if isinstance(classes, Mapping):
        known = sorted(int(value) for value in classes)
        unlisted = [value for value in present if value not in known]
        if unlisted:
            raise DataError(
                f"the masks hold {some(unlisted)}, which classes={dict(classes)} does not list:"
                f" add {one_or(unlisted, 'it', 'them')}, or ignore one with ignore_index="
            )
        names = [classes[value] for value in known]
    else:
        if ignore is None and (classes is None or len(classes) != len(present)):
            ignore = void_value(present)
        known = present = [value for value in present if value != ignore]
        names = default_names(known, problem_type) if classes is None else list(classes)
    check_classes(known, present, ignore, problem_type, named=classes is not None)
    if len(names) != len(known):
        raise DataError(
            f"classes= gives {len(names)} names, but the masks hold {some(known)}"
            f" (ignored: {ignore}); name each, or give {{value: name}} if a class does not occur"
        )
    return LabelMap(tuple(known), tuple(names), ignore, dtype)


def _largest(dtype: str) -> int:
    return 1 if dtype == "bool" else int(np.iinfo(dtype).max)
