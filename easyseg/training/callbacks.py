"""Callbacks: the log of a run with its best model, stopping in time, and the progress bar."""

from __future__ import annotations

import csv
import io
import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch.optim.swa_utils import get_ema_multi_avg_fn

from easyseg.artifact import write_artifact
from easyseg.clock import Clock
from easyseg.console import Reporter
from easyseg.files import write_text
from easyseg.metrics.catalogue import gain
from easyseg.models.network import load_trainable_state, trainable_state
from easyseg.training.module import SegmentationModule, expert_layers

__all__ = ["AverageWeights", "BestModel", "Progress", "StopInTime", "StopWithoutProgress"]

log = logging.getLogger("easyseg")


class BestModel(L.Callback):
    """After each validation: a row in the log, and the model saved if it is the best so far.

    Scores go to ``metrics.csv``, expert use to ``experts.csv``, the model to ``model/``.

    Args:
        folder: The run folder.
        metric: Key of the validation metric.
        clock: Time since the call of ``fit``.
    """

    def __init__(self, folder: Path, metric: str, clock: Clock) -> None:
        self.folder = folder
        self.metric = metric
        self.clock = clock
        self.best = -math.inf  # As `gain` compares.
        self.rows: list[dict[str, float]] = []
        self.expert_rows: list[dict[str, float | str]] = []

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Log, and save if better."""
        assert isinstance(module, SegmentationModule)
        row = self._row(trainer, module)
        score = row[self.metric]
        value = gain(score, self.metric)
        # Of epochs without a score the last has learnt most.
        later = value == self.best and math.isnan(score)
        better = not self.rows or value > self.best or later
        self.rows.append(row)
        if better:
            self.best = value
        if trainer.is_global_zero:
            _write_csv(self.folder / "metrics.csv", self.rows)
            if self.expert_rows:
                _write_csv(self.folder / "experts.csv", self.expert_rows)
            if better:
                write_artifact(module.trained_model(), self.folder / "model")
            log.info(
                "epoch %d of %s · train loss %.3f · %s %.4f%s",
                row["epoch"],
                trainer.max_epochs,
                row["train_loss"],
                self.metric,
                row[self.metric],
                " · best so far, saved" if better else "",
            )

    def on_fit_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Let no rank read the model before it is written."""
        trainer.strategy.barrier()

    def _row(self, trainer: L.Trainer, module: SegmentationModule) -> dict[str, float]:
        row = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "seconds": round(self.clock.elapsed(), 2),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "train_loss": module.take_train_loss(),
        }
        row |= {k: float(v) for k, v in trainer.callback_metrics.items() if "@" in k}
        entropies = []
        for name, counts in expert_layers(module.network).items():
            total = trainer.strategy.reduce(counts.clone(), reduce_op="sum")
            assert isinstance(total, torch.Tensor)
            counts.zero_()
            share = total / total.sum().clamp(min=1)
            entropy = float(torch.special.entr(share).sum() / math.log(max(2, len(share))))
            entropies.append(entropy)
            shares = {f"expert_{i}": round(float(s), 4) for i, s in enumerate(share)}
            self.expert_rows.append(
                {"epoch": row["epoch"], "layer": name, "entropy": round(entropy, 4), **shares}
            )
        if entropies:
            row["routing_entropy"] = sum(entropies) / len(entropies)
        return row


def _write_csv(path: Path, rows: list[Any]) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


class AverageWeights(L.Callback):
    """Validate and save a moving average of the weights, which training on few images needs.

    After step t the average moves towards the weights by ``max(1 / n, 9 / (9 + t))``, n being the
    steps it looks back: soon after the start it follows them closely. Put it behind the callbacks
    that read the averaged network after a validation: it puts the weights back there.

    Args:
        share: The steps to look back, as a share of all steps.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.average: dict[str, torch.Tensor] = {}
        self._live: dict[str, torch.Tensor] = {}
        self._weights: dict[str, torch.Tensor] = {}
        self._step = 0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start from the first weights; a step changes them where they are."""
        self._live = trainable_state(module)
        self.average = {k: v.clone() for k, v in self._live.items()}
        self._step = 0
        self._lookback = max(1.0, self.share * float(trainer.estimated_stepping_batches))

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Move after each optimizer step."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        move = max(1 / self._lookback, 9 / (9 + self._step))
        update = get_ema_multi_avg_fn(1 - move)
        update(list(self.average.values()), list(self._live.values()), self._step)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Let the weights go: a GPU may need their place."""
        self.average, self._live, self._weights = {}, {}, {}

    def on_exception(
        self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException
    ) -> None:
        """Let the weights go, which the error would hold."""
        self.on_train_end(trainer, module)

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Put the average in."""
        self._weights = {k: v.clone() for k, v in self._live.items()}
        load_trainable_state(module, self.average)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Put the weights back."""
        load_trainable_state(module, self._weights)
        self._weights = {}


class StopWithoutProgress(EarlyStopping):
    """Stop after epochs without a better score.

    An epoch without a score, nan, is none of them where there is nothing to find: as long as no
    epoch has scored more than 0.
    """

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Count the epoch."""
        if self.best_score > 0 or not trainer.callback_metrics[self.monitor].isnan():
            super().on_train_epoch_end(trainer, module)


