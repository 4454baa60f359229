"""The table of plan_grid.py: a setting chosen on one half of the sets, applied to the other."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from _tables import Cells, about_differences, about_measurement, difference_in_words, row

# No set may lose more by the automatic plan.
MARGIN = 0.05

Scores = Mapping[str, Mapping[str, float]]


class Choice(NamedTuple):
    """The setting of a grid that is best on some sets.

    Attributes:
        setting: Its name.
        sets: The sets that it was chosen on.
        score: Its mean score there.
    """

    setting: str
    sets: tuple[str, ...]
    score: float


def whole(cells: Cells, settings: Sequence[str]) -> list[Mapping[str, object]]:
    """Return the cells of those sets and seeds that all settings have.

    Args:
        cells: Finished cells.
        settings: The automatic plan and the grid.
    """
    there = {(c["set"], c["seed"], c["setting"]) for c in cells}
    return [
        c
        for c in cells
        if c["setting"] in settings
        and all((c["set"], c["seed"], setting) in there for setting in settings)
    ]


def mean_scores(cells: Cells) -> dict[str, dict[str, float]]:
    """Return the mean over seeds: set -> setting -> score, in the order of the cells."""
    found: dict[str, dict[str, list[float]]] = {}
    for cell in cells:
        found.setdefault(cell["set"], {}).setdefault(cell["setting"], []).append(cell["score"])
    return {
        name: {setting: statistics.mean(values) for setting, values in by_setting.items()}
        for name, by_setting in found.items()
    }


def choose(scores: Scores, half: Sequence[str], grid: Sequence[str]) -> Choice | None:
    """Return the setting whose mean score over the sets of a half is the highest.

    Args:
        scores: Set -> setting -> score.
        half: Names of sets; those without scores are left out.
        grid: The settings to choose from; the first one on a tie.

    Returns:
        The choice; None if no set of the half has scores.
    """
    sets = tuple(name for name in half if name in scores)
    if not sets:
        return None
    means = {s: statistics.mean(scores[name][s] for name in sets) for s in grid}
    best = max(means, key=means.__getitem__)
    return Choice(best, sets, means[best])


def choose_for(
    scores: Scores, halves: Sequence[Sequence[str]], grid: Sequence[str]
) -> dict[str, Choice]:
    """Return for each set the choice of the half that it is not in; a set without one is left out.

    Args:
        scores: Set -> setting -> score.
        halves: Names of the sets of both halves.
        grid: The settings to choose from.
    """
    first, second = (choose(scores, half, grid) for half in halves)
    found = dict.fromkeys(halves[0], second) | dict.fromkeys(halves[1], first)
    return {name: choice for name in scores if (choice := found[name]) is not None}


def table(
    cells: Cells, automatic: str, grid: Mapping[str, str], halves: Sequence[Sequence[str]]
) -> str:
    """Return the scores, the difference set by set, the choices and the result, as Markdown.

    Args:
        cells: Finished cells of one budget, in the order of their sets.
        automatic: Name of the automatic plan among the settings.
        grid: Headings of the settings of the grid.
        halves: Names of the sets of both halves.
    """
    used = whole(cells, (automatic, *grid))
    scores = mean_scores(used)
    choices = choose_for(scores, halves, list(grid))
    if not choices:
        return "No set of each half has all its cells yet."
    headings = ("set", "metric", "automatic", *grid.values(), "automatic minus the one chosen")
    lines = [row(*headings), "|---" * len(headings) + "|"]
    for name, choice in choices.items():
        mine = [c for c in used if c["set"] == name]
        ours, theirs = (
            [c for c in mine if c["setting"] == setting] for setting in (automatic, choice.setting)
        )
        marked = [
            f"**{scores[name][s]:.3f}**" if s == choice.setting else f"{scores[name][s]:.3f}"
            for s in grid
        ]
        lines.append(
            row(
                name,
                f"`{mine[0]['metric']}`",
                f"{scores[name][automatic]:.3f} ({_took(ours)})",
                *marked,
                difference_in_words(ours, theirs),
            )
        )
    means = [statistics.mean(scores[name][s] for name in choices) for s in (automatic, *grid)]
    result = _differences(scores, choices, automatic)
    texts = [f"{mean:.3f}" for mean in means]
    lines.append(row("mean", "", *texts, f"{statistics.mean(result.values()):+.3f}"))
    pairs = more_seeds(cells, choices, automatic)
    further = [cell for cell in pairs if cell not in used]
    parts = [
        _choices(choices, grid),
        _result(scores, choices, automatic),
        _about_scores(used),
        about_differences(),
        *([_by_seed(pairs, choices, automatic, grid)] if further else []),
        about_measurement([*used, *further]),
    ]
    return "\n\n".join(["\n".join(lines), *parts])


def more_seeds(cells: Cells, choices: Mapping[str, Choice], automatic: str) -> Cells:
    """Return the cells of the automatic plan and of what was chosen, of all seeds that both have.

    Args:
        cells: Finished cells.
        choices: What was chosen for each set.
        automatic: Name of the automatic plan.
    """
    return [
        cell
        for name, choice in choices.items()
        for cell in whole([c for c in cells if c["set"] == name], (automatic, choice.setting))
    ]


def _by_seed(
    pairs: Cells, choices: Mapping[str, Choice], automatic: str, grid: Mapping[str, str]
) -> str:
    """Return a table of the differences seed by seed, and the result over all of them."""
    seeds = sorted({cell["seed"] for cell in pairs})
    headings = ("set", "automatic", "chosen", "difference", *(f"seed {seed}" for seed in seeds))
    lines = [row(*headings), "|---" * len(headings) + "|"]
    scores = mean_scores(pairs)
    by_set = {
        name: {(c["setting"], c["seed"]): c["score"] for c in pairs if c["set"] == name}
        for name in choices
    }
    for name, choice in choices.items():
        own = by_set[name]
        ours, theirs = scores[name][automatic], scores[name][choice.setting]
        differences = [
            f"{own[automatic, seed] - own[choice.setting, seed]:+.3f}"
            if (automatic, seed) in own
            else ""
            for seed in seeds
        ]
        chosen = f"{theirs:.3f} ({grid[choice.setting]})"
        lines.append(row(name, f"{ours:.3f}", chosen, f"{ours - theirs:+.3f}", *differences))
    many = sorted({sum(key[0] == automatic for key in own) for own in by_set.values()})
    about = (
        "The automatic plan and the setting that was chosen, with"
        f" {' or '.join(map(str, many))} seeds:"
    )
    return "\n\n".join([about, "\n".join(lines), _result(scores, choices, automatic)])


def _took(cells: Cells) -> str:
    """Return size and rate that the plan decided on, of each seed if they differ."""
    plans = [cell["plan"] for cell in cells]
    return " / ".join(
        dict.fromkeys(f"{plan['data']['size']} px, {plan['optim']['lr']:g}" for plan in plans)
    )


def _differences(scores: Scores, choices: Mapping[str, Choice], automatic: str) -> dict[str, float]:
    return {
        name: scores[name][automatic] - scores[name][choice.setting]
        for name, choice in choices.items()
    }


def _choices(choices: Mapping[str, Choice], grid: Mapping[str, str]) -> str:
    """Return what was chosen where and applied to which sets."""
    texts = []
    for choice in dict.fromkeys(choices.values()):
        applied = [name for name, own in choices.items() if own == choice]
        texts.append(
            f"Best on {', '.join(choice.sets)}: {grid[choice.setting]} (mean {choice.score:.3f});"
            f" applied to {', '.join(applied)}."
        )
    return f"In bold: the setting of the grid that the other half chose. {' '.join(texts)}"


def _result(scores: Scores, choices: Mapping[str, Choice], automatic: str) -> str:
    """Return whether the automatic plan is ahead on the mean, and where it is farthest behind."""
    differences = _differences(scores, choices, automatic)
    ours = statistics.mean(scores[name][automatic] for name in choices)
    theirs = statistics.mean(scores[name][c.setting] for name, c in choices.items())
    mean = statistics.mean(differences.values())
    ahead = "higher" if mean > 0 else "not higher"
    worst = min(differences, key=differences.__getitem__)
    over = [name for name, difference in differences.items() if difference < -MARGIN]
    losing = (
        f"more than {MARGIN:g} lower on {', '.join(over)}"
        if over
        else (f"on no set more than {MARGIN:g} lower")
    )
    return (
        f"Mean of {len(choices)} sets: {ours:.3f} by the automatic plan, {theirs:.3f} by the chosen"
        f" settings ({mean:+.3f}): **{ahead}, and {losing}**"
        f" (its worst set: {worst}, {differences[worst]:+.3f})."
    )


def _about_scores(cells: Cells) -> str:
    seeds = {name: sorted({c["seed"] for c in cells if c["set"] == name}) for name in _sets(cells)}
    many = sorted({len(found) for found in seeds.values()})
    means = " or ".join(map(str, many))
    return (
        "Scores of the test images at their own size, mean over"
        f" {means} seed{'s' if many != [1] else ''}; in brackets the size"
        " and the rate that the automatic plan took. Every fit had"
        f" {cells[0]['budget_seconds']:g} seconds of {cells[0]['threads']} cores: reading, building"
        " and validation included, imports and test images not."
    )


def _sets(cells: Cells) -> list[str]:
    return list(dict.fromkeys(cell["set"] for cell in cells))
