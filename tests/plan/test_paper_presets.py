"""The presets of the paper and of its reference code, held to what is known of them."""

from __future__ import annotations

import pytest
from plan_makers import CPU, H200, facts, plan_for

from easyseg.plan.domains import flatten
from easyseg.plan.presets import load_preset

PAPER = {
    "backbone.name": "vit_h",
    "backbone.prompt": "none",
    "adapter.kind": "conv_lora",
    "adapter.rank": 3,
    "adapter.num_experts": 8,
    "adapter.scales": (1, 2, 3, 4, 5, 6, 7, 8),
    "adapter.blocks": "all",
    "head.kind": "binary",
    "head.num_tokens": 1,
    "loss.kind": "structure",
    "loss.class_weights": "none",
    "loss.balance_weight": 1.0,
    "optim.kind": "adam",
    "optim.lr": 1e-4,
    "optim.decoder_lr": 1.0,
    "optim.weight_decay": 1e-4,
    "data.size": 1024,
    "data.geometry": "squash",
    "data.augment": ("hflip",),
    "train.epochs": 30,
    "train.max_steps": -1,
    "train.batch_size": 4,
    "train.validation_images": -1,
    "train.patience": 30,
    "train.average": 0.0,
}
REFERENCE = PAPER | {
    "adapter.alpha": 32.0,
    "adapter.gate": "constant",
    "optim.kind": "adamw",
    "optim.warmup": 0.0,
    "train.patience": 10,
    "train.precision": "fp16",
}
SEVERAL = {
    "head.kind": "mask_classification",
    "loss.kind": "mask2former",
    "loss.balance_weight": 2.0,
    "head.num_tokens": 3,
}


@pytest.mark.parametrize(
    ("preset", "expected"),
    [("paper", PAPER), ("paper_3e-4", PAPER | {"optim.lr": 3e-4}), ("reference", REFERENCE)],
)
@pytest.mark.parametrize("several", [False, True])
def test_the_numbers_are_those_of_paper_and_code(preset, expected, several):
    options = {"presets": preset, "hardware": H200}
    if several:
        options |= {"problem_type": "multiclass", "num_classes": 3}
        expected = expected | SEVERAL
    plan = plan_for(facts(2000, names=("a", "b", "c") if several else ("a", "b")), **options)
    values = plan.values()
    assert {key: values[key] for key in expected} == expected
    assert not plan.train.gradient_checkpointing
    assert plan.train.accumulation() * plan.train.micro_batch_size == 4


def test_what_the_reference_changes_and_nothing_else():
    paper, reference = (flatten(load_preset(name)["plan"]) for name in ("paper", "reference"))
    assert {key for key in paper if paper[key] != reference[key]} == {
        "adapter.gate",
        "optim.kind",
        "train.patience",
    }


def test_fp16_is_for_gpus_only():
    plan = plan_for(presets="reference", hardware=CPU)
    assert plan.train.precision == "bf16"


def test_auto_never_takes_them():
    for count in (10, 1000, 100_000):
        for hardware in (CPU, H200):
            assert plan_for(facts(count), hardware).preset in ("fast", "balanced", "best")


def test_auto_as_an_override_asks_easyseg_instead_of_the_preset():
    plan = plan_for(presets="paper", hardware=H200, overrides={"optim.lr": "auto"})
    assert "root" in plan.reasons["optim.lr"]
    assert plan_for(presets="paper", overrides={"data.size": "auto"}).data.size == 1024
