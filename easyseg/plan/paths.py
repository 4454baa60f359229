"""Paths in a plan: files are found again from any folder, for a model keeps where they are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from easyseg.plan.domains import flatten
from easyseg.plan.plan import Plan

__all__ = ["with_absolute_weights", "with_absolute_weights_in"]


def with_absolute_weights(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return overrides whose weights file is found from any folder: the model keeps its path."""
    values, key = flatten(hyperparameters), "backbone.weights"
    if key in values:
        values[key] = _absolute(values[key])
    return values


def with_absolute_weights_in(plan: Plan) -> Plan:
    """Return a plan whose weights file is found from any folder."""
    weights = _absolute(plan.backbone.weights)
    return replace(plan, backbone=replace(plan.backbone, weights=weights))


def _absolute(weights: Any) -> Any:
    """Return the absolute path of a weights file; words such as ``"pretrained"`` stay."""
    is_path = isinstance(weights, (str, os.PathLike))
    if not is_path or weights in ("pretrained", "random", "auto", ""):
        return weights
    return os.path.abspath(os.path.expanduser(weights))  # noqa: PTH100, PTH111
