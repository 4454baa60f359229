"""The tables under audit: their samples, the facts of each, and how their masks are read."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from easyseg.auditing.encoding import black_and_white
from easyseg.auditing.facts import ImageFacts, Part
from easyseg.auditing.findings import Evidence
from easyseg.auditing.scan import MOST_VALUES
from easyseg.auditing.smears import look_smeared
from easyseg.data.colours import GREY
from easyseg.data.io import ImageSource, describe
from easyseg.data.label_map import LabelMap
from easyseg.data.label_rules import NEAR_END
from easyseg.data.pairing import SizeMatch, size_match
from easyseg.data.table import CellProblem, Samples

__all__ = ["AuditTable", "Audited", "LabelProblem", "Seen"]

# A picture has hundreds of colours, a mask a handful, a JPEG'd mask some dozens. An image of fewer
# than the first number and a label of more, by this factor, have changed places.
_PICTURE_FROM = 64
_TIMES_MORE = 4
# Fewer grey levels than that are no picture, even among masks that hold two.
_SHADES_FROM = 16


class LabelProblem(NamedTuple):
    """Why no label map can be made.

    Attributes:
        found: What the masks hold.
        remedy: What to do.
    """

    found: str
    remedy: str


class Seen(NamedTuple):
    """One sample of one table."""

    table: AuditTable
    position: int
    fact: ImageFacts

    @property
    def swapped(self) -> bool:
        """Whether the label looks like a picture and the image like a mask."""
        few, many = self.fact.colours, self.fact.num_values
        if not 0 < few <= _PICTURE_FROM < many:
            return False
        return self.fact.covering > max(_PICTURE_FROM, _TIMES_MORE * few)

    @property
    def match(self) -> SizeMatch:
        """How the size of the mask relates to that of the image; ``"equal"`` without one."""
        if self.fact.mask_size is None or self.fact.size == (0, 0):
            return "equal"
        return size_match(self.fact.size, self.fact.mask_size, self.fact.turned)

    @property
    def is_mask(self) -> bool:
        """Whether the label was read and is a mask of some kind."""
        fact = self.fact
        return fact.mask_counts is not None and not fact.identical and not self.swapped

    def is_shaded(self, usual: float) -> bool:
        """Return whether the label holds many grey levels, most pixels far from 0 and 255.

        Args:
            usual: How many values the masks of the table hold: a picture has far more.
        """
        fact, counts = self.fact, self.fact.mask_counts or {}
        most = min(_PICTURE_FROM, max(_SHADES_FROM, _TIMES_MORE * usual))
        if fact.covering <= most:
            return False
        if fact.mask_dtype == "rgb" and all(value % GREY == 0 for value in counts):
            counts = {value // GREY: number for value, number in counts.items()}
        elif fact.mask_dtype != "uint8" or fact.palette:
            return False
        between = sum(n for value, n in counts.items() if NEAR_END < value < 255 - NEAR_END)
        return 2 * between > sum(counts.values())

    @property
    def mask(self) -> ImageSource:
        """Where the mask comes from."""
        assert self.table.samples.labels is not None
        return self.table.samples.labels[self.position]

    @property
    def image(self) -> str:
        """What the image is called in messages."""
        return describe(self.table.samples.images[self.position])

    @property
    def label(self) -> str:
        """What the mask is called in messages."""
        return describe(self.mask)

    def evidence(self, *parts: Part, detail: str = "") -> Evidence:
        """Return the sample as evidence.

        Args:
            parts: Which of its files show what was found.
            detail: What was found in it; the file's name comes first if it is not in there.
        """
        samples = self.table.samples
        row = samples.index[self.position]
        return Evidence(
            table=self.table.name,
            position=self.table.positions[self.position],
            row=row.item() if isinstance(row, np.generic) else row,
            files=tuple(self.image if part == "image" else self.label for part in parts),
            detail=detail,
            sources=(samples.images[self.position], self.mask),
        )


@dataclass(frozen=True)
class AuditTable:
    """One table.

    Args:
        name: ``"train"``, ``"tuning"``, ``"test"``, or ``"data"``.
        samples: The samples whose cells name files that are there.
        facts: The facts of each of them.
        cells: What is wrong with the cells of the other rows.
        positions: The row of each sample in the table, from 0.
    """

    name: str
    samples: Samples
    facts: tuple[ImageFacts, ...]
    cells: tuple[CellProblem, ...]
    positions: tuple[int, ...]

    def __iter__(self) -> Iterator[Seen]:
        """Yield the samples in order."""
        return (Seen(self, position, fact) for position, fact in enumerate(self.facts))

    @property
    def rows(self) -> int:
        """Number of rows of the table."""
        return len(self.samples) + len({cell.position for cell in self.cells})

    @property
    def pictures(self) -> list[Seen]:
        """The labels that look like grey pictures, if most labels of the table do not."""
        masks = [seen for seen in self if seen.is_mask]
        shaded = self.shaded
        return shaded if 2 * len(shaded) < len(masks) else []

    @property
    def shaded(self) -> list[Seen]:
        """The labels that look like grey pictures."""
        masks = [seen for seen in self if seen.is_mask]
        usual = statistics.median(seen.fact.num_values for seen in masks) if masks else 0
        return [seen for seen in masks if seen.is_shaded(usual)]

    @property
    def class_masks(self) -> list[Seen]:
        """The samples whose labels are masks that may hold classes, unlike photos among them."""
        photos = {seen.position for seen in self.pictures}
        return [
            seen
            for seen in self
            if seen.is_mask and seen.position not in photos and seen.fact.num_values <= MOST_VALUES
        ]

    @property
    def coloured(self) -> bool:
        """Whether the masks are coded in colours.

        A mask that is all black in another table is then the colour black, and not 0.
        """
        return any(seen.fact.mask_dtype == "rgb" for seen in self.class_masks)


@dataclass(frozen=True)
class Audited:
    """All tables, and how their masks are read.

    Args:
        tables: The training table, then tuning and test if there are any.
        label_map: The label map of the training masks; None if they have none.
        label_problems: Why there is none.
        named: Whether the user named the classes.
        told: Whether the user said what values mean: their names by value, or which is ignored.
        by_value: Whether the names are by value; a list of names does not say what 255 is, nor
            which side is the background.
    """

    tables: tuple[AuditTable, ...]
    label_map: LabelMap | None
    label_problems: tuple[LabelProblem, ...]
    named: bool
    told: bool
    by_value: bool

    @property
    def train(self) -> AuditTable:
        """The training table."""
        return self.tables[0]

    def __iter__(self) -> Iterator[Seen]:
        """Yield the samples of all tables."""
        return (seen for table in self.tables for seen in table)

    def pictures(self, table: AuditTable) -> list[Seen]:
        """Return the labels of a table that look like grey pictures rather than masks.

        Beside smeared training masks no mask is as shaded, however many of another table are.
        """
        if table.name != "train" and self.label_map is not None and self.label_map.smeared:
            return table.shaded
        return table.pictures

    def masks(self, table: AuditTable | None = None) -> Iterator[Seen]:
        """Yield the samples whose labels are masks, of one table or of all."""
        for each in self.tables if table is None else (table,):
            photos = {seen.position for seen in self.pictures(each)}
            yield from (s for s in each if s.is_mask and s.position not in photos)

    def misfits(self) -> list[tuple[Seen, str]]:
        """Return the masks that are not coded as the label map says, and why.

        The map is made from the training masks: of them, only ids among smeared masks misfit.
        """
        label_map = self.label_map
        if label_map is None:
            return []
        exact = replace(label_map, smeared=False)
        found = []
        for table in self.tables:
            if table.name == "train" and not label_map.smeared:
                continue
            masks = [seen for seen in self.masks(table) if seen.fact.num_values <= MOST_VALUES]
            dim = all(max(seen.fact.mask_counts or (0,)) <= NEAR_END for seen in masks)
            for seen in masks:
                values, dtype = seen.fact.mask_counts or (), seen.fact.mask_dtype or label_map.dtype
                if label_map.smeared and seen.fact.lossy and dtype == "uint8" and not dim:
                    continue  # dark levels in a row are what JPEG leaves of an object at the rim
                reader = label_map if table.name not in self._exact_tables else exact
                line = reader.misfit(values, dtype, seen.fact.palette, seen.label, dim=dim)
                if line is not None:
                    found.append((seen, line))
        return found

    @cached_property
    def _exact_tables(self) -> frozenset[str]:
        """The other tables whose masks hold middle shades and are not smeared, as the map has it.

        It would read any third value as one of its two.
        """
        if self.label_map is None or not self.label_map.smeared:
            return frozenset()
        found = set()
        for table in self.tables:
            if table.name == "train":
                continue
            masks = [
                seen
                for seen in table.class_masks
                if seen.fact.mask_dtype == "uint8" and not (seen.fact.palette or seen.fact.lossy)
            ]
            values = {value for seen in masks for value in seen.fact.mask_counts or ()}
            if any(NEAR_END < value < 255 - NEAR_END for value in values) and not look_smeared(
                [seen.mask for seen in masks], [seen.fact for seen in masks]
            ):
                found.add(table.name)
        return frozenset(found)

    def train_masks(self) -> list[tuple[Seen, Counter[int]]]:
        """Return the training samples whose labels are masks, with their pixels by class id."""
        return [(seen, self.by_class(seen.fact.mask_counts)) for seen in self.masks(self.train)]

    def mixed_bits(self) -> list[Seen]:
        """Return the training masks of 1 bit, if the others hold 255 where these hold 1.

        So do those with a palette of black and white. Then all of them can be written as 0 and 255;
        if other values occur, nobody can tell.
        """
        masks = list(self.masks(self.train))
        bits = [seen for seen in masks if black_and_white(seen.fact)]
        others = [seen.fact for seen in masks if not black_and_white(seen.fact)]
        values = {value for fact in others for value in fact.mask_counts or ()}
        plain = not any(fact.palette and any(fact.mask_counts or ()) for fact in others)
        return bits if plain and values in ({0, 255}, {255}) else []

    def by_class(self, counts: Mapping[int, int] | None) -> Counter[int]:
        """Return numbers of pixels by class id, `IGNORE` included, from those by raw value.

        Values that the label map does not know are left out; there is a label map.
        """
        assert self.label_map is not None
        unknown = set(self.label_map.unknown_values(counts or ()))
        known = {value: number for value, number in (counts or {}).items() if value not in unknown}
        ids = self.label_map.encode(np.array([*known], dtype=np.int64))
        pixels: Counter[int] = Counter()
        for class_id, number in zip(ids.tolist(), known.values(), strict=True):
            pixels[class_id] += number
        return pixels
