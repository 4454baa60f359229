"""Decisions about the adapters: rank, experts, scales, strength."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from easyseg.models.registry import get_spec
from easyseg.plan.adapter_kinds import KINDS
from easyseg.plan.facts import Decision, Facts

__all__ = [
    "RANKS",
    "SMALL_BACKBONE_RANK",
    "alpha",
    "lora_targets",
    "num_experts",
    "num_prompts",
    "rank",
    "reduction",
    "scales",
]

# Ranks a step apart: the facts move the preset's rank along them, each fact by one step. Few images
# are learnt by heart by many weights, many images and many classes have more to tell. Where the
# bounds lie is a guess; a step more costs a fit 2 % of its time (benchmarks/scaling.py).
RANKS = (2, 3, 4, 6, 8, 12, 16, 24, 32)
# LiteMedSAM learns more with 12 or 16 than with 2, and from few images no more with 32
# (benchmarks/effects.py). With 12 a saved model stays below 16 MB.
SMALL_BACKBONE_RANK = 12
FEW_IMAGES = 50
MANY_IMAGES = 1000
MANY_CLASSES = 6

# The paper's eight experts have the scales 1 to 8. Where large objects are not even so many times
# as long as small ones, fewer do; how many was not measured.
PAPERS_SCALES = 8

# Lower, and a short fit learns little (`easyseg demo --set adapter.alpha=3` shows it; the reference
# code has 32 / 3).
ALPHA_PER_RANK = 4.0

# LoRA on a fused projection to query, key and value has four vectors of the encoder's width a rank.
PROMPTS_PER_RANK = 4
# What the authors take.
REDUCTION = {"lst": 8, "sam_adapter": 32}


def rank(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Take the preset's rank, or the next one by the numbers of images and of classes.

    LoRA and Conv-LoRA of a small backbone have one rank in all presets.
    """
    base, source = facts.budget["rank"], "of the preset"
    low_rank = "alpha" in KINDS[values["adapter.kind"]].uses
    if low_rank and get_spec(values["backbone.name"]).family == "tiny_vit":
        base, source = SMALL_BACKBONE_RANK, "for a small backbone"
    count, classes = facts.fingerprint.num_images, facts.num_classes
    steps, why = 0, []
    if count < FEW_IMAGES:
        steps, why = -1, [f"a step less for few images ({count}, under {FEW_IMAGES})"]
    elif count >= MANY_IMAGES:
        steps, why = 1, [f"a step more for many images ({count}, from {MANY_IMAGES})"]
    if classes >= MANY_CLASSES:
        steps += 1
        why.append(f"a step more for many classes ({classes}, from {MANY_CLASSES})")
    place = RANKS.index(base) + steps
    return Decision(
        RANKS[min(max(place, 0), len(RANKS) - 1)],
        f"{base} {source}, "
        + (" and ".join(why) or f"as {count} images of {classes} classes are neither few nor many"),
    )


def num_experts(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Take one for each of the user's scales; else the fewer, the less objects differ in size."""
    if "adapter.scales" in facts.overrides:
        return Decision(
            len(facts.overrides["adapter.scales"]), "one for each of the scales you set"
        )
    most, times = facts.budget["experts"], _times_as_long(facts)
    if times is None:
        return Decision(most, "no object tells which scales there are: as many as the preset has")
    least, sizes = most // 2, facts.fingerprint.object_sizes
    assert sizes is not None
    return Decision(
        min(max(math.ceil(most * times / PAPERS_SCALES), least), most),
        f"objects cover {sizes.p10:.2%} to {sizes.p90:.2%} of an image (10th to 90th percentile), "
        f"the large are {times:.1f} times as long as the small: the preset's {most} from "
        f"{PAPERS_SCALES} times on, fewer below (rounded up), at least {least}",
    )


def scales(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Take the ratios of the paper, one an expert."""
    count, times = values["adapter.num_experts"], _times_as_long(facts)
    seen = f"; large objects are {times:.1f} times as long as small ones" if times else ""
    return Decision(
        tuple(range(1, count + 1)), f"one an expert: 1 to {count}, ratios as in the paper{seen}"
    )


def _times_as_long(facts: Facts) -> float | None:
    """Return how many times as long as small objects (10th percentile) large ones (90th) are."""
    sizes = facts.fingerprint.object_sizes
    return None if sizes is None else math.sqrt(sizes.p90 / sizes.p10)


def alpha(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Let the adapter count the same whatever its rank."""
    return Decision(
        ALPHA_PER_RANK * values["adapter.rank"],
        f"{ALPHA_PER_RANK:g} times the rank: the adapter's output counts {ALPHA_PER_RANK:g}-fold, "
        "whatever its rank",
    )


def lora_targets(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Adapt the other layers of a small backbone's blocks, too; of a large one, those of the paper.

    On a TinyViT it made leaves, roads and plants much better (benchmarks/effects.py) and a step up
    to a quarter longer (benchmarks/parts.py). On SAM's ViTs it was not measured.
    """
    name = values["backbone.name"]
    if get_spec(name).family != "tiny_vit":
        return Decision((), "none, as in the paper")
    targets = values["adapter.targets"]
    if not {"q", "k", "v"} <= {*targets}:
        return Decision((), "none beside the adapter.targets that you set")
    left = tuple(part for part in ("proj", "mlp") if part not in targets)
    return Decision(left, f"{name} is small: the other layers of its blocks learn, too")


def num_prompts(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Take as many as make the parameters of LoRA of the rank."""
    rank = values["adapter.rank"]
    return Decision(
        PROMPTS_PER_RANK * rank,
        f"as many parameters as LoRA of rank {rank} has for queries, keys and values",
    )


def reduction(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Take what the authors of the method take."""
    return Decision(REDUCTION.get(values["adapter.kind"], 1), "as its authors have it")
