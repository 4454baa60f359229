"""Train what was prepared; everything that comes of it is in the run folder."""

from __future__ import annotations

import inspect
import logging
import multiprocessing
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy, Strategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.nn.parallel import DistributedDataParallel

from easyseg.allocator import keep_freed_memory
from easyseg.artifact import preprocess_of
from easyseg.clock import Clock
from easyseg.console import Reporter
from easyseg.errors import OptionError
from easyseg.metrics.catalogue import higher_is_better
from easyseg.plan.hardware import Hardware
from easyseg.preparation import Prepared
from easyseg.ranks import is_first_process, is_interactive, leave_group_at_exit
from easyseg.training.callbacks import (
    AverageWeights,
    BestModel,
    Progress,
    StopInTime,
    StopWithoutProgress,
)
from easyseg.training.gpu_memory import explained_shortage
from easyseg.training.module import SegmentationModule
from easyseg.training.prefix_cache import remove_caches

__all__ = ["ENDED", "Devices", "loader_workers", "train"]

log = logging.getLogger("easyseg")

ENDED = "training ended in epoch %d of %d: %s"
"""What the log says of the end of the training: epoch, planned epochs, why."""

_PRECISION = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
_START_METHODS = {
    "ddp": "popen",
    "ddp_spawn": "spawn",
    "ddp_fork": "fork",
    "ddp_notebook": "fork",
    "fsdp": "popen",
}
# PyTorch's 65536 made the first step of every network that was tried overflow, and be skipped (with
# CUDA's casts imitated on a CPU).
_FP16_SCALE = 1024.0
_CLIP_NORM = 1.0
_FEW_STEPS = 30
_MAX_WORKERS = 8


@dataclass(frozen=True)
class Devices:
    """Where to train, in Lightning's words.

    Attributes:
        hardware: The machine.
        devices: Number of devices of a node, or their indices.
        strategy: Name of a strategy, or a strategy; ``"fsdp"`` is ours (``training/sharding.py``).
        num_workers: Loader processes of a rank.
    """

    hardware: Hardware
    devices: int | str | Sequence[int]
    strategy: str | Strategy
    num_workers: int


