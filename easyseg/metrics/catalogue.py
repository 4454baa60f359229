"""The metrics there are: their keys, which problems they are for, and which way is better.

A key is ``metric@averaging``. ``@image`` is the mean over images of the score of each image,
``@dataset`` the score of all pixels pooled, ``@dataset/<class>`` that of one class, and
``@reference`` the score as the reference code of Conv-LoRA takes it
(:mod:`easyseg.metrics.reference`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from easyseg.errors import OptionError, nearest

__all__ = [
    "METRICS",
    "Key",
    "Metric",
    "blind_spot",
    "check_metrics",
    "default_metric",
    "gain",
    "higher_is_better",
    "known_metrics",
    "metric_keys",
    "report_keys",
]


@dataclass(frozen=True)
class Metric:
    """What a metric is.

    Attributes:
        about: What it says, in a few words.
        binary: Averagings of binary problems: ``image``, ``dataset``, ``reference``.
        multiclass: Averagings of multi-class problems: these and ``class``.
        error: True if lower is better.
        of_map: True if it scores the map of probabilities instead of the mask.
        blind_to: What of a class it does not see, if it is one half of a pair such as precision and
            recall.
    """

    about: str
    binary: tuple[str, ...]
    multiclass: tuple[str, ...] = ()
    error: bool = False
    of_map: bool = False
    blind_to: str | None = None


_BOTH, _EACH_CLASS = ("image", "dataset"), ("image", "dataset", "class")

METRICS: Mapping[str, Metric] = {
    "iou": Metric("intersection over union", (*_BOTH, "reference"), ("image", "class")),
    "dice": Metric("Dice coefficient, F1", _BOTH, _EACH_CLASS),
    "miou": Metric("mean IoU of all classes", ("dataset",), ("dataset", "reference")),
    "fwiou": Metric("IoU weighted by the classes' shares", ("dataset",), ("dataset",)),
    "accuracy": Metric("share of pixels that are right", _BOTH, _BOTH),
    "precision": Metric(
        "share of what is predicted that is right", _BOTH, _EACH_CLASS, blind_to="misses"
    ),
    "recall": Metric(
        "share of what is there that is found", _BOTH, _EACH_CLASS, blind_to="false alarms"
    ),
    "specificity": Metric(
        "share of what is not there left alone", _BOTH, _EACH_CLASS, blind_to="misses"
    ),
    "ber": Metric("balanced error rate", (*_BOTH, "reference"), _BOTH, error=True),
    "boundary_iou": Metric("IoU along the outlines", _BOTH, _EACH_CLASS),
    "hd95": Metric("Hausdorff distance in pixels, 95 %", ("image",), ("image",), error=True),
    "s_measure": Metric("structure measure", ("image", "reference"), of_map=True),
    "e_measure_adaptive": Metric("E-measure, adaptive threshold", ("image",), of_map=True),
    "e_measure_mean": Metric("E-measure, mean of curve", ("image", "reference"), of_map=True),
    "e_measure_max": Metric("E-measure, best of curve", _BOTH, of_map=True),
    "f_measure_adaptive": Metric("F-measure, adaptive threshold", ("image",), of_map=True),
    "f_measure_mean": Metric("F-measure, mean of curve", ("image",), of_map=True),
    "f_measure_max": Metric("F-measure, best of curve", _BOTH, of_map=True),
    "weighted_f": Metric("weighted F-measure", ("image",), of_map=True),
    "weighted_f_0.3": Metric("weighted F, beta 0.3", ("image", "reference"), of_map=True),
    "mae": Metric("mean error of the map", ("image", "reference"), error=True, of_map=True),
    "auc": Metric("area under the ROC curve", _BOTH, of_map=True),
    "ap": Metric("average precision", _BOTH, of_map=True),
}
"""All metrics by name; the order is that of reports."""

_REPORT = {
    True: (
        "iou@image",
        "dice@image",
        "iou@dataset",
        "dice@dataset",
        "miou@dataset",
        "accuracy@dataset",
    ),
    False: ("iou@image", "dice@image", "miou@dataset", "dice@dataset", "accuracy@dataset"),
}


@dataclass(frozen=True)
class Key:
    """A key, taken apart.

    Attributes:
        metric: Name of the metric.
        averaging: ``image``, ``dataset`` or ``reference``.
        index: Id of the class that it is of; None for all of the problem.
    """

    metric: str
    averaging: str
    index: int | None = None

    @property
    def of_image(self) -> bool:
        """Whether each image has such a score of its own; else it is of all pixels pooled."""
        return self.averaging != "dataset" and self.metric != "miou"


def known_metrics(binary: bool, names: Sequence[str]) -> dict[str, Key]:
    """Return all metrics of a problem by their keys; those of the usual report come first.

    Args:
        binary: True if only class 1 (the foreground) is scored.
        names: Class names in the order of their ids.
    """
    keys: dict[str, Key] = {}
    for metric, about in METRICS.items():
        for averaging in about.binary if binary else about.multiclass:
            if averaging == "class":
                for index, name in enumerate(names):
                    keys[f"{metric}@dataset/{name}"] = Key(metric, "dataset", index)
            else:
                keys[f"{metric}@{averaging}"] = Key(metric, averaging)
    report = report_keys(binary, names)
    return {key: keys[key] for key in (*report, *(key for key in keys if key not in report))}


def metric_keys(binary: bool, names: Sequence[str]) -> tuple[str, ...]:
    """Return the keys of all metrics of a problem; any of them can be the validation metric.

    Args:
        binary: True if only class 1 (the foreground) is scored.
        names: Class names in the order of their ids.

    Example:
        >>> len(metric_keys(True, ["background", "lesion"]))
        41
        >>> metric_keys(False, ["soil", "crop", "weed"])[-2:]
        ('boundary_iou@dataset/weed', 'hd95@image')
    """
    return tuple(known_metrics(binary, names))


def report_keys(binary: bool, names: Sequence[str]) -> tuple[str, ...]:
    """Return the keys that are reported when none are asked for: they cost next to nothing.

    Args:
        binary: True if only class 1 (the foreground) is scored.
        names: Class names in the order of their ids.

    Example:
        >>> report_keys(True, ["background", "lesion"])[:3]
        ('iou@image', 'dice@image', 'iou@dataset')
        >>> report_keys(False, ["soil", "crop", "weed"])[-1]
        'iou@dataset/weed'
    """
    of_classes = () if binary else (f"iou@dataset/{name}" for name in names)
    return (*_REPORT[binary], *of_classes)


def default_metric(binary: bool) -> str:
    """Return the validation metric that is used when none is asked for."""
    return "iou@image" if binary else "miou@dataset"


def higher_is_better(key: str) -> bool:
    """Return which way a score improves: up, or down if it is an error.

    Args:
        key: ``metric@averaging``.

    Raises:
        OptionError: If there is no such metric.

    Example:
        >>> higher_is_better("iou@image"), higher_is_better("ber@dataset")
        (True, False)
    """
    metric = key.split("@", 1)[0]
    if metric not in METRICS:
        raise OptionError(f"Unknown metric {key!r}. {nearest(metric, tuple(METRICS))}")
    return not METRICS[metric].error


def gain(score: float, key: str) -> float:
    """Return a score as a number of which more is better, to compare it with others.

    A score that is no number says that nothing was to be found, or that nothing was found: it beats
    0, which false alarms alone have, and no other.

    Args:
        score: The score, perhaps nan.
        key: ``metric@averaging``.

    Example:
        >>> gain(0.3, "iou@image") > gain(float("nan"), "iou@image") > gain(0.0, "iou@image")
        True
        >>> gain(0.1, "mae@image") > gain(0.2, "mae@image") > gain(float("nan"), "mae@image")
        True
    """
    if not higher_is_better(key):
        return -math.inf if math.isnan(score) else -score
    return math.ulp(0.0) if math.isnan(score) else score


def blind_spot(key: str, binary: bool) -> str | None:
    """Return what a validation metric does not see, so that a useless model could score best.

    Precision of an image leaves out those where nothing is predicted: a model that misses nearly
    all, and is sure of the rest, has 1.

    Args:
        key: ``metric@averaging`` of a metric there is.
        binary: True if only class 1 (the foreground) is scored. The mean recall of several classes
            does see false alarms: they are misses of another class. Precision leaves classes out.

    Example:
        >>> blind_spot("precision@image", binary=True)
        'misses'
        >>> blind_spot("recall@dataset", binary=False)
        >>> blind_spot("dice@image", binary=True)
    """
    of_one_class = binary or "/" in key
    metric = key.split("@", 1)[0]
    return METRICS[metric].blind_to if of_one_class or metric == "precision" else None


def check_metrics(
    metrics: Sequence[str] | str, binary: bool, names: Sequence[str]
) -> tuple[str, ...]:
    """Return the metrics as a tuple, after checking that each one exists for the problem.

    Args:
        metrics: One key or several.
        binary: True if only class 1 (the foreground) is scored.
        names: Class names in the order of their ids.

    Returns:
        The keys as given, each once.

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
    return tuple(dict.fromkeys(asked))
