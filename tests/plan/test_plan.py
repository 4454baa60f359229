from __future__ import annotations

import dataclasses
import io
import json
import pickle

import pytest
from rich.console import Console

from easyseg.errors import OptionError
from easyseg.plan.domains import DOMAINS
from easyseg.plan.plan import Plan
from easyseg.plan.sections import SECTIONS

VALUES = {
    "problem_type": "binary",
    "num_classes": 2,
    "metric": "iou@image",
    "preset": "fast",
    "backbone.name": "lite_medsam",
    "backbone.weights": "pretrained",
    "backbone.prompt": "box",
    "adapter.kind": "conv_lora",
    "adapter.rank": 3,
    "adapter.num_experts": 2,
    "adapter.scales": (1, 4),
    "adapter.alpha": 32.0,
    "adapter.gate": "learned",
    "adapter.routing": "window",
    "adapter.identity": True,
    "adapter.targets": ("q", "k", "v"),
    "adapter.lora_targets": ("proj",),
    "adapter.num_prompts": 12,
    "adapter.reduction": 8,
    "adapter.blocks": "all",
    "head.kind": "binary",
    "head.num_tokens": 1,
    "loss.kind": "structure",
    "loss.class_weights": "none",
    "loss.balance_weight": 1.0,
    "optim.kind": "adamw",
    "optim.lr": 3e-4,
    "optim.decoder_lr": 1.0,
    "optim.weight_decay": 1e-4,
    "optim.warmup": 0.05,
    "data.size": 128,
    "data.geometry": "squash",
    "data.scale": 1.0,
    "data.augment": ("hflip",),
    "train.epochs": 4,
    "train.max_steps": -1,
    "train.batch_size": 4,
    "train.micro_batch_size": 2,
    "train.precision": "bf16",
    "train.gradient_checkpointing": False,
    "train.prefix_cache": False,
    "train.validation_images": -1,
    "train.patience": 5,
    "train.average": 0.1,
}


@pytest.fixture
def plan():
    return Plan.from_values(VALUES, {"adapter.rank": "because [bold] of β"})


def test_domains_and_sections_hold_the_same_keys():
    keys = [f"{n}.{f.name}" for n, section in SECTIONS.items() for f in dataclasses.fields(section)]
    assert keys == list(DOMAINS)


def test_values_are_the_inverse_of_from_values(plan):
    assert plan.values() == VALUES
    assert list(plan.values()) == list(VALUES)


def test_json_round_trip_is_exact(plan, tmp_path):
    file = tmp_path / "plan.json"
    plan.save(file)
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert Plan.load(file) == plan
    assert json.loads(file.read_text(encoding="utf-8")) == plan.to_dict()
    assert json.loads(json.dumps(plan.to_dict())) == plan.to_dict()
    assert Plan.load(file).adapter.scales == (1, 4)
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert hash(plan) == hash(Plan.load(file))


def test_a_file_with_a_mark_is_read(plan, tmp_path):
    """Editors of Windows put one before UTF-8."""
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan.to_dict()), encoding="utf-8-sig")
    assert Plan.load(file) == plan


def test_saving_replaces_the_old_plan(plan, tmp_path):
    file = tmp_path / "plan.json"
    file.write_text("old", encoding="utf-8")
    plan.save(file)
    assert Plan.load(file) == plan


def test_an_edited_plan_is_read_and_checked(plan):
    edited = plan.to_dict()
    edited["adapter"]["rank"] = 7
    assert Plan.from_dict(edited).adapter.rank == 7
    edited["adapter"]["rank"] = 0
    with pytest.raises(OptionError, match=r"adapter\.rank"):
        Plan.from_dict(edited)


def test_missing_and_unknown_keys_are_named(plan):
    short = plan.to_dict()
    del short["optim"]["lr"]
    with pytest.raises(OptionError, match=r"no value for optim\.lr"):
        Plan.from_dict(short)
    strange = plan.to_dict() | {"metrics": "iou@image"}
    with pytest.raises(OptionError, match="Did you mean 'metric'"):
        Plan.from_dict(strange)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_damaged_file_is_named(tmp_path, text):
    file = tmp_path / "plan.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(OptionError, match=r"plan\.json"):
        Plan.load(file)


def test_text_and_table_show_value_and_reason(plan):
    assert ("adapter.scales", "1, 4", "") in plan.rows()
    assert "because [bold] of β" in str(plan)
    out = io.StringIO()
    Console(file=out, width=120).print(plan)
    assert "because [bold] of β" in out.getvalue()
    assert "train.patience" in out.getvalue()


@pytest.mark.parametrize(("key", "value"), [("metric", None), ("num_classes", "2"), ("preset", 1)])
def test_what_stands_above_the_sections_has_its_type(plan, key, value):
    with pytest.raises(OptionError, match=f"{key} = {value!r} is not possible"):
        Plan.from_dict(plan.to_dict() | {key: value})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("reasons", None, "reasons = None"),
        ("reasons", "because", "expected words by key"),
        ("reasons", {"adapter.rank": None}, r"the reason of adapter\.rank is None"),
        ("estimate", {"seconds": "x", "memory_gb": 1}, "the estimate is"),
        ("estimate", {"seconds": 2.0, "memory_gb": []}, "the estimate is"),
    ],
)
def test_what_is_beside_the_decisions_is_checked_too(plan, key, value, words):
    with pytest.raises(OptionError, match=f"{words}.*leave it out"):
        Plan.from_dict(plan.to_dict() | {key: value})
