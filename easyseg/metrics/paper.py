"""Sets of metrics by name: those of the Conv-LoRA paper, of its code, and all there are."""

from __future__ import annotations

from collections.abc import Sequence

from easyseg.metrics.catalogue import check_metrics, metric_keys
from easyseg.plan.presets import load_domain, parse_presets

__all__ = ["expand_metrics", "paper_metrics"]

# What the paper and its code report of some data set, for problems without a domain.
_BINARY = (
    "iou@image",
    "dice@image",
    "ber@dataset",
    "s_measure@image",
    "e_measure_mean@image",
    "weighted_f@image",
    "mae@image",
)
_MULTICLASS = ("miou@dataset", "accuracy@dataset")


def paper_metrics(preset: str, binary: bool) -> tuple[str, ...]:
    """Return the metrics by which the Conv-LoRA paper scores such images.

    Args:
        preset: The plan's preset, such as ``"best,polyp"``: the last of its domains that the paper
            has a data set of decides. Else the problem does.
        binary: True if only the foreground is scored.

    Example:
        >>> paper_metrics("best,shadow", binary=True)
        ('ber@dataset', 'ber@image')
        >>> paper_metrics("best", binary=False)
        ('miou@dataset', 'accuracy@dataset')
    """
    if not binary:
        return _MULTICLASS
    found = _BINARY
    for name in parse_presets(preset).domains:
        found = tuple(load_domain(name)["paper"]) or found
    return found


def expand_metrics(
    metrics: Sequence[str] | str, preset: str, binary: bool, names: Sequence[str]
) -> tuple[str, ...]:
    """Return keys: sets of metrics are replaced by what they stand for.

    Args:
        metrics: Keys, ``"paper"`` (:func:`paper_metrics`), ``"reference"`` (all that are taken as
            the reference code of Conv-LoRA takes them) or ``"all"``; one or several.
        preset: The plan's preset.
        binary: True if only class 1 (the foreground) is scored.
        names: Class names in the order of their ids.

    Raises:
        OptionError: If a key is not known; it names the nearest one.
    """
    known = metric_keys(binary, names)
    sets = {
        "paper": lambda: paper_metrics(preset, binary),
        "reference": lambda: tuple(key for key in known if key.endswith("@reference")),
        "all": lambda: known,
    }
    asked = (metrics,) if isinstance(metrics, str) else metrics
    expanded = [key for one in asked for key in (sets[one]() if one in sets else (one,))]
    return check_metrics(expanded, binary, names)
