"""The tables of estimates.py: what the plan expected, and what the fit took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from _tables import Cells, about_measurement, row

# Estimate over measurement may be off by so much.
SECONDS_WITHIN = 0.25
MEMORY_WITHIN = 0.20
# A fit in limited time ends between these shares of its limit: 90 and 130 of 120 seconds.
ENDS_BETWEEN = (90 / 120, 130 / 120)
EARLY = "no better validation score"


def error(estimated: float | None, measured: float) -> float | None:
    """Return how far an estimate is off, as a share of what was measured; None if there is none."""
    return None if estimated is None else estimated / measured - 1


def errors(cell: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return how far off seconds and memory of a cell were estimated."""
    seconds, memory = _estimate(cell)
    return error(seconds, cell["fit_seconds"]), error(memory, cell["peak_gb"])


def ended_in_time(cell: Mapping[str, Any]) -> bool:
    """Return whether a fit in limited time ended within its bounds, or sooner by early stopping."""
    low, high = (share * cell["asked_seconds"] for share in ENDS_BETWEEN)
    seconds = cell["fit_seconds"]
    return seconds <= high and (seconds >= low or stopped_early(cell))


def stopped_early(cell: Mapping[str, Any]) -> bool:
    """Return whether early stopping ended a fit."""
    return (cell["ended"] or "").startswith(EARLY)


def table(cells: Cells) -> str:
    """Return the table of fits by a plan, that of fits in limited time, and what follows.

    Args:
        cells: Finished cells, in their order.
    """
    planned = [cell for cell in cells if cell["limit"] is None]
    limited = [cell for cell in cells if cell["limit"] is not None]
    parts = [*(_planned(planned) if planned else []), *(_limited(limited) if limited else [])]
    return "\n\n".join([*parts, about_measurement(cells)])


def _planned(cells: Cells) -> list[str]:
    headings = (
        *("set", "backbone", "input", "steps", "estimated", "took", "off by"),
        *("estimated memory", "peak", "off by"),
    )
    lines = [row(*headings), "|---" * len(headings) + "|"]
    for cell in cells:
        lines.append(
            row(
                cell["set"],
                f"`{cell['backbone']}`",
                f"{cell['plan']['data']['size']} px",
                str(cell["steps"]),
                *_compared(cell),
            )
        )
    random = sorted({c["backbone"] for c in cells if c["weights"] == "random"})
    note = f" Random weights, as none were at hand: {', '.join(random)}." if random else ""
    seconds, memory = zip(*(errors(cell) for cell in cells), strict=True)
    return [
        "\n".join(lines),
        f"{_judged('Time', cells, seconds, SECONDS_WITHIN)}"
        f" {_judged('Memory', cells, memory, MEMORY_WITHIN)} A plan of so many steps was made in"
        f" one process, and a fit by it in another.{note}",
    ]


def _limited(cells: Cells) -> list[str]:
    headings = (
        *("set", "limit", "estimated", "took", "off by", "estimated memory", "peak", "off by"),
        *("steps", "training ended by", "metric", "score"),
    )
    lines = [row(*headings), "|---" * len(headings) + "|"]
    for cell in cells:
        lines.append(
            row(
                cell["set"],
                f"{cell['limit']:g} s",
                *_compared(cell),
                str(cell["steps"]),
                cell["ended"] or "–",
                f"`{cell['metric']}`",
                f"{cell['score']:.3f}",
            )
        )
    low, high = (f"{share * cells[0]['limit']:.0f}" for share in ENDS_BETWEEN)
    late = [cell["set"] for cell in cells if not ended_in_time(cell)]
    early = [cell["set"] for cell in cells if stopped_early(cell)]
    by_stopping = f" Early stopping ended {', '.join(early)}." if early else ""
    outside = f" Outside: {', '.join(late)}." if late else ""
    return [
        "\n".join(lines),
        f"{len(cells) - len(late)} of {len(cells)} fits ended between {low} and {high} s, or sooner"
        f" by early stopping.{outside}{by_stopping} The scores are those of the test images.",
    ]


def _compared(cell: Mapping[str, Any]) -> list[str]:
    expected, expected_gb = _estimate(cell)
    seconds, memory = errors(cell)
    return [
        _number(expected, ".1f", " s"),
        _number(cell["fit_seconds"], ".1f", " s"),
        _number(seconds, "+.0%"),
        _number(expected_gb, ".2f", " GB"),
        _number(cell["peak_gb"], ".2f", " GB"),
        _number(memory, "+.0%"),
    ]


def _estimate(cell: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return the seconds and the GB that were expected, None where nothing was."""
    estimate = cell["estimate"] or {}
    return estimate.get("seconds"), estimate.get("memory_gb")


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "–" if value is None else f"{value:{form}}{unit}"


def _judged(what: str, cells: Cells, found: Sequence[float | None], within: float) -> str:
    """Return how many estimates are close enough, and the one that is farthest off."""
    known = {index: value for index, value in enumerate(found) if value is not None}
    if not known:
        return f"{what}: not estimated."
    good = sum(abs(value) <= within for value in known.values())
    worst = max(known, key=lambda index: abs(known[index]))
    cell = cells[worst]
    return (
        f"{what}: {good} of {len(cells)} within {within:.0%}, farthest {known[worst]:+.0%}"
        f" ({cell['set']}, {cell['backbone']})."
    )
