"""Raw mask values -> class ids 0..K-1 and back, with names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from easyseg.data.colours import hex_colour, palette_colours, unpack_colours
from easyseg.data.label_rules import (
    IGNORE,
    are_ids,
    largest_value,
    other_foreground,
    shown,
    some,
    unknown_line,
)
from easyseg.errors import DataError

__all__ = ["IGNORE", "LabelMap"]

_DTYPES = ("bool", "uint8", "uint16", "int32", "rgb")


@dataclass(frozen=True)
class LabelMap:
    """The two-way map between the user's mask values and class ids.

    Args:
        values: The raw value of each class id; colours as ``R << 16 | G << 8 | B``.
        names: The name of each class id.
        ignore: The raw value of pixels that neither train nor score; None if there is none.
        dtype: The type of the user's masks, and of predictions: ``"bool"``, ``"uint8"``,
            ``"uint16"``, ``"int32"``, or ``"rgb"`` if they are coded in colours.
        palette: Red, green and blue, 0 to 255, of each raw value, if the user's masks are palette
            images; predictions are written with it.
        smeared: Whether the two values were smeared, by a JPEG or an interpolation: a grey level
            between them counts as the nearer one.

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
    palette: tuple[int, ...] | None = None
    smeared: bool = False

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
        if max(self.values) > largest_value(self.dtype):
            raise DataError(
                f"label map: value {max(self.values)} does not fit"
                f" {'a colour' if self.coloured else self.dtype}"
            )
        if self.palette is not None and (
            self.dtype != "uint8"
            or not 3 * max(self.values) + 3 <= len(self.palette) <= 768
            or not set(self.palette) <= set(range(256))
        ):
            raise DataError("label map: a palette gives the colour of each value of uint8 masks")
        if self.smeared and (not self.binary or self.ignore is not None or self.dtype != "uint8"):
            raise DataError("label map: smeared masks have two values of uint8, none ignored")

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

    @property
    def coloured(self) -> bool:
        """Whether masks are coded in colours: read them with ``read_mask(..., colour=True)``."""
        return self.dtype == "rgb"

    @property
    def _known(self) -> list[int]:
        return [*self.values] if self.ignore is None else [*self.values, self.ignore]

    @property
    def classes(self) -> dict[int | str, str]:
        """The names by raw value, as ``classes=`` takes them to give this map again."""
        keys = [self.shown(value) if self.coloured else value for value in self.values]
        return dict(zip(keys, self.names, strict=True))

    def shown(self, value: int | None) -> str:
        """Return a raw value as users read it: a number, a colour ``#804080``, or ``none``."""
        return shown(value, self.dtype)

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
            ids = self._lookup(np.arange(256))[raw.astype(np.uint8, copy=False)]
        else:
            ids = _by_runs(self._lookup, raw)
        if (ids < 0).any():
            unknown = np.unique(raw[ids < 0]).tolist()
            raise DataError(unknown_line(unknown, self._known, self.dtype, where))
        return ids.astype(np.uint8)

    def decode(self, ids: np.ndarray) -> np.ndarray:
        """Turn class ids back into the user's values and dtype.

        Args:
            ids: uint8 (or bool) class ids of any shape; `IGNORE` is allowed if the map ignores a
                value.

        Returns:
            Raw values of the same shape in `dtype`; colours as uint8 ``[..., 3]``.

        Raises:
            DataError: An id is not of this map.
        """
        if ids.dtype not in (np.bool_, np.uint8):
            raise TypeError(f"class ids are uint8, not {ids.dtype}")
        ids = ids.view(np.uint8)
        table = np.zeros(256, dtype=np.int32 if self.coloured else self.dtype)
        table[: self.num_classes] = self.values
        known = np.arange(256) < self.num_classes
        if self.ignore is not None and self.ignore <= largest_value(self.dtype):
            table[IGNORE], known[IGNORE] = self.ignore, True
        if not known[ids].all():
            found = sorted(set(np.unique(ids).tolist()) - set(np.flatnonzero(known).tolist()))
            raise DataError(f"class ids {found} are not in the label map: {self}")
        return (unpack_colours(table) if self.coloured else table)[ids]

    def unknown_values(self, values: Iterable[int]) -> list[int]:
        """Return those of some raw values that the map does not know, in ascending order."""
        found = np.array(sorted(set(values)), dtype=np.int64)
        return found[self._lookup(found) < 0].tolist()

    def misfit(
        self,
        values: Iterable[int],
        dtype: str,
        palette: bytes | None = None,
        where: str = "",
        *,
        dim: bool = False,
    ) -> str | None:
        """Say why another mask is not coded like those that the map was made from.

        Args:
            values: The raw values that the mask holds.
            dtype: The type of the mask, as in `easyseg.data.io.Mask`.
            palette: Its palette, as there.
            where: The file's name, for the message.
            dim: Whether no mask of its table holds a value far from 0.

        Returns:
            One line for a report; None if the map fits.
        """
        values = sorted(set(values))
        start = f"{where}: " if where else ""
        if dtype == "rgb" and not self.coloured:
            return (
                f"{start}the mask is coded in colours, {some(values, dtype)}, those of the fit are"
                f" not: they hold {some(self.values)}; save all masks in one format"
            )
        wanted = self.other_foreground(values, dtype)
        if wanted is not None:
            void = f", or ignore {IGNORE} with ignore_index={IGNORE} at fit" if wanted == 1 else ""
            return (
                f"{start}the mask holds {some(values)}, expected only {some(sorted(self.values))}:"
                f" the foreground is coded in another way; save all masks in one coding{void}"
            )
        if self.smeared and (are_ids(values, dtype) or (dim and len(values) > 1)):
            return (
                f"{start}the mask holds {some(values)}, expected {some(sorted(self.values))} and"
                " shades between them: ids are no shades; save all masks in one coding"
            )
        unknown = self.unknown_values(values)
        if unknown:
            return unknown_line(unknown, self._known, self.dtype, where)
        if palette is not None and self.palette is not None:
            own, other = palette_colours(self.palette), palette_colours(palette)
            for value in values:
                if own[value] != other[value]:
                    return (
                        f"{start}the palette shows the value {value} in"
                        f" {hex_colour(int(other[value]))}, that of the fit in"
                        f" {hex_colour(int(own[value]))}; expected one palette for all masks: save"
                        " them with one, or all as RGB"
                    )
        return None

    def other_foreground(self, values: Iterable[int], dtype: str) -> int | None:
        """Return the foreground, 255 or 1, if that of another binary mask is 1 or 255 instead.

        Args:
            values: The raw values that the mask holds.
            dtype: The type of the mask, as in `easyseg.data.io.Mask`.
        """
        found = sorted(set(values))
        # A smear may be one dark level; colours have no such codings.
        if self.coloured or dtype == "rgb" or (self.smeared and not are_ids(found, dtype)):
            return None
        return other_foreground(self.values, self.ignore, found)

    def describe(self) -> str:
        """Return the map in one line: id, name, raw value of each class, and what is ignored."""
        colours = None if self.palette is None else palette_colours(self.palette)
        rows = [
            f"{i} {name} <- {self.shown(value)}"
            + ("" if colours is None else f" ({hex_colour(int(colours[value]))})")
            for i, (name, value) in enumerate(zip(self.names, self.values, strict=True))
        ]
        rows.append(f"ignored: {self.shown(self.ignore)}")
        if self.smeared:
            rows.append("smeared: the nearer value counts")
        return " · ".join(rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, from which `from_dict` rebuilds the map."""
        return {
            "values": list(self.values),
            "names": list(self.names),
            "ignore": self.ignore,
            "dtype": self.dtype,
            "palette": None if self.palette is None else list(self.palette),
            "smeared": self.smeared,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> LabelMap:
        """Rebuild a map.

        Args:
            record: What `to_dict` returned, now or before there were palettes.

        Returns:
            The equal map.
        """
        palette = record.get("palette")
        return cls(
            values=tuple(int(value) for value in record["values"]),
            names=tuple(str(name) for name in record["names"]),
            ignore=None if record["ignore"] is None else int(record["ignore"]),
            dtype=str(record["dtype"]),
            palette=None if palette is None else tuple(int(part) for part in palette),
            smeared=bool(record.get("smeared", False)),
        )

    def _lookup(self, raw: np.ndarray) -> np.ndarray:
        """Return int16 ids of raw values, -1 for unknown ones."""
        if self.smeared:
            low, high = sorted(self.values)
            nearer = np.where(
                2 * raw.astype(np.int64) > low + high,
                self.values.index(high),
                self.values.index(low),
            )
            return np.where(raw <= 255, nearer, -1).astype(np.int16)
        ignored = () if self.ignore is None else (self.ignore,)
        values = np.array([*self.values, *ignored], dtype=np.int64)
        ids = np.array([*range(self.num_classes), *(IGNORE for _ in ignored)], dtype=np.int16)
        order = np.argsort(values)
        values, ids = values[order], ids[order]
        place = np.minimum(np.searchsorted(values, raw), len(values) - 1)
        return np.where(values[place] == raw, ids[place], np.int16(-1))


def _by_runs(function: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
    """Apply a function of single values, once a run of equal values: masks hold few of them."""
    flat = values.ravel()
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]])[: flat.size])
    found = function(flat[starts])
    return np.repeat(found, np.diff(starts, append=flat.size)).reshape(values.shape)
