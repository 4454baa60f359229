"""Scores as the reference code of Conv-LoRA takes them, to compare with its numbers.

AutoGluon MultiModal squashes every image and its mask to 1024x1024 pixels and scores there. IoU is
the mean over images, in which an image without any foreground scores 0; BER is taken of each image
at a probability above 125/255 and of the classes that its truth or its prediction holds; weighted F
has a beta of 0.3; all maps are stretched to 0..1, also for their mean error; mIoU counts a class
that is nowhere as 0. Ignored pixels are left out here, while they break the reference.

One step differs: the reference enlarges what its network gives, 256x256 logits, straight to
1024x1024. Here logits are those of the prediction, already at the image's own size (put together
from windows, if the plan cuts images), and are resized from there: an image smaller than its logits
loses detail on the way, a larger one gains none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image

from easyseg.metrics.curves import e_measure_curve, mean_absolute_error
from easyseg.metrics.functional import (
    confusion_matrix,
    iou_per_class,
    mean_defined,
    recall_per_class,
)
from easyseg.metrics.structure import s_measure, weighted_f_measure

__all__ = ["SIDE", "Squashed", "reference_miou", "reference_scores", "squash_target"]

SIDE = 1024
"""Height and width that the reference squashes everything to."""

_BER_THRESHOLD = 125 / 255


class Squashed(NamedTuple):
    """An image as the reference sees it.

    Attributes:
        prediction: Predicted class ids ``[1024, 1024]``.
        target: True class ids uint8 ``[1024, 1024]``, 255 for ignored pixels.
        probabilities: Probability of the foreground ``[1024, 1024]``; None for several classes.
    """

    prediction: np.ndarray
    target: np.ndarray
    probabilities: np.ndarray | None = None


def squash_target(target: np.ndarray) -> np.ndarray:
    """Return a mask of class ids uint8 ``[H, W]`` at the reference's size, without mixing ids."""
    return np.asarray(Image.fromarray(target).resize((SIDE, SIDE), Image.Resampling.NEAREST))


def reference_scores(seen: Squashed, metrics: Collection[str]) -> dict[str, float]:
    """Return scores of one image of a binary problem.

    Args:
        seen: The squashed image.
        metrics: Names of metrics that have the averaging ``reference``.

    Returns:
        Name -> score, NaN if no pixel has a label.
    """
    assert seen.probabilities is not None
    functions: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "iou": _iou,
        "ber": _balanced_error,
        "s_measure": s_measure,
        "e_measure_mean": lambda p, t: float(e_measure_curve(p, t).mean()),
        "weighted_f_0.3": lambda p, t: weighted_f_measure(p, t, beta=0.3),
        "mae": lambda p, t: mean_absolute_error(p, t, stretch=True),
    }
    return {name: functions[name](seen.probabilities, seen.target) for name in metrics}


def reference_miou(matrix: np.ndarray) -> float:
    """Return the mean IoU of all classes; one that is nowhere counts 0.

    Args:
        matrix: Confusion matrix ``[K, K]`` of all squashed pixels, rows are the truth.
    """
    return float(np.nan_to_num(iou_per_class(matrix)).mean())


def _iou(probabilities: np.ndarray, target: np.ndarray) -> float:
    matrix = confusion_matrix(probabilities > 0.5, target, 2)
    return float(np.nan_to_num(iou_per_class(matrix)[1])) if matrix.any() else math.nan


def _balanced_error(probabilities: np.ndarray, target: np.ndarray) -> float:
    matrix = confusion_matrix(probabilities > _BER_THRESHOLD, target, 2)
    there = (matrix.sum(axis=0) + matrix.sum(axis=1)) > 0
    return 1 - mean_defined(np.nan_to_num(recall_per_class(matrix))[there])
