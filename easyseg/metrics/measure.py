"""What one image adds: its own scores, and counts that are added up over images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from easyseg.metrics import boundary, curves, functional, ranking, structure
from easyseg.metrics.functional import mean_defined
from easyseg.metrics.reference import reference_miou

__all__ = ["COUNTS", "CURVES", "View", "count", "image_scores", "mean_curve", "pooled_score"]

_OF_CLASSES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "iou": functional.iou_per_class,
    "dice": functional.dice_per_class,
    "precision": functional.precision_per_class,
    "recall": functional.recall_per_class,
    "specificity": functional.specificity_per_class,
}
_OF_ALL: Mapping[str, Callable[[np.ndarray], float]] = {
    "miou": lambda matrix: mean_defined(functional.iou_per_class(matrix)),
    "fwiou": functional.frequency_weighted_iou,
    "accuracy": functional.accuracy,
    "ber": functional.balanced_error,
}
_OF_MAPS: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "s_measure": structure.s_measure,
    "weighted_f": structure.weighted_f_measure,
    "weighted_f_0.3": partial(structure.weighted_f_measure, beta=0.3),
    "mae": curves.mean_absolute_error,
    "e_measure_adaptive": curves.e_measure_adaptive,
    "f_measure_adaptive": curves.f_measure_adaptive,
}
CURVES: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "e_measure": curves.e_measure_curve,
    "f_measure": curves.f_measure_curve,
}
"""Scores over thresholds, by name."""

_OF_LEVELS: Mapping[str, Callable[[np.ndarray], float]] = {
    "auc": ranking.auc,
    "ap": ranking.average_precision,
}
# Curves are added up as whole numbers of this part: the same sum in any order of the images, and
# over any number of processes.
_PART = 2.0**-36

COUNTS: Mapping[tuple[str, str], str] = {
    ("boundary_iou", "dataset"): "boundary",
    ("e_measure_max", "dataset"): "e_measure",
    ("f_measure_max", "dataset"): "f_measure",
    ("auc", "dataset"): "levels",
    ("ap", "dataset"): "levels",
    ("miou", "reference"): "reference",
}
"""Which counts a pooled metric is a function of, by metric and averaging; else the confusion."""


@dataclass(frozen=True)
class View:
    """One image, ready to be scored.

    Attributes:
        prediction: Predicted class ids ``[H, W]``.
        target: True class ids ``[H, W]``, 255 for ignored pixels.
        matrix: Their confusion matrix int64 ``[K, K]``.
        binary: True if only class 1 (the foreground) is scored.
        probabilities: Probability of the foreground ``[H, W]``, if a metric needs it.
    """

    prediction: np.ndarray
    target: np.ndarray
    matrix: np.ndarray
    binary: bool
    probabilities: np.ndarray | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.matrix)

    def map_and_truth(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the probabilities and the truth."""
        assert self.probabilities is not None
        return self.probabilities, self.target


def image_scores(view: View, metrics: Collection[str]) -> dict[str, float]:
    """Return the scores of an image.

    Args:
        view: The image.
        metrics: Names of metrics that have the averaging ``image``. What several of them need, a
            curve or a sorted map, is made once.

    Returns:
        Name -> score: of the foreground if the problem is binary, else the mean over the classes
        that define it. NaN where nothing does.
    """
    scores: dict[str, float] = {}
    for name in metrics:
        if name in _OF_CLASSES or name in _OF_ALL:
            scores[name] = _of_confusion(name, view.matrix, view.binary)
        elif name in _OF_MAPS:
            scores[name] = _OF_MAPS[name](*view.map_and_truth())
    for curve, function in CURVES.items():
        if asked := {f"{curve}_mean", f"{curve}_max"} & set(metrics):
            values = function(*view.map_and_truth())
            scores |= {
                name: float(values.mean() if name.endswith("_mean") else values.max())
                for name in asked
            }
    if asked := _OF_LEVELS.keys() & set(metrics):
        levels = ranking.exact_levels(*view.map_and_truth())
        scores |= {name: _OF_LEVELS[name](levels) for name in asked}
    if "boundary_iou" in metrics:
        values = boundary.boundary_iou(count(view, "boundary"))
        scores["boundary_iou"] = _choose(values, view.binary)
    if "hd95" in metrics:
        values = boundary.hausdorff95(view.prediction, view.target, view.num_classes)
        scores["hd95"] = _choose(values, view.binary)
    return scores


def count(view: View, counts: str) -> np.ndarray:
    """Return what an image adds to counts.

    Args:
        view: The image.
        counts: ``confusion``, or a name in :data:`COUNTS`.

    Returns:
        int64; the counts of images add up.
    """
    if counts in ("confusion", "reference"):
        return view.matrix
    if counts == "boundary":
        return boundary.boundary_counts(view.prediction, view.target, view.num_classes)
    if counts == "levels":
        return ranking.level_counts(*view.map_and_truth())
    values = CURVES[counts](*view.map_and_truth())
    if np.isnan(values).any():  # no pixel counts
        return np.zeros(values.size + 1, np.int64)
    return np.append(np.rint(values / _PART).astype(np.int64), 1)  # and the number of images


def pooled_score(
    metric: str, averaging: str, counts: np.ndarray, *, binary: bool, index: int | None = None
) -> float:
    """Return the score of all images together.

    Args:
        metric: Name of the metric.
        averaging: ``dataset`` or ``reference``.
        counts: Sum over the images of the :func:`count` that belongs to it.
        binary: True if only class 1 (the foreground) is scored.
        index: Id of the class; None for the foreground, or the mean over the classes.
    """
    name = COUNTS.get((metric, averaging), "confusion")
    if name == "confusion":
        return _of_confusion(metric, counts, binary, index)
    if name == "reference":
        return reference_miou(counts)
    if name == "boundary":
        return _choose(boundary.boundary_iou(counts), binary, index)
    if name == "levels":
        return _OF_LEVELS[metric](counts)
    return float(mean_curve(counts).max())


def mean_curve(counts: np.ndarray) -> np.ndarray:
    """Return the mean over images of a curve over thresholds.

    Args:
        counts: int64 ``[257]``, sum over the images of the :func:`count` of one of :data:`CURVES`.

    Returns:
        float64 ``[256]`` by ascending threshold, NaN if there are no images.
    """
    images = counts[-1]
    return counts[:-1] * _PART / images if images else np.full(counts.size - 1, np.nan)


def _of_confusion(name: str, matrix: np.ndarray, binary: bool, index: int | None = None) -> float:
    if name in _OF_ALL:
        return _OF_ALL[name](matrix)
    return _choose(_OF_CLASSES[name](matrix), binary, index)


def _choose(values: np.ndarray, binary: bool, index: int | None = None) -> float:
    """Return the value of a class, of the foreground, or the mean of all."""
    if index is not None:
        return float(values[index])
    return float(values[1]) if binary else mean_defined(values)
