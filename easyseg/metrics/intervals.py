"""How sure a score is: bootstrap intervals over images, or over groups of images."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from easyseg.errors import OptionError
from easyseg.metrics.streaming import SegmentationScores

__all__ = ["LEVEL", "bootstrap_intervals"]

LEVEL = 0.95
"""Share of the resamples that an interval holds."""


def bootstrap_intervals(
    scores: SegmentationScores,
    metrics: Sequence[str] | str,
    groups: Sequence[Hashable] | None = None,
    *,
    level: float = LEVEL,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Return percentile bootstrap intervals (Efron, 1979).

    As many images as there are are drawn with replacement and scored anew, many times. Images of
    a group, such as those of a patient, are drawn together: they say less than as many images of
    different groups. The interval tells what another test set of this kind might give; not what
    another training would.

    Args:
        scores: Scores that were made with ``resampled=True``.
        metrics: Keys that they hold.
        groups: The group of each image in update order; None: each image is one of its own.
        level: Share of the resamples that lie inside.
        resamples: How many.
        seed: The same seed gives the same intervals.

    Returns:
        Key -> (low, high), NaN with fewer than two groups, or where a score is not defined.

    Raises:
        OptionError: If the groups are not one an image, or ``resampled=True`` was not given.
    """
    own = list(range(len(scores))) if groups is None else list(groups)
    if len(own) != len(scores):
        raise OptionError(f"Expected a group for each of {len(scores)} images, found {len(own)}.")
    numbers = {group: number for number, group in enumerate(dict.fromkeys(own))}
    group_of = np.array([numbers[group] for group in own], np.int64)
    count = len(numbers)
    if count < 2:
        return dict.fromkeys([metrics] if isinstance(metrics, str) else metrics, (np.nan, np.nan))
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)
    found = scores.resample(drawn[:, group_of], metrics)
    tail = 50 * (1 - level)
    return {key: _percentiles(values, tail) for key, values in found.items()}


def _percentiles(values: np.ndarray, tail: float) -> tuple[float, float]:
    defined = values[~np.isnan(values)]
    if not defined.size:
        return float("nan"), float("nan")
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high)
