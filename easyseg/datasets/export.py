"""Write the tables of a data set to a folder: what the command line and other tools take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from easyseg.datasets.loading import Dataset
from easyseg.errors import DataError
from easyseg.files import write_text

__all__ = ["write_tables"]


def write_tables(dataset: Dataset, folder: str | Path) -> list[Path]:
    """Write ``train.csv``, ``val.csv``, ``test.csv``, ``classes.txt`` and ``SOURCE.md``.

    The tables name the images where they are, by absolute paths; no image is copied. Several test
    parts are also written one by one, as ``test_<name>.csv``. ``classes.txt`` needs the raw mask
    values: where only the order of the classes is known there is none.

    Args:
        dataset: The data set.
        folder: Where to, new or empty.

    Returns:
        The files.

    Raises:
        DataError: If the folder holds files already; nothing is written then.
    """
    folder = Path(folder).expanduser()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(
            f"{folder}: expected a new or empty folder to write tables to, found"
            f" {'other files' if folder.is_dir() else 'a file'}; nothing was written"
        )
    tables = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    if len(dataset.tests) > 1:
        tables |= {f"test_{name}": table for name, table in dataset.tests.items()}
    texts = {
        f"{name}.csv": table.to_csv(index=False, lineterminator="\n")
        for name, table in tables.items()
        if table is not None
    }
    if isinstance(dataset.classes, Mapping):
        texts["classes.txt"] = _class_lines(dataset.classes, dataset.ignore_index)
    texts["SOURCE.md"] = _source_note(dataset)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def _class_lines(classes: Mapping[int, str], ignored: int | None) -> str:
    lines = [f"{value} {name}" for value, name in classes.items()]
    if ignored is not None:
        lines.append(f"{ignored} void (ignore)")
    return "\n".join(lines) + "\n"


def _source_note(dataset: Dataset) -> str:
    return (
        f"# {dataset.name}\n\n- images: {dataset.root}\n- source: {dataset.homepage}\n"
        f"- licence: {dataset.licence} (as far as it is known; see the source)\n"
        f"- cite: {dataset.citation}\n- split: {dataset.split}\n- metric: {dataset.metric}\n"
    )
