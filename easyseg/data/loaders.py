"""Batches of samples, read one after the other, or ahead by processes or threads of their own."""

from __future__ import annotations

import hashlib
import logging
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from easyseg.data.dataset import PredictionItem, PredictionSet, Preprocess, TrainingSet
from easyseg.data.geometry import Window
from easyseg.data.kept import Kept
from easyseg.data.label_map import LabelMap
from easyseg.data.table import Samples
from easyseg.threads import map_ahead

__all__ = [
    "EpochLoader",
    "EpochSampler",
    "PredictionBatch",
    "SeenWindow",
    "TrainingBatch",
    "WindowLoader",
    "collate_training",
    "workers_that_fit",
]

log = logging.getLogger("easyseg")

_SHARED_MEMORY = "/dev/shm"
_SHARE_OF_SHARED_MEMORY = 0.8
# Three float32 channels and a uint8 class id.
_BYTES_A_PIXEL = 13


class TrainingBatch(NamedTuple):
    """What a training step reads.

    Attributes:
        images: float32 ``[B, 3, H, W]``.
        targets: Class ids uint8 ``[B, H, W]``, 255 ignored.
        keys: A hash of each image as the network sees it, if they were asked for.
    """

    images: Tensor
    targets: Tensor
    keys: tuple[str, ...] | None = None


class SeenWindow(NamedTuple):
    """Which part of which image a row of a batch is.

    Attributes:
        position: Row of the image in its samples.
        own: The image's own height and width.
        target: The image's class ids uint8 ``[*own]``, or ``None``.
        window: The window.
    """

    position: int
    own: tuple[int, int]
    target: np.ndarray | None
    window: Window


class PredictionBatch(NamedTuple):
    """Windows, those of an image one after the other, with what puts their logits together.

    Attributes:
        images: float32 ``[B, 3, H, W]``.
        windows: What each of them shows.
    """

    images: Tensor
    windows: list[SeenWindow]


