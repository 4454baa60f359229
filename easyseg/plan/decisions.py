"""Decide a plan, purely: a value is the user's, else the preset's, else chosen from the facts."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from easyseg.errors import OptionError
from easyseg.plan.adapter_kinds import KINDS
from easyseg.plan.checks import check_values
from easyseg.plan.choices import BALANCE_WEIGHT, CHOICES
from easyseg.plan.costs import Costs, Estimate
from easyseg.plan.domains import DOMAINS, flatten, parse
from easyseg.plan.facts import FROM_YOUR_PLAN, SET_BY_YOU, Decision, Facts
from easyseg.plan.hardware import Hardware
from easyseg.plan.lengths import planned_steps, steps_an_epoch
from easyseg.plan.plan import WITHOUT_EFFECT, Plan, in_words
from easyseg.plan.preset_choice import choose_preset
from easyseg.plan.presets import (
    SYMMETRIES,
    Asked,
    load_domain,
    load_preset,
    parse_presets,
)
from easyseg.plan.sections import images_validated
from easyseg.plan.top_choices import decide_top

if TYPE_CHECKING:
    from easyseg.auditing.fingerprint import Fingerprint

__all__ = ["Decision", "check_given", "check_request", "decide"]

# Decided first because others look at them; the rest follows in the order of DOMAINS.
_FIRST = (
    "adapter.kind",
    "backbone.name",
    "backbone.weights",
    "adapter.rank",
    "train.batch_size",
    "train.precision",
    "train.max_steps",
    "train.validation_images",
    "train.epochs",
)
_ORDER = (*_FIRST, *(key for key in DOMAINS if key not in _FIRST))
# What only a gate makes sense of.
_ROUTED = ("adapter.routing", "loss.balance_weight")
# What follows from a time limit and the costs.
_PAID_FOR = ("train.epochs", "train.validation_images", "train.prefix_cache", "data.augment")
# Follows the scales where the user sets them, whatever the preset says.
_FOLLOWING = "adapter.num_experts"


def decide(
    fingerprint: Fingerprint,
    hardware: Hardware,
    *,
    problem_type: str,
    num_classes: int,
    presets: str | Sequence[str] = "auto",
    overrides: Mapping[str, Any] | None = None,
    eval_metric: str | None = None,
    time_limit: float | None = None,
    obtainable: Collection[str] = (),
    costs: Costs | None = None,
    given: Plan | None = None,
) -> Plan:
    """Decide everything that a fit needs to know.

    Args:
        fingerprint: What the training data look like.
        hardware: What it trains on.
        problem_type: ``"binary"`` or ``"multiclass"``.
        num_classes: Classes, background included.
        presets: ``"auto"``, the name of a preset or a domain, or several: see
            :func:`easyseg.plan.presets.parse_presets`.
        overrides: The user's values, by dotted or nested keys; they win. ``"auto"`` as a value
            leaves the decision to its rule, if it has one, whatever the preset says.
        eval_metric: Validation metric; None for the default of the problem.
        time_limit: Seconds that the fit may take; None for no limit.
        obtainable: Backbones whose pretrained weights are on this machine or can be downloaded.
        costs: What a probe of a first plan measured; with it a time limit decides the epochs.
        given: A whole plan, whose values are taken as they are, instead of ``presets``,
            ``overrides`` and ``eval_metric``; the reasons say where easyseg would decide otherwise.

    Returns:
        The plan, with a reason for every value.

    Raises:
        OptionError: If a preset, key, value or metric is not known, or values contradict each
            other or the hardware.
    """
    if given is not None:
        _check_problem(given, problem_type, num_classes)
    if problem_type not in BALANCE_WEIGHT:
        raise OptionError(f"problem_type={problem_type!r} is not 'binary' or 'multiclass'.")
    if num_classes < 2 or (problem_type == "binary" and num_classes != 2):
        raise OptionError(
            f"a {problem_type} problem cannot have {num_classes} classes (background included)."
        )
    taken: Mapping[str, Any] = {}
    if given is not None:
        taken, presets, eval_metric = given.values(), given.preset, given.metric
    asked = check_request(presets, overrides)
    start = _whole_preset(asked.base, fingerprint, hardware, time_limit)
    content = load_preset(start.value)
    domains = {name: load_domain(name) for name in asked.domains}
    machine = "cpu" if hardware.accelerator == "cpu" else "gpu"
    preset = dict(_preset_values(start.value, content, domains, (problem_type, machine)))
    wanted = _known(flatten(overrides or {}), "hyperparameters")
    preset |= {key: Decision("auto", "") for key in CHOICES if _is_auto(wanted.get(key))}
    facts = Facts(
        fingerprint=fingerprint,
        hardware=hardware,
        problem_type=problem_type,
        num_classes=num_classes,
        budget=content["budget"][machine],
        overrides={key: value for key, value in wanted.items() if not _is_auto(value)},
        time_limit=time_limit,
        obtainable=tuple(obtainable),
        symmetries=_symmetries(domains),
        costs=costs,
    )
    values: dict[str, Any] = {}
    decisions = decide_top(facts, eval_metric, domains)
    decisions["preset"] = _all_presets(start, content["about"], domains)
    if given is not None:
        decisions |= {key: Decision(taken[key], FROM_YOUR_PLAN) for key in ("preset", "metric")}
    for key in _ORDER:
        decisions[key] = _decide_one(key, facts, values, preset[key], taken)
        values[key] = decisions[key].value
    check_values(values, facts)
    plan = Plan.from_values(
        {key: decision.value for key, decision in decisions.items()},
        {key: decisions[key].reason for key in (*Plan.TOP, *DOMAINS)},
    )
    if costs is None or costs.step is None or plan.train.prefix_cache:
        return plan  # Steps with features that are kept were not timed.
    return replace(plan, estimate=_estimate(plan, facts, costs))


def _estimate(plan: Plan, facts: Facts, costs: Costs) -> Estimate:
    """Return what the fit takes if nothing but the time limit ends it."""
    values = plan.values()
    steps, an_epoch = planned_steps(facts, values), steps_an_epoch(facts, values)
    validated = images_validated(plan.train.validation_images, facts.fingerprint.num_tuning)
    seconds = costs.seconds(steps, an_epoch, validated)
    limit = facts.time_limit or math.inf
    machine = facts.hardware.describe()
    return Estimate(min(seconds, limit), costs.memory_gb, machine, plan.digest())


def check_request(presets: str | Sequence[str], overrides: Mapping[str, Any] | None) -> Asked:
    """Check what can be checked of a request before any image is read.

    Args:
        presets: As for :func:`decide`.
        overrides: As for :func:`decide`.

    Returns:
        The presets that are asked for.

    Raises:
        OptionError: If a preset or key is not known, or a value is not possible.
    """
    _known(flatten(overrides or {}), "hyperparameters")
    return parse_presets(presets)


def check_given(
    plan: Plan,
    *,
    presets: str | Sequence[str],
    hyperparameters: Mapping[str, Any] | None,
    problem_type: str,
    eval_metric: str | None,
) -> None:
    """Check that nothing else is asked for beside a whole plan, before any image is read.

    Args:
        plan: The plan.
        presets: As for :func:`decide`.
        hyperparameters: Its ``overrides``.
        problem_type: ``"auto"`` or what the user set.
        eval_metric: None or what the user set.

    Raises:
        OptionError: If anything else is; it lists all of it.
    """
    found = []
    if parse_presets(presets) != Asked("auto", ()):
        found.append(f"presets={presets!r}")
    if hyperparameters:
        found.append(f"hyperparameters for {', '.join(flatten(hyperparameters))}")
    if problem_type not in ("auto", plan.problem_type):
        found.append(f"problem_type={problem_type!r} (the plan has {plan.problem_type!r})")
    if eval_metric not in (None, plan.metric):
        found.append(f"eval_metric={eval_metric!r} (the plan has {plan.metric!r})")
    if found:
        raise OptionError(
            f"plan= holds every decision, but you set {'; '.join(found)}: leave this out, or edit "
            "the plan."
        )


def _preset_values(
    base: str,
    content: Mapping[str, Any],
    domains: Mapping[str, Mapping[str, Any]],
    variants: Sequence[str],
) -> Iterator[tuple[str, Decision]]:
    """Yield what the whole preset says of each key, then what the domains say instead."""
    for where, layer, because in (
        (f"preset {base}", content, content["because"]),
        *((f"preset {name}", domain, domain["because"]) for name, domain in domains.items()),
    ):
        for part in (layer["plan"], *(layer["variants"].get(name, {}) for name in variants)):
            for key, value in _known(flatten(part, where=where), where).items():
                why = f": {because[key]}" if key in because else ""
                yield key, Decision(value, f"{where}{why}")


def _symmetries(domains: Mapping[str, Mapping[str, Any]]) -> Decision | None:
    """Return the symmetries of the last domain that knows them."""
    known = None
    for name, domain in domains.items():
        if domain["symmetries"] is not None:
            why = f"preset {name}: {domain['because']['symmetries']}"
            known = Decision(SYMMETRIES[domain["symmetries"]], why)
    return known


def _allowed(augment: Decision, symmetries: Decision) -> Decision:
    """Take from a preset's augmentations the turns that a domain forbids."""
    forbidden = set(SYMMETRIES["all"]) - set(symmetries.value)
    kept = tuple(each for each in augment.value if each not in forbidden)
    if kept == tuple(augment.value):
        return augment
    left_out = ", ".join(each for each in augment.value if each in forbidden)
    return Decision(kept, f"{augment.reason}, without {left_out}; {symmetries.reason}")


