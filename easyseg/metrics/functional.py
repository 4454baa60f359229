"""Scores of one confusion matrix: plain functions on NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from easyseg.data.label_map import IGNORE
from easyseg.errors import DataError

__all__ = [
    "accuracy",
    "balanced_error",
    "confusion_matrix",
    "dice_per_class",
    "frequency_weighted_iou",
    "iou_per_class",
    "mean_defined",
    "precision_per_class",
    "recall_per_class",
    "specificity_per_class",
]

_BLOCK = 1 << 20  # pixels counted at a time: bounds the memory on very large images


def confusion_matrix(prediction: np.ndarray, target: np.ndarray, num_classes: int) -> np.ndarray:
    """Count the pixels of every (true class, predicted class) pair.

    Pixels whose target is ``IGNORE`` (255) are absent, whatever was predicted there.

    Args:
        prediction: Predicted class ids ``[H, W]``, integer or bool.
        target: True class ids ``[H, W]``, integer or bool; ``IGNORE`` leaves a pixel out.
        num_classes: Number of classes K; ids run from 0 to K-1.

    Returns:
        int64 ``[K, K]``, rows are the truth, columns the prediction.

    Raises:
        DataError: If the shapes differ, the ids are no integers, or a counted pixel holds an id
            outside 0..K-1.

    Example:
        >>> import numpy as np
        >>> truth = np.array([[0, 1, 255]], np.uint8)
        >>> confusion_matrix(np.array([[1, 1, 1]], np.uint8), truth, 2).tolist()
        [[0, 1], [0, 1]]
    """
    if prediction.shape != target.shape:
        raise DataError(
            f"Prediction and truth differ in size: {prediction.shape} and {target.shape} "
            "(height, width); score each mask at its image's own size."
        )
    for ids, which in ((prediction, "prediction"), (target, "truth")):
        if ids.dtype.kind not in "bui":
            raise DataError(f"The {which} is {ids.dtype}; expected integer class ids or bool.")
    predicted, true = np.ravel(prediction), np.ravel(target)
    if num_classes <= IGNORE and all(a.dtype in (np.uint8, np.bool_) for a in (predicted, true)):
        return _count_bytes(predicted, true, num_classes)
    counts = np.zeros(num_classes * num_classes, np.int64)
    for start in range(0, true.size, _BLOCK):
        block = true[start : start + _BLOCK]
        counted = block != IGNORE
        rows = block[counted].astype(np.int64)
        columns = predicted[start : start + _BLOCK][counted].astype(np.int64)
        _check_ids(rows, num_classes, "truth")
        _check_ids(columns, num_classes, "prediction")
        counts += np.bincount(rows * num_classes + columns, minlength=counts.size)
    return counts.reshape(num_classes, num_classes)


def iou_per_class(matrix: np.ndarray) -> np.ndarray:
    """Return intersection over union of each class.

    Args:
        matrix: Confusion matrix ``[K, K]``, rows are the truth.

    Returns:
        float64 ``[K]``; NaN where a class is in neither truth nor prediction (empty union).

    Example:
        >>> import numpy as np
        >>> iou_per_class(np.array([[2, 1], [0, 1]])).round(2).tolist()
        [0.67, 0.5]
    """
    both = np.diagonal(matrix)
    return _ratio(both, matrix.sum(axis=0) + matrix.sum(axis=1) - both)


def dice_per_class(matrix: np.ndarray) -> np.ndarray:
    """Return the Dice coefficient (F1) of each class.

    Args:
        matrix: Confusion matrix ``[K, K]``, rows are the truth.

    Returns:
        float64 ``[K]``; NaN where a class is in neither truth nor prediction.
    """
    return _ratio(2 * np.diagonal(matrix), matrix.sum(axis=0) + matrix.sum(axis=1))


def precision_per_class(matrix: np.ndarray) -> np.ndarray:
    """Return, for each class, the share of the pixels predicted as it that are of it.

    Args:
        matrix: Confusion matrix ``[K, K]``, rows are the truth.

    Returns:
        float64 ``[K]``; NaN where no pixel was predicted as the class.
    """
    return _ratio(np.diagonal(matrix), matrix.sum(axis=0))


def recall_per_class(matrix: np.ndarray) -> np.ndarray:
    """Return, for each class, the share of its pixels that were found (the class's accuracy).

    Args:
        matrix: Confusion matrix ``[K, K]``, rows are the truth.

    Returns:
        float64 ``[K]``; NaN where no pixel is of the class.
    """
    return _ratio(np.diagonal(matrix), matrix.sum(axis=1))


def specificity_per_class(matrix: np.ndarray) -> np.ndarray:
    """Return, for each class, the share of the pixels of other classes not predicted as it.

    Args:
        matrix: Confusion matrix ``[K, K]``, rows are the truth.

    Returns:
        float64 ``[K]``; NaN where all pixels are of the class.
    """
    others = matrix.sum() - matrix.sum(axis=1)
    alarms = matrix.sum(axis=0) - np.diagonal(matrix)
    return _ratio(others - alarms, others)


def balanced_error(matrix: np.ndarray) -> float:
    """Return the balanced error rate (BER): one minus the mean recall of the classes.

    For two classes that is ``1 - (recall + specificity) / 2``, the error of shadow detection, where
    it is given in percent (Vicente et al., ECCV 2016). It is an error: lower is better.

    Args:
        matrix: Confusion matrix ``[K, K]``, rows are the truth.

    Returns:
        An error in 0..1; classes that the truth does not hold are left out, NaN if it holds none.

    Example:
        >>> import numpy as np
        >>> balanced_error(np.array([[90, 10], [3, 7]]))
        0.2
    """
    true = matrix.sum(axis=1)
    return mean_defined(_ratio(true - np.diagonal(matrix), true))


def frequency_weighted_iou(matrix: np.ndarray) -> float:
    """Return the mean IoU of the classes, weighted by their shares of the true pixels.

    Args:
        matrix: Confusion matrix ``[K, K]``, rows are the truth.

    Returns:
        A score in 0..1, NaN if no pixel was counted.
    """
    true = matrix.sum(axis=1)
    iou = np.where(true > 0, iou_per_class(matrix), 0.0)  # a class without pixels weighs nothing
    return float(_ratio((true * iou).sum(), true.sum()))


def accuracy(matrix: np.ndarray) -> float:
    """Return the share of counted pixels whose class is right.

    Args:
        matrix: Confusion matrix ``[K, K]``, rows are the truth.

    Returns:
        A share in 0..1, NaN if no pixel was counted.
    """
    return float(_ratio(np.trace(matrix), matrix.sum()))


def mean_defined(values: Iterable[float]) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none.

    The sum is exact before it is rounded (``math.fsum``), so the order of the values, and how
    they were spread over processes, changes no bit of the result.

    Args:
        values: Scores, NaN where a score is not defined.

    Returns:
        The mean.

    Example:
        >>> mean_defined([0.25, float("nan"), 0.75])
        0.5
    """
    defined = [float(value) for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    empty = np.equal(denominator, 0)
    return np.where(empty, np.nan, numerator / np.where(empty, 1, denominator))


def _count_bytes(predicted: np.ndarray, true: np.ndarray, num_classes: int) -> np.ndarray:
    """Count pairs of bytes, ids or not, and look at what was found: faster than at each pixel."""
    counts = np.zeros(1 << 16, np.int64)
    for start in range(0, true.size, _BLOCK):
        codes = true[start : start + _BLOCK].astype(np.uint16)
        codes <<= 8
        codes |= predicted[start : start + _BLOCK]
        counts += np.bincount(codes, minlength=counts.size)
    pairs = counts.reshape(1 << 8, 1 << 8)
    pairs[IGNORE] = 0
    _check_ids(np.flatnonzero(pairs.any(axis=1)), num_classes, "truth")
    _check_ids(np.flatnonzero(pairs.any(axis=0)), num_classes, "prediction")
    return pairs[:num_classes, :num_classes].copy()


def _check_ids(ids: np.ndarray, num_classes: int, which: str) -> None:
    if ids.size and not (ids.min() >= 0 and ids.max() < num_classes):
        outside = sorted({int(i) for i in np.unique(ids) if not 0 <= i < num_classes})
        raise DataError(
            f"The {which} holds the class ids {outside}; expected 0..{num_classes - 1}"
            + (f" or {IGNORE} for ignored pixels." if which == "truth" else ".")
        )
