"""Decisions about how long a fit is: its epochs, and what a time limit pays for of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from easyseg.plan.facts import Decision, Facts
from easyseg.plan.sections import images_validated

__all__ = ["epochs", "patience", "planned_steps", "steps_an_epoch", "times_seen"]

# Matrix products in float32 take a CPU twice as long as in bf16, other work hardly longer: a guess
# at the samples of a fit that lasts as long.
FLOAT32_SAMPLES = 0.75

# Steps that are planned for each step that a time limit pays for: a probe on busy cores measures
# too much, and time that is left over is lost.
SPARE_STEPS = 1.3

# Few images make short epochs: a limit may pay for so many steps, whatever the preset's epochs.
LEAST_STEPS_WITHIN = 600

# Few images make epochs of few steps. An accelerator takes at least as many as a CPU does in the
# preset fast, and patience lasts for three times the steps of the warm-up: guesses.
LEAST_STEPS = 300
LEAST_PATIENCE_STEPS = 100


def epochs(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Divide the budget of samples by the number of images."""
    count, budget = facts.fingerprint.num_images, facts.budget
    limit = facts.time_limit
    ends = f"; ends earlier at your limit of {limit:.0f} s" if limit is not None else ""
    steps = values["train.max_steps"]
    if steps > 0:
        enough = math.ceil(steps / steps_an_epoch(facts, values))
        return Decision(enough, f"enough for {steps} steps{ends}")
    paid = _paid_steps(facts, values)
    if paid is not None and facts.costs is not None and not facts.costs.step_is_bound:
        return _epochs_within(facts, values, paid)
    if "epochs" in budget:
        machine = "a CPU" if facts.hardware.accelerator == "cpu" else "an accelerator"
        taken, an_epoch = int(budget["epochs"]), steps_an_epoch(facts, values)
        if taken * an_epoch >= LEAST_STEPS:
            return Decision(taken, f"the preset's epochs on {machine}{ends}")
        return Decision(
            math.ceil(LEAST_STEPS / an_epoch),
            f"{count} images make {an_epoch} steps an epoch: epochs for {LEAST_STEPS} steps, for "
            f"the preset's {taken} would be {taken * an_epoch}{ends}",
        )
    slow = values["train.precision"] == "32"
    samples = round(budget["samples"] * (FLOAT32_SAMPLES if slow else 1))
    wanted = round(samples / count)
    taken = min(max(wanted, budget["min_epochs"]), budget["max_epochs"])
    kept = (
        "" if taken == wanted else f", kept within {budget['min_epochs']}..{budget['max_epochs']}"
    )
    return Decision(
        taken,
        f"about {samples} samples in all on a CPU{' in float32' if slow else ''}, {count} an epoch"
        f"{kept}{ends}",
    )


def _epochs_within(facts: Facts, values: Mapping[str, Any], steps: int) -> Decision:
    """Take somewhat more epochs than the time limit pays for: the clock ends the last one."""
    budget, costs, an_epoch = facts.budget, facts.costs, steps_an_epoch(facts, values)
    assert costs is not None
    validated = images_validated(values["train.validation_images"], facts.fingerprint.num_tuning)
    most = int(budget.get("epochs", budget.get("max_epochs")))
    at_least = math.ceil(LEAST_STEPS_WITHIN / an_epoch)
    wanted = math.ceil(SPARE_STEPS * steps / an_epoch)
    most_in_words = f"the preset's most of {most}"
    if wanted > most and at_least > most:
        most, most_in_words = at_least, f"{LEAST_STEPS_WITHIN} steps"
    tail = "some more are planned, for the limit ends the fit"
    if wanted > most:
        tail += f", kept to {most_in_words}"
    if steps > most * an_epoch:
        tail = f"fewer are planned, kept to {most_in_words}: they end the fit before the limit"
    return Decision(
        min(max(1, wanted), most),
        f"your {facts.time_limit:.0f} s pay for about {steps} steps of {costs.step:.2g} s, "
        f"{an_epoch} an epoch, and validations of {validated * costs.image:.2g} s; {tail}",
    )


def patience(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Wait for as many epochs as the preset, or for enough steps where those make few."""
    taken, an_epoch = int(facts.budget["patience"]), steps_an_epoch(facts, values)
    ends = "epochs without a better validation score end the fit"
    if taken * an_epoch >= LEAST_PATIENCE_STEPS:
        return Decision(taken, f"the preset's: so many {ends}, {taken * an_epoch} steps")
    return Decision(
        math.ceil(LEAST_PATIENCE_STEPS / an_epoch),
        f"{facts.fingerprint.num_images} images make {an_epoch} steps an epoch: so many {ends}, "
        f"at least {LEAST_PATIENCE_STEPS} steps; the preset's {taken} would be {taken * an_epoch}",
    )


def steps_an_epoch(facts: Facts, values: Mapping[str, Any]) -> int:
    """Return the optimizer steps of an epoch.

    Args:
        facts: What the fit is planned from.
        values: Values of the plan by dotted key: its batch.
    """
    return math.ceil(facts.fingerprint.num_images / values["train.batch_size"])


def planned_steps(facts: Facts, values: Mapping[str, Any]) -> int:
    """Return the number of optimizer steps of the whole fit.

    Args:
        facts: What the fit is planned from.
        values: Values of the plan by dotted key: its batch, epochs and largest number of steps.
    """
    steps = int(values["train.epochs"]) * steps_an_epoch(facts, values)
    most = values["train.max_steps"]
    return min(steps, most) if most > 0 else steps


def times_seen(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Return how often a fit sees each image, and what lets it: the plan, or the time limit.

    Args:
        facts: What the fit is planned from.
        values: As for :func:`planned_steps`, and the validation images.
    """
    planned, paid = planned_steps(facts, values), _paid_steps(facts, values)
    an_epoch = steps_an_epoch(facts, values)
    if paid is not None and paid < planned:
        bound = "at least " if facts.costs is not None and facts.costs.step_is_bound else ""
        found = f"your {facts.time_limit:.0f} s pay for {bound}{paid} steps"
        return Decision(paid / an_epoch, found)
    return Decision(planned / an_epoch, f"steps planned: {planned}")


def _paid_steps(facts: Facts, values: Mapping[str, Any]) -> int | None:
    """Return how many steps the time limit pays for; None without one, or if none was timed."""
    limit, costs = facts.time_limit, facts.costs
    if limit is None or costs is None or costs.step is None:
        return None
    validated = images_validated(values["train.validation_images"], facts.fingerprint.num_tuning)
    return costs.steps_within(limit, steps_an_epoch(facts, values), validated)
