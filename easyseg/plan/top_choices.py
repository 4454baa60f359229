"""Decisions about what stands above the sections of a plan: problem, classes, metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from easyseg.plan.facts import SET_BY_YOU, Decision, Facts

if TYPE_CHECKING:
    from easyseg.auditing.fingerprint import Fingerprint

__all__ = ["decide_top"]


def decide_top(
    facts: Facts, eval_metric: str | None, domains: Mapping[str, Mapping[str, Any]]
) -> dict[str, Decision]:
    """Decide what stands above the sections, but for the preset.

    Args:
        facts: What decisions look at.
        eval_metric: The user's validation metric, or None.
        domains: The domains that are asked for, by name.
    """
    binary = facts.problem_type == "binary"
    kind = "a foreground against the background" if binary else "a class for every pixel"
    return {
        "problem_type": Decision(facts.problem_type, kind),
        "num_classes": Decision(facts.num_classes, _classes(facts.fingerprint)),
        "metric": _metric(facts, eval_metric, domains),
    }


def _classes(found: Fingerprint) -> str:
    """Return the classes with their shares of the pixels that count, and what does not count."""
    named = ", ".join(f"{name} {_percent(share)}" for name, share in found.class_shares.items())
    ignored = found.ignored_share
    rest = f"{_percent(ignored)} of all are ignored" if ignored else "none is ignored"
    return f"{named} of the pixels; {rest}"


def _percent(share: float) -> str:
    return "under 0.1%" if 0 < share < 0.001 else f"{share:.1%}"


def _metric(
    facts: Facts, eval_metric: str | None, domains: Mapping[str, Mapping[str, Any]]
) -> Decision:
    """Take the user's metric, else that of the last domain that has one, else the default."""
    from easyseg.metrics.catalogue import blind_spot, check_metrics, default_metric

    binary = facts.problem_type == "binary"
    if eval_metric is not None:
        names = tuple(facts.fingerprint.class_shares)
        key = check_metrics(eval_metric, binary, names)[0]
        unseen = blind_spot(key, binary)
        warning = (
            f"; it does not see {unseen}, so the best epoch may be a useless one: "
            f"{default_metric(binary)} or dice@dataset sees both"
        )
        return Decision(key, SET_BY_YOU + (warning if unseen else ""))
    why = "the mean over images of the foreground's IoU" if binary else "the IoU, mean of classes"
    metric = Decision(default_metric(binary), f"{why}: the default")
    for name, domain in domains.items():
        if binary and domain["metric"] is not None:
            metric = Decision(domain["metric"], f"preset {name}: {domain['because']['metric']}")
    return metric
