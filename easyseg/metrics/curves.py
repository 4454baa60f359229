"""Scores of a probability map over thresholds: F-measure and E-measure; and its mean error.

The curves have 256 thresholds, as those of maps that are stored with 8 bits. As published, maps are
stretched to 0..1 first and truth without any foreground scores 0 in F. The numbers are those of
PySODMetrics 1.6 (MIT), an independent implementation, which the tests compare with.
"""

from __future__ import annotations

import math

import numpy as np

from easyseg.metrics.maps import targeted_map

__all__ = [
    "THRESHOLDS",
    "e_measure_adaptive",
    "e_measure_curve",
    "f_measure_adaptive",
    "f_measure_curve",
    "mean_absolute_error",
]

THRESHOLDS = 256
"""Length of a curve: its thresholds are ``t / 255`` for ``t`` in 0..255."""

_EPS = float(np.spacing(1))


def f_measure_curve(
    probabilities: np.ndarray, target: np.ndarray, *, beta2: float = 0.3, stretch: bool = True
) -> np.ndarray:
    """Return the F-measure at each threshold (Achanta et al., CVPR 2009).

    Args:
        probabilities: Probability of the foreground ``[H, W]``, 0..1.
        target: Class ids ``[H, W]``: 1 foreground, 0 background, 255 ignored.
        beta2: The square of beta: how much recall weighs against precision.
        stretch: Stretch the map to 0..1 first.

    Returns:
        float64 ``[256]`` by ascending threshold; 0 where nothing is found, NaN if no pixel counts.

    Raises:
        DataError: If the map and its truth do not fit each other.
    """
    values, truth = targeted_map(probabilities, target, stretch=stretch).pixels()
    if not truth.size:
        return np.full(THRESHOLDS, np.nan)
    hits, alarms = _above(values, truth)
    return _f_measure(hits, alarms, int(truth.sum()), beta2)


def f_measure_adaptive(
    probabilities: np.ndarray, target: np.ndarray, *, beta2: float = 0.3, stretch: bool = True
) -> float:
    """Return the F-measure at twice the mean of the map, its adaptive threshold.

    Args:
        probabilities: Probability of the foreground ``[H, W]``, 0..1.
        target: Class ids ``[H, W]``: 1 foreground, 0 background, 255 ignored.
        beta2: The square of beta.
        stretch: Stretch the map to 0..1 first.

    Returns:
        A score in 0..1, NaN if no pixel counts.
    """
    values, truth = targeted_map(probabilities, target, stretch=stretch).pixels()
    if not truth.size:
        return math.nan
    hits, alarms = _above_adaptive(values, truth)
    return float(_f_measure(hits, alarms, int(truth.sum()), beta2))


def e_measure_curve(
    probabilities: np.ndarray, target: np.ndarray, *, stretch: bool = True
) -> np.ndarray:
    """Return the enhanced-alignment measure at each threshold (Fan et al., IJCAI 2018).

    Like the published code it divides by the number of pixels less one: a perfect mask scores a
    little more than 1.

    Args:
        probabilities: Probability of the foreground ``[H, W]``, 0..1.
        target: Class ids ``[H, W]``: 1 foreground, 0 background, 255 ignored.
        stretch: Stretch the map to 0..1 first.

    Returns:
        float64 ``[256]`` by ascending threshold, NaN if no pixel counts.
    """
    values, truth = targeted_map(probabilities, target, stretch=stretch).pixels()
    if not truth.size:
        return np.full(THRESHOLDS, np.nan)
    hits, alarms = _above(values, truth)
    return _e_measure(hits, alarms, int(truth.sum()), truth.size)


def e_measure_adaptive(
    probabilities: np.ndarray, target: np.ndarray, *, stretch: bool = True
) -> float:
    """Return the enhanced-alignment measure at twice the mean of the map.

    Args:
        probabilities: Probability of the foreground ``[H, W]``, 0..1.
        target: Class ids ``[H, W]``: 1 foreground, 0 background, 255 ignored.
        stretch: Stretch the map to 0..1 first.

    Returns:
        A score from 0 to about 1, NaN if no pixel counts.
    """
    values, truth = targeted_map(probabilities, target, stretch=stretch).pixels()
    if not truth.size:
        return math.nan
    hits, alarms = _above_adaptive(values, truth)
    return float(_e_measure(hits, alarms, int(truth.sum()), truth.size))


def mean_absolute_error(
    probabilities: np.ndarray, target: np.ndarray, *, stretch: bool = False
) -> float:
    """Return the mean distance of a map from its truth: an error, lower is better.

    Args:
        probabilities: Probability of the foreground ``[H, W]``, 0..1.
        target: Class ids ``[H, W]``: 1 foreground, 0 background, 255 ignored.
        stretch: Stretch the map to 0..1 first, as published evaluations do. By default it is taken
            as it is: a model that is unsure pays for it.

    Returns:
        An error in 0..1, NaN if no pixel counts.
    """
    values, truth = targeted_map(probabilities, target, stretch=stretch).pixels()
    return float(np.abs(values - truth).mean()) if truth.size else math.nan


def _above(values: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count foreground and background pixels at or above each of the 256 thresholds."""
    levels = (values * 255).astype(np.uint8)
    hits, alarms = (np.bincount(levels[of], minlength=THRESHOLDS) for of in (truth, ~truth))
    return hits[::-1].cumsum()[::-1], alarms[::-1].cumsum()[::-1]


def _above_adaptive(values: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    above = values >= min(2 * values.mean(), 1.0)
    return np.count_nonzero(above & truth), np.count_nonzero(above & ~truth)  # type: ignore[return-value]


def _f_measure(hits: np.ndarray, alarms: np.ndarray, positives: int, beta2: float) -> np.ndarray:
    found = beta2 * positives + hits + alarms
    return (1 + beta2) * hits / np.where(found == 0, 1, found)


def _e_measure(hits: np.ndarray, alarms: np.ndarray, positives: int, total: int) -> np.ndarray:
    predicted = hits + alarms
    divisor = max(total - 1, 1)
    if positives == 0:
        return (total - predicted) / divisor
    if positives == total:
        return predicted / divisor
    mean, true_mean = predicted / total, positives / total
    misses = positives - hits
    parts = (
        (1 - mean, 1 - true_mean, hits),
        (1 - mean, -true_mean, alarms),
        (-mean, 1 - true_mean, misses),
        (-mean, -true_mean, total - predicted - misses),
    )
    score = np.zeros(np.shape(hits))
    for a, b, number in parts:  # deviations from the means: how well they go together
        alignment = 2 * a * b / (a * a + b * b + _EPS)
        score = score + number * (alignment + 1) ** 2 / 4
    return score / divisor
