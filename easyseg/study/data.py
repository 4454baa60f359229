"""The data sets of a study, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from easyseg.datasets.folder import read_folder
from easyseg.errors import DataError, EasySegError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Tables", "find_sets", "load_tables"]


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables of a data set, with absolute paths in the columns ``image`` and ``label``.

    Attributes:
        train: For training.
        validation: For choosing the epoch; ``None``: a part of ``train``.
        tests: For the scores, by name.
        classes: Raw mask value, or colour, -> class name; ``None``: found from the masks.
        ignore: Raw mask value, or colour, of pixels to ignore.
    """

    train: pd.DataFrame
    validation: pd.DataFrame | None
    tests: Mapping[str, pd.DataFrame]
    classes: Mapping[int | str, str] | None
    ignore: int | str | None


def load_tables(name: str, data: Path | None) -> Tables:
    """Load a data set: a folder of that name, with train.csv, test.csv and perhaps val.csv.

    Args:
        name: Name of the set.
        data: The folder of the folders.

    Raises:
        DataError: If it is not there, or cannot be understood.
    """
    if data is None:
        raise DataError(f"{name}: say with --data in which folder the folder {name} is")
    found = read_folder(data / name)
    if found.test is None:
        raise DataError(f"{data / name / 'test.csv'}: missing; a study scores test images")
    return Tables(found.train, found.val, {"test": found.test}, found.classes, found.ignore)


def find_sets(names: Iterable[str], data: Path | None) -> None:
    """Load each data set once, before anything is run.

    Args:
        names: Names of the sets.
        data: As for :func:`load_tables`.

    Raises:
        DataError: If some cannot be had; all problems of all sets at once.
    """
    problems: list[str] = []
    for name in names:
        try:
            load_tables(name, data)
        except DataError as error:
            problems.extend(error.problems)
        except EasySegError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise DataError(problems, title=f"{len(problems)} problems in the data; nothing was run:")
