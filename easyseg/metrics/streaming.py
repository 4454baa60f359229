"""Scores gathered image by image: one confusion matrix and one small row an image.

Keys are ``metric@averaging``: ``@image`` is the mean over images of the score of each image,
``@dataset`` the score of all pixels pooled. All metrics are better when higher.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from easyseg.errors import OptionError, nearest
from easyseg.metrics.functional import (
    accuracy,
    confusion_matrix,
    dice_per_class,
    iou_per_class,
    mean_defined,
)

__all__ = [
    "EMPTY_KEY",
    "SegmentationScores",
    "check_metrics",
    "default_metric",
    "metric_keys",
]

EMPTY_KEY = "empty@image"
"""A count, not a score: images whose union is empty, left out of the means over images."""

_ROW_KEYS = ("iou@image", "dice@image")


def metric_keys(binary: bool, names: Sequence[str]) -> tuple[str, ...]:
    """Return the keys of all scores of a problem, in the order of reports.

    Args:
        binary: True if only class 1 (the foreground) is scored.
        names: Class names in the order of their ids.

    Returns:
        The keys; any of them can be the validation metric.

    Example:
        >>> metric_keys(True, ["background", "lesion"])[:3]
        ('iou@image', 'dice@image', 'iou@dataset')
        >>> metric_keys(False, ["soil", "crop", "weed"])[-1]
        'iou@dataset/weed'
    """
    if binary:
        return (*_ROW_KEYS, "iou@dataset", "dice@dataset", "miou@dataset", "accuracy@dataset")
    per_class = (f"iou@dataset/{name}" for name in names)
    return (*_ROW_KEYS, "miou@dataset", "dice@dataset", "accuracy@dataset", *per_class)


def default_metric(binary: bool) -> str:
    """Return the validation metric that is used when none is asked for."""
    return "iou@image" if binary else "miou@dataset"


def check_metrics(
    metrics: Sequence[str] | str, binary: bool, names: Sequence[str]
) -> tuple[str, ...]:
    """Return the metrics as a tuple, after checking that each one exists for the problem.

    Args:
        metrics: One key or several.
        binary: True if only class 1 (the foreground) is scored.
        names: Class names in the order of their ids.

    Returns:
        The keys as given.

    Raises:
        OptionError: If a key is not known; it names the nearest one.
    """
    asked = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    known = metric_keys(binary, names)
    unknown = [key for key in asked if key not in known]
    if unknown:
        kind = "binary" if binary else "multi-class"
        hints = " ".join(f"Unknown metric {key!r}. {nearest(key, known)}" for key in unknown)
        raise OptionError(f"{hints} (Scores of a {kind} problem: {', '.join(known)}.)")
    return asked


class SegmentationScores:
    """Scores of a stream of masks; memory grows by two numbers an image.

    Binary problems score the foreground (id 1). Multi-class scores of one image are the mean over
    the classes that its truth or its prediction holds. An image without any (its union is empty)
    has no score: it is left out of the mean over images and counted in ``empty@image``.

    Args:
        names: Class names in the order of their ids.
        binary: True if only class 1 (the foreground) is scored; needs exactly two names.

    Raises:
        OptionError: If the names do not fit the problem.

    Example:
        >>> import numpy as np
        >>> scores = SegmentationScores(["background", "lesion"], binary=True)
        >>> scores.update(np.array([[1, 1, 0]], np.uint8), np.array([[1, 0, 255]], np.uint8))
        >>> scores.compute(["iou@image", "accuracy@dataset"])
        {'iou@image': 0.5, 'accuracy@dataset': 0.5}
    """

    def __init__(self, names: Sequence[str], binary: bool) -> None:
        self.names = tuple(names)
        self.binary = binary
        if len(set(self.names)) != len(self.names):
            raise OptionError(f"Class names must differ from each other, found {self.names}.")
        if binary and len(self.names) != 2:
            raise OptionError(
                f"A binary problem has two classes (background, foreground), found {self.names}."
            )
        if not self.names:
            raise OptionError("Scores need at least one class name, found none.")
        self._pooled = np.zeros((len(self.names), len(self.names)), np.int64)
        self._rows: list[tuple[float, float]] = []

    def __len__(self) -> int:
        """Return the number of images seen."""
        return len(self._rows)

    def update(self, prediction: np.ndarray, target: np.ndarray) -> None:
        """Take in one image.

        Args:
            prediction: Predicted class ids ``[H, W]``.
            target: True class ids ``[H, W]``, 255 for ignored pixels.

        Raises:
            DataError: If the sizes differ or an id is outside the classes.
        """
        matrix = confusion_matrix(prediction, target, len(self.names))
        self._pooled += matrix
        scored = slice(1, 2) if self.binary else slice(None)
        self._rows.append(
            (
                mean_defined(iou_per_class(matrix)[scored]),
                mean_defined(dice_per_class(matrix)[scored]),
            )
        )

    def state(self) -> dict[str, np.ndarray]:
        """Return all that was gathered, as plain arrays that can be sent to another process.

        Returns:
            ``pooled``: int64 ``[K, K]``, the confusion matrix of all pixels; ``rows``: float64
            ``[images, 2]``, IoU and Dice of each image in update order.
        """
        return {
            "pooled": self._pooled.copy(),
            "rows": np.array(self._rows, np.float64).reshape(-1, len(_ROW_KEYS)),
        }

    def merge(self, other: SegmentationScores | Mapping[str, np.ndarray]) -> SegmentationScores:
        """Add what another process gathered; its images follow the ones seen here.

        Args:
            other: Scores of the same classes, or their ``state()``.

        Returns:
            Itself.

        Raises:
            OptionError: If the other scores are of other classes.
        """
        if isinstance(other, SegmentationScores):
            if (other.names, other.binary) != (self.names, self.binary):
                raise OptionError(
                    f"Only scores of the same classes can be merged, found {self.names} "
                    f"(binary={self.binary}) and {other.names} (binary={other.binary})."
                )
            other = other.state()
        if other["pooled"].shape != self._pooled.shape:
            raise OptionError(
                f"Only scores of the same classes can be merged, found {len(self.names)} and "
                f"{len(other['pooled'])} classes."
            )
        self._pooled += other["pooled"]
        self._rows.extend((float(iou), float(dice)) for iou, dice in other["rows"])
        return self

    def compute(self, metrics: Sequence[str] | str | None = None) -> dict[str, float]:
        """Return the scores of all images seen.

        Args:
            metrics: Keys of ``metric_keys``, or None for all of them and ``empty@image``.

        Returns:
            Key -> value, NaN where nothing defines a score.

        Raises:
            OptionError: If a key is not known.
        """
        scores = self._all_scores()
        if metrics is None:
            return scores
        return {key: scores[key] for key in check_metrics(metrics, self.binary, self.names)}

    def per_image(self) -> list[dict[str, float]]:
        """Return the scores of each image, in update order; NaN where its union is empty."""
        return [dict(zip(_ROW_KEYS, row, strict=True)) for row in self._rows]

    def _all_scores(self) -> dict[str, float]:
        iou, dice = iou_per_class(self._pooled), dice_per_class(self._pooled)
        scores = {
            key: mean_defined(row[column] for row in self._rows)
            for column, key in enumerate(_ROW_KEYS)
        }
        scores["miou@dataset"] = mean_defined(iou)
        scores["accuracy@dataset"] = accuracy(self._pooled)
        if self.binary:
            scores |= {"iou@dataset": float(iou[1]), "dice@dataset": float(dice[1])}
        else:
            scores["dice@dataset"] = mean_defined(dice)
            scores |= {
                f"iou@dataset/{name}": float(v) for name, v in zip(self.names, iou, strict=True)
            }
        ordered = {key: scores[key] for key in metric_keys(self.binary, self.names)}
        ordered[EMPTY_KEY] = float(sum(np.isnan(iou) for iou, _ in self._rows))
        return ordered
