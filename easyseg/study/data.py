"""The data sets of a study, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from easyseg.datasets import find, list_datasets, load
from easyseg.datasets.folder import read_folder
from easyseg.errors import DataError, EasySegError, nearest

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Tables", "find_sets", "load_tables"]

_NEEDED = ("train", "test")


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables of a data set, with absolute paths in the columns ``image`` and ``label``.

    Attributes:
        train: For training.
        validation: For choosing the epoch; ``None``: a part of ``train``.
        tests: For the scores, by name.
        classes: As for ``SemanticSegmentor``.
        ignore_index: As for ``SemanticSegmentor``.
        problem_type: As for ``SemanticSegmentor``.
    """

    train: pd.DataFrame
    validation: pd.DataFrame | None
    tests: Mapping[str, pd.DataFrame]
    classes: Mapping[Any, str] | Sequence[str] | None
    ignore_index: int | str | None
    problem_type: Literal["auto", "binary", "multiclass"] = "auto"


def load_tables(name: str, data: Path | None) -> Tables:
    """Load a data set: a public one by its name, else a folder of train.csv and test.csv.

    Such a folder may have the name of a public set, if it does not look like that one.

    Args:
        name: Name of the set.
        data: The folder that holds a folder of each set; ``None``: public sets where
            ``easyseg.datasets.load`` finds them, or downloads them to.

    Raises:
        DataError: If it is not there, or cannot be understood.
        DownloadError: If a download fails.
    """
    if name in list_datasets() and not _is_own(name, data):
        # What is shown is the study's to say: a second handler would show all messages twice.
        public = load(name, data, verbosity=0)
        return Tables(
            public.train,
            public.val,
            public.tests,
            public.classes,
            public.ignore_index,
            cast("Any", public.problem_type),
        )
    if data is None:
        raise DataError(
            f"{name}: no public data set; say with --data in which folder its folder {name} is. "
            f"{nearest(name, list_datasets())}"
        )
    found = read_folder(data / name)
    if found.test is None:
        raise DataError(f"{data / name / 'test.csv'}: missing; a study scores test images")
    return Tables(found.train, found.val, {"test": found.test}, found.classes, found.ignore)


def _is_own(name: str, data: Path | None) -> bool:
    """Return whether a folder of train.csv and test.csv merely has the name of a public set."""
    if data is None or not all((data / name / f"{part}.csv").is_file() for part in _NEEDED):
        return False
    try:
        return find(name, data) is None
    except DataError:  # Its files are in no layout of the public set.
        return True


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