def _check_problem(given: Plan, problem_type: str, num_classes: int) -> None:
    """Refuse a plan that was made for other classes."""
    if (given.problem_type, given.num_classes) != (problem_type, num_classes):
        raise OptionError(
            f"the plan is for {given.num_classes} classes ({given.problem_type}), the masks hold "
            f"{num_classes} (background included): plan anew with these data, or say with classes= "
            "which values the masks hold."
        )


def _decide_one(
    key: str,
    facts: Facts,
    values: Mapping[str, Any],
    preset: Decision,
    given: Mapping[str, Any],
) -> Decision:
    """Take the given value, else the user's, else the preset's, else what the facts say."""
    follows = key == _FOLLOWING and "adapter.scales" in facts.overrides
    if key in facts.overrides:
        decision = Decision(facts.overrides[key], SET_BY_YOU)
    elif follows or _is_auto(preset.value):
        decision = CHOICES[key](facts, values)
    elif key == "data.augment" and facts.symmetries is not None:
        decision = _allowed(preset, facts.symmetries)
    else:
        decision = preset
    if key in given and not _is_known(key, facts):
        decision = Decision(given[key], FROM_YOUR_PLAN)
    elif key in given and given[key] != decision.value:
        otherwise = f"; easyseg would take {in_words(decision.value)}"
        decision = Decision(given[key], FROM_YOUR_PLAN + otherwise)
    unused = _unused_by(key, values)
    if unused is not None:
        return Decision(decision.value, f"{decision.reason}{WITHOUT_EFFECT} {unused}")
    return Decision(decision.value, decision.reason + _caution(key, decision.value, facts, values))


