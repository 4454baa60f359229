"""Scores of a probability map that look at where it errs: S-measure and weighted F-measure.

As published, maps are stretched to 0..1 first. The numbers are those of PySODMetrics 1.6 (MIT), an
independent implementation, which the tests compare with.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from easyseg.metrics.maps import TargetedMap, targeted_map

__all__ = ["s_measure", "weighted_f_measure"]

_EPS = float(np.spacing(1))
_REACH, _SIGMA = 3, 5.0  # the published Gaussian: 7 x 7 pixels, standard deviation 5
_FADING = math.log(0.5) / 5  # of the weight of false alarms, by distance from the foreground


def s_measure(
    probabilities: np.ndarray, target: np.ndarray, *, alpha: float = 0.5, stretch: bool = True
) -> float:
    """Return the structure measure (Fan et al., ICCV 2017).

    Args:
        probabilities: Probability of the foreground ``[H, W]``, 0..1.
        target: Class ids ``[H, W]``: 1 foreground, 0 background, 255 ignored.
        alpha: Weight of the objects' score against that of the four regions around the centre of
            the foreground.
        stretch: Stretch the map to 0..1 first.

    Returns:
        A score in 0..1, NaN if no pixel counts. Without foreground it is the mean of ``1 - map``,
        without background that of the map.

    Raises:
        DataError: If the map and its truth do not fit each other.

    Example:
        >>> import numpy as np
        >>> truth = np.eye(4, dtype=np.uint8)
        >>> round(s_measure(truth.astype(float), truth), 6)
        1.0
    """
    seen = targeted_map(probabilities, target, stretch=stretch)
    if not seen.size:
        return math.nan
    positives = np.count_nonzero(seen.truth)
    if positives == 0:
        return float(1 - seen.values[seen.counted].mean())
    if positives == seen.size:
        return float(seen.values[seen.counted].mean())
    share = positives / seen.size
    objects = share * _object(seen.values[seen.truth])
    objects += (1 - share) * _object(1 - seen.values[seen.background])
    return float(max(0.0, alpha * objects + (1 - alpha) * _regions(seen)))


def _object(values: np.ndarray) -> float:
    """Score what the map says inside of a region where it should say 1: high and even is good."""
    mean = values.mean()
    spread = values.std(ddof=1) if values.size > 1 else 0.0
    return float(2 * mean / (mean**2 + 1 + spread + _EPS))


def _regions(seen: TargetedMap) -> float:
    """Score the four regions around the centre of the foreground, weighted by their sizes."""
    # One is added, as in the published code, whose language counts from 1.
    row, column = (int(np.round(axis.mean())) + 1 for axis in np.nonzero(seen.truth))
    score = 0.0
    for rows in (slice(None, row), slice(row, None)):
        for columns in (slice(None, column), slice(column, None)):
            counted = seen.counted[rows, columns]
            if size := np.count_nonzero(counted):
                values = seen.values[rows, columns][counted]
                score += size * _similarity(values, seen.truth[rows, columns][counted])
    return score / seen.size


def _similarity(values: np.ndarray, truth: np.ndarray) -> float:
    """Return the structural similarity of two regions: in mean, contrast and structure."""
    x, y = values.mean(), truth.mean()
    free = values.size - 1 + _EPS
    variances = (((values - x) ** 2).sum() + ((truth - y) ** 2).sum()) / free
    covariance = ((values - x) * (truth - y)).sum() / free
    above, below = 4 * x * y * covariance, (x**2 + y**2) * variances
    if above != 0:
        return float(above / (below + _EPS))
    return 1.0 if below == 0 else 0.0


def weighted_f_measure(
    probabilities: np.ndarray, target: np.ndarray, *, beta: float = 1.0, stretch: bool = True
) -> float:
    """Return the weighted F-measure (Margolin et al., CVPR 2014).

    Errors weigh less where they lie among others of the foreground, and more, as false alarms, the
    further they are from it.

    Args:
        probabilities: Probability of the foreground ``[H, W]``, 0..1.
        target: Class ids ``[H, W]``: 1 foreground, 0 background, 255 ignored.
        beta: How much recall weighs against precision. It enters as it is, not squared, as in the
            published code. Most papers take 1; the reference code of Conv-LoRA takes 0.3.
        stretch: Stretch the map to 0..1 first.

    Returns:
        A score in 0..1; 0 if there is no foreground, NaN if no pixel counts.
    """
    seen = targeted_map(probabilities, target, stretch=stretch)
    if not seen.size:
        return math.nan
    truth, background = seen.truth, seen.background
    if not truth.any():
        return 0.0
    distance, nearest = ndimage.distance_transform_edt(~truth, return_indices=True)
    error = np.abs(seen.values - truth)
    error[~seen.counted] = 0.0
    # A false alarm depends on the error of the foreground pixel that is nearest to it.
    depends = np.where(background, error[tuple(nearest)], error)
    smooth = depends
    for axis in (0, 1):
        smooth = ndimage.correlate1d(smooth, _gaussian(), axis=axis, mode="constant")
    error = np.where(truth, np.minimum(smooth, error), error)
    missed = error[truth]
    alarms = (error * (2 - np.exp(_FADING * distance)))[background].sum()
    recall = 1 - missed.mean()
    hits = missed.size - missed.sum()
    precision = hits / (hits + alarms + _EPS)
    return float((1 + beta) * recall * precision / (recall + beta * precision + _EPS))


def _gaussian() -> np.ndarray:
    offsets = np.arange(-_REACH, _REACH + 1)
    kernel = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    return kernel / kernel.sum()
