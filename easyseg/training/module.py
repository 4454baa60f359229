"""The LightningModule: one training step, one scored validation step, one optimizer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from easyseg.artifact import TrainedModel, preprocess_of
from easyseg.data.dataset import (
    EpochSampler,
    PredictionBatch,
    PredictionSet,
    ShardSampler,
    TrainingBatch,
    TrainingSet,
    collate_prediction,
    collate_training,
)
from easyseg.data.label_map import LabelMap
from easyseg.inference.predict import auto_batch_size
from easyseg.metrics.evaluate import new_scores
from easyseg.metrics.streaming import SegmentationScores
from easyseg.models.network import Network, build_network
from easyseg.plan.plan import Plan
from easyseg.preparation import Prepared
from easyseg.ranks import Ranks

__all__ = ["Clock", "SegmentationModule", "expert_layers"]

_NO_DECAY = ("lora_", "gate.", "experts.", "norm", "bias", "token")


@dataclass(frozen=True)
class Clock:
    """The wall-clock budget of a fit.

    Attributes:
        started: ``time.monotonic()`` of the call of ``fit``.
        limit: Seconds, or ``None``.
    """

    started: float
    limit: float | None = None

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.started

    def remaining(self) -> float:
        """Return the seconds left; infinite without a limit."""
        return float("inf") if self.limit is None else self.limit - self.elapsed()

    def share(self) -> float:
        """Return the share of the budget that is used up, 0 without a limit."""
        return 0.0 if self.limit is None else min(1.0, self.elapsed() / self.limit)


class SegmentationModule(L.LightningModule):
    """Trains the network of a plan.

    The network is built in ``configure_model``, on every rank, from the plan of rank 0.

    Args:
        prepared: Samples, label map and plan; those of rank 0 are used on all ranks.
        seed: Seed of adapters, order, augmentation and gate noise.
        clock: The time budget: the learning rate reaches zero with the steps or with the time,
            whichever ends first.
        num_workers: Loader processes of each rank.
    """

    network: Network

    def __init__(self, prepared: Prepared, seed: int, clock: Clock, num_workers: int = 0) -> None:
        super().__init__()
        self.prepared = prepared
        self.seed_of_fit = seed
        self.clock = clock
        self.num_workers = num_workers
        self.build_seconds = 0.0
        self._scores: SegmentationScores | None = None
        self._train_losses: list[Tensor] = []

    @property
    def plan(self) -> Plan:
        """The plan of the fit."""
        return self.prepared.plan

    @property
    def label_map(self) -> LabelMap:
        """The label map of the fit."""
        return self.prepared.label_map

    def setup(self, stage: str) -> None:
        """Take plan and split from rank 0: other ranks may have seen another machine."""
        mine = self.prepared.decisions()
        self.prepared = self.prepared.with_decisions(self.trainer.strategy.broadcast(mine, src=0))

    def configure_model(self) -> None:
        """Build the network, once."""
        if not hasattr(self, "network"):
            started = time.monotonic()
            self.network = build_network(self.plan, seed=self.seed_of_fit)
            self.build_seconds = time.monotonic() - started

    def train_dataloader(self) -> DataLoader[Any]:
        """Return this rank's share of the shuffled training samples."""
        samples = self.prepared.training_samples()
        trainer, plan, seed = self.trainer, self.plan, self.seed_of_fit
        return DataLoader(
            TrainingSet(samples, preprocess_of(plan), self.label_map, plan.data.augment, seed),
            batch_size=plan.train.micro_batch_size,
            sampler=EpochSampler(
                len(samples), seed, rank=trainer.global_rank, world=trainer.world_size
            ),
            collate_fn=collate_training,
            **self._loader_options(),
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Return this rank's share of the validation samples, none twice."""
        samples = self.prepared.validation_samples()
        trainer = self.trainer
        # Lightning wants a batch on every rank: one without images takes the first and drops it.
        rank = trainer.global_rank if self._has_validation_images() else 0
        return DataLoader(
            PredictionSet(samples, preprocess_of(self.plan), self.label_map),
            batch_size=auto_batch_size(self.plan),
            sampler=ShardSampler(len(samples), rank=rank, world=trainer.world_size),
            collate_fn=collate_prediction,
            **self._loader_options(),
        )

    def _has_validation_images(self) -> bool:
        return self.trainer.global_rank < len(self.prepared.validation_samples())

    def _loader_options(self) -> dict[str, Any]:
        # An own generator: a loader draws from it at each start, and the gate's noise must not
        # depend on that.
        return {
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "generator": torch.Generator(),
            "pin_memory": self.device.type == "cuda",
        }

    def on_fit_start(self) -> None:
        """Seed the gate's noise, differently on each rank."""
        torch.manual_seed(self.seed_of_fit + self.global_rank)

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> Tensor:
        """Return task loss plus weighted balance loss."""
        output = self.network(batch.images)
        task = self.network.head.loss(output.logits, batch.targets)
        self._train_losses.append(task.detach())
        self.log("train_loss", task, batch_size=len(batch.images))
        return task + self.plan.loss.balance_weight * output.aux_losses

    def on_train_epoch_start(self) -> None:
        """Lightning does not call ``train()``; the gate draws noise in training mode only."""
        self.network.train()

    def take_train_loss(self) -> float:
        """Return the mean task loss since the last call (NaN before the first step)."""
        losses, self._train_losses = self._train_losses, []
        return float(torch.stack(losses).mean()) if losses else float("nan")

    def on_validation_epoch_start(self) -> None:
        """Start a new score sheet."""
        self._scores = new_scores(self.label_map.names, self.plan.problem_type)

    def validation_step(self, batch: PredictionBatch, batch_idx: int) -> None:
        """Score a batch at own size, with the code of prediction."""
        assert self._scores is not None
        if not self._has_validation_images():
            return
        logits = self.network(batch.images).logits
        geometry = preprocess_of(self.plan).geometry
        for row, (size, target) in enumerate(zip(batch.sizes, batch.targets, strict=True)):
            ids = self.network.head.decide(geometry.restore(logits[row], size))
            assert target is not None
            self._scores.update(ids.cpu().numpy(), target)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of all ranks' images."""
        assert self._scores is not None
        scores = new_scores(self.label_map.names, self.plan.problem_type)
        ranks = Ranks(self.trainer.global_rank, self.trainer.world_size)
        for state in ranks.gather(self._scores.state()):
            scores.merge(state)
        self.log_dict(scores.compute())

    def configure_optimizers(self) -> Any:
        """Return AdamW, linear warm-up and decay; no weight decay on adapters, norms, tokens."""
        optim = self.plan.optim
        decayed: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                free = parameter.ndim < 2 or any(part in name for part in _NO_DECAY)
                (plain if free else decayed).append(parameter)
        groups = [
            {"params": decayed, "weight_decay": optim.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=optim.lr)
        total = max(1, int(self.trainer.estimated_stepping_batches))
        factor = self._rate_factor(total)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _rate_factor(self, total: int) -> Callable[[int], float]:
        warmup = max(1, round(self.plan.optim.warmup * total))

        def factor(step: int) -> float:
            progress = max(step / total, self.clock.share())
            return min(1.0, (step + 1) / warmup) * max(0.0, 1.0 - progress)

        return factor

    def trained_model(self) -> TrainedModel:
        """Return the network as it is now, with the last validation scores."""
        scores = {k: float(v) for k, v in self.trainer.callback_metrics.items() if "@" in k}
        return replace(self.prepared.blank_model(self.network, self.seed_of_fit), metrics=scores)


def expert_layers(network: nn.Module) -> dict[str, Tensor]:
    """Return how many samples each expert of each Conv-LoRA layer got since the last reset."""
    return {
        name.removesuffix(".routing_counts"): buffer
        for name, buffer in network.named_buffers()
        if name.endswith("routing_counts")
    }
