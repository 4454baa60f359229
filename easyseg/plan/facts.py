"""What the decisions of a plan look at, and what each of them gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from easyseg.plan.costs import Costs
from easyseg.plan.hardware import Hardware

if TYPE_CHECKING:
    from easyseg.auditing.fingerprint import Fingerprint

__all__ = ["FROM_YOUR_PLAN", "SET_BY_YOU", "Decision", "Facts"]

# How the reasons begin of what the user chose.
SET_BY_YOU = "set by you"
FROM_YOUR_PLAN = "from the plan you gave"


@dataclass(frozen=True)
class Decision:
    """A value and why."""

    value: Any
    reason: str


@dataclass(frozen=True)
class Facts:
    """All that a decision may look at, beside the values that were decided before it.

    Attributes:
        fingerprint: What the training data look like.
        hardware: What it trains on.
        problem_type: ``"binary"`` or ``"multiclass"``.
        num_classes: Classes, background included.
        budget: The preset's budget for this kind of machine.
        overrides: What the user set, by dotted key.
        time_limit: Seconds that the fit may take, or None.
        obtainable: Backbones whose pretrained weights are here or can be downloaded.
        symmetries: The augmentations that a domain allows, and why; None if none is named.
        costs: What the parts of the fit cost here, if a probe measured it.
    """

    fingerprint: Fingerprint
    hardware: Hardware
    problem_type: str
    num_classes: int
    budget: Mapping[str, Any]
    overrides: Mapping[str, Any]
    time_limit: float | None
    obtainable: tuple[str, ...]
    symmetries: Decision | None = None
    costs: Costs | None = None
