"""The tables of eight_sets.py, from its finished cells."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Cells = Sequence[Mapping[str, Any]]

PAIRS = (("conv_lora", "unet"), ("conv_lora", "lora"))
DRAWS = 2000


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
    lines = [_row("set", "metric", *methods.values()), "|---" * (2 + len(methods)) + "|"]
    for name in sets:
        metric = next(cell["metric"] for cell in cells if cell["set"] == name)
        lines.append(_row(name, f"`{metric}`", *_scores([grouped[name, m] for m in methods])))
    lines += ["", _about_scores(cells), "", "Differences, with bootstrap 95 % intervals:", ""]
    headings = [f"{methods[ours]} minus {methods[theirs]}" for ours, theirs in PAIRS]
    lines += [_row("set", *headings), "|---" * (1 + len(PAIRS)) + "|"]
    for name in sets:
        pairs = [(grouped[name, ours], grouped[name, theirs]) for ours, theirs in PAIRS]
        lines.append(_row(name, *(_difference(ours, theirs) for ours, theirs in pairs)))
    return "\n".join([*lines, "", _about_differences(), "", _about_measurement(cells)])


def paired_difference(ours: Cells, theirs: Cells) -> tuple[float, float, float] | None:
    """Return a mean difference over the seeds that both have, with its bootstrap 95 % interval.

    The test images are drawn with replacement, the same for both methods and all seeds.

    Args:
        ours: The cells of one method on one set.
        theirs: Those of another method on that set.

    Returns:
        Difference, lower and upper end; None if there is no common seed.
    """
    pairs = [(a, b) for a in ours for b in theirs if a["seed"] == b["seed"]]
    if not pairs:
        return None
    weights = bootstrap_weights(len(pairs[0][0]["images"]))
    resampled = np.mean([resample(a, weights) - resample(b, weights) for a, b in pairs], axis=0)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return statistics.mean(a["score"] - b["score"] for a, b in pairs), float(low), float(high)


def bootstrap_weights(images: int) -> np.ndarray:
    """Return how often each image was drawn: whole numbers ``[draws, images]``, always the same."""
    return np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), size=DRAWS)


def resample(cell: Mapping[str, Any], weights: np.ndarray) -> np.ndarray:
    """Return the score of a cell when its images count as often as the weights say.

    Both metrics are means of ratios of sums over images: of one ratio, score over number of images,
    for ``iou@image``; of one a class, intersection over union, for ``miou@dataset``. Images without
    a score, and classes without a pixel, are left out.

    Args:
        cell: A finished cell.
        weights: ``[draws, images]``.

    Returns:
        float64 ``[draws]``.
    """
    if cell["metric"] == "iou@image":
        scores = [image["iou@image"] for image in cell["images"]]
        above = np.array([[0.0 if score is None else score] for score in scores])
        below = np.array([[float(score is not None)] for score in scores])
    else:
        above = np.array([image["intersection"] for image in cell["images"]], float)
        below = np.array([image["union"] for image in cell["images"]], float)
    above, below = weights @ above, weights @ below
    defined = below > 0
    return np.divide(above, below, where=defined, out=np.zeros_like(above)).sum(1) / defined.sum(1)


def _scores(columns: Sequence[Cells]) -> list[str]:
    """Return the mean over seeds of each method, the best ones in bold."""
    means = [
        f"{statistics.mean(cell['score'] for cell in column):.3f}" if column else "–"
        for column in columns
    ]
    best = max(mean for mean in means if mean != "–")
    return [f"**{mean}**" if mean == best else mean for mean in means]


def _difference(ours: Cells, theirs: Cells) -> str:
    found = paired_difference(ours, theirs)
    return "–" if found is None else "{:+.3f} ({:+.3f} to {:+.3f})".format(*found)


def _row(*entries: str) -> str:
    return f"| {' | '.join(entries)} |"


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


def _about_differences() -> str:
    return (
        f"The test images were drawn {DRAWS} times with replacement. The intervals do not hold what"
        " another seed would change, and are too narrow where test images are frames of one video."
    )


def _about_measurement(cells: Cells) -> str:
    machines = " / ".join(sorted({f"{c['machine']}, torch {c['torch']}" for c in cells}))
    commits = ", ".join(sorted({cell["commit"] for cell in cells}))
    return (
        f"{len(cells)} cells. Longest fit: {max(c['fit_seconds'] for c in cells):.1f} s. Other"
        f" processes took at most {100 * max(c['others_share'] for c in cells):.0f} % of the cores."
        f" Machine: {machines}. Commit: {commits}."
    )