def _caution(key: str, value: Any, facts: Facts, values: Mapping[str, Any]) -> str:
    """Return what is possible, and hardly meant, as the end of a reason; else nothing."""
    name, kind = facts.hardware.device_name, values.get("adapter.kind")
    if (key, value) == ("backbone.weights", "random") and kind != "full":
        return f"; adapter.kind = {kind!r} leaves the encoder random: 'full' trains it from scratch"
    if (key, value) == ("train.precision", "bf16") and not facts.hardware.native_bf16:
        return f"; {name} has no bf16 in hardware: slower there than 32"
    return ""


def _is_known(key: str, facts: Facts) -> bool:
    """Return whether it was found out what easyseg would take instead of a given value."""
    if key == "backbone.name":  # Which weights could be had is not asked on a GPU.
        return facts.hardware.accelerator == "cpu"
    if key not in _PAID_FOR or facts.time_limit is None:
        return True
    # What a limit pays for takes a probe, of whose steps the validation knows nothing.
    timed = facts.costs is not None and facts.costs.step is not None
    return timed or (key == "train.validation_images" and facts.costs is not None)


def _unused_by(key: str, values: Mapping[str, Any]) -> str | None:
    """Return which value that was decided before makes a key meaningless, in words."""
    section, _, name = key.partition(".")
    # The balance loss is one of the gate.
    option = "gate" if key == "loss.balance_weight" else name
    if key != "adapter.kind" and (section == "adapter" or option == "gate"):
        kind = values["adapter.kind"]
        if option not in KINDS[kind].uses:
            return f"adapter {kind!r}"
        if key in _ROUTED and values["adapter.gate"] == "sum":
            return "experts that are summed"
    if key == "data.scale" and values["data.geometry"] != "tile":
        return f"geometry {values['data.geometry']!r}"
    return None


def _whole_preset(
    asked: str, fingerprint: Fingerprint, hardware: Hardware, time_limit: float | None
) -> Decision:
    if asked != "auto":
        return Decision(asked, SET_BY_YOU)
    return choose_preset(fingerprint, hardware, time_limit)


def _all_presets(start: Decision, about: str, domains: Mapping[str, Mapping[str, Any]]) -> Decision:
    """Return the names of all presets as `parse_presets` reads them, and why they are taken."""
    added = "".join(
        f"; {name} {SET_BY_YOU} ({domain['about']})" for name, domain in domains.items()
    )
    return Decision(",".join((start.value, *domains)), f"{start.reason} ({about}){added}")


def _known(flat: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check every key and value; ``"auto"`` passes where a rule decides."""
    for key in ("metric", "eval_metric"):
        if key in flat:
            raise OptionError(f"{where}: {key!r} is not a hyperparameter. Use eval_metric=.")
    for key in (key for key, value in flat.items() if _is_auto(value)):
        if key in DOMAINS and key not in CHOICES:
            raise OptionError(
                f"{where}: {key} = 'auto' is not possible, for no rule decides it: leave it out, "
                f"or give {DOMAINS[key].text}."
            )
    return {
        key: value if key in CHOICES and _is_auto(value) else parse(key, value, where=where)
        for key, value in flat.items()
    }


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"