def loader_workers(asked: int | str, hardware: Hardware) -> int:
    """Return the number of loader processes.

    ``"auto"``: none on a CPU, whose cores train; beside an accelerator one a core and device, at
    most 8. None where processes are spawned or come from a fork server: a script without an
    ``if __name__ == "__main__"`` guard could not be imported by them.
    """
    if asked != "auto":
        return int(asked)
    if hardware.accelerator == "cpu" or multiprocessing.get_start_method() != "fork":
        return 0
    return min(_MAX_WORKERS, hardware.cpu_count // max(1, hardware.devices))


def _strategy(devices: Devices) -> str | Strategy:
    """Return the strategy; DDP without broadcasting buffers, which are constant here.

    With it, ranks with different numbers of validation batches would wait for each other. FSDP is
    DDP for what is trained; the module shares out the rest.
    """
    strategy = devices.strategy
    if strategy == "fsdp":
        try:
            from torch.distributed.fsdp import fully_shard  # noqa: F401 - is it there?
        except ImportError as error:
            raise OptionError(
                "strategy='fsdp' needs PyTorch 2.6 or later, built with torch.distributed; this is "
                f"{torch.__version__}: use 'ddp'"
            ) from error
    if strategy == "auto" and devices.hardware.processes > 1:
        strategy = "ddp_notebook" if is_interactive() else "ddp"
    if isinstance(strategy, str) and strategy in _START_METHODS:
        # PyTorch renamed the option.
        options = inspect.signature(DistributedDataParallel).parameters
        new = "forward_sync_buffers" in options
        option = {"forward_sync_buffers" if new else "broadcast_buffers": False}
        return DDPStrategy(start_method=_START_METHODS[strategy], **option)  # type: ignore[arg-type]
    return strategy


@contextmanager
def _interrupts() -> Iterator[None]:
    """Raise a second Ctrl-C as what it is: Lightning makes sys.exit(1) of it."""
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


@contextmanager
def _same_random_state_after() -> Iterator[None]:
    """Put the global random states back afterwards, whatever happens.

    CUDA is left asleep if it is: a notebook's training processes are forked, and could not use it.
    """
    python, array, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(array)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


def _trainer(**options: Any) -> L.Trainer:
    """Return a trainer; what Lightning refuses is an error of ours."""
    try:
        return L.Trainer(**options)
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise OptionError(
            f"Lightning refuses accelerator, devices, strategy, callbacks or logger: {error}"
        ) from error


def _precision(precision: str, hardware: Hardware) -> dict[str, Any]:
    """Return the trainer's options of a plan's precision."""
    if precision == "fp16" and hardware.accelerator == "cuda":
        scaler = torch.amp.GradScaler("cuda", init_scale=_FP16_SCALE)
        return {"plugins": [MixedPrecision("16-mixed", "cuda", scaler)]}
    return {"precision": _PRECISION[precision]}


def train(
    prepared: Prepared,
    *,
    seed: int,
    clock: Clock,
    devices: Devices,
    reporter: Reporter,
    callbacks: Sequence[L.Callback] = (),
    logger: Any = None,
) -> Prepared:
    """Train the network of the plan and keep its best epoch in ``<run folder>/model``.

    The global random state is as before afterwards.

    Args:
        prepared: Samples, label map, plan, run folder.
        seed: Seed of everything random.
        clock: The time budget.
        devices: Where to train.
        reporter: Where progress is shown.
        callbacks: The user's Lightning callbacks.
        logger: The user's Lightning logger or loggers.

    Returns:
        What was trained: under several processes the decisions of rank 0.

    Raises:
        OptionError: If Lightning refuses an option, the plan does not go with the strategy, or the
            GPU has too little memory.
    """
    plan = prepared.plan
    shard = devices.strategy == "fsdp"
    if shard and plan.adapter.kind == "full":
        raise OptionError(
            "strategy='fsdp' shares frozen weights out over the devices, and adapter.kind = 'full' "
            "trains the encoder's own weights: use strategy='ddp'"
        )
    sharing: list[L.Callback] = []
    if shard:
        from easyseg.training.sharding import WholeInValidation

        sharing = [WholeInValidation()]
    module = SegmentationModule(prepared, seed, clock, devices.num_workers, shard=shard)
    expected = None
    if prepared.costs is not None:
        expected = prepared.costs.image * len(prepared.validation_samples())
    stop = StopInTime(clock, _validation_windows(prepared) / plan.train.batch_size, expected)
    their_bar = any(isinstance(c, ProgressBar) for c in callbacks)
    trainer = _trainer(
        accelerator="gpu"
        if devices.hardware.accelerator == "cuda"
        else devices.hardware.accelerator,
        devices=devices.devices,
        num_nodes=devices.hardware.num_nodes,
        strategy=_strategy(devices),
        **_precision(plan.train.precision, devices.hardware),
        max_epochs=plan.train.epochs,
        min_epochs=0,
        max_steps=plan.train.max_steps,
        accumulate_grad_batches=plan.train.accumulation(devices.hardware.processes),
        gradient_clip_val=_CLIP_NORM,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks),
        enable_model_summary=False,
        enable_progress_bar=their_bar,
        default_root_dir=prepared.run_folder,
        logger=logger or False,
        callbacks=[
            *([] if their_bar else [Progress(reporter, plan.metric, clock)]),
            BestModel(prepared.run_folder, plan.metric, clock),
            *([AverageWeights(plan.train.average)] if plan.train.average else []),
            *sharing,
            stop,
            StopWithoutProgress(
                plan.metric,
                mode="max" if higher_is_better(plan.metric) else "min",
                patience=plan.train.patience,
                check_finite=False,
            ),
            *callbacks,
        ],
    )
    on_cpu = devices.hardware.accelerator == "cpu"
    keeping = keep_freed_memory() if on_cpu else nullcontext()
    chosen_by, of_all = len(prepared.validation_samples()), prepared.fingerprint.num_tuning
    log.info(
        "training images: %d · images that choose the best epoch: %d%s",
        len(prepared.training_samples()),
        chosen_by,
        f" of {of_all}" if chosen_by < of_all else "",
    )
    shortage = explained_shortage(plan, "training")
    with shortage, _same_random_state_after(), stop.catch_interrupt(), keeping, _interrupts():
        try:
            trainer.fit(module)
        finally:
            module.close()
            leave_group_at_exit()
            if is_first_process():
                remove_caches(prepared.run_folder)
    log.info(
        ENDED,
        max(1, trainer.current_epoch),
        plan.train.epochs,
        _reason(trainer, stop),
    )
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is not None and scaler.get_scale() < 1:
        log.warning(
            "many steps were skipped, for their values exceeded what fp16 holds: the model may not"
            " have learnt. Train in float32: train.precision=32"
        )
    if stop.out_of_time and trainer.global_step < _FEW_STEPS:
        log.warning(
            "training steps that fitted into the time limit of %.0f s: %d. The model has hardly"
            " learnt; give it more time",
            clock.limit,
            trainer.global_step,
        )
    return module.prepared


def _validation_windows(prepared: Prepared) -> int:
    """Guess how many windows a validation predicts: as if all images had the middle size."""
    sides = prepared.fingerprint.height, prepared.fingerprint.width
    height, width = (max(1, round(side.median)) for side in sides)
    geometry = preprocess_of(prepared.plan).geometry
    return len(prepared.validation_samples()) * len(geometry.windows((height, width)))


def _reason(trainer: L.Trainer, stop: StopInTime) -> str:
    if stop.interrupted:
        return "interrupted by you"
    if stop.out_of_time:
        return "the time limit"
    if trainer.global_step == trainer.max_steps:
        return "all planned steps are done"
    if trainer.should_stop:
        return f"no better validation score in {trainer.early_stopping_callback.patience} epochs"  # type: ignore[union-attr]
    return "all planned epochs are done"
