"""The best backbone that this machine can train and obtain."""

from __future__ import annotations

from dataclasses import replace

import pytest
from plan_makers import CPU, H200, facts, plan_for

from easyseg.models.registry import list_backbones
from easyseg.plan.decisions import decide
from easyseg.preparation import _obtainable

EVERYTHING = list_backbones()


def choose(hardware, preset="best", obtainable=EVERYTHING, **overrides):
    plan = decide(
        facts(),
        hardware,
        problem_type="binary",
        num_classes=2,
        presets=preset,
        overrides=overrides,
        obtainable=obtainable,
    )
    return plan.backbone.name, plan.reasons["backbone.name"]


@pytest.mark.parametrize(
    ("preset", "best"), [("fast", "vit_b"), ("balanced", "vit_l"), ("best", "vit_h")]
)
def test_a_large_gpu_takes_the_best_of_the_preset(preset, best):
    assert choose(H200, preset)[0] == best


def test_a_smaller_gpu_takes_what_fits():
    name, reason = choose(replace(H200, memory_gb=8.0))
    assert name == "vit_b"
    assert "vit_h does not fit" in reason
    assert choose(replace(H200, memory_gb=3.5))[0] == "mobile_sam"
    assert choose(replace(H200, memory_gb=2.0))[0] == "lite_medsam"


def test_a_gpu_without_bf16_is_not_thought_to_need_as_little_as_one_with_it():
    t4 = replace(H200, memory_gb=15.0, native_bf16=False, tensor_fp16=True)
    assert choose(t4, "balanced")[0] == "vit_b"
    assert choose(replace(t4, native_bf16=True), "balanced")[0] == "vit_l"


def test_a_smaller_input_makes_room_for_a_larger_one():
    small = replace(H200, memory_gb=6.0)
    assert choose(small)[0] == "vit_b"
    assert choose(small, **{"data.size": 512})[0] == "vit_l"


def test_what_cannot_be_had_is_passed_over():
    name, reason = choose(H200, obtainable=("lite_medsam", "vit_b"))
    assert name == "vit_b"
    assert "vit_h is not here and cannot be reached" in reason
    assert choose(H200, obtainable=())[0] == "lite_medsam"


def test_a_cpu_takes_the_one_that_comes_with_the_installation():
    assert choose(CPU)[0] == "lite_medsam"
    assert plan_for().backbone.name == "lite_medsam"


def test_the_user_wins():
    assert choose(H200, **{"backbone.name": "mobile_sam"}) == ("mobile_sam", "set by you")


def test_a_cpu_asks_no_server(monkeypatch):
    monkeypatch.setattr("easyseg.preparation.is_obtainable", pytest.fail)
    assert _obtainable(CPU, "auto", {}) == ()


def test_no_server_is_asked_for_a_backbone_that_is_named(monkeypatch):
    monkeypatch.setattr("easyseg.preparation.is_obtainable", pytest.fail)
    assert _obtainable(H200, "auto", {"backbone.name": "vit_b"}) == ()
    assert _obtainable(H200, "paper", {"adapter.rank": 8}) == ()


def test_random_weights_need_no_server(monkeypatch):
    monkeypatch.setattr("easyseg.preparation.is_obtainable", pytest.fail)
    assert _obtainable(H200, "best", {"backbone.weights": "random"}) == list_backbones()


def test_a_gpu_asks_for_each(monkeypatch):
    monkeypatch.setattr("easyseg.preparation.is_obtainable", lambda spec: spec.name == "vit_l")
    for hyperparameters in ({}, {"backbone.name": "auto"}, {"adapter.rank": 8}):
        assert _obtainable(H200, "best", hyperparameters) == ("vit_l",)
    assert _obtainable(H200, "paper", {"backbone.name": "auto"}) == ("vit_l",)


def test_a_weights_file_belongs_to_the_backbone_that_is_named_with_it():
    assert choose(H200, **{"backbone.weights": "mine.pth"})[0] == "lite_medsam"
    named = {"backbone.weights": "mine.pth", "backbone.name": "vit_b"}
    assert choose(H200, **named)[0] == "vit_b"
    assert choose(H200, **{"backbone.weights": "random"})[0] == "vit_h"
