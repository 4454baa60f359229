"""Scores of outlines: boundary IoU and the 95th percentile of the Hausdorff distance.

Outside of the image, and where pixels are ignored, there is no object: one that reaches that far
has its outline there.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from easyseg.data.label_map import IGNORE
from easyseg.errors import DataError
from easyseg.metrics.maps import counted_box

__all__ = ["boundary_counts", "boundary_iou", "hausdorff95"]

_BAND = 0.02  # width of the band along the outline, as a share of the image's diagonal


def boundary_counts(
    prediction: np.ndarray, target: np.ndarray, num_classes: int, *, band: float = _BAND
) -> np.ndarray:
    """Count the pixels along the outlines of each class: what both masks share, and have together.

    Args:
        prediction: Predicted class ids ``[H, W]``.
        target: True class ids ``[H, W]``, 255 for ignored pixels.
        num_classes: Number of classes K.
        band: Width of the band inside of the outline, as a share of the image's diagonal.

    Returns:
        int64 ``[2, K]``: intersections and unions of the bands; counts of images add up.

    Raises:
        DataError: If the sizes differ.
    """
    counts = np.zeros((2, num_classes), np.int64)
    predicted, true, counted = _cut(prediction, target)
    width = max(1, round(band * math.hypot(*counted.shape)))
    for index in _present(predicted, true, counted, num_classes):
        bands = [_inner_band((ids == index) & counted, width) for ids in (predicted, true)]
        counts[0, index] = np.count_nonzero(bands[0] & bands[1])
        counts[1, index] = np.count_nonzero(bands[0] | bands[1])
    return counts


def boundary_iou(counts: np.ndarray) -> np.ndarray:
    """Return the boundary IoU of each class (Cheng et al., CVPR 2021).

    Args:
        counts: int ``[2, K]``, one or several :func:`boundary_counts` added up.

    Returns:
        float64 ``[K]``, NaN where a class is in neither truth nor prediction.

    Example:
        >>> import numpy as np
        >>> truth = np.zeros((9, 9), np.uint8)
        >>> truth[2:7, 2:7] = 1
        >>> boundary_iou(boundary_counts(truth, truth, 2)).tolist()
        [1.0, 1.0]
    """
    both, either = counts
    return np.where(either == 0, np.nan, both / np.where(either == 0, 1, either))


def hausdorff95(prediction: np.ndarray, target: np.ndarray, num_classes: int) -> np.ndarray:
    """Return how far the outlines of each class are apart, but for the worst twentieth.

    From each pixel of one outline the distance to the other one is taken; the larger one of the two
    directions' 95th percentiles counts (Taha and Hanbury, BMC Medical Imaging 2015). So does MONAI,
    whose distance is infinite, though, where only one mask holds the class. It is an error: lower
    is better.

    Args:
        prediction: Predicted class ids ``[H, W]``.
        target: True class ids ``[H, W]``, 255 for ignored pixels.
        num_classes: Number of classes K.

    Returns:
        float64 ``[K]`` in pixels. NaN where neither mask holds the class; where only one does, the
        diagonal of the image: a missed or invented object costs the largest distance there is.

    Raises:
        DataError: If the sizes differ.
    """
    distances = np.full(num_classes, np.nan)
    predicted, true, counted = _cut(prediction, target)
    for index in _present(predicted, true, counted, num_classes):
        outlines = [
            _inner_band((ids == index) & counted, 1, corners=False) for ids in (predicted, true)
        ]
        if not all(outline.any() for outline in outlines):
            distances[index] = math.hypot(*counted.shape)
            continue
        distances[index] = max(
            np.percentile(ndimage.distance_transform_edt(~there)[here], 95)
            for here, there in (outlines, outlines[::-1])
        )
    return distances


def _cut(prediction: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut both masks to the pixels that count, so that what is ignored is not there at all."""
    if prediction.shape != target.shape or target.ndim != 2:
        raise DataError(
            f"Prediction and truth are {prediction.shape} and {target.shape}; expected the same "
            "size (height, width) for both."
        )
    counted = target != IGNORE
    box = counted_box(counted)
    return prediction[box], target[box], counted[box]


def _present(
    predicted: np.ndarray, true: np.ndarray, counted: np.ndarray, num_classes: int
) -> list[int]:
    """Return the classes that either mask holds."""
    found = np.union1d(predicted[counted], true[counted])
    return [int(index) for index in found if index < num_classes]


def _inner_band(mask: np.ndarray, width: int, *, corners: bool = True) -> np.ndarray:
    """Return the pixels of a mask that are at most ``width`` steps from what is not of it.

    Steps go to all eight neighbours, or, without corners, to four.
    """
    if corners:
        inside = ndimage.minimum_filter(mask, size=2 * width + 1, mode="constant", cval=0)
    else:
        inside = ndimage.binary_erosion(mask, iterations=width)
    return mask & ~inside
