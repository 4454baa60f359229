"""The probe: real steps, no trace."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_sets import TINY, make_table

from easyseg.artifact import preprocess_of
from easyseg.clock import Clock
from easyseg.data.dataset import TrainingSet
from easyseg.data.loaders import WindowLoader
from easyseg.plan.costs import Costs
from easyseg.plan.hardware import detect_hardware
from easyseg.plan.plan import Plan
from easyseg.preparation import prepare
from easyseg.training import probe
from easyseg.training.probe import measure_costs

CPU = torch.device("cpu")


@pytest.fixture
def draft(tiny_backbones, tmp_path: Path):
    return partial(
        prepare,
        make_table(tmp_path / "set", 6),
        None,
        problem_type="auto",
        image="image",
        label="label",
        classes=None,
        ignore_index=None,
        eval_metric=None,
        data_root=None,
        presets="fast",
        hyperparameters={key: TINY[key] for key in TINY if key != "train.epochs"},
        time_limit=60.0,
        holdout_frac=0.3,
        hardware=detect_hardware("cpu"),
        seed=0,
        run_folder=tmp_path / "run",
    )


def clock(limit: float | None = 60.0) -> Clock:
    return Clock(time.monotonic(), limit)


def test_the_plan_is_made_with_what_was_measured(draft):
    prepared = draft(probe=lambda first: measure_costs(first, CPU, 0, clock()))
    costs = prepared.costs
    assert all(value > 0 for value in (costs.step, costs.image, costs.build))
    assert costs.before >= costs.build
    assert costs.memory_gb is None or 0.1 < costs.memory_gb < 100
    assert "pay for about" in prepared.plan.reasons["train.epochs"]
    assert not prepared.run_folder.exists()
    assert draft().costs is None


@pytest.mark.parametrize("names", [["hflip"], ["crop"]])
def test_the_images_that_stay_in_memory_are_foreseen(draft, names):
    values = {**draft.keywords["hyperparameters"], "data.augment": names}
    prepared = draft(hyperparameters=values)
    plan, labels = prepared.plan, prepared.label_map
    training = TrainingSet(
        prepared.training_samples(), preprocess_of(plan), labels, plan.data.augment, 0, keep=2**30
    )
    tuning = WindowLoader(
        prepared.validation_samples(), preprocess_of(plan), labels, batch_size=4, keep=2**30
    )
    for position in range(len(training)):
        training[0, position]
    assert list(tuning)
    # The images are of different sizes, and all count as the middle one.
    expected = training._kept.used, tuning._kept.used
    assert probe._kept_bytes(prepared) == pytest.approx(expected, rel=0.02)


def test_the_probe_is_part_of_a_fit_with_a_limit_only(draft, monkeypatch):
    prepared = draft()
    monkeypatch.setattr(probe, "score", lambda *arguments, **options: time.sleep(0.2))
    started = time.monotonic() - 5
    assert measure_costs(prepared, CPU, 0, Clock(started)).before < 5.2
    assert measure_costs(prepared, CPU, 0, Clock(started, 60.0)).before > 5.2


def test_memory_is_unknown_where_the_process_has_held_more_before(draft, monkeypatch):
    monkeypatch.setattr(probe, "_peak_gb", lambda device: 1.0)
    monkeypatch.setattr(probe, "reset_peak", lambda device: False)
    plan = draft(probe=lambda first: measure_costs(first, CPU, 0, clock())).plan
    assert plan.estimate.memory_gb is None
    assert "GB" not in str(plan.estimate)
    text = json.dumps(plan.to_dict(), allow_nan=False)  # What is saved knows no NaN.
    assert Plan.from_dict(json.loads(text)) == plan


def test_no_step_is_timed_where_frozen_features_are_kept(draft, monkeypatch):
    def never(*arguments):
        raise AssertionError("a step was taken")

    monkeypatch.setattr(probe, "new_optimizer", never)
    kept = TINY | {"train.prefix_cache": True, "adapter.blocks": 1}
    measure = partial(measure_costs, device=CPU, seed=0, clock=clock())
    prepared = draft(hyperparameters=kept, probe=measure)
    assert prepared.costs.step is None
    assert prepared.costs.image > 0
    assert prepared.plan.estimate is None
    assert draft(hyperparameters=kept, probe=never, time_limit=None).costs is None


def test_a_plan_with_other_steps_than_its_draft_is_probed_again(draft):
    """Six images for a minute: the draft's epochs change colours, those that are paid for not."""
    first = Costs(6.0, 0.1, 0.5, 3.0, 2.0, took=1.5)
    seen, paid = [], iter([first, Costs(5.0, 0.1, 0.5, 3.0, None)])
    before = []

    def measured(prepared, spent=0.0):
        before.append(spent)
        seen.append(prepared.plan.data.augment)
        return next(paid)

    values = {k: v for k, v in draft.keywords["hyperparameters"].items() if k != "data.augment"}
    values["train.max_steps"] = -1
    prepared = draft(hyperparameters=values, probe=measured)
    assert ["colour" in augment for augment in seen] == [True, False]
    assert before == [0.0, 1.5]
    assert prepared.plan.data.augment == seen[1]
    assert (prepared.costs.step, prepared.costs.memory_gb) == (5.0, 2.0)


