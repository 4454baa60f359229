"""From the user's tables to tables under audit: their files read, their masks understood."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from easyseg.auditing.encoding import mask_encoding
from easyseg.auditing.scan import scan
from easyseg.auditing.smears import look_smeared
from easyseg.auditing.tables import Audited, AuditTable, LabelProblem
from easyseg.data.label_map import LabelMap
from easyseg.data.label_rules import SMEARED_VALUES, Classes, RawValue
from easyseg.data.table import CellProblem, Groups, read_samples
from easyseg.errors import DataError

__all__ = ["read_tables", "understand", "with_facts", "with_smears"]

_SAY_WHAT_VALUES_MEAN = "say what the values mean, with classes={value: name, ...} or ignore_index="


def read_tables(
    tables: Mapping[str, Any],
    *,
    image: str,
    label: str,
    data_root: str | os.PathLike[str] | None,
    problems: list[str],
    groups: Groups | None = None,
) -> tuple[AuditTable, ...]:
    """Read tables, without looking into their files.

    Args:
        tables: What :func:`easyseg.data.table.read_samples` takes, with labels, by name; tables
            that are None are left out.
        image: Name of the image column.
        label: Name of the label column.
        data_root: Folder that relative paths start from.
        problems: Why a table cannot be read at all is appended: no file, no column, no rows.
        groups: The groups of the samples, as for `read_samples`.

    Returns:
        The tables that can be read, without facts.
    """
    found = []
    for name, data in tables.items():
        if data is None:
            continue
        cells: list[CellProblem] = []
        try:
            samples = read_samples(
                data, image=image, label=label, data_root=data_root, groups=groups, problems=cells
            )
        except DataError as error:
            where = "" if name in ("train", "data") else f"{name} data: "
            problems.extend(f"{where}{problem}" for problem in error.problems)
            continue
        bad = {cell.position for cell in cells}
        rows = range(len(samples) + len(bad))
        kept = tuple(row for row in rows if row not in bad)
        found.append(AuditTable(name, samples, (), tuple(cells), kept))
    return tuple(found)


def with_facts(
    table: AuditTable, on_image: Callable[[int], None], *, colour: bool | None
) -> AuditTable:
    """Return a table with the facts of its files.

    Args:
        table: The table.
        on_image: Called with 1 after each sample.
        colour: Whether its masks are coded in colours; None: they tell, all together.
    """
    facts = scan(table.samples, colour=colour, progress=lambda done: on_image(1))
    return replace(table, facts=facts)


def understand(
    tables: Iterable[AuditTable],
    *,
    problem_type: str = "auto",
    classes: Classes | None = None,
    ignore_index: RawValue | None = None,
) -> Audited:
    """Find out how the masks are read, if that can be told.

    Args:
        tables: The training table first.
        problem_type: As for `infer_label_map`.
        classes: As for `infer_label_map`.
        ignore_index: As for `infer_label_map`.

    Raises:
        OptionError: ``problem_type``, ``classes`` or ``ignore_index`` makes no sense.
    """
    tables = tuple(tables)
    masks = tables[0].class_masks
    label_map: LabelMap | None = None
    problems: tuple[LabelProblem, ...] = ()
    try:
        encoding = mask_encoding([seen.mask for seen in masks], [seen.fact for seen in masks])
        label_map = encoding.label_map(
            problem_type=problem_type, classes=classes, ignore_index=ignore_index
        )
        label_map = with_smears(label_map, tables[1:])
    except DataError as error:
        remedy = error.advice or _SAY_WHAT_VALUES_MEAN
        problems = tuple(LabelProblem(found, remedy) for found in error.problems)
    by_value = isinstance(classes, Mapping)
    told = by_value or ignore_index is not None
    return Audited(tables, label_map, problems, classes is not None, told, by_value)


def with_smears(label_map: LabelMap, tables: Iterable[AuditTable]) -> LabelMap:
    """Return a label map that also reads smeared masks, where a table holds some.

    Clean masks of 0 and 255 are read as before.

    Args:
        label_map: The label map of other masks.
        tables: Tables that it is to read.
    """
    plain = label_map.dtype == "uint8" and label_map.palette is None and label_map.ignore is None
    if not plain or label_map.smeared or sorted(label_map.values) != [*SMEARED_VALUES]:
        return label_map
    for table in tables:
        masks = table.class_masks
        strange = any(label_map.unknown_values(seen.fact.mask_counts or ()) for seen in masks)
        if strange and look_smeared([seen.mask for seen in masks], [seen.fact for seen in masks]):
            return replace(label_map, smeared=True)
    return label_map