class StopInTime(L.Callback):
    """Stop before the time is up, at the first Ctrl-C or the last step, with a last validation.

    It is decided after each optimizer step and after each validation, never in between: a
    validation always has a step before it. The time for the last validation, and for loading the
    best model afterwards, is kept in reserve: as measured, before the first validation as expected,
    or as guessed from the training steps.

    Args:
        clock: The budget.
        validation_share: Number of validation windows over number of training images of an
            optimizer step.
        validation_seconds: What a validation is expected to take, if that is known.
    """

    RESERVE_SECONDS = 2.0
    MARGIN = 1.3
    # What one step or validation took is expected of the next ones, too, but less and less.
    FADING = 0.7

    def __init__(
        self, clock: Clock, validation_share: float, validation_seconds: float | None = None
    ) -> None:
        self.clock = clock
        self.validation_share = validation_share
        self.validation_seconds = validation_seconds
        self.interrupted = False
        self.out_of_time = False
        self._step_seconds = 0.0
        self._validation_seconds: float | None = None
        self._stopped = False
        self._last = 0.0
        self._step = 0

    @contextmanager
    def catch_interrupt(self) -> Iterator[None]:
        """Turn the first Ctrl-C into a stop after the running step; the second one interrupts."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handler(number: int, frame: FrameType | None) -> None:
            self.interrupted = True
            signal.signal(signal.SIGINT, before)
            log.warning("interrupted: finishing with the best model so far (Ctrl-C again aborts)")

        before = signal.signal(signal.SIGINT, handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the clock of the first step, which reads its images first."""
        self._last, self._step = time.monotonic(), trainer.global_step

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stop if one more step would leave too little time for the last validation."""
        if trainer.global_step == self._step:
            return
        now = time.monotonic()
        self._step_seconds = max(self.FADING * self._step_seconds, now - self._last)
        self._last, self._step = now, trainer.global_step
        if self._must_stop(trainer, module):
            self._stopped = not trainer.should_stop
            trainer.should_stop = True
        # Lightning would skip the validation after the last step of a part of an epoch.
        elif trainer.global_step == trainer.max_steps:
            trainer.should_stop = True

    def _must_stop(self, trainer: L.Trainer, module: L.LightningModule) -> bool:
        """Decide, for all ranks alike."""
        assert isinstance(module, SegmentationModule)
        stop = self.interrupted or self.clock.remaining() < self.needed(module.build_seconds)
        if trainer.world_size > 1:
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
            if stop:  # Why: the interrupt, or the clock, may be another rank's.
                reduce = trainer.strategy.reduce_boolean_decision
                self.interrupted = reduce(self.interrupted, all=False)
        self.out_of_time = stop and not self.interrupted
        return stop

    def needed(self, build_seconds: float) -> float:
        """Return the seconds that one more step and all that follows it take.

        Args:
            build_seconds: What building the network takes; it is built again around the best model.
        """
        validation = self._validation_seconds
        if validation is None:
            validation = self.validation_seconds
        if validation is None:
            validation = self._step_seconds * self.validation_share
        return (
            self.MARGIN * (self._step_seconds + validation + build_seconds) + self.RESERVE_SECONDS
        )

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the clock of the validation."""
        self._validation_start = time.monotonic()

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Remember how long a validation took, saving included; stop if another has no time.

        Go on if there was none for it by the guess before the first one, and there is now.
        """
        self._last = time.monotonic()
        took = self._last - self._validation_start
        self._validation_seconds = max(took, self.FADING * (self._validation_seconds or 0.0))
        planned = trainer.global_step >= trainer.estimated_stepping_batches
        if planned:
            self.out_of_time = False
            return
        if self._must_stop(trainer, module):
            trainer.should_stop = True
        elif self._stopped:
            trainer.should_stop = False
        self._stopped = False


class Progress(L.Callback):
    """One bar for the whole fit, on the console of the other messages.

    Args:
        reporter: Where to show it.
        metric: The validation metric shown beside the bar.
        clock: The budget. Where there is a limit, the bar shows the share of the steps that are
            planned or of the time that is left for them, whichever is further: either ends the fit.
    """

    def __init__(self, reporter: Reporter, metric: str, clock: Clock) -> None:
        self.reporter = reporter
        self.metric = metric
        self.clock = clock
        self._score = ""
        self._done = 0  # batches
        self._bar: Any = None
        self._task: Any = None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Show the bar on the first rank."""
        if not trainer.is_global_zero or not self.reporter.live:
            return
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.reporter.console,
            transient=True,
        )
        self._bar.start()
        self._steps = int(trainer.num_training_batches) * (trainer.max_epochs or 1)
        self._left = self.clock.remaining()
        self._task = self._bar.add_task("training", total=1.0)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Advance the bar."""
        if self._bar is None:
            return
        text = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}{self._score}"
        self._done += 1
        used = 0.0 if self.clock.limit is None else 1 - self.clock.remaining() / self._left
        share = max(self._done / self._steps, used)
        self._bar.update(self._task, completed=share, description=text)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Remember the score: reading it in each step would make a GPU wait."""
        self._score = f" · {self.metric} {float(trainer.callback_metrics[self.metric]):.3f}"

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Remove the bar."""
        self._stop()

    def on_exception(
        self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException
    ) -> None:
        """Remove the bar."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
