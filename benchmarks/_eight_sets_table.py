"""The tables of eight_sets.py, from its finished cells."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from _tables import Cells, about_differences, about_measurement, difference_in_words, row

PAIRS = (("conv_lora", "unet"), ("conv_lora", "lora"))


def table(cells: Cells, methods: Mapping[str, str]) -> str:
    """Return the scores, the paired differences and what was measured where, as Markdown.

    Args:
        cells: Finished cells of one budget, in the order of their sets.
        methods: Headings of the methods, in the order of the columns.
    """
    sets = list(dict.fromkeys(cell["set"] for cell in cells))
    grouped = {
        (name, method): [c for c in cells if (c["set"], c["method"]) == (name, method)]
        for name in sets
        for method in methods
    }
    lines = [row("set", "metric", *methods.values()), "|---" * (2 + len(methods)) + "|"]
    for name in sets:
        metric = next(cell["metric"] for cell in cells if cell["set"] == name)
        lines.append(row(name, f"`{metric}`", *_scores([grouped[name, m] for m in methods])))
    lines += ["", _about_scores(cells), "", "Differences, with bootstrap 95 % intervals:", ""]
    headings = [f"{methods[ours]} minus {methods[theirs]}" for ours, theirs in PAIRS]
    lines += [row("set", *headings), "|---" * (1 + len(PAIRS)) + "|"]
    for name in sets:
        pairs = [(grouped[name, ours], grouped[name, theirs]) for ours, theirs in PAIRS]
        lines.append(row(name, *(difference_in_words(ours, theirs) for ours, theirs in pairs)))
    return "\n".join([*lines, "", about_differences(), "", about_measurement(cells)])


def _scores(columns: Sequence[Cells]) -> list[str]:
    """Return the mean over seeds of each method, the best ones in bold."""
    means = [
        f"{statistics.mean(cell['score'] for cell in column):.3f}" if column else "–"
        for column in columns
    ]
    best = max(mean for mean in means if mean != "–")
    return [f"**{mean}**" if mean == best else mean for mean in means]


def _about_scores(cells: Cells) -> str:
    seeds: dict[str, set[int]] = {}
    for cell in cells:
        seeds.setdefault(cell["set"], set()).add(cell["seed"])
    means = [
        f", {name} the mean of {len(seen)} seeds" for name, seen in seeds.items() if seen != {0}
    ]
    return (
        f"Scores of the test images at their own size, the best in bold{''.join(means)}. Every"
        f" method had {cells[0]['budget_seconds']:g} seconds of {cells[0]['threads']} cores:"
        " reading, building and validation included, imports and test images not. U-Net: ResNet-18"
        " encoder, from scratch, at 256x256. Constant mask: the better of all background and the"
        " mean training mask, by the validation score."
    )
