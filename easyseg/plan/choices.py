"""One small function a decision: what is chosen when neither user nor preset says it, and why.

The numbers that tell the presets apart are in ``presets/*.yaml``, all others are constants beside
the functions: here, in ``adapter_choices.py``, ``input_choices.py``, ``lengths.py`` and
``optimizer_choices.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from easyseg.models.registry import get_spec
from easyseg.plan import adapter_choices, input_choices, lengths, optimizer_choices
from easyseg.plan.adapter_kinds import KINDS
from easyseg.plan.facts import Decision, Facts
from easyseg.plan.lengths import times_seen
from easyseg.plan.memory import images_that_fit
from easyseg.plan.repeats import VARIANTS, frozen_share, seen_again

__all__ = [
    "BALANCE_WEIGHT",
    "CHOICES",
    "LOSSES",
    "WEIGHTED_LOSSES",
    "rare_class_weights",
    "trains_batch_statistics",
]

DEFAULT_BACKBONE = "lite_medsam"
BALANCE_WEIGHT = {"binary": 1.0, "multiclass": 2.0}
# The losses of each head, its default first.
LOSSES = {
    "binary": ("structure", "balanced_bce", "focal"),
    "softmax": ("ce_dice", "focal"),
    "mask_classification": ("mask2former",),
}
WEIGHTED_LOSSES = ("ce_dice", "focal")

# ENet has 1.02, by which a class hardly there weighs 35 times as much as one that is everywhere; by
# 1.1 it is 8 times.
WEIGHT_OFFSET = 1.1

# Of the frozen work that is saved; below it, hashing and copying are not worth it.
CACHE_FROM_SHARE = 0.1

# What one validation may take of a time limit; it scores so many images even so, if they take no
# more than a quarter of it. A guess: in short fits it has few epochs to choose from, and what it
# takes is missing to the training.
VALIDATION_SHARE = 0.08
LEAST_VALIDATED = 8
LARGEST_VALIDATION_SHARE = 0.25

# Where batch normalisation learns, a batch has at least so many images, if there are as many.
LEAST_NORMALISED = 2


def _backbone(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Take the first backbone of the preset's list that fits into memory and can be had here."""
    if facts.overrides.get("backbone.weights", "pretrained") not in ("pretrained", "random"):
        return Decision(DEFAULT_BACKBONE, "name the backbone of your weights if it is another one")
    if facts.hardware.accelerator == "cpu":
        return Decision(
            DEFAULT_BACKBONE,
            "small enough for a CPU, and its weights come with the installation; others, "
            "such as vit_b, are taken when you name them",
        )
    fewest = 1 if facts.problem_type == "binary" else facts.num_classes
    num_masks = facts.overrides.get("head.num_tokens", fewest)
    kind = values["adapter.kind"]
    passed_over = []
    for name in facts.budget["backbones"]:
        spec = get_spec(name)
        size = facts.overrides.get("data.size", input_choices.size_for(facts, spec).value)
        precision = facts.overrides.get("train.precision", _precision(facts, values).value)
        if spec.family not in KINDS[kind].families:
            passed_over.append(f"{name} takes no {kind}")
        elif (
            images_that_fit(
                facts.hardware,
                name,
                size,
                mixed=precision != "32",
                num_masks=num_masks,
                kind=kind,
            )
            < 1
        ):
            passed_over.append(f"{name} does not fit")
        elif name not in facts.obtainable:
            passed_over.append(f"{name} is not here and cannot be reached")
        else:
            why = f"the first of the preset that fits into {facts.hardware.memory_gb:.0f} GB"
            return Decision(name, "; ".join([f"{why} and can be had", *passed_over]))
    return Decision(DEFAULT_BACKBONE, "; ".join(["it is always at hand", *passed_over]))


