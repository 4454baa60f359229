"""Values that fit each by itself but not together: found before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from easyseg.errors import OptionError
from easyseg.models.registry import BackboneSpec, get_spec, list_backbones
from easyseg.plan.adapter_kinds import KINDS
from easyseg.plan.choices import LOSSES, WEIGHTED_LOSSES, trains_batch_statistics
from easyseg.plan.facts import Facts

__all__ = ["check_values"]

LEAST_FILLED_SIDE = 0.25


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
        *_class_weights(values, facts),
        *_size(values),
        *_scale(values, facts),
        *_batch(values, facts),
        *_precision(values, facts),
    ]
    if found:
        raise OptionError("The plan contradicts itself: " + " ".join(found))


def _adapter(values: Mapping[str, Any]) -> list[str]:
    scales, experts = values["adapter.scales"], values["adapter.num_experts"]
    blocks, spec = values["adapter.blocks"], get_spec(values["backbone.name"])
    kind = values["adapter.kind"]
    found = [*_kind(kind, spec), *_narrow(values, spec), *_kept(values, spec)]
    if kind == "conv_lora" and len(scales) != experts:
        found.append(
            f"adapter.scales has {len(scales)} entries, adapter.num_experts is {experts}: "
            "give one scale an expert, or leave one of the two out."
        )
    twice = [name for name in values["adapter.lora_targets"] if name in values["adapter.targets"]]
    if "lora_targets" in KINDS[kind].uses and twice:
        found.append(
            f"adapter.targets and adapter.lora_targets both name {' and '.join(map(repr, twice))}: "
            "name a layer in one of them."
        )
    if blocks != "all" and blocks > spec.num_blocks:
        found.append(
            f"adapter.blocks = {blocks}, but {spec.name} has {spec.num_blocks} blocks: "
            f"use 'all' or at most {spec.num_blocks}."
        )
    return found


def _kind(kind: str, spec: BackboneSpec) -> list[str]:
    if spec.family in KINDS[kind].families:
        return []
    fitting = (get_spec(name) for name in list_backbones())
    names = [other.name for other in fitting if other.family in KINDS[kind].families]
    return [
        f"adapter.kind = {kind!r} does not go with backbone.name = {spec.name!r}: "
        f"{KINDS[kind].why_not}. Use backbone.name = {' or '.join(map(repr, names))}, or another "
        "adapter.kind."
    ]


def _narrow(values: Mapping[str, Any], spec: BackboneSpec) -> list[str]:
    """Refuse a width that is not whole: narrower by ``reduction``, for LST a whole one a head."""
    kind, reduction = values["adapter.kind"], values["adapter.reduction"]
    if "reduction" not in KINDS[kind].uses or spec.family not in KINDS[kind].families:
        return []
    dim, heads = spec.arch["embed_dim"], spec.arch["num_heads"] if kind == "lst" else 1
    possible = [n for n in range(1, dim // heads + 1) if dim % (n * heads) == 0]
    if reduction in possible:
        return []
    return [
        f"adapter.reduction = {reduction} does not divide the {dim} channels of {spec.name}"
        f"{f' into whole ones for each of its {heads} heads' if heads > 1 else ''}: use one of "
        f"{', '.join(map(str, possible))}."
    ]


def _kept(values: Mapping[str, Any], spec: BackboneSpec) -> list[str]:
    """Refuse what would have to be kept or computed twice, and cannot."""
    found = []
    if values["train.prefix_cache"] and KINDS[values["adapter.kind"]].cached == "nothing":
        found.append(
            f"train.prefix_cache = True does not go with adapter.kind = "
            f"{values['adapter.kind']!r}, which looks at the images themselves in every block: "
            "leave it out."
        )
    if values["train.gradient_checkpointing"] and trains_batch_statistics(values):
        found.append(
            f"train.gradient_checkpointing = True does not go with {spec.name} trained from "
            "scratch: recomputed batches would count twice in its batch normalisation. Leave it "
            "out, and use a smaller train.micro_batch_size if memory is short."
        )
    return found


def _head(values: Mapping[str, Any], facts: Facts) -> list[str]:
    head, loss = values["head.kind"], values["loss.kind"]
    if head == "binary" and facts.problem_type == "multiclass":
        return [f"head.kind = 'binary' cannot tell {facts.num_classes} classes: use 'softmax'."]
    found = []
    if loss not in LOSSES[head]:
        possible = " or ".join(map(repr, LOSSES[head]))
        heads = [repr(name) for name in LOSSES if loss in LOSSES[name]]
        found.append(
            f"loss.kind = {loss!r} does not go with head.kind = {head!r}: use {possible}, or "
            f"head.kind = {' or '.join(heads)}."
        )
    tokens, own = values["head.num_tokens"], 1 if head == "binary" else facts.num_classes
    if head == "mask_classification" and tokens < own:
        found.append(
            f"head.num_tokens = {tokens}, but an image may hold {own} classes: use at least {own}."
        )
    if head != "mask_classification" and tokens != own:
        found.append(
            f"head.num_tokens = {tokens}, but head.kind = {head!r} has {own}: leave it out, or use "
            "head.kind = 'mask_classification'."
        )
    return found


def _class_weights(values: Mapping[str, Any], facts: Facts) -> list[str]:
    weights, loss = values["loss.class_weights"], values["loss.kind"]
    if weights == "none":
        return []
    if loss not in WEIGHTED_LOSSES:
        return [
            f"loss.class_weights is set, but loss.kind = {loss!r} does not weigh classes: leave it "
            f"out, or use {' or '.join(map(repr, WEIGHTED_LOSSES))}."
        ]
    if len(weights) != facts.num_classes:
        return [
            f"loss.class_weights has {len(weights)} entries for {facts.num_classes} classes: give "
            "one a class, the background included, in the order of the classes."
        ]
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


def _scale(values: Mapping[str, Any], facts: Facts) -> list[str]:
    """Refuse windows that show little but padding: the scale is meant the other way round then."""
    size, scale = values["data.size"], values["data.scale"]
    own = (facts.fingerprint.height.median, facts.fingerprint.width.median)
    height, width = (side * scale for side in own)
    if values["data.geometry"] != "tile" or max(height, width) >= size * LEAST_FILLED_SIDE:
        return []
    return [
        f"data.scale = {scale:g} makes images of about {own[1]:.0f}x{own[0]:.0f} px "
        f"{width:.0f}x{height:.0f} px, and data.geometry = 'tile' looks at {size}x{size}: use a "
        "larger scale, or data.geometry = 'letterbox'."
    ]


def _batch(values: Mapping[str, Any], facts: Facts) -> list[str]:
    batch, micro = values["train.batch_size"], values["train.micro_batch_size"]
    devices = facts.hardware.processes
    if batch % (micro * devices) == 0:
        return []
    return [
        f"train.batch_size = {batch} cannot be made of passes of train.micro_batch_size = {micro} "
        f"on {devices} device{'s' if devices > 1 else ''}: use a multiple of {micro * devices}"
        f"{', or fewer devices (devices=...)' if devices > 1 else ''}."
    ]


def _precision(values: Mapping[str, Any], facts: Facts) -> list[str]:
    if values["train.precision"] == "fp16" and facts.hardware.accelerator == "cpu":
        return ["train.precision = 'fp16' needs a GPU: use 'bf16' or '32' on a CPU."]
    return []
