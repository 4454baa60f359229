"""Read a data set folder: CSV files of image and mask paths, and the names of the classes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from easyseg.errors import DataError, nearest

__all__ = ["FolderDataset", "read_folder", "read_table"]

_COLUMNS = ("image", "label")
_CLASS_LINE = re.compile(r"(\d+|#[0-9a-fA-F]{6})\s+(.+)")
_IGNORE_MARK = "(ignore)"


@dataclass(frozen=True, eq=False)
class FolderDataset:
    """A data set on disk, ready for ``SemanticSegmentor.fit``.

    Attributes:
        train: Columns ``image`` and ``label``: absolute paths, usable from any directory.
        val: The same for validation, None if the folder has no ``val.csv``.
        test: The same for testing, None if the folder has no ``test.csv``.
        root: The folder.
        classes: Raw mask value, or colour such as ``"#804080"``, -> class name, None if the folder
            has no ``classes.txt``.
        ignore: Raw mask value, or colour, of pixels to ignore, None if there is none.
    """

    train: pd.DataFrame
    val: pd.DataFrame | None
    test: pd.DataFrame | None
    root: Path
    classes: dict[int | str, str] | None
    ignore: int | str | None


def read_folder(path: str | Path) -> FolderDataset:
    """Read a folder of ``train.csv``, ``val.csv``, ``test.csv`` and ``classes.txt``.

    The CSV files have the columns ``image`` and ``label`` with paths relative to the folder; only
    ``train.csv`` is needed. A line of ``classes.txt`` is ``<raw value> <name>``, or
    ``#804080 <name>`` if masks are coded in colours, and the value of ignored pixels is marked
    ``(ignore)``, as in ``255 void (ignore)``.

    Args:
        path: The folder.

    Returns:
        The tables with absolute paths, and the classes.

    Raises:
        DataError: If the folder or ``train.csv`` is missing, a CSV or ``classes.txt`` cannot be
            understood, or a listed file does not exist; all problems at once.
    """
    root = Path(path).expanduser().absolute()
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise DataError(f"{root}: expected a data set folder that holds train.csv, found {found}.")
    problems: list[str] = []
    files = {name: root / f"{name}.csv" for name in ("train", "val", "test")}
    tables = {
        name: read_table(file, problems) if file.exists() else None for name, file in files.items()
    }
    classes, ignore = _read_classes(root / "classes.txt", problems)
    if tables["train"] is None and not (root / "train.csv").exists():
        problems.insert(
            0,
            f"{root / 'train.csv'}: missing; expected a CSV with the columns image,label and "
            "paths relative to the folder.",
        )
    if problems:
        raise DataError(problems)
    train = tables["train"]
    assert train is not None
    return FolderDataset(train, tables["val"], tables["test"], root, classes, ignore)


def read_table(file: Path, problems: list[str]) -> pd.DataFrame | None:
    """Read one CSV file of a data set.

    Args:
        file: The file, with the columns ``image`` and ``label`` and paths relative to its folder.
        problems: What is wrong with it is added here, one line each.

    Returns:
        The two columns with absolute paths, None if it is no such table.
    """
    root = file.parent
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:  # pandas' own parser errors are ValueErrors
        problems.append(f"{file}: not a readable CSV ({error}); expected the columns image,label.")
        return None
    missing = [column for column in _COLUMNS if column not in table.columns]
    if missing:
        hints = " ".join(
            f"No column {column!r}. {nearest(column, map(str, table))}" for column in missing
        )
        problems.append(f"{file}: expected the columns image,label. {hints}")
        return None
    if table.empty:
        problems.append(f"{file}: expected at least one row, found none.")
        return None
    table = table[list(_COLUMNS)].fillna("")
    for column in _COLUMNS:
        for line, cell in enumerate(table[column], start=2):
            if not cell.strip():
                problems.append(f"{file}, line {line}: the column {column!r} is empty.")
            elif not (root / cell).is_file():
                problems.append(
                    f"{file}, line {line}: {column} {cell!r} is not a file; paths are relative "
                    f"to {root}."
                )
        table[column] = [str(root / cell) for cell in table[column]]
    return table


def _read_classes(
    file: Path, problems: list[str]
) -> tuple[dict[int | str, str] | None, int | str | None]:
    if not file.exists():
        return None, None
    classes: dict[int | str, str] = {}
    ignored: list[int | str] = []
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        match = _CLASS_LINE.fullmatch(line.strip())
        if match is None:
            problems.append(
                f"{file}, line {number}: expected '<raw value> <name>', found {line!r}."
            )
            continue
        value = match[1].upper() if match[1].startswith("#") else int(match[1])
        name = match[2]
        if value in classes or value in ignored:
            problems.append(f"{file}, line {number}: the raw value {value} is there twice.")
        elif name.endswith(_IGNORE_MARK):
            ignored.append(value)
        else:
            classes[value] = name
    if len(ignored) > 1:
        problems.append(f"{file}: one value can be marked {_IGNORE_MARK}, found {ignored}.")
    return classes or None, ignored[0] if ignored else None
