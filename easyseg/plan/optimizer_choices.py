"""Decisions about the optimizer: learning rates and warm-up, by the number of steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from easyseg.models.registry import get_spec
from easyseg.plan.adapter_kinds import KINDS
from easyseg.plan.facts import Decision, Facts
from easyseg.plan.lengths import planned_steps

__all__ = ["decoder_lr", "lr", "warmup"]

HIGHEST_LR = 1e-3
HIGHEST_LR_UP_TO_STEPS = 300
# Each rank adds a path that moves by the rate: their sum grows with the rank. Up to this one, the
# highest rate did well (benchmarks/effects.py).
HIGHEST_LR_UP_TO_RANK = 16
# Without a long warm-up, adapters in all layers of a small backbone unlearn at first what it knows
# (benchmarks/effects.py).
WARMUP_STEPS = 33
WARMUP_SHARES = (0.05, 0.3)
# Better on held-out images of skin, no worse on three other sets: benchmarks/README.md.
PRETRAINED_DECODER_LR = 0.3
# An encoder that is trained as a whole keeps what it knows by smaller steps still: a guess.
PRETRAINED_ENCODER_LR = 0.1


def lr(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Fall with the square root of the steps; within a factor of 2 of the paper's rates at its."""
    count, batch, steps = (
        facts.fingerprint.num_images,
        values["train.batch_size"],
        planned_steps(facts, values),
    )
    rate = HIGHEST_LR * min(1.0, math.sqrt(HIGHEST_LR_UP_TO_STEPS / steps))
    why = (
        f"{count} images in batches of {batch} make {steps} steps: {HIGHEST_LR:g} up to "
        f"{HIGHEST_LR_UP_TO_STEPS}, then falling with their root, near the paper's rates at its "
        "numbers of steps"
    )
    kind, rank = values["adapter.kind"], values["adapter.rank"]
    if kind == "full" and values["backbone.weights"] == "random":
        why += "; nothing is pretrained"
    elif kind == "full":
        rate *= PRETRAINED_ENCODER_LR
        why += f"; {PRETRAINED_ENCODER_LR:g} of it, for the whole encoder is pretrained"
    elif "alpha" in KINDS[kind].uses and rank > HIGHEST_LR_UP_TO_RANK:
        rate *= math.sqrt(HIGHEST_LR_UP_TO_RANK / rank)
        why += f"; rank {rank} adds up more paths than {HIGHEST_LR_UP_TO_RANK}: less, by the root"
    return Decision(float(f"{rate:.1e}"), why)


def decoder_lr(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Change a decoder that starts where its pretraining ended with more care than new adapters."""
    if values["adapter.kind"] == "none":
        return Decision(1.0, "nothing but the decoder is trained")
    if values["adapter.kind"] == "full" and values["backbone.weights"] == "random":
        return Decision(1.0, "nothing is pretrained")
    if values["adapter.kind"] == "full":
        share = round(PRETRAINED_DECODER_LR / PRETRAINED_ENCODER_LR, 3)
        return Decision(share, "a pretrained decoder takes larger steps than a pretrained encoder")
    known = get_spec(values["backbone.name"]).prompt == values["backbone.prompt"] == "box"
    if values["backbone.weights"] == "random" or not known:
        return Decision(1.0, "one rate for adapters and decoder, as in the paper")
    return Decision(
        PRETRAINED_DECODER_LR, "with its prompt the decoder is good from the start: smaller steps"
    )


def warmup(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Take as many steps whatever the length of the fit, within bounds."""
    steps = planned_steps(facts, values)
    low, high = WARMUP_SHARES
    share = min(max(WARMUP_STEPS / steps, low), high)
    return Decision(
        round(share, 3),
        f"{WARMUP_STEPS} steps of {steps}, at least {low:.0%} and at most {high:.0%} of them",
    )
