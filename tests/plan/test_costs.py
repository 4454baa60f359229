"""What a time limit pays for."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_makers import CPU, H200, facts, plan_for

from easyseg.plan.choices import LARGEST_VALIDATION_SHARE, LEAST_VALIDATED, VALIDATION_SHARE
from easyseg.plan.costs import Costs, Estimate
from easyseg.plan.lengths import LEAST_STEPS_WITHIN, SPARE_STEPS
from easyseg.plan.plan import Plan

SECONDS = st.floats(0.01, 20)


def costs(
    step: float,
    image: float = 0.1,
    build: float = 1.0,
    before: float = 3.0,
    reading: float = 0.0,
) -> Costs:
    return Costs(step, image, build, before, 1.0, reading)


@given(
    step=SECONDS,
    image=SECONDS,
    build=SECONDS,
    before=SECONDS,
    reading=st.floats(0, 500),
    limit=st.floats(1, 5000),
    an_epoch=st.integers(1, 400),
    images=st.integers(1, 50),
)
def test_a_limit_pays_for_these_steps_and_not_for_one_more(
    step, image, build, before, reading, limit, an_epoch, images
):
    paid = costs(step, image, build, before, reading)
    steps = paid.steps_within(limit, an_epoch, images)

    def takes(count: int) -> float:
        return paid.seconds(count, an_epoch, images)

    assert steps == 0 or takes(steps) <= limit * (1 + 1e-9)
    assert takes(steps + 1) > limit * (1 - 1e-9)


def test_seconds_are_the_sum_of_the_parts():
    assert costs(0.5, 0.1, 1.0, 3.0).seconds(10, 5, 5) == pytest.approx(3 + 2 + 5 + 1)


@pytest.mark.parametrize(("steps", "read"), [(0, 0.0), (5, 0.25), (20, 1.0), (60, 1.0)])
def test_images_that_stay_in_memory_are_read_once(steps, read):
    without, paid = (costs(0.5, reading=reading) for reading in (0.0, 8.0))
    more = paid.seconds(steps, 20, 5) - without.seconds(steps, 20, 5)
    assert more == pytest.approx(8.0 * read)


def test_where_no_step_was_timed_the_preset_decides_the_epochs_and_the_limit_the_validation():
    found = replace(facts(), num_tuning=500)
    image_alone = replace(costs(0.7, 0.5), step=None)
    plan = plan_for(found, time_limit=120.0, costs=image_alone, presets="fast")
    assert plan.train.epochs == plan_for(found, presets="fast").train.epochs
    assert plan.train.validation_images == 19
    assert plan.estimate is None


def test_where_steps_are_shorter_than_those_that_were_timed_the_preset_decides_the_epochs():
    found = facts(count=20)
    paid = costs(step=2.0)
    known, bound = (
        plan_for(found, presets="fast", time_limit=60, costs=each)
        for each in (paid, replace(paid, step_is_bound=True))
    )
    assert "pay for" in known.reasons["train.epochs"]
    assert bound.train.epochs == plan_for(found, presets="fast").train.epochs > known.train.epochs
    assert bound.data.augment == known.data.augment == ()


def test_a_limit_pays_for_more_epochs_of_few_images_than_the_preset_has():
    """Six images make an epoch of six steps: 30 of them would end long before two minutes."""
    few = facts(count=6)
    options = {"presets": "fast", "time_limit": 120.0}
    slow = plan_for(few, **options, costs=costs(0.5))
    steps = costs(0.5).steps_within(120.0, 6, 16)
    assert slow.train.epochs == math.ceil(SPARE_STEPS * steps / 6) > 30
    assert "kept to" not in slow.reasons["train.epochs"]
    fast = plan_for(few, **options, costs=costs(0.05, image=0.001))
    assert fast.train.epochs * 6 == LEAST_STEPS_WITHIN
    reason = fast.reasons["train.epochs"]
    assert f"fewer are planned, kept to {LEAST_STEPS_WITHIN} steps: they end the fit" in reason
    assert "some more" not in reason


@given(st.floats(60, 3000))
def test_the_limit_decides_the_epochs(limit):
    paid = costs(0.7)
    train = plan_for(time_limit=limit, costs=paid, presets="fast").train
    an_epoch = 64 // train.batch_size
    steps = paid.steps_within(limit, an_epoch, 16)
    assert train.epochs == min(30, max(1, math.ceil(SPARE_STEPS * steps / an_epoch)))


def test_more_time_is_more_epochs_and_the_reason_says_what_they_cost():
    short, long = (plan_for(time_limit=limit, costs=costs(0.7)) for limit in (300, 600))
    assert short.train.epochs < long.train.epochs
    assert "600 s pay for about" in long.reasons["train.epochs"]
    assert "0.7 s" in long.reasons["train.epochs"]


def test_a_limit_beyond_the_most_epochs_stops_there():
    plan = plan_for(time_limit=10**6, costs=costs(0.7))
    assert plan.train.epochs == 30
    assert "the preset's most of 30" in plan.reasons["train.epochs"]
    assert plan_for(hardware=H200, time_limit=10**6, costs=costs(0.1)).train.epochs == 60


def test_the_limit_may_not_pay_for_an_epoch():
    assert plan_for(facts(count=5000), time_limit=60, costs=costs(0.7)).train.epochs == 1


def test_what_the_user_sets_wins():
    for key, value in {"train.epochs": 3, "train.max_steps": 5}.items():
        plan = plan_for(time_limit=600, costs=costs(0.7), overrides={key: value})
        assert plan.values()[key] == value
    assert plan.train.epochs == 1


def test_the_estimate_is_part_of_the_plan_and_of_no_decision(tmp_path):
    paid = costs(0.7)
    plan = plan_for(costs=paid)
    steps = plan.train.epochs * 32
    machine = CPU.describe()
    assert plan.estimate == Estimate(paid.seconds(steps, 32, 16), 1.0, machine, plan.digest())
    assert plan_for(time_limit=90, costs=paid, presets="best").estimate.seconds <= 90
    assert plan == plan_for()
    assert str(plan).endswith(f"and 1.0 GB on {machine}")
    plan.save(tmp_path / "plan.json")
    again = Plan.load(tmp_path / "plan.json")
    assert again.estimate == plan.estimate
    assert str(again).endswith(f"and 1.0 GB on {machine}")
    assert plan_for().estimate is None
    assert "estimate" not in plan_for().to_dict()


def test_an_estimate_is_not_that_of_an_edited_plan(tmp_path):
    plan = plan_for(costs=costs(0.7))
    edited = replace(plan, train=replace(plan.train, epochs=60))
    assert plan.digest() != edited.digest() == replace(edited, reasons={}).digest()
    for one in (edited, Plan.from_dict(edited.to_dict())):
        assert str(one).endswith(
            "expected: not known, another plan was measured; plan(plan=...) may measure it"
        )
        assert "not known" in one._repr_html_()
    longer = plan_for(given=edited, costs=costs(0.7))
    assert longer.estimate.seconds > plan.estimate.seconds
    assert "not known" not in str(longer)


def test_a_plan_with_values_of_other_types_is_shown():
    plan = plan_for(costs=costs(0.7))
    same = replace(plan, train=replace(plan.train, epochs=np.int64(plan.train.epochs)))
    assert same.digest() == plan.digest()
    odd = replace(plan, train=replace(plan.train, epochs=0))
    assert "not known" in str(odd)


def test_a_step_that_was_timed_wins_over_a_guess():
    timed, guess = costs(6.0), replace(costs(9.0), step_is_guess=True)
    assert guess.completed(timed).step == 6.0
    assert not guess.completed(timed).step_is_guess
    assert guess.completed(replace(timed, step_is_guess=True)).step == 9.0
    assert costs(5.0).completed(timed).step == 5.0


def test_an_estimate_in_words():
    assert str(Estimate(59.6, 1.44)) == "about 1 min 00 s and 1.4 GB"
    assert str(Estimate(7.2, None)) == "about 7 s"
    assert str(Estimate(182 * 60 + 43, None)) == "about 3 h 02 min"


@given(st.integers(60, 3600), st.floats(0.01, 20.0), st.integers(1, 500))
def test_a_validation_takes_a_small_part_of_the_limit(limit, image, count):
    found = replace(facts(), num_tuning=count)
    plan = plan_for(found, time_limit=limit, costs=costs(0.7, image))
    most, reason = plan.train.validation_images, plan.reasons["train.validation_images"]
    if most == -1:
        assert f"all {count}" in reason
        assert count * image <= VALIDATION_SHARE * limit or count <= LEAST_VALIDATED
        assert count * image <= LARGEST_VALIDATION_SHARE * limit or count == 1
    else:
        assert f"all {count} would take" in reason
        assert 1 <= most < count
        assert most == 1 or most * image <= LARGEST_VALIDATION_SHARE * limit
        assert most <= LEAST_VALIDATED or most * image <= VALIDATION_SHARE * limit
        assert (most + 1) * image > VALIDATION_SHARE * limit


@pytest.mark.parametrize(
    ("image", "most"),
    [(0.1, -1), (0.19, 25), (0.39, 12), (0.59, 8), (1.0, 8), (3.0, 5), (10.0, 1), (60.0, 1)],
)
def test_how_many_images_a_minute_validates(image, most):
    """Of 40: 8 % of the limit is 4.8 s, a quarter 15 s."""
    found = replace(facts(), num_tuning=40)
    plan = plan_for(found, time_limit=60.0, costs=costs(0.7, image))
    assert plan.train.validation_images == most


def test_without_a_limit_or_a_probe_all_images_are_validated():
    found = replace(facts(), num_tuning=500)
    paid = costs(0.7, 3.0)
    assert plan_for(found, costs=paid).train.validation_images == -1
    assert plan_for(found, time_limit=60.0).train.validation_images == -1


def test_fewer_validated_images_pay_for_more_steps():
    found = replace(facts(), num_tuning=100)
    options = {"time_limit": 90.0, "costs": costs(0.7, 0.4), "presets": "fast"}
    part = plan_for(found, **options)
    whole = plan_for(found, **options, overrides={"train.validation_images": -1})
    assert (part.train.validation_images, whole.train.validation_images) == (18, -1)
    assert "validations of 7.2 s" in part.reasons["train.epochs"]
    assert "validations of 40 s" in whole.reasons["train.epochs"]


def test_the_estimate_counts_the_images_that_are_validated():
    found, paid = replace(facts(), num_tuning=100), costs(0.7, 0.4)
    whole, part = (
        plan_for(found, costs=paid, overrides={"train.validation_images": most}) for most in (-1, 5)
    )
    saved = whole.train.epochs * 95 * 0.4
    assert whole.estimate.seconds - part.estimate.seconds == pytest.approx(saved)
