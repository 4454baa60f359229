"""Values that fit each by itself but not together: found before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from easyseg.errors import OptionError
from easyseg.models.registry import get_spec
from easyseg.plan.choices import Facts

__all__ = ["check_values"]


def check_values(values: Mapping[str, Any], facts: Facts) -> None:
    """Check the values of a plan against each other, the backbone and the hardware.

    Args:
        values: Every value of the plan's sections, by dotted key.
        facts: What they were decided from.

    Raises:
        OptionError: If they contradict each other; it lists every contradiction.
    """
    found = [
        *_adapter(values),
        *_head(values, facts),
        *_size(values),
        *_batch(values, facts),
        *_precision(values, facts),
    ]
    if found:
        raise OptionError("The plan contradicts itself: " + " ".join(found))


def _adapter(values: Mapping[str, Any]) -> list[str]:
    scales, experts = values["adapter.scales"], values["adapter.num_experts"]
    blocks, spec = values["adapter.blocks"], get_spec(values["backbone.name"])
    found = []
    if values["adapter.kind"] == "conv_lora" and len(scales) != experts:
        found.append(
            f"adapter.scales has {len(scales)} entries, adapter.num_experts is {experts}: "
            "give one scale an expert, or leave one of the two out."
        )
    if blocks != "all" and blocks > spec.num_blocks:
        found.append(
            f"adapter.blocks = {blocks}, but {spec.name} has {spec.num_blocks} blocks: "
            f"use 'all' or at most {spec.num_blocks}."
        )
    return found


def _head(values: Mapping[str, Any], facts: Facts) -> list[str]:
    head, loss = values["head.kind"], values["loss.kind"]
    if head == "binary" and facts.problem_type == "multiclass":
        return [f"head.kind = 'binary' cannot tell {facts.num_classes} classes: use 'softmax'."]
    needed = {"binary": "structure", "softmax": "ce_dice"}[head]
    if loss != needed:
        return [f"loss.kind = {loss!r} does not go with head.kind = {head!r}: use {needed!r}."]
    return []


def _size(values: Mapping[str, Any]) -> list[str]:
    size, spec = values["data.size"], get_spec(values["backbone.name"])
    step = spec.size_multiple
    if size < spec.min_size:
        return [f"data.size = {size} is below the {spec.min_size} that {spec.name} needs."]
    if size % step:
        below = size // step * step
        return [
            f"data.size = {size} is not a multiple of {step}, as {spec.name} needs: "
            f"use {below if below >= spec.min_size else below + step} or {below + step}."
        ]
    return []


def _batch(values: Mapping[str, Any], facts: Facts) -> list[str]:
    batch, micro = values["train.batch_size"], values["train.micro_batch_size"]
    devices = facts.hardware.devices
    if batch % (micro * devices) == 0:
        return []
    return [
        f"train.batch_size = {batch} cannot be made of passes of train.micro_batch_size = {micro} "
        f"on {devices} device{'s' if devices > 1 else ''}: use a multiple of {micro * devices}."
    ]


def _precision(values: Mapping[str, Any], facts: Facts) -> list[str]:
    if values["train.precision"] == "fp16" and facts.hardware.accelerator == "cpu":
        return ["train.precision = 'fp16' needs a GPU: use 'bf16' or '32' on a CPU."]
    return []
