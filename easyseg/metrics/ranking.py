"""Scores of how well probabilities rank pixels: AUC and average precision.

Both are functions of two histograms of the probabilities, those of foreground and of background
pixels. Those of images add up, so that the pixels of any number of images take constant memory.
"""

from __future__ import annotations

import math

import numpy as np

from easyseg.metrics.maps import targeted_map

__all__ = ["LEVELS", "auc", "average_precision", "exact_levels", "level_counts"]

LEVELS = 1 << 16
"""Levels of :func:`level_counts`."""

_LARGEST_LOGIT = 17.0  # float32 knows no probability nearer to 1
_FINE_LOGIT = 0.05  # below it levels are even in the logit, above it in the logit's logarithm
_LARGEST_PLACE = math.asinh(_LARGEST_LOGIT / _FINE_LOGIT)


def level_counts(probabilities: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Count foreground and background pixels at each of many levels of probability.

    Levels are narrow where probabilities are close to 0 or 1, so that a network which is very sure
    still ranks its pixels, and even narrower close to 1/2, so that one which is not sure at all
    does. In the logit they are 1e-5 wide at 0, 2e-4 at 1 and 3e-3 at 17, where the range ends.

    Pixels of one level are taken as equal. That costs nothing if logits spread over many levels:
    the AUC is off by less than 1e-4 and the average precision by less than 1e-3 where their
    standard deviation is at least 200 levels, 0.002 around a logit of 0 and 0.04 around 1 (measured
    with 2 % of foreground and more). :func:`exact_levels` has no such limit.

    Args:
        probabilities: Probability of the foreground ``[H, W]``, 0..1.
        target: Class ids ``[H, W]``: 1 foreground, 0 background, 255 ignored.

    Returns:
        int64 ``[2, LEVELS]``: foreground and background by ascending level; counts of images add
        up.

    Raises:
        DataError: If the map and its truth do not fit each other.
    """
    values, truth = targeted_map(probabilities, target).pixels()
    with np.errstate(divide="ignore"):
        logits = np.log(values) - np.log1p(-values)
    places = np.arcsinh(logits / _FINE_LOGIT)
    share = np.clip(places / (2 * _LARGEST_PLACE) + 0.5, 0, 1)
    levels = np.rint(share * (LEVELS - 1)).astype(np.int64)
    return np.stack([np.bincount(levels[of], minlength=LEVELS) for of in (truth, ~truth)])


def exact_levels(probabilities: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Count foreground and background pixels at each probability that a map holds.

    Args:
        probabilities: Probability of the foreground ``[H, W]``, 0..1.
        target: Class ids ``[H, W]``: 1 foreground, 0 background, 255 ignored.

    Returns:
        int64 ``[2, L]``: as of :func:`level_counts`, one level for each distinct value.
    """
    values, truth = targeted_map(probabilities, target).pixels()
    distinct, levels = np.unique(values, return_inverse=True)
    levels = levels.reshape(-1)
    return np.stack([np.bincount(levels[of], minlength=distinct.size) for of in (truth, ~truth)])


def auc(counts: np.ndarray) -> float:
    """Return the area under the ROC curve.

    It is the probability that a foreground pixel has a higher value than a background pixel; equal
    values count one half.

    Args:
        counts: int ``[2, L]``: foreground and background pixels by ascending level.

    Returns:
        A score in 0..1, NaN without foreground or without background.

    Example:
        >>> import numpy as np
        >>> truth = np.array([[1, 0, 0, 255]], np.uint8)
        >>> auc(exact_levels(np.array([[0.6, 0.2, 0.7, 0.9]]), truth))
        0.5
    """
    positives, negatives = counts.astype(np.float64)
    pairs = positives.sum() * negatives.sum()
    if pairs == 0:
        return math.nan
    below = negatives.cumsum() - negatives / 2
    return float((positives * below).sum() / pairs)


def average_precision(counts: np.ndarray) -> float:
    """Return the average precision: the mean, over the foreground, of the precision at its level.

    Args:
        counts: int ``[2, L]``: foreground and background pixels by ascending level.

    Returns:
        A score in 0..1, NaN without foreground.
    """
    positives, negatives = counts[:, ::-1].astype(np.float64)
    if positives.sum() == 0:
        return math.nan
    hits = positives.cumsum()
    found = hits + negatives.cumsum()
    precision = hits / np.where(found == 0, 1, found)
    return float((positives * precision).sum() / positives.sum())