class EpochLoader:
    """Reads the shuffled samples of a rank, epoch after epoch, and yields batches of them.

    Loader processes read ahead into the next epoch, two batches each. Those of PyTorch begin with
    an epoch when it begins: with few large images an accelerator would wait for the first batch for
    nearly as long as it computes in the whole epoch.

    Args:
        data: The samples.
        batch_size: Samples of a batch; the last one of an epoch may have less.
        epochs: How many there will be at most: none is read beyond the last one.
        seed: Seed of the order.
        rank: Number of this process.
        world: Number of processes.
        num_workers: Processes that read ahead; no more than an epoch has batches are started, nor
            than shared memory has room for.
        with_keys: Hash each image, see :func:`collate_training`.
        pin_memory: Put batches where a CUDA GPU copies from without waiting.

    Attributes:
        sampler: The order; Lightning sets its epoch.
    """

    def __init__(
        self,
        data: TrainingSet,
        *,
        batch_size: int,
        epochs: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        num_workers: int = 0,
        with_keys: bool = False,
        pin_memory: bool = False,
    ) -> None:
        self.sampler = EpochSampler(len(data), seed, rank=rank, world=world)
        self._batches = _BatchesOfEpochs(self.sampler, batch_size, epochs)
        self._ahead: Iterator[TrainingBatch] | None = None
        # The epoch whose first batch the iterator above yields next; None within an epoch.
        self._next_epoch: int | None = None
        wanted = min(num_workers, len(self))
        num_workers = workers_that_fit(wanted, batch_size, data.preprocess.geometry.size, world)
        if num_workers < wanted:
            log.warning(
                "processes that read images ahead: %d rather than %d, for there is little shared"
                " memory; give a container more of it (docker run --shm-size=8g)",
                num_workers,
                wanted,
            )
        self._loader: DataLoader[Any] = DataLoader(
            data,
            batch_sampler=self._batches,
            collate_fn=partial(collate_training, with_keys=with_keys),
            num_workers=num_workers,
            worker_init_fn=ignore_interrupt,
            persistent_workers=num_workers > 0,
            # An own generator: a loader draws from it at each start, and the gate's noise must not
            # depend on that.
            generator=torch.Generator(),
            pin_memory=pin_memory,
        )

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return -(-len(self.sampler) // self._batches.batch_size)

    def __iter__(self) -> Iterator[TrainingBatch]:
        """Read the sampler's epoch: go on with what was read ahead if it is the next one."""
        epoch = self.sampler.epoch
        if self._ahead is None or self._next_epoch != epoch:
            self._batches.first_epoch = self._next_epoch = epoch
            self._ahead = iter(self._loader)
        return self._epoch(epoch, self._ahead)

    def _epoch(self, epoch: int, ahead: Iterator[TrainingBatch]) -> Iterator[TrainingBatch]:
        self._next_epoch = None
        for left in reversed(range(len(self))):
            batch = next(ahead)
            if not left:  # Nobody asks for more than the last batch.
                self._next_epoch = epoch + 1
            yield batch

    def close(self) -> None:
        """End the processes that read ahead; reading again starts new ones."""
        self._ahead = None
        end_processes(self._loader)


class WindowLoader:
    """Reads the images of a rank, one after the other, and yields batches of their windows.

    A batch holds the next windows, whether they are of one image or of several: many small images
    fill it together, and a large one takes as many batches as it needs. An image is read once and
    lies in memory as uint8; only the windows of a batch are float32. All windows of an image are on
    one rank, and no image is on two.

    Args:
        samples: Images, and labels if there is a label map.
        preprocess: How images enter the network.
        label_map: For class ids; ``None`` to read no labels.
        batch_size: Windows of a batch; the last one may have less.
        rank: Number of this process.
        world: Number of processes.
        threads: Threads that read ahead, an image each.
        keep: Bytes of labelled images that stay in memory, for sets that are scored again.
    """

    def __init__(
        self,
        samples: Samples,
        preprocess: Preprocess,
        label_map: LabelMap | None,
        *,
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        threads: int = 0,
        keep: int = 0,
    ) -> None:
        self.preprocess = preprocess
        self.batch_size = batch_size
        self.threads = threads
        self._data = PredictionSet(samples, preprocess, label_map)
        self._positions = range(rank, len(samples), world)
        self._kept: Kept[tuple[Tensor, np.ndarray]] = Kept(keep)

    def __iter__(self) -> Iterator[PredictionBatch]:
        """Read the images anew, but for those that are kept."""
        windows = self._windows()
        while rows := list(islice(windows, self.batch_size)):
            seen, images = zip(*rows, strict=True)
            yield PredictionBatch(torch.stack(images), list(seen))

    def _windows(self) -> Iterator[tuple[SeenWindow, Tensor]]:
        for item in self._items():
            for window, image in self.preprocess.windows(item.content, item.own):
                yield SeenWindow(item.position, item.own, item.target, window), image

    def _items(self) -> Iterator[PredictionItem]:
        coming = [p for p in self._positions if p not in self._kept]
        read = map_ahead(self._data.__getitem__, coming, self.threads)
        if not self._kept.limit:
            yield from read
            return

        def labelled() -> tuple[Tensor, np.ndarray]:
            item = next(read)
            assert item.target is not None
            return item.content, item.target

        for position in self._positions:
            content, ids = self._kept.get(position, labelled)
            yield PredictionItem(position, content, (ids.shape[0], ids.shape[1]), ids)


def workers_that_fit(workers: int, batch_size: int, size: tuple[int, int], world: int = 1) -> int:
    """Return how many processes may read ahead: two batches of each lie in shared memory.

    A container may have little of it, and a process that finds none left is killed.

    Args:
        workers: As many as are wanted.
        batch_size: Samples of a batch.
        size: Height and width of the network's input.
        world: Training processes that share the memory.
    """
    batch_bytes = batch_size * size[0] * size[1] * _BYTES_A_PIXEL
    try:
        free = shutil.disk_usage(_SHARED_MEMORY).free / world
    except OSError:  # Not on Linux.
        return workers
    return min(workers, int(_SHARE_OF_SHARED_MEMORY * free) // (2 * batch_bytes))


def end_processes(loader: DataLoader[Any]) -> None:
    """End the processes that a loader keeps for its next round.

    PyTorch ends them when nobody holds the loader's iterator any more. After an error a traceback
    does, and a garbage collection would wait five seconds for each of them.
    """
    iterator = loader._iterator
    if iterator is not None:
        iterator._shutdown_workers()  # type: ignore[attr-defined]
        loader._iterator = None


def ignore_interrupt(worker: int) -> None:
    """Let a loader process sleep through Ctrl-C, which a terminal sends to all of them.

    The training process decides when it ends: after its step, with images that they still read.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def collate_training(
    items: list[tuple[Tensor, Tensor]], *, with_keys: bool = False
) -> TrainingBatch:
    """Stack training samples.

    Args:
        items: What :class:`TrainingSet` returns.
        with_keys: Hash each image: equal keys, equal images, whatever made them.
    """
    images, targets = zip(*items, strict=True)
    keys = None
    if with_keys:
        keys = tuple(
            hashlib.blake2b(image.numpy().tobytes(), digest_size=16).hexdigest() for image in images
        )
    return TrainingBatch(torch.stack(images), torch.stack(targets), keys)


class EpochSampler(Sampler[tuple[int, int]]):
    """Shuffled ``(epoch, position)`` keys; the order depends on (seed, epoch) alone.

    Each rank gets every world-th key; the last ones are filled from the start of the order, so that
    all ranks take the same number of steps.
    """

    def __init__(self, count: int, seed: int, *, rank: int = 0, world: int = 1) -> None:
        self.count = count
        self.seed = seed
        self.rank = rank
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls it before each one."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of keys of this rank."""
        return -(-self.count // self.world)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the keys of the epoch."""
        return iter(self.keys(self.epoch))

    def keys(self, epoch: int) -> list[tuple[int, int]]:
        """Return the keys of an epoch."""
        order = np.random.default_rng((self.seed, epoch)).permutation(self.count)
        filled = np.resize(order, len(self) * self.world)
        return [(epoch, int(position)) for position in filled[self.rank :: self.world]]


class _BatchesOfEpochs(Sampler[list[tuple[int, int]]]):
    """Batches of keys, one epoch after the other."""

    def __init__(self, sampler: EpochSampler, batch_size: int, epochs: int) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.epochs = epochs
        self.first_epoch = 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for epoch in range(self.first_epoch, self.epochs):
            keys = iter(self.sampler.keys(epoch))
            while batch := list(islice(keys, self.batch_size)):
                yield batch
