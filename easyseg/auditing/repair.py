"""Repaired copies of the user's data, in a new folder: nothing of theirs is changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from easyseg.auditing.audit import READING, Examined, examine
from easyseg.auditing.findings import Finding, Repair, Severity, counted
from easyseg.auditing.tables import AuditTable
from easyseg.data.colours import unpack_colours
from easyseg.data.columns import column_of
from easyseg.data.io import Mask, describe, image_size, load_mask
from easyseg.data.label_map import LabelMap
from easyseg.data.label_rules import Classes, RawValue
from easyseg.data.pairing import fit_to_image
from easyseg.errors import DataError, OptionError
from easyseg.inference.writers import output_names, write_mask

__all__ = ["Change", "Repaired", "check_target", "repair", "repair_examined"]


@dataclass(frozen=True)
class Change:
    """What was done about one row.

    Attributes:
        table: ``"train"``, ``"tuning"`` or ``"test"``.
        row: The row's label in the user's table.
        did: What was done, such as ``"resize the mask"``; several are joined by commas.
        file: The user's file, which stays as it is.
        copy: The repaired copy, relative to the new folder; empty if the row was dropped.
        why: What was found.
    """

    table: str
    row: Any
    did: str
    file: str
    copy: str
    why: str


@dataclass(frozen=True)
class Repaired:
    """A new folder with tables that point at repaired copies, or at the user's own files.

    Attributes:
        folder: The folder: ``train.csv``, ``masks/`` and ``repairs.csv``, which lists the changes.
        tables: The CSV file of each table.
        changes: What was done, row by row.
        left: Errors about which nothing was done.
    """

    folder: Path
    tables: Mapping[str, Path]
    changes: tuple[Change, ...]
    left: tuple[Finding, ...]

    def summary(self) -> str:
        """Return in words how many masks were repaired, rows dropped, errors left."""
        dropped = sum(not change.copy for change in self.changes)
        repaired = len(self.changes) - dropped
        return (
            f"{counted(repaired, 'repaired mask')}, {counted(dropped, 'dropped row')},"
            f" {counted(len(self.left), 'error')} that must be settled by hand"
        )


def check_target(folder: Path) -> None:
    """Refuse a folder that holds anything.

    Raises:
        OptionError: It is not new and not empty, or it is the working folder.
    """
    if folder.resolve() == Path.cwd():
        raise OptionError(f"{folder}: is the working folder; choose a new one")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OptionError(f"{folder}: exists and is not an empty folder; choose a new one")


def repair(
    train_data: Any,
    tuning_data: Any = None,
    test_data: Any = None,
    *,
    folder: str | os.PathLike[str],
    image: str = "image",
    label: str = "label",
    classes: Classes | None = None,
    ignore_index: RawValue | None = None,
    data_root: str | os.PathLike[str] | None = None,
    verbosity: int = 1,
) -> Repaired:
    """Write a repaired copy of what :func:`easyseg.audit` finds to a new folder.

    Your files are never changed. Masks that are off by a few pixels are resized (nearest
    neighbour), those that an EXIF orientation parts from their image are turned, smeared ones get
    the nearer of their two values; rows that cannot be repaired are dropped. ``repairs.csv`` in the
    folder lists what was done to which row, and why.

    Args:
        train_data: As for :func:`easyseg.audit`, as are those that are not named here.
        tuning_data: As for :func:`easyseg.audit`.
        test_data: As for :func:`easyseg.audit`.
        folder: Where to write, new or empty. It is whole or not there.
        image: As for :func:`easyseg.audit`.
        label: As for :func:`easyseg.audit`.
        classes: As for :func:`easyseg.audit`.
        ignore_index: As for :func:`easyseg.audit`.
        data_root: As for :func:`easyseg.audit`.
        verbosity: 0 is silent, 1 shows a progress bar.

    Returns:
        The new tables (CSV files), what was done, and which errors are left for you to settle.

    Raises:
        OptionError: The folder is not empty, or ``classes`` or ``ignore_index`` makes no sense.
        DataError: A table cannot be read at all, or would have no rows left.
    """
    from easyseg.console import reporting

    target = Path(folder).expanduser()
    check_target(target)
    tables = {"train": train_data, "tuning": tuning_data, "test": test_data}
    with reporting(verbosity) as reporter:
        examined = examine(
            tables,
            image=image,
            label=label,
            classes=classes,
            ignore_index=ignore_index,
            data_root=data_root,
            watch=partial(reporter.progress, READING),
        )
    return repair_examined(examined, tables, target, image=image, label=label)


def repair_examined(
    examined: Examined, tables: Mapping[str, Any], folder: Path, *, image: str, label: str
) -> Repaired:
    """Write repaired copies of masks, and tables without the rows that cannot be repaired.

    Masks that are off by a few pixels are resized (nearest neighbour), those that an EXIF
    orientation parts from their image are turned, smeared ones get the nearer of their two values,
    and binary ones whose foreground is 1 where that of the others is 255, or the reverse, get the
    foreground of the others. Files that need no repair are not copied: the new tables name them
    where they are.

    Args:
        examined: What the audit found.
        tables: The tables that were audited, as they were given: DataFrames or CSV files.
        folder: Where to write: new or empty. It is whole or not there.
        image: Name of the image column.
        label: Name of the label column.

    Returns:
        What was written.

    Raises:
        OptionError: The folder is not empty.
        DataError: A table would have no rows left.
        OSError: A file cannot be written.
    """
    check_target(folder)
    folder = folder.absolute()
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        changes: list[Change] = []
        names = {}
        for table in examined.audited.tables:
            frame = _frame(tables[table.name])
            changes += _write_table(table, frame, examined, beside, image=image, label=label)
            names[table.name] = folder / f"{table.name}.csv"
        columns = list(Change.__dataclass_fields__)
        rows = [[getattr(change, name) for name in columns] for change in changes]
        pd.DataFrame(rows, columns=columns).to_csv(beside / "repairs.csv", index=False)
        if folder.exists():
            folder.rmdir()
        beside.replace(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    errors = (found for found in examined.findings if found.severity == Severity.ERROR)
    left = tuple(finding for finding in errors if finding.repair is None)
    return Repaired(folder, names, tuple(changes), left)


def _frame(data: Any) -> pd.DataFrame:
    """Return a table with all its columns, those of a CSV file as the text they are."""
    if isinstance(data, pd.DataFrame):
        return data.copy()
    return pd.read_csv(
        Path(data).expanduser(),
        dtype=str,
        keep_default_na=False,
        index_col=False,
        skipinitialspace=True,
        encoding="utf-8-sig",
    )


def _write_table(
    table: AuditTable,
    frame: pd.DataFrame,
    examined: Examined,
    folder: Path,
    *,
    image: str,
    label: str,
) -> list[Change]:
    """Write one table and the copies that it needs; return what was done."""
    asked = _asked(table, examined)
    samples = table.samples
    assert samples.labels is not None
    copies = [f"masks/{table.name}/{name}" for name in output_names(_label_names(table))]
    images: list[str] = [""] * len(frame)
    labels: list[str] = [""] * len(frame)
    changes = []
    for position, row in enumerate(table.positions):
        images[row] = _absolute(samples.images[position])
        labels[row] = _absolute(samples.labels[position])
        wanted = asked.get(row, {})
        if not wanted or "drop the row" in wanted:
            continue
        mask = _repaired(table, position, [*wanted], examined.audited.label_map)
        coloured = mask.dtype == "rgb"
        write_mask(
            folder / copies[position],
            unpack_colours(mask.values) if coloured else mask.values,
            None if coloured else mask.palette,
        )
        found = "; ".join(wanted.values())
        own = describe(samples.labels[position])
        index = samples.index[position]
        changes.append(Change(table.name, index, ", ".join(wanted), own, copies[position], found))
        labels[row] = copies[position]
    dropped = sorted(row for row, wanted in asked.items() if "drop the row" in wanted)
    for row in dropped:
        why = asked[row]["drop the row"]
        index = frame.index[row]
        changes.append(Change(table.name, index, "drop the row", images[row], "", why))
    if len(dropped) == len(frame):
        raise DataError(f"{table.name}: no row can be repaired; nothing was written")
    frame[column_of(frame, image)], frame[column_of(frame, label)] = images, labels
    kept = [row for row in range(len(frame)) if row not in dropped]
    frame.iloc[kept].to_csv(folder / f"{table.name}.csv", index=False, lineterminator="\n")
    return changes


def _asked(table: AuditTable, examined: Examined) -> dict[int, dict[Repair, str]]:
    """Return for each row of a table which repairs it needs, and why."""
    asked: dict[int, dict[Repair, str]] = {}
    for finding in examined.findings:
        if finding.repair is None:
            continue
        for item in finding.evidence:
            if item.table == table.name:
                why = item.detail or finding.found
                asked.setdefault(item.position, {}).setdefault(finding.repair, why)
    return asked


def _repaired(
    table: AuditTable, position: int, wanted: list[Repair], label_map: LabelMap | None
) -> Mask:
    """Return a mask as it should be."""
    samples = table.samples
    assert samples.labels is not None
    image, source = samples.images[position], samples.labels[position]
    mask = load_mask(source)
    values, dtype, palette = mask.values, mask.dtype, mask.palette
    if "resize the mask" in wanted or "turn the mask" in wanted:
        values = fit_to_image(values, image_size(image), image, source)
    if "threshold the mask" in wanted and label_map is not None:
        values = label_map.decode(label_map.encode(values))
    for name, old, new in (("write 255 for 1", 1, 255), ("write 1 for 255", 255, 1)):
        if name in wanted:
            values, dtype, palette = (values == old) * np.uint8(new), "uint8", None
    return replace(mask, values=values, dtype=dtype, palette=palette, lossy=False)


def _label_names(table: AuditTable) -> list[str]:
    return [describe(source) for source in table.samples.labels or ()]


def _absolute(source: object) -> str:
    if not isinstance(source, Path):
        raise DataError("repairs need tables of files; save images and masks that are in memory")
    name = source.absolute().as_posix()
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(
            f"{name!a}: a CSV cannot hold this name, which is no UTF-8: rename the file"
        ) from None
    return name