def test_a_second_probe_keeps_within_the_share_of_both(draft, monkeypatch):
    prepared, ends = draft(), []
    image_seconds = probe._image_seconds
    monkeypatch.setattr(probe, "_image_seconds", lambda *a: ends.append(a[-1]) or image_seconds(*a))
    for spent in (0.0, 2.5):
        measure_costs(prepared, CPU, 0, clock(600.0), spent=spent)
        ends[-1] -= time.monotonic()
    assert ends[0] - ends[1] == pytest.approx(2.5, abs=1.0)


def test_a_second_plan_of_a_process_knows_its_memory_too(draft):
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak of a process starts anew on Linux only")
    measure = partial(measure_costs, device=CPU, seed=0, clock=clock())
    plans = [draft(probe=measure).plan for _ in range(2)]
    assert all(plan.estimate.memory_gb for plan in plans)


def test_what_reading_the_data_took_is_part_of_a_fit(draft, monkeypatch):
    peaks = iter([50.0, 1.0])  # before the probe, and after it
    monkeypatch.setattr(probe, "reset_peak", lambda device: True)
    monkeypatch.setattr(probe, "_peak_gb", lambda device: next(peaks))
    assert measure_costs(draft(), CPU, 0, clock()).memory_gb == 50.0


def test_a_precision_without_hardware_is_timed_as_it_is_trained(draft, monkeypatch):
    seen = set()
    loss = probe.training_loss

    def watched(network, plan, output, targets):
        seen.add(output.logits.dtype)
        return loss(network, plan, output, targets)

    monkeypatch.setattr(probe, "training_loss", watched)
    monkeypatch.setattr("easyseg.inference.predict.native_bf16", lambda device: False)
    asked = draft.keywords["hyperparameters"] | {"train.precision": "bf16"}
    measure_costs(draft(hyperparameters=asked), CPU, 0, clock())
    assert seen == {torch.bfloat16}


def test_flips_that_are_left_out_cost_no_second_probe(draft):
    """Four images for a minute, and steps of twenty seconds: each is seen less than once."""
    seen = []

    def measured(prepared):
        seen.append(prepared.plan.data.augment)
        return Costs(20.0, 0.1, 0.5, 3.0, None)

    values = {k: v for k, v in draft.keywords["hyperparameters"].items() if k != "data.augment"}
    values |= {"train.max_steps": -1, "train.epochs": 4}
    prepared = draft(hyperparameters=values, probe=measured)
    assert (len(seen), prepared.plan.data.augment) == (1, ())
    assert "hflip" in seen[0]


