"""A short probe: a few steps and predictions of a draft plan, timed, so that the plan can count."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain, cycle, islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from easyseg.allocator import keep_freed_memory
from easyseg.artifact import preprocess_of
from easyseg.clock import Clock
from easyseg.data.dataset import TrainingSet
from easyseg.data.kept import KEPT_BYTES
from easyseg.data.loaders import EpochSampler, collate_training, workers_that_fit
from easyseg.data.transforms import wants_own_pixels
from easyseg.inference.predict import auto_batch_size
from easyseg.metrics.evaluate import score
from easyseg.models.network import Network, build_network
from easyseg.models.registry import get_spec
from easyseg.models.weights import find_weights
from easyseg.plan.costs import Costs
from easyseg.preparation import Prepared
from easyseg.ranks import Ranks
from easyseg.training.gpu_memory import explained_shortage
from easyseg.training.module import new_optimizer, training_loss

__all__ = ["PROBED_FROM_SECONDS", "measure_costs", "reset_peak"]

# Below it a probe would take more of the time than it is worth.
PROBED_FROM_SECONDS = 60.0
# What a probe may take of the limit; a step that would take more is guessed from its forward pass.
_SHARE = 0.05
_STEP_PER_FORWARD = 3.0
# Steps that are taken if there is time: the first one warms up, the median of the others counts.
_STEPS_OF_A_CPU = 2
_STEPS_OF_AN_ACCELERATOR = 5
# A fit takes more of a machine's memory than its first step and validation: what the allocator
# keeps gets gaps, and validations come while the optimizer's state is there. With this factor, fits
# of two minutes peaked at 0.99 to 1.03 of their estimates, of one at 0.85 to 0.97
# (benchmarks/estimates.py).
_GROWTH = 1.15
# Images that are scored after the first one, as far as there is time.
_SCORED = 4


def measure_costs(
    prepared: Prepared,
    device: torch.device,
    seed: int,
    clock: Clock,
    workers: int = 0,
    spent: float = 0.0,
) -> Costs:
    """Build the network of a draft plan, take a few of its steps, score a few validation images.

    No step is taken where features of the frozen part are kept: whole ones tell little of it. The
    network is thrown away, and no random number of the fit is drawn (but on Apple's GPUs, whose
    state PyTorch cannot put aside).

    Args:
        prepared: Samples and draft plan.
        device: Where the fit will train.
        seed: Seed of the fit.
        clock: The time budget of the fit.
        workers: Loader processes of the fit which read the next images while an accelerator
            computes.
        spent: Seconds that the probe of an earlier draft took: on a CPU both together keep within
            the share of the limit.

    Returns:
        The costs.

    Raises:
        OptionError: If a GPU has too little memory for the draft.
    """
    with explained_shortage(prepared.plan, "the first steps, by which a fit is planned"):
        return _measure(prepared, device, seed, clock, workers, spent)


def _measure(
    prepared: Prepared,
    device: torch.device,
    seed: int,
    clock: Clock,
    workers: int,
    spent: float,
) -> Costs:
    plan = prepared.plan
    if plan.backbone.weights == "pretrained":
        find_weights(get_spec(plan.backbone.name))  # A download is no part of building.
    before = _peak_gb(device)  # What reading the data took, since the count began.
    reset = reset_peak(device)
    forked = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=forked), keep_freed_memory():
        started, before_probe = time.monotonic(), clock.elapsed()
        end = started + _SHARE * (float("inf") if clock.limit is None else clock.limit)
        if not _is_accelerator(device):  # What one takes to load at first is no part of the probe.
            end -= spent
        network = build_network(plan, seed=seed)
        build = time.monotonic() - started
        network.to(device)
        steps = _Steps(None, 0.0, False, 0.0)
        if not plan.train.prefix_cache:
            steps = _measure_steps(prepared, network, device, seed, end, workers)
        image = _image_seconds(prepared, network, device, seed, end + steps.loading)
    took = time.monotonic() - started
    peak = _peak_gb(device)
    memory = None
    # Without a step its memory is not known; nor if this process has held more before, where the
    # count cannot begin anew.
    if steps.taken and before is not None and peak is not None and (reset or peak > before):
        memory = peak if device.type == "cuda" else _GROWTH * peak
        if device.type == "cpu":
            memory += sum(min(KEPT_BYTES, size) for size in _kept_bytes(prepared)) / 1e9
            memory = max(memory, before)
    # Without a limit a fit is planned with a probe, and goes without one itself.
    before_training = before_probe if clock.limit is None else clock.elapsed()
    reading = steps.reading * prepared.fingerprint.num_images
    guessed = steps.seconds is not None and not steps.taken
    return Costs(
        *(steps.seconds, image, build, before_training, memory, reading),
        step_is_guess=guessed,
        took=took,
    )


class _Steps(NamedTuple):
    """What steps cost.

    Attributes:
        seconds: Seconds of a step; None if it is not known.
        reading: Seconds of reading an image for the first time, where images stay in memory.
        taken: Whether a step was taken.
        loading: Seconds that the first pass and the first step took longer than others, on an
            accelerator: it loads what the fit would load, and is no part of the probe.
    """

    seconds: float | None
    reading: float
    taken: bool
    loading: float


def _measure_steps(
    prepared: Prepared,
    network: Network,
    device: torch.device,
    seed: int,
    end: float,
    workers: int,
) -> _Steps:
    """Return what steps cost.

    Args:
        prepared: Samples and draft plan.
        network: The network.
        device: Where it is.
        seed: Seed of order and augmentation.
        end: When the probe should end, in ``time.monotonic()``.
        workers: Loader processes of the fit: a step takes as long as they or the network need,
            whichever is longer.
    """
    plan = prepared.plan
    samples = prepared.training_samples()
    batch, size = plan.train.micro_batch_size, preprocess_of(plan).geometry.size
    # As the fit's loader counts them.
    workers = workers_that_fit(min(workers, math.ceil(len(samples) / batch)), batch, size)
    data = TrainingSet(
        samples,
        preprocess_of(plan),
        prepared.label_map,
        plan.data.augment,
        seed,
        # Loader processes keep nothing.
        keep=KEPT_BYTES if not workers and _kept_bytes(prepared)[0] <= KEPT_BYTES else 0,
    )
    keys = cycle(EpochSampler(len(samples), seed))
    optimizer = new_optimizer(network, plan, device)
    passes = plan.train.accumulation(1)
    network.train()

    def loss() -> Tensor:
        if workers:
            _wait_for(device)  # Nothing is computed while the images are read: both are timed.
        started = time.monotonic()
        with _one_thread() if workers else nullcontext():
            batch = collate_training([data[key] for key in coming.pop()])
        fetched.append(time.monotonic() - started)
        with _training_autocast(plan.train.precision, device):
            output = network(batch.images.to(device))
            return training_loss(network, plan, output, batch.targets.to(device))[1]

    def seconds_of(work: Callable[[], object], batches: int = 1) -> float:
        coming.extend(list(islice(keys, plan.train.micro_batch_size)) for _ in range(batches))
        if data.keeps:  # Only the first epoch of a fit reads.
            for key in chain.from_iterable(coming):
                started = time.monotonic()
                data[key]
                read.append(time.monotonic() - started)
        fetched.clear()
        started = time.monotonic()
        work()
        _wait_for(device)
        seconds, fetching = time.monotonic() - started, sum(fetched)
        return max(seconds - fetching, fetching / workers) if workers else seconds

    def step() -> None:
        for _ in range(passes):
            loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    coming: list[list[tuple[int, int]]] = []
    read: list[float] = []
    fetched: list[float] = []
    forward = torch.no_grad()(loss)
    seconds, taken, loading = _time_steps(
        lambda: seconds_of(forward),
        lambda: seconds_of(step, passes),
        _STEP_PER_FORWARD * passes,
        end,
        _is_accelerator(device),
    )
    return _Steps(seconds, statistics.median(read) if read else 0.0, taken, loading)


def _time_steps(
    forward: Callable[[], float],
    step: Callable[[], float],
    per_forward: float,
    end: float,
    accelerator: bool,
) -> tuple[float, bool, float]:
    """Take steps for as long as there is time for them and for scoring some images.

    The first step warms up, if there is time for another one. If there is no time for a step, it is
    guessed from a forward pass. An accelerator takes many times as long for its first pass and its
    first step, which load its libraries: they tell nothing of the others.

    Args:
        forward: Does a forward pass; returns its seconds.
        step: Takes a step; returns its seconds.
        per_forward: Forward passes that take as long as a step: a guess.
        end: When the probe should end, in ``time.monotonic()``.
        accelerator: Whether the passes run on one.

    Returns:
        Seconds of a step; whether one was taken; what an accelerator took to load.
    """
    loading = 0.0

    def is_time_for(seconds: float) -> bool:
        return time.monotonic() + seconds <= end + loading

    first = seconds = forward()
    if accelerator or not is_time_for(per_forward * seconds):
        seconds = forward()  # The first pass takes longer than others.
    if accelerator:
        loading += max(0.0, first - seconds)
    seconds *= per_forward
    if not is_time_for(seconds):
        return seconds, False, loading
    first = step()
    if accelerator:
        loading += max(0.0, first - seconds)
    else:
        seconds = first
    warm: list[float] = []
    for _ in range(1, _STEPS_OF_AN_ACCELERATOR if accelerator else _STEPS_OF_A_CPU):
        if is_time_for(2 * (warm[-1] if warm else seconds)):
            warm.append(step())
    return statistics.median(warm) if warm else seconds, True, loading


def _training_autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the autocast of a fit: also where the device has the precision in software only."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def _is_accelerator(device: torch.device) -> bool:
    return device.type != "cpu"


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread, as loader processes do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _image_seconds(
    prepared: Prepared, network: Network, device: torch.device, seed: int, end: float
) -> float:
    """Return the seconds of an image: the first one warms up, if there is time for some more.

    An accelerator scores it twice: it loads what the fit would load, which is no part of the probe.
    """
    samples = prepared.validation_samples()

    def seconds_of(positions: range) -> float:
        started = time.monotonic()
        score(
            prepared.blank_model(network, seed),
            samples.take(list(positions)),
            batch_size=auto_batch_size(prepared.plan, device),
            metrics=prepared.plan.metric,
            ranks=Ranks(),
        )
        return (time.monotonic() - started) / len(positions)

    first = seconds_of(range(1))
    if _is_accelerator(device):
        end += first
        first = seconds_of(range(1))
    paid = (end - time.monotonic()) / first
    more = range(1, 1 + int(min(_SCORED, len(samples) - 1, max(0, paid))))
    return seconds_of(more) if more else first


def _kept_bytes(prepared: Prepared) -> tuple[int, int]:
    """Return the bytes of training and of validation images to keep, as if of the middle size."""
    found = prepared.fingerprint
    own = round(found.height.median), round(found.width.median)
    content = preprocess_of(prepared.plan).geometry.content(own)
    training = own if wants_own_pixels(prepared.plan.data.augment) else content
    # Three channels and the class ids; of validation masks the ids at the image's own size.
    return (
        4 * math.prod(training) * found.num_images,
        (3 * math.prod(content) + math.prod(own)) * len(prepared.validation_samples()),
    )


def reset_peak(device: torch.device) -> bool:
    """Let the count of the most memory start anew.

    Args:
        device: The GPU whose memory is meant, or the CPU for that of this process.

    Returns:
        Whether that could be done: for a process it needs Linux.
    """
    if device.type == "cuda":
        torch.cuda.init()  # The next call does not wake a GPU, and fails while it sleeps.
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _peak_gb(device: torch.device) -> float | None:
    """Return the most memory taken so far in GB, on a GPU or by this process; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if device.type != "cpu":
        return None
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9
    except (OSError, LookupError, ValueError):
        pass  # no Linux
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9
