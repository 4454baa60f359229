"""Makers of fingerprints and plans for tests of decisions."""

from __future__ import annotations

from easyseg.auditing.fingerprint import Fingerprint, Percentiles, Quantiles
from easyseg.plan.decisions import decide
from easyseg.plan.hardware import Hardware

CPU = Hardware("cpu", 1, "Xeon", 16.0, 2, True)
H200 = Hardware("cuda", 1, "NVIDIA H200", 140.0, 16, True)
# Another value than the plan's own for each key, and what it does not go without.
OTHER = {
    "backbone.name": "vit_b",
    "backbone.weights": "random",
    "backbone.prompt": "none",
    "adapter.kind": "lora",
    "adapter.rank": 5,
    "adapter.num_experts": 3,
    "adapter.scales": (1, 4),
    "adapter.alpha": 7.0,
    "adapter.gate": "constant",
    "adapter.routing": "image",
    "adapter.identity": False,
    "adapter.targets": ("q", "v", "mlp"),
    "adapter.lora_targets": (("mlp",), {"adapter.targets": ("q",)}),
    "adapter.num_prompts": 5,
    "adapter.reduction": 4,
    "adapter.blocks": 2,
    "head.kind": "softmax",
    "head.num_tokens": (5, {"head.kind": "mask_classification"}),
    "loss.kind": "balanced_bce",
    "loss.class_weights": ((1.0, 3.0), {"loss.kind": "focal"}),
    "loss.balance_weight": 0.5,
    "optim.kind": "adam",
    "optim.lr": 5e-4,
    "optim.decoder_lr": 0.7,
    "optim.weight_decay": 0.0,
    "optim.warmup": 0.2,
    "data.size": 176,
    "data.geometry": "letterbox",
    "data.scale": (0.5, {"data.geometry": "tile"}),
    "data.augment": ("hflip", "rotate"),
    "train.epochs": 7,
    "train.max_steps": 50,
    "train.batch_size": 6,
    "train.micro_batch_size": 1,
    "train.precision": "32",
    "train.gradient_checkpointing": True,
    "train.prefix_cache": True,
    "train.validation_images": 9,
    "train.patience": 3,
    "train.average": 0.0,
}


def facts(count: int = 64, side: float = 600.0, names: tuple[str, ...] = ("background", "lesion")):
    return Fingerprint(
        num_images=count,
        num_tuning=16,
        height=Quantiles(side, side, side),
        width=Quantiles(side, side, side),
        image_modes={"RGB": count},
        mask_dtype="uint8",
        mask_values={i: 1 / len(names) for i in range(len(names))},
        class_shares=dict.fromkeys(names, 1 / len(names)),
        images_with=dict.fromkeys(names, count),
        empty_masks=0,
        ignored_share=0.0,
        uprightness=0.0,
        components=Quantiles(1, 1, 3),
        object_sizes=Percentiles(0.001, 0.01, 0.1),
        thickness=dict.fromkeys(names[1:], 0.1),
        brightness=Quantiles(90, 120, 150),
        contrast=Quantiles(40, 50, 60),
        channels=(120.0, 120.0, 120.0),
        grey_images=0,
    )


def plan_for(fingerprint=None, hardware=CPU, **options):
    options = {"problem_type": "binary", "num_classes": 2} | options
    return decide(fingerprint or facts(), hardware, **options)