def test_a_second_probe_of_kept_features_does_not_undo_what_it_was_made_for(draft):
    """Four images seen twice in a minute: left as they are they come again, and are kept."""
    seen = []

    def measured(prepared, spent=0.0):
        seen.append(prepared.plan.train.prefix_cache)
        return Costs(None if seen[-1] else 6.5, 0.1, 0.5, 3.0, 1.0, 0.25)

    values = {k: v for k, v in draft.keywords["hyperparameters"].items() if k != "data.augment"}
    values |= {"train.max_steps": -1, "train.epochs": 3, "adapter.blocks": 1, "train.batch_size": 1}
    prepared = draft(hyperparameters=values, presets=["fast", "microscopy"], probe=measured)
    assert seen == [False, True]
    assert (prepared.plan.data.augment, prepared.plan.train.prefix_cache) == ((), True)
    assert (prepared.costs.step, prepared.costs.reading) == (6.5, 0.25)
    assert prepared.costs.step_is_bound
    assert "pay for at least" in prepared.plan.reasons["data.augment"]


def test_reading_images_that_stay_in_memory_is_counted_once(draft, monkeypatch):
    read = TrainingSet._read
    monkeypatch.setattr(TrainingSet, "_read", lambda *a: time.sleep(0.05) or read(*a))
    prepared = draft()
    costs = measure_costs(prepared, CPU, 0, clock())
    assert costs.reading >= 0.05 * len(prepared.training_samples())
    monkeypatch.setattr(probe, "KEPT_BYTES", 1)
    assert measure_costs(prepared, CPU, 0, clock()).reading == 0


def test_random_numbers_stay_as_they_were(draft):
    prepared, state = draft(), torch.get_rng_state()
    measure_costs(prepared, CPU, 0, clock())
    assert torch.get_rng_state().equal(state)


def test_steps_are_timed_with_their_images(draft, monkeypatch):
    read = TrainingSet.__getitem__
    taken = []

    def slow(self, key):
        taken.append(key)
        time.sleep(0.05)
        return read(self, key)

    monkeypatch.setattr(TrainingSet, "__getitem__", slow)
    prepared = draft()
    train = replace(prepared.plan.train, batch_size=4, micro_batch_size=2)
    prepared = replace(prepared, plan=replace(prepared.plan, train=train))
    costs = measure_costs(prepared, CPU, 0, clock(limit=None))
    assert costs.step > 0.2
    # A forward pass and two steps, all of whose images were read before; few images come again.
    assert len(taken) == 2 * (2 + 2 * 4)


def test_images_that_stay_in_memory_are_read_before_a_step_is_timed(draft, monkeypatch):
    read, loss, events = TrainingSet._read, probe.training_loss, []
    monkeypatch.setattr(TrainingSet, "_read", lambda *a: events.append("read") or read(*a))
    monkeypatch.setattr(probe, "training_loss", lambda *a: events.append("loss") or loss(*a))
    prepared = draft()
    assert len(prepared.training_samples()) == 4
    train = replace(prepared.plan.train, batch_size=4, micro_batch_size=2)
    prepared = replace(prepared, plan=replace(prepared.plan, train=train))
    measure_costs(prepared, CPU, 0, clock(limit=None))
    # A forward pass of two images, then two steps of two passes each over all four.
    assert events == ["read", "read", "loss", "read", "read", *["loss"] * 4]
    events.clear()
    monkeypatch.setattr(probe, "KEPT_BYTES", 0)
    measure_costs(prepared, CPU, 0, clock(limit=None))
    assert events == ["read", "read", "loss"] * 5


def test_the_first_scored_image_warms_up_and_others_follow_if_there_is_time(draft, monkeypatch):
    prepared, scored = draft(), []

    def slow(model, samples, **options):
        scored.append(len(samples))
        time.sleep(0.3 if len(scored) == 1 else 0.1)

    monkeypatch.setattr(probe, "score", slow)
    few = len(prepared.validation_samples())
    assert 1 < few <= 1 + probe._SCORED
    assert 0.3 > measure_costs(prepared, CPU, 0, clock(limit=None)).image * (few - 1) >= 0.1
    assert scored == [1, few - 1]
    scored.clear()
    assert measure_costs(prepared, CPU, 0, clock(limit=0.001)).image >= 0.3
    assert scored == [1]