def _prompt(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Give the decoder the constant prompt that suits its weights."""
    spec = get_spec(values["backbone.name"])
    if spec.prompt == "box":
        return Decision("box", f"{spec.name} has only ever seen boxes: one around the whole image")
    return Decision(spec.prompt, f"{spec.name} works without a prompt, as in the paper")


def _head(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Choose the head by the problem, or by a loss that the user set."""
    natural = "softmax" if facts.problem_type == "multiclass" else "binary"
    loss = facts.overrides.get("loss.kind")
    if loss is not None and loss not in LOSSES[natural]:
        for head in ("softmax", "mask_classification"):
            if loss in LOSSES[head]:
                return Decision(head, f"the loss you set, {loss}, needs it")
    if natural == "softmax":
        return Decision("softmax", f"{facts.num_classes} classes: a mask token a class")
    return Decision("binary", "one foreground class: one mask token")


def _num_tokens(facts: Facts, values: Mapping[str, Any]) -> Decision:
    if values["head.kind"] == "binary":
        return Decision(1, "one mask: the foreground")
    if values["head.kind"] == "softmax":
        return Decision(facts.num_classes, "a mask a class")
    return Decision(facts.num_classes, "one a class, for an image may hold all of them")


def _loss(facts: Facts, values: Mapping[str, Any]) -> Decision:
    head = values["head.kind"]
    reasons = {
        "binary": "weighted BCE + weighted IoU, the paper's loss of binary sets",
        "softmax": "cross entropy + Dice, for one softmax over all classes",
        "mask_classification": "tokens are matched to classes, the paper's loss of many classes",
    }
    return Decision(LOSSES[head][0], reasons[head])


def _class_weights(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Weigh rare classes more, in the manner of ENet (Paszke et al. 2016)."""
    loss = values["loss.kind"]
    if loss not in WEIGHTED_LOSSES:
        return Decision("none", f"the loss {loss} does not weigh classes")
    if facts.problem_type == "binary":
        return Decision("none", "a binary problem: both sides weigh the same")
    shares = facts.fingerprint.class_shares
    weights = rare_class_weights(list(shares.values()))
    rare, common = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    return Decision(
        tuple(round(weight, 3) for weight in weights),
        f"1 / ln({WEIGHT_OFFSET} + share of the pixels), divided by the mean: from {common} "
        f"({shares[common]:.1%} of the pixels) to {rare} ({shares[rare]:.1%})",
    )


def rare_class_weights(shares: Sequence[float]) -> list[float]:
    """Return ``1 / ln(1.1 + share)`` of each class, with a mean of 1.

    Args:
        shares: Of the pixels of each class, 0..1.
    """
    weights = [1 / math.log(WEIGHT_OFFSET + share) for share in shares]
    return [weight * len(weights) / sum(weights) for weight in weights]


def _balance_weight(facts: Facts, values: Mapping[str, Any]) -> Decision:
    return Decision(
        BALANCE_WEIGHT[facts.problem_type], f"the paper's weight of {facts.problem_type} problems"
    )


def _batch_size(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Take the budget's batch, with not more images than there are and a share for each device."""
    preset, devices = int(facts.budget["batch_size"]), facts.hardware.processes
    count = facts.fingerprint.num_images
    wanted = max(preset, LEAST_NORMALISED) if trains_batch_statistics(values) else preset
    passes = facts.overrides.get("train.micro_batch_size", 1)
    size = math.ceil(min(wanted, count) / (devices * passes)) * devices * passes
    if size == wanted == 4:
        return Decision(size, "the paper's batch")
    if size == wanted > preset:
        return Decision(size, "batch normalisation learns from the images of a batch: not from one")
    if size == wanted:
        few = "; few images a step: more steps" if facts.hardware.accelerator == "cpu" else ""
        return Decision(size, f"the preset's batch{few}")
    if size < wanted:
        return Decision(size, f"there are only {count} images")
    if passes > 1:
        return Decision(size, f"whole passes of the {passes} images you set")
    return Decision(size, f"a share for each of {devices} devices")


def _precision(facts: Facts, values: Mapping[str, Any]) -> Decision:
    name, precision = facts.hardware.device_name, facts.hardware.precision
    if precision == "bf16":
        return Decision(precision, f"{name} computes bf16 in hardware")
    but = ", but tensor cores for fp16" if precision == "fp16" else ""
    return Decision(precision, f"{name} has no bf16 in hardware{but}")


def _planned_images_that_fit(facts: Facts, values: Mapping[str, Any]) -> float:
    return images_that_fit(
        facts.hardware,
        values["backbone.name"],
        values["data.size"],
        mixed=values["train.precision"] != "32",
        num_masks=values["head.num_tokens"],
        kind=values["adapter.kind"],
    )


def trains_batch_statistics(values: Mapping[str, Any]) -> bool:
    """Return whether batch normalisation learns from the batches: a TinyViT from scratch."""
    from_scratch = values["backbone.weights"] == "random" and values["adapter.kind"] == "full"
    return from_scratch and get_spec(values["backbone.name"]).family == "tiny_vit"


def _micro_batch_size(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Take the largest even part of the batch that fits into memory."""
    devices = facts.hardware.processes
    part = max(1, values["train.batch_size"] // devices)
    fits = _planned_images_that_fit(facts, values)
    size = max([n for n in range(1, part + 1) if part % n == 0 and n <= fits], default=1)
    shared = f" on each of {devices} devices" if devices > 1 else ""
    memory = f"{facts.hardware.memory_gb:.0f} GB"
    if size == part <= fits:
        return Decision(size, f"the batch fits into {memory} at once{shared}")
    passes = f": gradients of {part // size} passes are added up" if size < part else ""
    return Decision(
        size, f"{memory} take about {fits:.1f} images of {values['data.size']} px{passes}{shared}"
    )


def _gradient_checkpointing(facts: Facts, values: Mapping[str, Any]) -> Decision:
    fits = _planned_images_that_fit(facts, values) >= values["train.micro_batch_size"]
    memory = f"{facts.hardware.memory_gb:.0f} GB"
    if fits:
        return Decision(False, f"{memory} hold the activations")
    if trains_batch_statistics(values):
        return Decision(False, "recomputed batches would count twice in batch normalisation")
    return Decision(True, f"{memory} may not hold the activations: recomputed, slower")


def _prefix_cache(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Keep features where a good part of the encoder is frozen and its inputs come again."""
    kind = values["adapter.kind"]
    frozen = frozen_share(get_spec(values["backbone.name"]), kind, values["adapter.blocks"])
    if KINDS[kind].cached == "ladder":
        return Decision(False, "the features of all blocks would have to be kept: too much")
    if KINDS[kind].cached == "nothing":
        return Decision(False, "each block looks at the image itself")
    if frozen == 0 and kind == "full":
        return Decision(False, "all of the encoder is trained")
    if frozen == 0:
        return Decision(False, "adapters in all blocks: little is frozen before the first")
    if values["data.geometry"] == "tile":
        return Decision(False, "each epoch sees another window of an image")
    if not VARIANTS.keys() >= set(values["data.augment"]):
        return Decision(False, "augmentation makes another image of it in every epoch")
    times = times_seen(facts, values).value
    again = seen_again(values["data.augment"], times, facts.hardware.processes)
    found = (
        f"{frozen:.0%} of the blocks are frozen before anything is trained, and {again:.0%} of the "
        "images were seen before, turned the same way"
    )
    return Decision(frozen * again >= CACHE_FROM_SHARE, found)


def _validation_images(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Score a part of the images where all of them would take too much of a time limit."""
    count, limit, costs = facts.fingerprint.num_tuning, facts.time_limit, facts.costs
    if limit is None:
        return Decision(-1, f"all {count}: no time limit is set")
    if costs is None:
        return Decision(-1, f"all {count}: what they take was not timed")
    whole = count * costs.image
    if whole <= VALIDATION_SHARE * limit or count == 1:
        return Decision(-1, f"all {count}: they take {whole:.2g} s of your {limit:.0f} s")
    least = min(LEAST_VALIDATED, int(LARGEST_VALIDATION_SHARE * limit / costs.image))
    paid = max(1, least, int(VALIDATION_SHARE * limit / costs.image))
    if paid >= count:
        return Decision(-1, f"all {count}: they are few, and take {whole:.2g} s")
    return Decision(
        paid,
        f"a validation of all {count} would take {whole:.2g} s of your {limit:.0f} s: so many of "
        f"them, with all classes if possible, take {paid * costs.image:.2g} s",
    )


CHOICES: Mapping[str, Callable[[Facts, Mapping[str, Any]], Decision]] = {
    "backbone.name": _backbone,
    "backbone.prompt": _prompt,
    "adapter.rank": adapter_choices.rank,
    "adapter.alpha": adapter_choices.alpha,
    "adapter.num_experts": adapter_choices.num_experts,
    "adapter.scales": adapter_choices.scales,
    "adapter.lora_targets": adapter_choices.lora_targets,
    "adapter.num_prompts": adapter_choices.num_prompts,
    "adapter.reduction": adapter_choices.reduction,
    "head.kind": _head,
    "head.num_tokens": _num_tokens,
    "loss.kind": _loss,
    "loss.class_weights": _class_weights,
    "loss.balance_weight": _balance_weight,
    "optim.lr": optimizer_choices.lr,
    "optim.decoder_lr": optimizer_choices.decoder_lr,
    "optim.warmup": optimizer_choices.warmup,
    "data.size": input_choices.size,
    "data.scale": input_choices.scale,
    "data.augment": input_choices.augment,
    "train.batch_size": _batch_size,
    "train.precision": _precision,
    "train.micro_batch_size": _micro_batch_size,
    "train.gradient_checkpointing": _gradient_checkpointing,
    "train.prefix_cache": _prefix_cache,
    "train.validation_images": _validation_images,
    "train.epochs": lengths.epochs,
    "train.patience": lengths.patience,
}
