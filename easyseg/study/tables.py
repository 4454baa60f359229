"""The results of a study as a tidy table, and what is made of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from easyseg.study.progress import Progress
from easyseg.study.results import Result
from easyseg.study.spec import Part, Study, StudySet
from easyseg.views.expert_tables import QUESTIONS, ExpertUse

__all__ = [
    "COLUMNS",
    "Column",
    "UseKey",
    "columns_of",
    "expert_uses",
    "spread",
    "tidy",
    "titled_uses",
]

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

UseKey = tuple[str, str, str]
"""Names of a set, a test table and a row."""


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
            title = _heading(sets[name], test, tests)
            columns += [
                Column(name, test, metric, f"{title}, `{metric}`") for metric in sets[name].metrics
            ]
    return columns


def expert_uses(part: Part, progress: Progress) -> dict[UseKey, ExpertUse]:
    """Return the use of experts of each set, test table and row of a part that shows it.

    Args:
        part: The part.
        progress: How far the study is.

    Returns:
        That of all seeds by the names of set, test table and row: counts with the column ``seed``
        in front, what chance gives as a mean over the seeds.
    """
    found: dict[UseKey, dict[int, ExpertUse]] = {}
    for place, cell in progress.cells if part.experts else ():
        result = progress.result(cell)
        if place.part.name == part.name and result is not None:
            for test, use in _uses(result).items():
                key = (place.set.name, test, place.row.name)
                found.setdefault(key, {})[place.seed] = use
    return {key: _of_all_seeds(uses) for key, uses in found.items()}


def titled_uses(
    part: Part, sets: Mapping[str, StudySet], uses: Mapping[UseKey, ExpertUse]
) -> dict[str, ExpertUse]:
    """Return the use of experts by what tables and figures call it.

    Args:
        part: The part.
        sets: The data sets of the study.
        uses: As from :func:`expert_uses`.
    """
    titles = {row.name: row.title for row in part.rows}
    return {
        f"{_heading(sets[name], test, {t for n, t, _ in uses if n == name})}: {titles[row]}": use
        for (name, test, row), use in uses.items()
    }


def _heading(found: StudySet, test: str, tests: Collection[str]) -> str:
    """Return the title of a set, with the test table if there are several."""
    return found.title if len(tests) == 1 else f"{found.title}: {test}"


def _uses(result: Result) -> dict[str, ExpertUse]:
    """Return the use of experts by test table; none if it was not counted.

    Cells of earlier versions have counted it on the first table only, and know no chance.
    """
    if "experts" not in result.content:
        return {}
    counts = pd.DataFrame(result.content["experts"])
    if "test" not in counts:
        counts["test"] = next(iter(result.tests))
    by_chance = result.content.get("experts_by_chance", {})
    uses = {}
    for test, mine in counts.groupby("test", sort=False):
        known = {of: by_chance.get(test, {}).get(of) for of in QUESTIONS}
        chance = {of: math.nan if value is None else value for of, value in known.items()}
        uses[str(test)] = ExpertUse(mine.drop(columns="test"), chance)
    return uses


def _of_all_seeds(uses: Mapping[int, ExpertUse]) -> ExpertUse:
    counts = pd.concat({seed: use.counts for seed, use in uses.items()}, names=["seed"])
    chance = {of: statistics.fmean(use.chance[of] for use in uses.values()) for of in QUESTIONS}
    return ExpertUse(counts.reset_index("seed"), chance)
