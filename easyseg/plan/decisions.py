"""Decide a plan, purely: a value is the user's, else the preset's, else chosen from the facts."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from easyseg.errors import OptionError
from easyseg.plan.checks import check_values
from easyseg.plan.choices import BALANCE_WEIGHT, CHOICES
from easyseg.plan.costs import Costs, Estimate
from easyseg.plan.domains import DOMAINS, flatten, parse
from easyseg.plan.facts import SET_BY_YOU, Decision, Facts
from easyseg.plan.hardware import Hardware
from easyseg.plan.plan import Plan
from easyseg.plan.preset_choice import choose_preset
from easyseg.plan.presets import list_presets, load_preset

if TYPE_CHECKING:
    from easyseg.auditing.fingerprint import Fingerprint

__all__ = ["Decision", "check_request", "decide"]

# Decided first because others look at them; the rest follows in the order of DOMAINS.
_FIRST = (
    "backbone.name",
    "adapter.rank",
    "train.batch_size",
    "train.precision",
    "train.max_steps",
    "train.epochs",
)
_ORDER = (*_FIRST, *(key for key in DOMAINS if key not in _FIRST))
_EXPERTS = ("adapter.num_experts", "adapter.scales", "adapter.gate", "loss.balance_weight")
_UNUSED = {
    "conv_lora": (),
    "lora": _EXPERTS,
    "none": (*_EXPERTS, "adapter.rank", "adapter.alpha", "adapter.blocks"),
}
# Chosen only where it follows from another override.
_FOLLOWING = "adapter.num_experts"


def decide(
    fingerprint: Fingerprint,
    hardware: Hardware,
    *,
    problem_type: str,
    num_classes: int,
    presets: str = "auto",
    overrides: Mapping[str, Any] | None = None,
    eval_metric: str | None = None,
    time_limit: float | None = None,
    obtainable: Collection[str] = (),
    costs: Costs | None = None,
) -> Plan:
    """Decide everything that a fit needs to know.

    Args:
        fingerprint: What the training data look like.
        hardware: What it trains on.
        problem_type: ``"binary"`` or ``"multiclass"``.
        num_classes: Classes, background included.
        presets: ``"auto"`` or the name of a preset.
        overrides: The user's values, by dotted or nested keys; they win. ``"auto"`` as a value
            leaves the decision to easyseg, whatever the preset says.
        eval_metric: Validation metric; None for the default of the problem.
        time_limit: Seconds that the fit may take; None for no limit.
        obtainable: Backbones whose pretrained weights are on this machine or can be downloaded.
        costs: What a probe of a first plan measured; with it a time limit decides the epochs.

    Returns:
        The plan, with a reason for every value.

    Raises:
        OptionError: If a preset, key, value or metric is not known, or values contradict each
            other or the hardware.
    """
    if problem_type not in BALANCE_WEIGHT:
        raise OptionError(f"problem_type={problem_type!r} is not 'binary' or 'multiclass'.")
    if num_classes < 2 or (problem_type == "binary" and num_classes != 2):
        raise OptionError(
            f"a {problem_type} problem cannot have {num_classes} classes (background included)."
        )
    check_request(presets, overrides)
    start = _preset(presets, fingerprint, hardware, time_limit)
    content = load_preset(start.value)
    where = f"preset {start.value}"
    machine = "cpu" if hardware.accelerator == "cpu" else "gpu"
    preset = _known(flatten(content["plan"], where=where), where)
    for variant in (problem_type, machine):
        preset |= _known(flatten(content["variants"].get(variant, {}), where=where), where)
    given = _known(flatten(overrides or {}), "hyperparameters")
    preset |= {key: "auto" for key in CHOICES.keys() - {_FOLLOWING} if _is_auto(given.get(key))}
    facts = Facts(
        fingerprint=fingerprint,
        hardware=hardware,
        problem_type=problem_type,
        num_classes=num_classes,
        budget=content["budget"][machine],
        overrides={key: value for key, value in given.items() if not _is_auto(value)},
        time_limit=time_limit,
        obtainable=tuple(obtainable),
        costs=costs,
    )
    values: dict[str, Any] = {}
    decisions = _top(facts, start, content["about"], eval_metric)
    for key in _ORDER:
        decisions[key] = _decide_one(key, facts, values, Decision(preset[key], where))
        values[key] = decisions[key].value
    check_values(values, facts)
    plan = Plan.from_values(
        {key: decision.value for key, decision in decisions.items()},
        {key: decisions[key].reason for key in (*Plan.TOP, *DOMAINS)},
    )
    return plan if costs is None else replace(plan, estimate=_estimate(plan, facts, costs))


def _estimate(plan: Plan, facts: Facts, costs: Costs) -> Estimate:
    """Return what the fit takes if nothing but the time limit ends it."""
    train, found = plan.train, facts.fingerprint
    an_epoch = math.ceil(found.num_images / train.batch_size)
    steps = train.epochs * an_epoch
    if train.max_steps > 0:
        steps = min(steps, train.max_steps)
    seconds = costs.seconds(steps, math.ceil(steps / an_epoch), found.num_tuning)
    return Estimate(min(seconds, facts.time_limit or math.inf), costs.memory_gb)


def check_request(presets: str, overrides: Mapping[str, Any] | None) -> None:
    """Check what can be checked of a request before any image is read.

    Args:
        presets: As for :func:`decide`.
        overrides: As for :func:`decide`.

    Raises:
        OptionError: If a preset or key is not known, or a value is not possible.
    """
    _known(flatten(overrides or {}), "hyperparameters")
    if not isinstance(presets, str):
        raise OptionError(f"presets={presets!r}: expected one name of {_preset_names()}.")
    if presets != "auto":
        load_preset(presets)


def _decide_one(key: str, facts: Facts, values: Mapping[str, Any], preset: Decision) -> Decision:
    """Take the user's value, else the preset's, else the one chosen from the facts."""
    follows = key == _FOLLOWING and "adapter.scales" in facts.overrides
    if key in facts.overrides:
        decision = Decision(facts.overrides[key], SET_BY_YOU)
    elif follows or _is_auto(preset.value):
        decision = CHOICES[key](facts, values)
    else:
        decision = preset
    unused = _unused_by(key, values)
    if unused is not None:
        return Decision(decision.value, f"{decision.reason}; without effect on {unused}")
    return decision


def _unused_by(key: str, values: Mapping[str, Any]) -> str | None:
    """Return which value that was decided before makes a key meaningless, in words."""
    kind = values.get("adapter.kind", "conv_lora")
    if key in _UNUSED[kind]:
        return f"adapter {kind!r}"
    if key == "data.scale" and values["data.geometry"] != "tile":
        return f"geometry {values['data.geometry']!r}"
    return None


def _preset(
    asked: str, fingerprint: Fingerprint, hardware: Hardware, time_limit: float | None
) -> Decision:
    if asked != "auto":
        return Decision(asked, SET_BY_YOU)
    return choose_preset(fingerprint, hardware, time_limit)


def _top(
    facts: Facts, preset: Decision, about: str, eval_metric: str | None
) -> dict[str, Decision]:
    """Decide what stands above the sections."""
    from easyseg.metrics.streaming import check_metrics, default_metric

    binary = facts.problem_type == "binary"
    names = tuple(facts.fingerprint.class_shares)
    if eval_metric is None:
        why = (
            "the mean over images of the foreground's IoU" if binary else "the IoU, mean of classes"
        )
        metric = Decision(default_metric(binary), f"{why}: the default")
    else:
        metric = Decision(check_metrics(eval_metric, binary, names)[0], SET_BY_YOU)
    kind = "a foreground against the background" if binary else "a class for every pixel"
    return {
        "problem_type": Decision(facts.problem_type, kind),
        "num_classes": Decision(facts.num_classes, ", ".join(names)),
        "metric": metric,
        "preset": Decision(preset.value, f"{preset.reason} ({about})"),
    }


def _preset_names() -> str:
    return ", ".join(("auto", *list_presets()))


def _known(flat: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check every key and value; ``"auto"`` passes."""
    for key in ("metric", "eval_metric"):
        if key in flat:
            raise OptionError(f"{where}: {key!r} is not a hyperparameter. Use eval_metric=.")
    return {
        key: value if key in DOMAINS and _is_auto(value) else parse(key, value, where=where)
        for key, value in flat.items()
    }


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"
