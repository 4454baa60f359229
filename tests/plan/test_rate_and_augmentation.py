"""The rate by the number of steps, the adapter's strength, and which turns an image may take."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_makers import CPU, facts, plan_for

from easyseg.plan.adapter_choices import ALPHA_PER_RANK
from easyseg.plan.costs import Costs
from easyseg.plan.input_choices import COLOURS_FROM_TIMES, CROPS_FROM_TIMES
from easyseg.plan.optimizer_choices import HIGHEST_LR, HIGHEST_LR_UP_TO_STEPS


def upright(value, count=64):
    return replace(facts(count), uprightness=value)


@pytest.mark.parametrize(
    ("images", "epochs", "paper"),
    [(470, 30, 3e-4), (2000, 30, 1e-4), (1450, 30, 1e-4), (1107, 20, 3e-4)],
)
def test_at_the_papers_numbers_of_steps_the_rate_is_near_the_papers(images, epochs, paper):
    """Leaf disease, ISIC 2017, polyps and roads, batch 4; the paper rounds to 1e-4 or 3e-4."""
    papers = {"train.epochs": epochs, "train.batch_size": 4}
    plan = plan_for(facts(images), presets="balanced", overrides=papers)
    assert paper / 2 < plan.optim.lr < 2 * paper


@given(st.integers(1, 500), st.integers(1, 100))
def test_the_rate_never_rises_with_the_steps_and_is_capped(images, epochs):
    rates = []
    for more in (epochs, epochs + 7):
        plan = plan_for(facts(images), presets="balanced", overrides={"train.epochs": more})
        rates.append(plan.optim.lr)
        steps = more * -(-images // plan.train.batch_size)
        if steps <= HIGHEST_LR_UP_TO_STEPS:
            assert plan.optim.lr == HIGHEST_LR
    assert rates[1] <= rates[0] <= HIGHEST_LR


def test_a_cap_on_the_steps_counts_for_the_rate():
    overrides = {"train.epochs": 500, "train.max_steps": 10}
    assert plan_for(presets="balanced", overrides=overrides).optim.lr == HIGHEST_LR


@pytest.mark.parametrize("preset", ["fast", "balanced", "best"])
def test_the_adapter_counts_the_same_at_every_rank(preset):
    plan = plan_for(presets=preset)
    assert plan.adapter.alpha == ALPHA_PER_RANK * plan.adapter.rank
    changed = plan_for(presets=preset, overrides={"adapter.rank": 6})
    assert changed.adapter.alpha == ALPHA_PER_RANK * 6
    own = plan_for(presets=preset, overrides={"adapter.alpha": 32})
    assert (own.adapter.alpha, own.reasons["adapter.alpha"]) == (32, "set by you")


def test_images_are_turned_only_where_up_and_down_mean_nothing():
    turned = plan_for(upright(0.2)).data.augment
    assert {"vflip", "rot90"} < set(turned)
    level = plan_for(upright(3.0))
    assert set(turned) - set(level.data.augment) == {"vflip", "rot90"}
    assert "hflip" in level.data.augment
    assert "up is up" in level.reasons["data.augment"]


def test_few_images_do_not_tell_up_from_down():
    plan = plan_for(upright(0.0, count=5))
    assert "vflip" not in plan.data.augment
    assert "5 images" in plan.reasons["data.augment"]


def test_longer_fits_change_colours_then_crop_too():
    short, middle, long = (
        plan_for(overrides={"train.epochs": epochs})
        for epochs in (COLOURS_FROM_TIMES - 1, COLOURS_FROM_TIMES, CROPS_FROM_TIMES)
    )
    assert set(middle.data.augment) - set(short.data.augment) == {"colour"}
    assert set(long.data.augment) - set(middle.data.augment) == {"crop"}
    assert "9 times on average: too seldom for crops and colours" in short.reasons["data.augment"]
    assert "10 times on average: often enough for changed colours" in middle.reasons["data.augment"]


def test_too_few_passes_change_nothing_whoever_ends_the_fit():
    """64 images, one a step: epochs, steps or the time end it before each was seen three times."""
    paid = Costs(step=1.0, image=0.0, build=0.0, before=0.0, memory_gb=None)
    for options in (
        {"overrides": {"train.epochs": 2}},
        {"overrides": {"train.epochs": 30, "train.max_steps": 130}},
        {"overrides": {"train.epochs": 30}, "time_limit": 130.0, "costs": paid},
    ):
        plan = plan_for(facts(count=64), presets="fast", **options)
        assert plan.data.augment == ()
        assert "seen 2 times on average: under 3" in plan.reasons["data.augment"]
    for options in (
        {"overrides": {"train.epochs": 3}},
        {"overrides": {"train.max_steps": 192}},
        {"time_limit": 192.0, "costs": paid},
    ):
        assert "hflip" in plan_for(facts(count=64), presets="fast", **options).data.augment


def test_what_ends_a_long_plan_early_leaves_out_crops_and_colours_too():
    overrides = {"train.epochs": 30, "train.max_steps": 5 * 64}
    assert set(plan_for(facts(count=64), presets="fast", overrides=overrides).data.augment) == {
        "hflip",
        "vflip",
        "rot90",
    }


def test_a_domain_whose_turns_come_too_early_is_named():
    few = {"train.epochs": 1}
    plan = plan_for(presets=["fast", "road"], overrides=few)
    assert plan.data.augment == ()
    assert "too seldom to gain from flips and turns; preset road" in plan.reasons["data.augment"]


def test_the_users_list_wins():
    plan = plan_for(upright(3.0), overrides={"data.augment": ["vflip"]})
    assert plan.data.augment == ("vflip",)


def test_the_machine_does_not_matter_to_them():
    gpu = replace(CPU, accelerator="cuda", native_bf16=True, memory_gb=80.0)
    overrides = {"train.epochs": 10, "train.batch_size": 4}
    one, other = (plan_for(hardware=h, presets="balanced", overrides=overrides) for h in (CPU, gpu))
    assert (one.optim.lr, one.data.augment) == (other.optim.lr, other.data.augment)
