"""What tables of scored cells have in common: rows, paired differences, what was measured where."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Cells = Sequence[Mapping[str, Any]]

DRAWS = 2000


def row(*entries: str) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(entries)} |"


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


def difference_in_words(ours: Cells, theirs: Cells) -> str:
    """Return a paired difference as ``+0.012 (-0.003 to +0.027)``, a dash if there is none."""
    found = paired_difference(ours, theirs)
    return "–" if found is None else "{:+.3f} ({:+.3f} to {:+.3f})".format(*found)


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


def about_differences() -> str:
    """Return where the intervals of paired differences come from, and what they do not hold."""
    return (
        f"The test images were drawn {DRAWS} times with replacement. The intervals do not hold what"
        " another seed would change, and are too narrow where test images are frames of one video."
    )


def about_measurement(cells: Cells) -> str:
    """Return how long the longest fit was, what others took of the cores, machine and commit."""
    machines = " / ".join(sorted({f"{c['machine']}, torch {c['torch']}" for c in cells}))
    commits = ", ".join(sorted({cell["commit"] for cell in cells}))
    return (
        f"{len(cells)} cells. Longest fit: {max(c['fit_seconds'] for c in cells):.1f} s. Other"
        f" processes took at most {100 * max(c['others_share'] for c in cells):.0f} % of the cores."
        f" Machine: {machines}. Commit: {commits}."
    )
