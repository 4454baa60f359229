"""The module of Lightning: what decays, and what ranks with other plans do."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from plan_makers import plan_for

from easyseg.clock import Clock
from easyseg.errors import OptionError
from easyseg.models.network import build_network
from easyseg.training.module import SegmentationModule


class Kept:
    """As much of what was prepared as agreeing on a plan takes."""

    def __init__(self, plan):
        self.plan = plan

    def decisions(self):
        return self

    def with_decisions(self, decisions):
        return Kept(decisions.plan)


def module_beside(first, own):
    """Return a module that planned ``own``, on rank 1, where rank 0 planned ``first``."""
    module = SegmentationModule(Kept(own), 0, Clock(0.0))
    module._trainer = SimpleNamespace(
        strategy=SimpleNamespace(broadcast=lambda mine, src: Kept(first)),
        global_rank=1,
        world_size=2,
        estimated_stepping_batches=10,
    )
    return module


def test_only_matrices_of_the_decoder_decay_and_its_rate_is_its_own():
    plan = plan_for()
    module = module_beside(plan, plan)
    module.network = build_network(plan, seed=0)
    names = {id(value): name for name, value in module.network.named_parameters()}
    decayed, plain, rates = set(), set(), {}
    for group in module.configure_optimizers()["optimizer"].param_groups:
        members = {names[id(value)] for value in group["params"]}
        (decayed if group["weight_decay"] else plain).update(members)
        rates |= dict.fromkeys(members, group["initial_lr"])
    for name, rate in rates.items():
        share = 0.3 if name.startswith("decoder.") else 1.0
        assert rate == pytest.approx(share * plan.optim.lr), name
    assert decayed | plain == {n for n, v in module.network.named_parameters() if v.requires_grad}
    assert "decoder.transformer.layers.0.cross_attn_token_to_image.q_proj.weight" in decayed
    assert "decoder.hypernetworks.0.layers.0.weight" in decayed
    assert all(name.startswith("decoder.") and name.endswith(".weight") for name in decayed)
    assert {"decoder.iou_token.weight", "decoder.mask_tokens.weight"} < plain
    assert any("lora_" in name for name in plain)
    assert any("norm" in name for name in plain)
    assert not any("norm" in name or "bias" in name for name in decayed)


@pytest.mark.parametrize(("kind", "optimizer"), [("adam", "Adam"), ("adamw", "AdamW")])
def test_the_optimizer_is_that_of_the_plan_and_its_rate_warms_up_and_falls_to_zero(kind, optimizer):
    plan = plan_for(overrides={"optim.kind": kind, "optim.lr": 1e-4, "optim.warmup": 0.0})
    module = module_beside(plan, plan)
    module.network = build_network(plan, seed=0)
    found = module.configure_optimizers()
    assert type(found["optimizer"]).__name__ == optimizer
    (factor, *_) = found["lr_scheduler"]["scheduler"].lr_lambdas
    steps = module.trainer.estimated_stepping_batches
    assert [factor(step) for step in range(steps + 1)] == pytest.approx(
        [1 - step / steps for step in range(steps + 1)]
    )
    warm = plan_for(overrides={"optim.warmup": 0.4})
    factor = module_beside(warm, warm)._rate_factor(steps)
    rising = [(step + 1) / 4 * (1 - step / steps) for step in range(4)]
    assert [factor(step) for step in range(4)] == pytest.approx(rising)


def test_under_a_time_limit_the_rate_rises_and_falls_by_the_clock():
    """A tenth of the time is gone before the first step; twice as many steps as it pays for."""
    plan = plan_for(overrides={"optim.warmup": 0.4})
    module, steps = module_beside(plan, plan), 100
    module._time_used = 0.1
    factor = module._rate_factor(steps)
    assert factor(0) == pytest.approx(1 / 40 * 0.9)
    module._time_used = 0.1 + 0.9 * 0.2
    assert factor(10) == pytest.approx((20 + 1) / 40 * (1 - 0.28))
    module._time_used = 0.1 + 0.9 * 0.4
    assert factor(20) == pytest.approx(1 - 0.46)


def test_a_rank_adds_up_as_many_passes_as_the_first_one_planned():
    first = plan_for(overrides={"train.batch_size": 4, "train.micro_batch_size": 1})
    module = module_beside(first, plan_for(overrides={"train.batch_size": 4}))
    module.setup("fit")
    assert module.plan == first
    assert module.trainer.accumulate_grad_batches == 2


def test_a_rank_whose_trainer_was_made_for_another_plan_says_so():
    own = plan_for()
    first = replace(own, train=replace(own.train, precision="32", patience=99))
    with pytest.raises(OptionError, match="process 1 planned") as caught:
        module_beside(first, own).setup("fit")
    for part in ("train.precision = 'bf16'", "train.precision = '32'", "train.patience = 99"):
        assert part in str(caught.value)


@pytest.mark.parametrize(("weights", "fetched"), [("pretrained", 1), ("random", 0), ("a.pth", 0)])
def test_weights_are_fetched_before_the_network_is_built_and_timed(monkeypatch, weights, fetched):
    found = []
    monkeypatch.setattr("easyseg.training.module.find_weights", lambda spec: found.append(spec))
    plan = plan_for(overrides={"backbone.name": "vit_b", "backbone.weights": weights})
    module = module_beside(plan, plan)
    module.prepare_data()
    assert [spec.name for spec in found] == ["vit_b"] * fetched
    assert module.build_seconds == 0
