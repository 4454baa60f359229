"""Training: repeatable, frozen where it should be, in time, interruptible."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import time
from types import SimpleNamespace

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from tiny_sets import TINY

from easyseg import SemanticSegmentor
from easyseg.clock import Clock
from easyseg.data import loaders
from easyseg.data.dataset import TrainingSet
from easyseg.errors import WeightsError
from easyseg.models.adapters.gate import NoisyTopOneGate
from easyseg.models.network import trainable_state
from easyseg.training import callbacks
from easyseg.training.callbacks import BestModel, StopInTime, StopWithoutProgress
from easyseg.training.module import SegmentationModule


def fit(table, path, **options) -> SemanticSegmentor:
    options = {"hyperparameters": TINY, "accelerator": "cpu"} | options
    return SemanticSegmentor(path=path, verbosity=0).fit(table, **options)


def weights(segmentor) -> dict[str, torch.Tensor]:
    return trainable_state(segmentor._model.network)


def test_the_seed_repeats_a_fit_bit_for_bit_with_any_number_of_workers(table, tmp_path):
    first = weights(fit(table, tmp_path / "a", seed=3, num_workers=0))
    torch.manual_seed(99)
    second = weights(fit(table, tmp_path / "b", seed=3, num_workers=2))
    other = weights(fit(table, tmp_path / "c", seed=4))
    assert all(value.equal(second[name]) for name, value in first.items())
    assert any(not value.equal(other[name]) for name, value in first.items())


def test_a_fit_leaves_the_global_random_state_alone(table, tmp_path):
    torch.manual_seed(5)
    np.random.seed(5)
    expected = (torch.rand(3), np.random.rand(3))
    torch.manual_seed(5)
    np.random.seed(5)
    fit(table, tmp_path / "run", hyperparameters=TINY | {"train.max_steps": 1})
    assert torch.rand(3).equal(expected[0])
    np.testing.assert_array_equal(np.random.rand(3), expected[1])


@pytest.mark.parametrize("backbone", ["tiny_sam", "lite_medsam"])
def test_only_adapters_and_decoder_change(table, tmp_path, backbone):
    changes = {"backbone.name": backbone, "train.max_steps": 2}
    if backbone == "lite_medsam":
        changes["backbone.weights"] = "pretrained"
    before, after = {}, {}

    class Keep(L.Callback):
        """Keeps what was trained itself: what is loaded afterwards would hide a changed base."""

        def on_train_start(self, trainer, module):
            before.update({k: v.clone() for k, v in module.network.state_dict().items()})

        def on_train_end(self, trainer, module):
            after.update({k: v.clone() for k, v in module.network.state_dict().items()})

    hyperparameters = TINY | changes
    segmentor = fit(table, tmp_path, hyperparameters=hyperparameters, seed=1, callbacks=[Keep()])
    trained = weights(segmentor)
    assert any(name.startswith("decoder.") for name in trained)
    assert any("lora_B" in name for name in trained)
    moved = [name for name in trained if not after[name].equal(before[name])]
    assert any("lora_B" in name for name in moved)
    assert any("hypernetwork" in name for name in moved)
    frozen = [name for name in before if name not in trained]
    assert any("running_var" in n for n in frozen) == (backbone == "lite_medsam")
    loaded = segmentor._model.network.state_dict()
    for name in frozen:
        assert after[name].equal(before[name]), name
        assert loaded[name].equal(before[name]), name


@pytest.mark.parametrize("gate", ["learned", "constant"])
def test_the_task_alone_changes_the_routing_by_the_learned_gate(table, tmp_path, gate):
    changes = {"train.epochs": 6, "train.patience": 6, "adapter.gate": gate}
    hyperparameters = TINY | changes | {"loss.balance_weight": 0.0}
    segmentor = fit(table, tmp_path / "run", hyperparameters=hyperparameters)
    gates = {n: v for n, v in weights(segmentor).items() if n.endswith("w_gate")}
    assert gates
    # They start at zero, where all images are given to the first expert.
    assert all((v.abs().sum() > 0) == (gate == "learned") for v in gates.values())
    chosen = set()

    def note(module, inputs, routing):
        chosen.update(routing.expert.tolist())

    for module in segmentor._model.network.modules():
        if isinstance(module, NoisyTopOneGate):
            module.register_forward_hook(note)
    segmentor.predict(table)
    assert (chosen != {0}) == (gate == "learned")
    use = pd.read_csv(segmentor.path_ / "experts.csv")
    assert set(use["epoch"]) == set(segmentor.history_["epoch"])
    assert use["entropy"].between(0, 1).all()


def test_the_saved_model_scores_what_its_epoch_scored(table, tmp_path):
    segmentor = fit(table[:3], tmp_path / "run", tuning_data=table[3:])
    scores = segmentor.evaluate(table[3:])
    assert scores[segmentor.plan_.metric] == pytest.approx(segmentor.best_score_, abs=1e-6)


def test_a_fit_that_finds_no_weights_leaves_its_folder_free(table, tmp_path):
    missing = TINY | {"backbone.weights": str(tmp_path / "nowhere.pth")}
    with pytest.raises(WeightsError, match="nowhere"):
        fit(table, tmp_path / "run", hyperparameters=missing)
    fit(table, tmp_path / "run", hyperparameters=TINY | {"train.max_steps": 1})


def test_the_best_epoch_is_kept_not_the_last(table, tmp_path, monkeypatch):
    from easyseg.metrics.streaming import SegmentationScores

    values = iter([0.3, 0.9, 0.5])
    compute = SegmentationScores.compute

    def staged(self, metrics=None):
        return compute(self, metrics) | {"iou@image": next(values)}

    states = []

    class Keep(L.Callback):
        def on_validation_end(self, trainer, module):
            states.append({k: v.clone() for k, v in trainable_state(module.network).items()})

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationScores, "compute", staged)
        hyperparameters = TINY | {"train.epochs": 3, "train.average": 0}
        segmentor = fit(
            table, tmp_path / "run", hyperparameters=hyperparameters, callbacks=[Keep()]
        )
    assert segmentor.best_score_ == pytest.approx(0.9)
    kept = weights(segmentor)
    assert all(v.equal(kept[k]) for k, v in states[1].items())
    assert any(not v.equal(kept[k]) for k, v in states[2].items())


def test_of_errors_the_lowest_is_kept_and_a_higher_one_is_no_progress(table, tmp_path, monkeypatch):
    from easyseg.metrics.streaming import SegmentationScores

    values = iter([0.2, 0.3, 0.1])
    compute = SegmentationScores.compute

    def staged(self, metrics=None):
        return compute(self, metrics) | {"ber@dataset": next(values)}

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationScores, "compute", staged)
        hyperparameters = TINY | {"train.epochs": 3, "train.patience": 1}
        segmentor = SemanticSegmentor(
            eval_metric="ber@dataset", path=tmp_path / "run", verbosity=0
        ).fit(table, hyperparameters=hyperparameters, accelerator="cpu")
    seen = list(segmentor.history_["ber@dataset"])
    assert seen == pytest.approx([0.2, 0.3])  # then it had waited enough
    assert segmentor.best_score_ == pytest.approx(0.2)


def test_a_validation_scores_the_planned_number_of_images(table, tmp_path, caplog):
    hyperparameters = TINY | {"train.validation_images": 1}
    segmentor = SemanticSegmentor(path=tmp_path / "run").fit(
        table[:4], table[4:], hyperparameters=hyperparameters, accelerator="cpu"
    )
    assert f"that choose the best epoch: 1 of {len(table) - 4}" in caplog.text
    alone = [segmentor.evaluate(table[i : i + 1])["iou@image"] for i in range(4, len(table))]
    assert min(abs(score - segmentor.best_score_) for score in alone) < 1e-6
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "Scores on at most 1 of the images of the validation part" in card


def test_an_error_of_squashed_maps_can_choose_the_epoch(table, tmp_path):
    segmentor = SemanticSegmentor(
        eval_metric="mae@reference", path=tmp_path / "run", verbosity=0
    ).fit(table[:4], table[5:], hyperparameters=TINY, accelerator="cpu")
    assert segmentor.best_score_ == segmentor.history_["mae@reference"].min()
    assert {"iou@image", "mae@reference"} <= set(segmentor.history_.columns)
    scores = segmentor.evaluate(table[5:], "mae@reference")
    assert scores == pytest.approx({"mae@reference": segmentor.best_score_}, abs=1e-5)


def test_the_moving_average_is_saved_and_training_goes_on_from_the_weights(table, tmp_path):
    seen = []

    class Record(L.Callback):
        def on_train_start(self, trainer, module):
            self.keep(module)

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.keep(module)

        def keep(self, module):
            seen.append({k: v.clone() for k, v in trainable_state(module.network).items()})

    hyperparameters = TINY | {"train.average": 0.5, "train.epochs": 3, "train.patience": 3}
    hyperparameters |= {"train.batch_size": 4, "train.micro_batch_size": 4}
    segmentor = fit(table, tmp_path / "run", hyperparameters=hyperparameters, callbacks=[Record()])
    best = segmentor.history_[segmentor.plan_.metric].idxmax()
    steps = int(segmentor.history_["step"][best])
    expected = {k: v.double() for k, v in seen[0].items()}
    for step in range(1, steps + 1):
        move = max(1 / 3, 9 / (9 + step))  # Half of six steps.
        for name, value in expected.items():
            expected[name] = value + move * (seen[step][name].double() - value)
    for name, value in weights(segmentor).items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert any(not v.equal(seen[steps][k]) for k, v in weights(segmentor).items())


def test_a_limited_fit_is_planned_with_what_its_first_steps_cost(table, tmp_path):
    """A minute is the least limit that is probed; its few steps end long before."""
    hyperparameters = {key: TINY[key] for key in TINY if key != "train.epochs"}
    hyperparameters["train.max_steps"] = 3
    plan = fit(table, tmp_path, hyperparameters=hyperparameters, time_limit=60).plan_
    assert plan.estimate is not None
    assert 0 < plan.estimate.seconds <= 60
    assert "s of your 60 s" in plan.reasons["train.validation_images"]


def test_the_time_limit_ends_a_long_fit_with_a_model(table, tmp_path):
    hyperparameters = TINY | {"train.epochs": 10_000, "train.patience": 10_000}
    segmentor = fit(table, tmp_path / "run", hyperparameters=hyperparameters, time_limit=8)
    assert 1 <= len(segmentor.history_) < 10_000
    assert segmentor.history_["seconds"].max() < 8
    assert len(segmentor.predict(table)) == len(table)


def test_no_step_follows_a_validation_that_leaves_no_time(table, tmp_path, caplog):
    class Slow(L.Callback):
        def on_validation_start(self, trainer, module):
            time.sleep(5)

    started = time.monotonic()
    hyperparameters = TINY | {"train.epochs": 9, "train.patience": 9}
    segmentor = fit(
        table, tmp_path, hyperparameters=hyperparameters, time_limit=11, callbacks=[Slow()]
    )
    assert time.monotonic() - started < 11
    assert list(segmentor.history_["epoch"]) == [1]
    assert "time limit of 11 s: " in caplog.text
    assert "hardly learnt" in caplog.text


def test_reading_the_images_is_part_of_a_step(table, tmp_path, monkeypatch):
    read = TrainingSet.__getitem__

    def slow(self, key):
        time.sleep(4)
        return read(self, key)

    monkeypatch.setattr(TrainingSet, "__getitem__", slow)
    hyperparameters = TINY | {"train.batch_size": 1, "train.micro_batch_size": 1}
    started = time.monotonic()
    segmentor = fit(table, tmp_path, hyperparameters=hyperparameters, time_limit=11)
    assert time.monotonic() - started < 11
    assert list(segmentor.history_["step"]) == [1]


@pytest.mark.parametrize(("scale", "told"), [(0.25, True), (512.0, False)])
def test_a_fit_that_overflows_fp16_is_told(table, tmp_path, caplog, scale, told):
    """Each skipped step halves the scale; no CPU has one, so this puts it there."""

    class Overflow(L.Callback):
        def on_fit_end(self, trainer, module):
            trainer.precision_plugin.scaler = SimpleNamespace(get_scale=lambda: scale)

    fit(table, tmp_path, callbacks=[Overflow()])
    assert ("train.precision=32" in caplog.text) is told


def test_no_model_is_validated_twice(table, tmp_path):
    class Interrupt(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if (trainer.current_epoch, batch_idx) == (1, 0):
                signal.raise_signal(signal.SIGINT)

    hyperparameters = TINY | {"train.batch_size": 4, "train.micro_batch_size": 1}
    segmentor = fit(table, tmp_path, hyperparameters=hyperparameters, callbacks=[Interrupt()])
    assert list(segmentor.history_["step"]) == [2, 3]


def test_a_fit_goes_on_when_the_first_validation_takes_less_than_was_guessed(
    table, tmp_path, caplog
):
    """The first step is slow: by it, a validation of all images would take the whole limit."""

    class Slow(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            time.sleep(0 if trainer.global_step else 3)

    hyperparameters = TINY | {"train.batch_size": 1, "train.micro_batch_size": 1}
    hyperparameters |= {"train.epochs": 2, "train.patience": 9}
    with caplog.at_level("INFO", "easyseg"):
        segmentor = fit(
            table[:3],
            tmp_path,
            tuning_data=pd.concat([table[3:]] * 4, ignore_index=True),
            hyperparameters=hyperparameters,
            time_limit=40,
            callbacks=[Slow()],
        )
    assert list(segmentor.history_["step"]) == [1, 3, 6]
    assert "all planned epochs are done" in caplog.text
    assert "hardly learnt" not in caplog.text


@pytest.mark.parametrize(
    ("scores", "saved"),
    [
        ([0.2, 0.1, 0.3, 0.3], [1, 3]),
        ([math.nan, math.nan], [1, 2]),
        ([0.0, math.nan, 0.0, math.nan], [1, 2, 4]),
        ([math.nan, 0.3, math.nan], [1, 2]),  # precision: nothing was found
    ],
)
def test_without_a_score_the_last_epoch_is_kept(tmp_path, monkeypatch, scores, saved):
    """Where nothing is to be found, the score of false alarms is 0, and there is none otherwise."""
    written = []
    rows = [
        {"epoch": epoch, "train_loss": 1.0, "iou@image": score}
        for epoch, score in enumerate(scores, start=1)
    ]
    monkeypatch.setattr(BestModel, "_row", lambda self, trainer, module: rows[len(self.rows)])
    monkeypatch.setattr(SegmentationModule, "trained_model", lambda self: None)
    monkeypatch.setattr(
        callbacks, "write_artifact", lambda model, folder: written.append(len(best.rows))
    )
    best = BestModel(tmp_path, "iou@image", Clock(0.0))
    trainer = SimpleNamespace(is_global_zero=True, max_epochs=4)
    module = SegmentationModule.__new__(SegmentationModule)
    for _ in scores:
        best.on_validation_end(trainer, module)
    assert written == saved


@pytest.mark.parametrize(
    ("scores", "ended"),
    [
        ([0.4, 0.3, 0.2], [False, False, True]),
        ([0.0, math.nan, math.nan, math.nan], [False] * 4),
        ([math.nan] * 4, [False] * 4),
        ([math.nan, 0.4, math.nan, math.nan], [False, False, False, True]),
    ],
)
def test_epochs_without_a_score_are_counted_where_there_is_something_to_find(scores, ended):
    trainer = SimpleNamespace(
        state=SimpleNamespace(fn="fit"),
        sanity_checking=False,
        fast_dev_run=False,
        should_stop=False,
        current_epoch=3,
        strategy=SimpleNamespace(reduce_boolean_decision=lambda decision, **options: decision),
    )
    options = {"check_on_train_epoch_end": True, "check_finite": False}
    stop = StopWithoutProgress("iou@image", patience=2, mode="max", **options)
    found = []
    for score in scores:
        trainer.callback_metrics = {"iou@image": torch.tensor(score)}
        stop.on_train_epoch_end(trainer, None)
        found.append(trainer.should_stop)
    assert found == ended


def test_time_is_kept_for_the_last_validation():
    clock = Clock(started=0.0, limit=None)
    stop = StopInTime(clock, validation_share=10.0)
    stop._step_seconds = 2.0
    assert stop.needed(build_seconds=0) == pytest.approx(1.3 * (2 + 20) + 2)
    stop._validation_seconds = 5.0
    assert stop.needed(build_seconds=3) == pytest.approx(1.3 * (2 + 5 + 3) + 2)


def test_a_first_long_validation_keeps_less_and_less_time(monkeypatch):
    """On a GPU the first one takes many times as long as others."""
    now = [0.0]
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: now[0]))
    stop, module = StopInTime(Clock(0.0, None), 1.0), object.__new__(SegmentationModule)
    module.build_seconds = 0.0
    trainer = SimpleNamespace(
        global_step=1, estimated_stepping_batches=9, world_size=1, should_stop=False
    )
    kept = []
    for seconds in (4.0, 1.0, 3.0, 1.0):
        stop.on_validation_start(trainer, module)
        now[0] += seconds
        stop.on_validation_end(trainer, module)
        kept.append((stop.needed(0.0) - stop.RESERVE_SECONDS) / stop.MARGIN)
    assert kept == pytest.approx([4.0, 2.8, 3.0, 2.1])


def test_an_interrupt_during_a_validation_ends_the_fit_with_it(table, tmp_path):
    class Interrupt(L.Callback):
        def on_validation_start(self, trainer, module):
            signal.raise_signal(signal.SIGINT)

    segmentor = fit(table, tmp_path, callbacks=[Interrupt()])
    assert list(segmentor.history_["epoch"]) == [1]
    assert len(segmentor.predict(table)) == len(table)


def test_loader_processes_start_once_and_read_through_all_epochs(table, tmp_path, monkeypatch):
    started, begin = [], loaders._BatchesOfEpochs.__iter__

    def counted(self):
        started.append(self.first_epoch)  # when its first batch is asked for
        yield from begin(self)

    monkeypatch.setattr(loaders._BatchesOfEpochs, "__iter__", counted)
    hyperparameters = TINY | {"train.epochs": 3, "train.patience": 3}
    read_ahead = fit(table, tmp_path / "a", hyperparameters=hyperparameters, num_workers=2)
    assert started == [0]
    alone = fit(table, tmp_path / "b", hyperparameters=hyperparameters, num_workers=0)
    assert started == [0, 0]
    assert list(read_ahead.history_["epoch"]) == [1, 2, 3]
    assert list(read_ahead.history_["train_loss"]) == list(alone.history_["train_loss"])


@pytest.mark.parametrize("ending", ["done", "failed", "failed in validation"])
def test_no_loader_process_outlives_a_fit(table, tmp_path, ending):
    before = set(multiprocessing.active_children())

    class Break(L.Callback):
        def on_train_epoch_start(self, trainer, module):
            if ending == "failed" and trainer.current_epoch == 2:
                raise ArithmeticError

        def on_validation_batch_start(self, trainer, *arguments):
            if ending == "failed in validation" and trainer.current_epoch == 1:
                raise ArithmeticError

    hyperparameters = TINY | {"train.epochs": 3, "train.patience": 3}
    options = {"hyperparameters": hyperparameters, "callbacks": [Break()], "num_workers": 2}
    if ending != "done":
        with pytest.raises(ArithmeticError) as kept:  # Its frames hold the trainer.
            fit(table, tmp_path, **options)
        assert kept.value is not None
    else:
        fit(table, tmp_path, **options)
    assert set(multiprocessing.active_children()) <= before


@pytest.mark.skipif(os.name == "nt", reason="signals are sent to a process group on Windows")
def test_loader_processes_do_not_mind_an_interrupt(table, tmp_path):
    class Interrupt(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if (trainer.current_epoch, batch_idx) == (1, 0):
                workers = multiprocessing.active_children()
                assert len(workers) >= 2
                for _ in range(2):
                    for worker in workers:
                        os.kill(worker.pid, signal.SIGINT)
                    time.sleep(0.2)
                assert all(worker.is_alive() for worker in workers)
                signal.raise_signal(signal.SIGINT)

    hyperparameters = TINY | {"train.epochs": 9, "train.patience": 9}
    segmentor = fit(
        table,
        tmp_path,
        hyperparameters=hyperparameters,
        num_workers=2,
        callbacks=[Interrupt()],
    )
    assert len(segmentor.history_) == 2


@pytest.mark.skipif(os.name == "nt", reason="signals are sent to a process group on Windows")
def test_an_interrupt_leaves_the_best_model_so_far(table, tmp_path):
    class Interrupt(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if (trainer.current_epoch, batch_idx) == (1, 0):
                signal.raise_signal(signal.SIGINT)

    hyperparameters = TINY | {"train.epochs": 50, "train.patience": 50}
    before = signal.getsignal(signal.SIGINT)
    segmentor = fit(
        table, tmp_path / "run", hyperparameters=hyperparameters, callbacks=[Interrupt()]
    )
    assert len(segmentor.history_) == 2
    assert len(segmentor.predict(table)) == len(table)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_last_steps_of_a_part_of_an_epoch_are_validated(table, tmp_path):
    hyperparameters = TINY | {"train.max_steps": 3, "train.batch_size": 1}
    segmentor = fit(table, tmp_path / "run", hyperparameters=hyperparameters)
    assert list(segmentor.history_["step"]) == [3]


@pytest.mark.parametrize("change", [{"adapter.kind": "lora"}, {"adapter.kind": "none"}])
def test_other_adapters_train_too(table, tmp_path, change):
    hyperparameters = TINY | change | {"train.max_steps": 1}
    segmentor = fit(table, tmp_path / "run", hyperparameters=hyperparameters)
    names = weights(segmentor)
    assert any("lora_A" in n for n in names) == (change["adapter.kind"] == "lora")
    assert not any("experts" in n for n in names)
    assert not (segmentor.path_ / "experts.csv").exists()


def test_accumulation_checkpointing_and_bf16_run(table, tmp_path):
    hyperparameters = TINY | {
        "train.micro_batch_size": 1,
        "train.batch_size": 4,
        "train.gradient_checkpointing": True,
        "train.precision": "bf16",
        "data.geometry": "letterbox",
    }
    segmentor = fit(table, tmp_path / "run", hyperparameters=hyperparameters)
    assert list(segmentor.history_["step"]) == [2, 4]  # Five images: four, then one.
    assert np.isfinite(segmentor.history_["train_loss"]).all()
