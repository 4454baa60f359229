"""A short probe: a few steps and predictions of a draft plan, timed, so that the plan can count."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import cycle, islice

import torch
from torch import Tensor

from easyseg.allocator import keep_freed_memory
from easyseg.artifact import preprocess_of
from easyseg.clock import Clock
from easyseg.data.dataset import EpochSampler, TrainingSet, collate_training
from easyseg.inference.predict import auto_batch_size, autocast_for
from easyseg.metrics.evaluate import score
from easyseg.models.network import Network, build_network
from easyseg.plan.costs import Costs
from easyseg.preparation import Prepared
from easyseg.ranks import Ranks
from easyseg.training.module import new_optimizer

__all__ = ["PROBED_FROM_SECONDS", "measure_costs"]

# Below it a probe would take more of the time than it is worth.
PROBED_FROM_SECONDS = 60.0
# What a probe's step may take of the limit; a longer one is guessed from its forward pass.
_STEP_SHARE = 0.02
_STEP_PER_FORWARD = 3.0
_STEPS = 2
_SCORED = 4


def measure_costs(prepared: Prepared, device: torch.device, seed: int, clock: Clock) -> Costs:
    """Build the network of a draft plan, take a few of its steps, score a few validation images.

    The network is thrown away, and no random number of the fit is drawn.

    Args:
        prepared: Samples and draft plan.
        device: Where the fit will train.
        seed: Seed of the fit.
        clock: The time budget of the fit.

    Returns:
        The costs.
    """
    started = time.monotonic()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        network = build_network(prepared.plan, seed=seed).to(device)
        build = time.monotonic() - started
        with keep_freed_memory():
            step = _step_seconds(prepared, network, device, seed, clock)
        image = _image_seconds(prepared, network, device, seed)
    return Costs(step, image, build, clock.elapsed(), _peak_gb(device))


def _step_seconds(
    prepared: Prepared, network: Network, device: torch.device, seed: int, clock: Clock
) -> float:
    """Time steps after a forward pass that warms up; too long ones are three times that pass."""
    plan = prepared.plan
    samples = prepared.training_samples()
    data = TrainingSet(samples, preprocess_of(plan), prepared.label_map, plan.data.augment, seed)
    keys = cycle(EpochSampler(len(samples), seed))
    optimizer = new_optimizer(network, plan, device)
    passes = plan.train.accumulation(1)
    network.train()

    def loss() -> Tensor:
        rows = [data[key] for key in islice(keys, plan.train.micro_batch_size)]
        batch = collate_training(rows, with_keys=plan.train.prefix_cache)
        with autocast_for(plan.train.precision, device):
            output = network(batch.images.to(device))
            task = network.head.loss(output.logits, batch.targets.to(device), output.segments)
        return task + output.aux_losses

    def seconds_of(work: Callable[[], object]) -> float:
        started = time.monotonic()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.monotonic() - started

    def step() -> None:
        for _ in range(passes):
            loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    guess = _STEP_PER_FORWARD * passes * seconds_of(torch.no_grad()(loss))
    if clock.limit is not None and guess > _STEP_SHARE * clock.limit:
        return guess
    return min(seconds_of(step) for _ in range(_STEPS))


def _image_seconds(prepared: Prepared, network: Network, device: torch.device, seed: int) -> float:
    samples = prepared.validation_samples()
    few = samples.take(range(min(_SCORED, len(samples))))
    started = time.monotonic()
    score(
        prepared.blank_model(network, seed),
        few,
        batch_size=auto_batch_size(prepared.plan, device),
        ranks=Ranks(),
    )
    return (time.monotonic() - started) / len(few)


def _peak_gb(device: torch.device) -> float:
    """Return the most memory taken so far in GB, on a GPU or by this process; NaN if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9
