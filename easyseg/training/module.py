"""The LightningModule: one training step, one scored validation step, one optimizer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from easyseg.artifact import TrainedModel, preprocess_of
from easyseg.clock import Clock
from easyseg.data.dataset import TrainingSet
from easyseg.data.kept import KEPT_BYTES
from easyseg.data.label_map import LabelMap
from easyseg.data.loaders import EpochLoader, PredictionBatch, TrainingBatch, WindowLoader
from easyseg.errors import OptionError
from easyseg.inference.predict import Assembler, auto_batch_size
from easyseg.metrics.evaluate import new_scores, take_in
from easyseg.metrics.streaming import SegmentationScores
from easyseg.models.network import Network, Output, build_network, running_statistics
from easyseg.models.registry import get_spec
from easyseg.models.weights import find_weights
from easyseg.plan.hardware import detect_hardware
from easyseg.plan.plan import Plan
from easyseg.preparation import Prepared
from easyseg.ranks import Ranks
from easyseg.threads import threads_beside
from easyseg.training.prefix_cache import PrefixCache

__all__ = ["SegmentationModule", "expert_layers", "new_optimizer", "training_loss"]

log = logging.getLogger("easyseg")

_OPTIMIZERS: dict[str, type[torch.optim.Adam]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
}
# What the cached features may take of the machine's memory, and beyond that on its disk.
_CACHE_MEMORY_SHARE = 0.25
_CACHE_DISK_BYTES = 20 * 2**30
_NO_DECAY = (
    *("lora_", "gate.", "experts.", "adapter_", "prompts", "side_", "tune_"),
    *("norm", "bias", "pos_embed", "rel_pos_", "iou_token.", "mask_tokens."),
)
# What the trainer of each rank was made with, before it heard of rank 0's plan.
_OF_THE_TRAINER = ("precision", "epochs", "max_steps", "average", "patience")


class SegmentationModule(L.LightningModule):
    """Trains the network of a plan.

    The network is built in ``configure_model``, on every rank, from the plan of rank 0.

    Args:
        prepared: Samples, label map and plan; those of rank 0 are used on all ranks.
        seed: Seed of adapters, order, augmentation and gate noise.
        clock: The time budget: the learning rate reaches zero with the steps or with the time,
            whichever ends first.
        num_workers: Loader processes of each rank.
        shard: Share the frozen weights out over the processes of a node.
    """

    network: Network

    def __init__(
        self,
        prepared: Prepared,
        seed: int,
        clock: Clock,
        num_workers: int = 0,
        *,
        shard: bool = False,
    ) -> None:
        super().__init__()
        self.prepared = prepared
        self.seed_of_fit = seed
        self.clock = clock
        self.num_workers = num_workers
        self.shard = shard
        self.build_seconds = 0.0
        self._scores: SegmentationScores | None = None
        self._assembler: Assembler | None = None
        self._train_losses: list[Tensor] = []
        self._time_used = 0.0
        self._cache: PrefixCache | None = None
        self._training_loader: EpochLoader | None = None

    @property
    def plan(self) -> Plan:
        """The plan of the fit."""
        return self.prepared.plan

    @property
    def label_map(self) -> LabelMap:
        """The label map of the fit."""
        return self.prepared.label_map

    def prepare_data(self) -> None:
        """Have the pretrained weights here before anything is timed; one process of a node does."""
        backbone = self.plan.backbone
        if backbone.weights == "pretrained":
            find_weights(get_spec(backbone.name))

    def setup(self, stage: str) -> None:
        """Take plan and split from rank 0: other ranks may have seen another machine.

        Raises:
            OptionError: If this rank's trainer was made for another plan.
        """
        mine = self.prepared.decisions()
        own = self.plan.train
        self.prepared = self.prepared.with_decisions(self.trainer.strategy.broadcast(mine, src=0))
        first = self.plan.train
        differing = [name for name in _OF_THE_TRAINER if getattr(own, name) != getattr(first, name)]
        if differing:
            found = ", ".join(f"train.{name} = {getattr(own, name)!r}" for name in differing)
            meant = ", ".join(f"train.{name} = {getattr(first, name)!r}" for name in differing)
            raise OptionError(
                f"process {self.trainer.global_rank} planned {found}, the first one {meant}: their "
                "machines or caches differ; set these values yourself, for all processes alike."
            )
        self.trainer.accumulate_grad_batches = first.accumulation(self.trainer.world_size)
        self._look_at_the_clock()

    def _look_at_the_clock(self) -> None:
        """Take the share of the time that is used up from rank 0.

        Ranks with rates of their own clocks would end with different weights.
        """
        if self.clock.limit is not None:
            self._time_used = self.trainer.strategy.broadcast(self.clock.share(), src=0)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Look at the clock once a step, for the rate of the next one; let statistics agree."""
        self._look_at_the_clock()
        if self.trainer.world_size > 1:
            self._share_statistics()

    def _share_statistics(self) -> None:
        """Take the mean over all ranks of statistics that follow the batches of each."""
        statistics = list(running_statistics(self.network).values())
        if statistics:
            flat = torch.cat(statistics)
            mean = self.trainer.strategy.reduce(flat, reduce_op="mean")
            assert isinstance(mean, Tensor)
            for own, shared in zip(
                statistics, mean.split([len(s) for s in statistics]), strict=True
            ):
                own.copy_(shared)

    def configure_model(self) -> None:
        """Build the network, once."""
        if not hasattr(self, "network"):
            started = time.monotonic()
            # Lightning would build it on the GPU, whole, and with random numbers of its own there.
            with torch.device("cpu"):
                self.network = build_network(self.plan, seed=self.seed_of_fit)
            if self.shard:
                from easyseg.training.sharding import shard_frozen

                backbone = self.network.backbone
                shard_frozen(
                    self,
                    backbone,
                    self.trainer.strategy.root_device,
                    nodes=self.trainer.num_nodes,
                    start=backbone.split_at if self.plan.train.prefix_cache else 0,
                )
            self.build_seconds = time.monotonic() - started

    def train_dataloader(self) -> EpochLoader:
        """Return this rank's share of the shuffled training samples."""
        trainer, plan, seed = self.trainer, self.plan, self.seed_of_fit
        data = TrainingSet(
            self.prepared.training_samples(),
            preprocess_of(plan),
            self.label_map,
            plan.data.augment,
            seed,
            keep=KEPT_BYTES,
        )
        self._training_loader = EpochLoader(
            data,
            batch_size=plan.train.micro_batch_size,
            epochs=plan.train.epochs,
            seed=seed,
            rank=trainer.global_rank,
            world=trainer.world_size,
            num_workers=self.num_workers,
            with_keys=plan.train.prefix_cache,
            pin_memory=self.device.type == "cuda",
        )
        return self._training_loader

    def val_dataloader(self) -> WindowLoader:
        """Return the windows of this rank's share of the validation samples, none twice."""
        trainer = self.trainer
        # Lightning wants a batch on every rank: one without images takes the first and drops it.
        rank = trainer.global_rank if self._has_validation_images() else 0
        of_node = max(1, trainer.world_size // trainer.num_nodes)
        return WindowLoader(
            self.prepared.validation_samples(),
            preprocess_of(self.plan),
            self.label_map,
            batch_size=auto_batch_size(self.plan, self.device),
            rank=rank,
            world=trainer.world_size,
            threads=self.num_workers or threads_beside(self.device, of_node),
            keep=KEPT_BYTES,
        )

    def _has_validation_images(self) -> bool:
        return self.trainer.global_rank < len(self.prepared.validation_samples())

    def on_fit_start(self) -> None:
        """Write what was decided, seed the gate's noise by rank, open the cache of the prefix."""
        if self.trainer.is_global_zero:
            self.prepared.write()  # Not before: without weights, the folder can be used again.
        self.trainer.strategy.barrier()  # The caches of all ranks lie in that folder.
        if self.plan.train.prefix_cache:
            memory = detect_hardware("cpu").memory_gb * 2**30 * _CACHE_MEMORY_SHARE
            sharers = max(1, self.trainer.world_size // self.trainer.num_nodes)
            self._cache = PrefixCache(
                int(memory / sharers),
                folder=self.prepared.run_folder,
                disk_bytes=_CACHE_DISK_BYTES // sharers,
            )
        seed = self.seed_of_fit + self.global_rank
        if self.device.type == "cpu":  # Without a word to GPUs that take no part.
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> Tensor:
        """Return task loss plus weighted balance loss."""
        output = self._output(batch.images, batch.keys)
        task, whole = training_loss(self.network, self.plan, output, batch.targets)
        self._train_losses.append(task.detach())
        self.log("train_loss", task, batch_size=len(batch.images))
        return whole

    def _output(self, images: Tensor, keys: Sequence[Hashable] | None) -> Output:
        """Run the network, from features that are kept where there are any."""
        if self._cache is None or keys is None:
            return self.network(images)
        prefix = self.network.backbone.prefix
        return self.network.from_prefix(self._cache.features(keys, images, prefix))

    def on_fit_end(self) -> None:
        """Say what the cache was good for, and give it back."""
        if self._cache is not None:
            known = self._cache.hits
            log.info("the prefix cache knew %d of %d images", known, known + self._cache.misses)
        self.close()

    def close(self) -> None:
        """Give back what a fit holds: the cache of the prefix, the processes that read ahead."""
        if self._cache is not None:
            self._cache.close()
            self._cache = None
        if self._training_loader is not None:
            self._training_loader.close()

    def on_train_epoch_start(self) -> None:
        """Lightning does not call ``train()``; the gate draws noise in training mode only."""
        self.network.train()

    def take_train_loss(self) -> float:
        """Return the mean task loss since the last call (NaN before the first step)."""
        losses, self._train_losses = self._train_losses, []
        return float(torch.stack(losses).mean()) if losses else float("nan")

    def on_validation_epoch_start(self) -> None:
        """Start a new score sheet."""
        self._scores = self._new_scores()
        self._assembler = Assembler(preprocess_of(self.plan).geometry)

    def _new_scores(self) -> SegmentationScores:
        return new_scores(self.label_map.names, self.plan.problem_type, self.plan.metric)

    def validation_step(self, batch: PredictionBatch, batch_idx: int) -> None:
        """Score the images that a batch completes at own size, with the code of prediction."""
        assert self._scores is not None
        assert self._assembler is not None
        if not self._has_validation_images():
            return
        keys = [(seen.position, seen.window) for seen in batch.windows]
        for item in self._assembler.add(batch, self._output(batch.images, keys).logits):
            take_in(self._scores, self.network.head, item)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of all ranks' images."""
        assert self._scores is not None
        scores = self._new_scores()
        ranks = Ranks(self.trainer.global_rank, self.trainer.world_size)
        for state in ranks.gather(self._scores.state()):
            scores.merge(state)
        self.log_dict(scores.compute())

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and the linear warm-up and decay of its rates.

        The rate that is logged is that of the first group, the adapters if there are any.
        """
        optimizer = new_optimizer(self.network, self.plan, self.device)
        total = max(1, int(self.trainer.estimated_stepping_batches))
        factor = self._rate_factor(total)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _rate_factor(self, total: int) -> Callable[[int], float]:
        warmup = max(1, round(self.plan.optim.warmup * total))
        started = self._time_used

        def factor(step: int) -> float:
            # More steps may be planned than the time is enough for: both parts follow the clock.
            trained = (self._time_used - started) / max(1.0 - started, 1e-9)
            rise = (max(step, trained * total) + 1) / warmup
            progress = max(step / total, self._time_used)
            return min(1.0, rise) * max(0.0, 1.0 - progress)

        return factor

    def trained_model(self) -> TrainedModel:
        """Return the network as it is now, with the last validation scores."""
        scores = {k: float(v) for k, v in self.trainer.callback_metrics.items() if "@" in k}
        return replace(self.prepared.blank_model(self.network, self.seed_of_fit), metrics=scores)


def training_loss(
    network: Network, plan: Plan, output: Output, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the loss of the task, and the whole loss: the weighted balance loss is added.

    Args:
        network: The network.
        plan: Its plan.
        output: What it made of a batch.
        targets: Class ids uint8 ``[B, H, W]``, 255 ignored.
    """
    task = network.head.loss(output.logits, targets, output.segments)
    return task, task + plan.loss.balance_weight * output.aux_losses


def new_optimizer(network: Network, plan: Plan, device: torch.device) -> torch.optim.Optimizer:
    """Return the optimizer of a plan; adapters, norms, positions and tokens do not decay.

    Args:
        network: The network; what requires a gradient is trained.
        plan: The plan.
        device: Where the network is.
    """
    optim = plan.optim
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            free = parameter.ndim < 2 or any(part in name for part in _NO_DECAY)
            rate = optim.lr * (optim.decoder_lr if name.startswith("decoder.") else 1.0)
            members.setdefault((rate, 0.0 if free else optim.weight_decay), []).append(parameter)
    groups = [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in members.items()
    ]
    # PyTorch's own choice is good on a GPU, slow on a CPU; Lightning clips no gradients for a
    # fused optimizer in mixed precision.
    fused = True if device.type == "cpu" and plan.train.precision == "32" else None
    return _OPTIMIZERS[optim.kind](groups, lr=optim.lr, fused=fused)


def expert_layers(network: nn.Module) -> dict[str, Tensor]:
    """Return how many samples each expert of each Conv-LoRA layer got since the last reset."""
    return {
        name.removesuffix(".routing_counts"): buffer
        for name, buffer in network.named_buffers()
        if name.endswith("routing_counts")
    }
