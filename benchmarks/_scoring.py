"""Scores of predicted masks, by the same code for every method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from easyseg.data.io import read_mask
from easyseg.data.label_map import LabelMap
from easyseg.metrics.catalogue import default_metric
from easyseg.metrics.functional import confusion_matrix
from easyseg.metrics.streaming import SegmentationScores


def read_masks(table: pd.DataFrame, labels: LabelMap) -> list[np.ndarray]:
    """Return the true class ids of a table."""
    return [labels.encode(read_mask(Path(mask)), mask) for mask in table["label"]]


def score(predicted: Sequence[np.ndarray], table: pd.DataFrame, labels: LabelMap) -> dict[str, Any]:
    """Score class ids at own size: the same code for every method.

    Args:
        predicted: Class ids of each image.
        table: Images and masks, in that order.
        labels: Raw mask values and class ids.

    Returns:
        ``metric``, the key of the problem's metric; ``score``, its value; ``scores``, all values;
        ``images``, of each image its scores, and by class the pixels in the intersection and in
        the union of truth and prediction, of which pooled scores can be resampled.
    """
    scores = SegmentationScores(labels.names, labels.binary)
    counts = []
    for mask, truth in zip(predicted, read_masks(table, labels), strict=True):
        scores.update(mask, truth)
        matrix = confusion_matrix(mask, truth, labels.num_classes)
        both = matrix.diagonal()
        union = matrix.sum(0) + matrix.sum(1) - both
        counts.append({"intersection": both.tolist(), "union": union.tolist()})
    metric, values = default_metric(labels.binary), plain(scores.compute())
    return {
        "metric": metric,
        "score": values[metric],
        "scores": values,
        "images": [
            {"image": Path(image).name, **plain(row), **count}
            for image, row, count in zip(table["image"], scores.per_image(), counts, strict=True)
        ],
    }


def plain(scores: dict[str, float]) -> dict[str, float | None]:
    """Return scores for JSON, which has no NaN."""
    return {key: None if math.isnan(value) else value for key, value in scores.items()}
