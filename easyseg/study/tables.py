"""The results of a study as a tidy table, and what is made of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from easyseg.study.progress import Progress
from easyseg.study.spec import Part, Study, StudySet

__all__ = ["COLUMNS", "Column", "columns_of", "expert_uses", "spread", "tidy"]

COLUMNS = (
    "part",
    "set",
    "test",
    "row",
    "method",
    "seed",
    "tuned",
    "metric",
    "score",
    "validation_metric",
    "validation_score",
    "trained_parameters",
    "fit_seconds",
    "cell",
)
"""Columns of the tidy table: one row a score of a test table."""


@dataclass(frozen=True)
class Column:
    """A column of a table of scores.

    Attributes:
        set: The data set.
        test: Name of the test table.
        metric: Key of the score.
        heading: What the table calls it.
    """

    set: str
    test: str
    metric: str
    heading: str


def tidy(study: Study, progress: Progress) -> pd.DataFrame:
    """Return one row for each score of each place that is finished; all test scores there are.

    Args:
        study: The study.
        progress: How far it is.

    Returns:
        The columns :data:`COLUMNS`; ``tuned`` is the value of the tuned key, picked or set,
        empty where the cell does not set it. A cell that stands at several places comes at each of
        them.
    """
    rows = []
    for place, cell in progress.cells:
        result = progress.result(cell)
        if cell is None or result is None:
            continue
        content = result.content
        tuned = None if study.tuning is None else cell.settings.get(study.tuning.key)
        for test, scores in result.tests.items():
            for metric, score in scores.items():
                rows.append(
                    (
                        place.part.name,
                        place.set.name,
                        test,
                        place.row.name,
                        place.row.method.name,
                        place.seed,
                        tuned,
                        metric,
                        math.nan if score is None else score,
                        content["validation"]["metric"],
                        result.validation,
                        content["trained_parameters"],
                        content["fit_seconds"],
                        result.key,
                    )
                )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and its standard error, which is NaN for a single value.

    Args:
        values: At least one.

    Example:
        >>> mean, error = spread([0.5, 0.6, 0.7])
        >>> f"{mean:.2f} ± {error:.3f}"
        '0.60 ± 0.058'
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan
    return mean, statistics.stdev(values) / math.sqrt(len(values))


def columns_of(part: Part, sets: Mapping[str, StudySet], table: pd.DataFrame) -> list[Column]:
    """Return the columns of a part: the metrics of each set, on each of its test tables.

    Args:
        part: The part.
        sets: The data sets of the study.
        table: The tidy table.
    """
    columns = []
    for name in part.seeds:
        found = table[(table["part"] == part.name) & (table["set"] == name)]
        tests = list(dict.fromkeys(found["test"]))
        for test in tests:
            title = sets[name].title if len(tests) == 1 else f"{sets[name].title}: {test}"
            columns += [
                Column(name, test, metric, f"{title}, `{metric}`") for metric in sets[name].metrics
            ]
    return columns


def expert_uses(part: Part, progress: Progress) -> dict[tuple[str, str], pd.DataFrame]:
    """Return the use of experts of each set and row of a part that shows it.

    Args:
        part: The part.
        progress: How far the study is.

    Returns:
        As from ``expert_use``, with the column ``seed`` in front.
    """
    found: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for place, cell in progress.cells if part.experts else ():
        result = progress.result(cell)
        if place.part.name == part.name and result is not None and "experts" in result.content:
            use = pd.DataFrame(result.content["experts"])
            use.insert(0, "seed", place.seed)
            found.setdefault((place.set.name, place.row.name), []).append(use)
    return {key: pd.concat(each, ignore_index=True) for key, each in found.items()}
