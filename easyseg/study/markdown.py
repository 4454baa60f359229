"""A study as Markdown: means over seeds with standard errors, and differences to a baseline."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from easyseg.metrics.catalogue import higher_is_better
from easyseg.study.cells import tuning_cells
from easyseg.study.progress import Progress
from easyseg.study.results import in_a_line
from easyseg.study.spec import Part, Row, Study
from easyseg.study.tables import Column, columns_of, expert_uses, spread, tidy, titled_uses
from easyseg.views.expert_tables import Question, beside_chance, shares

__all__ = ["markdown"]

_QUESTIONS: Mapping[str, Question] = {
    "by size (by chance)": "size",
    "object or none (by chance)": "object",
}


def markdown(study: Study, progress: Progress) -> str:
    """Return the whole study as Markdown: what was picked, and two tables for each part.

    Args:
        study: The study.
        progress: How far it is.
    """
    table = tidy(study, progress)
    sections = [f"# {study.about}", _state(progress)]
    sections += [text for text in (_tuning(study, progress),) if text]
    for part in study.parts:
        columns = columns_of(part, study.sets, table)
        if columns:
            scores = table[table["part"] == part.name]
            sections += [f"## {part.title}", _scores(part, columns, scores), _about(part, study)]
            if part.baseline is not None:
                sections += _differences(part, columns, scores)
            sections += _experts(part, study, progress)
    sections += [*_not_scored(progress), *_failed(progress)]
    return "\n\n".join(sections) + "\n"


def _state(progress: Progress) -> str:
    """Say how many cells there are, and what made them."""
    cells = {cell.key: progress.result(cell) for _, cell in progress.labelled()}
    done = [result.content for result in cells.values() if result is not None]
    waiting = sum(cell is None for _, cell in progress.cells)
    text = f"{len(done)} of {len(cells)} cells are finished"
    text += f"; {waiting} places wait for a picked value." if waiting else "."
    if done:
        machines = " / ".join(sorted({f"{c['machine']}, torch {c['torch']}" for c in done}))
        versions = sorted({f"{c['easyseg']} ({c['commit'] or 'release'})" for c in done})
        text += f" Machine: {machines}. easyseg {', '.join(versions)}."
    return text


def _tuning(study: Study, progress: Progress) -> str:
    """Return the validation scores of the tried values, the picked ones in bold."""
    tuning = study.tuning
    if tuning is None:
        return ""
    lines = _head("method", *map(str, tuning.values))
    for name, cells in tuning_cells(study).items():
        entries = []
        for value, cell in zip(tuning.values, cells, strict=True):
            result = progress.result(cell)
            entry = "–" if result is None else f"{result.validation:.3f}"
            if progress.picked.get(name) == value:
                entry = f"**{entry}** †" if _at_edge(value, tuning.values) else f"**{entry}**"
            entries.append(entry)
        lines.append(_line(study.methods[name].title, *entries))
    title = study.sets[tuning.set].title
    return "\n".join(
        [
            f"## {tuning.key}, picked once",
            "",
            f"Validation scores on {title}, seed {tuning.seed}; in bold what each method has "
            "everywhere. †: at an edge of the values that were tried, a better one may lie beyond.",
            "",
            *lines,
        ]
    )


def _at_edge(value: Any, values: Sequence[Any]) -> bool:
    """Return whether a value is the lowest or highest of several; words have no order."""
    numbers = [each for each in values if isinstance(each, (int, float))]
    return len(values) > 1 and len(numbers) == len(values) and value in (min(values), max(values))


def _scores(part: Part, columns: Sequence[Column], scores: pd.DataFrame) -> str:
    """Return the means over seeds with their standard errors, the best mean of a column in bold.

    It is in bold where all rows have the same seeds: means of other seeds are no comparison.
    """
    texts = {}
    for column in columns:
        found = {row.name: _values(scores, row, column) for row in part.rows}
        known = {name: list(values.values()) for name, values in found.items() if values}
        for name, values in known.items():
            texts[name, column] = _summary(values, part, column)
        if len(known) > 1 and len({frozenset(values) for values in found.values() if values}) == 1:
            means = {name: f"{spread(values)[0]:.3f}" for name, values in known.items()}
            best = (max if higher_is_better(column.metric) else min)(means.values(), key=float)
            for name, mean in means.items():
                if mean == best:  # Equal as they are shown.
                    texts[name, column] = f"**{texts[name, column]}**"
    lines = _head("", *(column.heading for column in columns), "trained, M", "seconds")
    for row in part.rows:
        own = scores[scores["row"] == row.name].drop_duplicates("cell")
        cost = ("–", "–")
        if len(own):
            sizes = sorted({f"{size / 1e6:.3f}" for size in own["trained_parameters"]}, key=float)
            size = sizes[0] if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
            cost = (size, f"{own['fit_seconds'].median():.0f}")
        entries = (texts.get((row.name, column), "–") for column in columns)
        lines.append(_line(row.title, *entries, *cost))
    return "\n".join(lines)


def _about(part: Part, study: Study) -> str:
    seeds = ", ".join(f"{study.sets[name].title} {len(each)}" for name, each in part.seeds.items())
    return (
        f"Test scores, mean ± standard error over seeds ({seeds}; where some are missing, it says "
        "how many there are); the best mean in bold, where all rows have the same seeds, which "
        "says nothing of chance. Seconds of a fit, median over all cells of the row: cells may "
        "run side by side, so these are not for comparison."
    )


def _differences(part: Part, columns: Sequence[Column], scores: pd.DataFrame) -> list[str]:
    """Return the mean differences to the baseline, seed by seed, with standard errors."""
    base = next(row for row in part.rows if row.name == part.baseline)
    lines = _head(f"minus {base.title}", *(column.heading for column in columns))
    for row in part.rows:
        if row is base:
            continue
        entries = []
        for column in columns:
            ours, theirs = _values(scores, row, column), _values(scores, base, column)
            pairs = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
            entries.append(_summary(pairs, part, column, sign="+") if pairs else "–")
        lines.append(_line(row.title, *entries))
    return ["\n".join(lines), "Differences of equal seeds, mean ± standard error."]


def _summary(values: Sequence[float], part: Part, column: Column, sign: str = "") -> str:
    """Return the mean of some seeds with its standard error, and how many there are of how many."""
    mean, error = spread(values)
    text = f"{mean:{sign}.3f}"
    if not math.isnan(error):
        text += f" ± {error:.3f}"
    asked = len(part.seeds[column.set])
    return text if len(values) == asked else f"{text} ({len(values)} of {asked})"


def _values(scores: pd.DataFrame, row: Row, column: Column) -> dict[int, float]:
    """Return the scores of a row by seed."""
    found = scores[
        (scores["row"] == row.name)
        & (scores["set"] == column.set)
        & (scores["test"] == column.test)
        & (scores["metric"] == column.metric)
    ].dropna(subset="score")
    return dict(zip(found["seed"].tolist(), found["score"].tolist(), strict=True))


def _experts(part: Part, study: Study, progress: Progress) -> list[str]:
    """Return which experts the models of a part use, and whether that depends on the object."""
    uses = titled_uses(part, study.sets, expert_uses(part, progress))
    if not uses:
        return []
    scales = sorted({scale for use in uses.values() for scale in use.counts["scale"]})
    lines = _head("use of the experts", *(f"scale {scale}" for scale in scales), *_QUESTIONS)
    for title, use in uses.items():
        mean = shares(use.counts).mean()
        entries = (f"{mean[scale]:.0%}" if scale in mean.index else "–" for scale in scales)
        depends = (beside_chance(use, of) for of in _QUESTIONS.values())
        lines.append(_line(title, *entries, *depends))
    about = (
        "Share of the windows of the test images that each expert gets. By size: Cramér's V of the "
        "chosen expert and the size of the object in the window, among windows with an "
        "object, from 0 to 1; object or none: of the expert and whether there is an object. In "
        "brackets what chance would give: windows of one image are alike, so V is above 0 even "
        "where the images' objects are exchanged at random. All are means over the blocks of a "
        "model, and then over the seeds."
    )
    if any(math.isnan(value) for use in uses.values() for value in use.chance.values()):
        about += " –: a cell of an earlier version has no chance, or there is one image only."
    return ["\n".join(lines), about]


def _failed(progress: Progress) -> Iterator[str]:
    failed = {
        cell.key: f"- `{label}`: {progress.results[cell.key].reason}"
        for label, cell in progress.labelled()
        if progress.status(cell) == "failed"
    }
    if failed:
        yield "## Failed"
        yield "\n".join(failed.values())


def _not_scored(progress: Progress) -> Iterator[str]:
    """Say what is missing of finished cells, and why; each cell once."""
    lines: dict[str, list[str]] = {}
    for place, cell in progress.cells:
        result = progress.result(cell)
        if cell is None or result is None:
            continue
        errors = [
            f"- `{place.label}`: {what}: {in_a_line(error)}"
            for what, error in result.errors.items()
        ]
        known = {metric for scores in result.tests.values() for metric in scores}
        errors += [
            f"- `{place.label}`: {metric}: not asked for when the cell was run; remove its file, "
            f"`{cell.stem}.json`, to run it again"
            for metric in place.set.metrics
            if metric not in known
        ]
        lines.setdefault(result.key, errors)
    missing = [line for errors in lines.values() for line in errors]
    if missing:
        yield "## Not scored"
        yield "\n".join(missing)


def _head(*entries: str) -> list[str]:
    return [_line(*entries), "|---" * len(entries) + "|"]


def _line(*entries: str) -> str:
    return f"| {' | '.join(entries)} |"