@pytest.fixture
def slow_steps(monkeypatch):
    """A clock of its own, on which a forward pass takes 1 s and a step 3; with the steps taken."""
    now, done = [0.0], []
    loss, optimizer = probe.training_loss, probe.new_optimizer

    def slow_loss(*arguments):
        now[0] += 1.0
        return loss(*arguments)

    def slow_optimizer(*arguments):
        made = optimizer(*arguments)
        take = made.step

        def step():
            now[0] += 2.0
            done.append(take())

        made.step = step
        return made

    monkeypatch.setattr(probe, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(probe, "training_loss", slow_loss)
    monkeypatch.setattr(probe, "new_optimizer", slow_optimizer)
    return now, done


def of_two_images(prepared):
    """Return the same with batches of two images."""
    train = replace(prepared.plan.train, batch_size=2, micro_batch_size=2)
    return replace(prepared, plan=replace(prepared.plan, train=train))


@pytest.mark.parametrize(("limit", "steps", "scored"), [(160.0, 1, [1, 1]), (200.0, 2, [1, 1])])
def test_a_second_step_leaves_time_for_scoring(
    draft, monkeypatch, slow_steps, limit, steps, scored
):
    """An image takes 1 s, the probe 5 %."""
    (now, done), images = slow_steps, []

    def slow_score(model, samples, **options):
        now[0] += len(samples)
        images.append(len(samples))

    monkeypatch.setattr(probe, "score", slow_score)
    costs = measure_costs(of_two_images(draft()), CPU, 0, clock(limit))
    assert (costs.step, costs.image) == (3.0, 1.0)
    assert (len(done), images) == (steps, scored)


@pytest.mark.parametrize(
    ("limit", "steps", "scored"),
    [(60.0, 0, [1, 1]), (100.0, 1, [1, 1]), (200.0, 1, [1, 1, 1]), (400.0, 5, [1, 1, 1])],
)
def test_what_an_accelerator_loads_at_first_is_no_cost_of_a_step(
    draft, monkeypatch, slow_steps, limit, steps, scored
):
    """It takes 20 s for its first pass, and for its first step, which others do in 1 s and 3 s."""
    (now, done), images, passes = slow_steps, [], []
    loss, backward = probe.training_loss, torch.Tensor.backward

    def cold_loss(*arguments):
        now[0] += 0.0 if passes else 19.0
        passes.append(1)
        return loss(*arguments)

    def cold_backward(self):
        now[0] += 0.0 if done else 17.0
        backward(self)

    def slow_score(model, samples, **options):
        now[0] += len(samples)
        images.append(len(samples))

    monkeypatch.setattr(probe, "_is_accelerator", lambda device: True)
    monkeypatch.setattr(probe, "training_loss", cold_loss)
    monkeypatch.setattr(torch.Tensor, "backward", cold_backward)
    monkeypatch.setattr(probe, "score", slow_score)
    costs = measure_costs(of_two_images(draft()), CPU, 0, clock(limit))
    assert (costs.step, len(done), images) == (3.0, steps, scored)


def test_a_step_that_is_too_long_for_the_limit_is_guessed(draft, monkeypatch):
    prepared = draft()

    def never(*arguments):
        raise AssertionError("a step was taken")

    monkeypatch.setattr(torch.Tensor, "backward", never)
    costs = measure_costs(prepared, CPU, 0, clock(limit=0.001))
    assert costs.step > 0
    assert costs.memory_gb is None
    with pytest.raises(AssertionError, match="a step was taken"):
        measure_costs(prepared, CPU, 0, clock(limit=None))


@pytest.mark.parametrize(
    ("workers", "step", "reading"), [(0, 5.0, 1.0), (1, 3.0, 0.0), (4, 3.0, 0.0)]
)
def test_loader_processes_read_while_the_network_computes(
    draft, monkeypatch, slow_steps, workers, step, reading
):
    """An image takes 1 s, to read and to score."""
    prepared, (now, _), read = of_two_images(draft()), slow_steps, TrainingSet.__getitem__

    def slow_read(self, key):
        now[0] += 1.0
        return read(self, key)

    def slow_score(model, samples, **options):
        now[0] += len(samples)

    monkeypatch.setattr(TrainingSet, "__getitem__", slow_read)
    monkeypatch.setattr(probe, "score", slow_score)
    costs = measure_costs(prepared, CPU, 0, clock(10_000.0), workers)
    assert costs.step == step
    assert costs.reading == reading * prepared.fingerprint.num_images
