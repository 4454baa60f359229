"""Samples as tensors: what a training step and a prediction step read."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from easyseg.data.geometry import Geometry, Normalization, Window, normalize, value_span
from easyseg.data.io import describe, read_image, read_mask
from easyseg.data.kept import Kept
from easyseg.data.label_map import IGNORE, LabelMap
from easyseg.data.pairing import fit_to_image
from easyseg.data.table import Samples
from easyseg.data.transforms import augment, random_window, wants_own_pixels

__all__ = [
    "EpochSampler",
    "PredictionBatch",
    "PredictionItem",
    "PredictionSet",
    "Preprocess",
    "SeenWindow",
    "ShardSampler",
    "TrainingBatch",
    "TrainingSet",
    "WindowLoader",
    "collate_training",
    "ignore_interrupt",
]


@dataclass(frozen=True)
class Preprocess:
    """Image to network input, the same for training and prediction."""

    geometry: Geometry
    normalization: Normalization

    def finish(self, part: Tensor, span: tuple[float, float]) -> Tensor:
        """Normalise and pad what a window shows; padding is 0 after normalisation, as SAM does.

        Args:
            part: uint8 ``[3, h, w]``.
            span: Where the values of the window lie in those of its image, see ``normalize``.

        Returns:
            float32 ``[3, H, W]``.
        """
        return self.geometry.pad(normalize(part, self.normalization, span))

    def windows(self, content: Tensor, own: tuple[int, int]) -> Iterator[tuple[Window, Tensor]]:
        """Yield each window of an image and what the network sees through it.

        Args:
            content: The resized image uint8 ``[3, h, w]``.
            own: The image's own height and width.
        """
        low, high = content.aminmax()
        whole = (int(low), int(high))
        for window in self.geometry.windows(own):
            part = self.geometry.cut(content, window)
            yield window, self.finish(part, value_span(part, whole))


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


class PredictionItem(NamedTuple):
    """An image as a loader reads it.

    Attributes:
        position: Row of the image in its samples.
        content: The resized image uint8 ``[3, h, w]``.
        own: Own height and width.
        target: Class ids uint8 ``[*own]``, or ``None`` where there are no labels.
    """

    position: int
    content: Tensor
    own: tuple[int, int]
    target: np.ndarray | None


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


class TrainingSet(Dataset[tuple[Tensor, Tensor]]):
    """Augmented samples at the network's size; a key is ``(epoch, position)``.

    The random numbers of a sample depend on (seed, epoch, position) alone, not on workers. Of an
    image with several windows a sample shows a random one: augmentations of the image's own pixels
    come first, so a crop bounds where the window may lie, the others change the window alone.

    What is the same in each epoch can be kept in memory, see ``kept.py``: the resized sample, or
    the sample as it was read where an augmentation wants the image's own pixels.

    Args:
        samples: Images and labels.
        preprocess: How images enter the network.
        label_map: For class ids.
        augmentations: Names of augmentations.
        seed: Seed of all random numbers.
        keep: Bytes of samples that stay in memory.
    """

    def __init__(
        self,
        samples: Samples,
        preprocess: Preprocess,
        label_map: LabelMap,
        augmentations: Sequence[str],
        seed: int,
        *,
        keep: int = 0,
    ) -> None:
        self.samples = samples
        self.preprocess = preprocess
        self.label_map = label_map
        self.augmentations = tuple(augmentations)
        self.seed = seed
        self._kept: Kept[tuple[Tensor, Tensor]] = Kept(keep)

    @property
    def keeps(self) -> bool:
        """True if samples stay in memory."""
        return self._kept.limit > 0

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return image float32 ``[3, H, W]`` and class ids uint8 ``[H, W]``."""
        epoch, position = key
        rng = np.random.default_rng((self.seed, epoch, position))
        image, ids = self._kept.get(position, lambda: self._read(position))
        geometry = self.preprocess.geometry
        if wants_own_pixels(self.augmentations):
            image, ids = augment(image, ids, self.augmentations, rng, resized=False)
            image, ids = geometry.resize(image), geometry.resize_ids(ids)
        low, high = image.aminmax()
        window = random_window(ids, geometry.size, rng)
        image, ids = geometry.cut(image, window), geometry.cut(ids, window)
        span = value_span(image, (int(low), int(high)))
        image, ids = augment(image, ids, self.augmentations, rng, resized=True)
        return self.preprocess.finish(image, span), geometry.pad(ids, IGNORE)

    def _read(self, position: int) -> tuple[Tensor, Tensor]:
        """Return image and class ids of a sample, resized if nothing comes before that."""
        image = _channels_first(read_image(self.samples.images[position]))
        own = (image.shape[-2], image.shape[-1])
        ids = torch.from_numpy(_read_ids(self.samples, position, own, self.label_map))
        if wants_own_pixels(self.augmentations):
            return image, ids
        geometry = self.preprocess.geometry
        return geometry.resize(image), geometry.resize_ids(ids)


class PredictionSet(Dataset[PredictionItem]):
    """Samples for prediction, and for scoring if a label map is given; a key is a position.

    Args:
        samples: Images, and labels if there is a label map.
        preprocess: How images enter the network.
        label_map: For class ids; ``None`` to read no labels.
        keep: Bytes of labelled samples that stay in memory, for sets that are scored again.
    """

    def __init__(
        self,
        samples: Samples,
        preprocess: Preprocess,
        label_map: LabelMap | None,
        *,
        keep: int = 0,
    ) -> None:
        self.samples = samples
        self.preprocess = preprocess
        self.label_map = label_map
        self._kept: Kept[tuple[Tensor, np.ndarray]] = Kept(keep)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def __getitem__(self, position: int) -> PredictionItem:
        """Return the resized image, and its class ids if there is a label map."""
        label_map = self.label_map
        if label_map is None:
            content, own = self._content(position)
            return PredictionItem(position, content, own, None)

        def labelled() -> tuple[Tensor, np.ndarray]:
            content, own = self._content(position)
            return content, _read_ids(self.samples, position, own, label_map)

        content, ids = self._kept.get(position, labelled)
        return PredictionItem(position, content, (ids.shape[0], ids.shape[1]), ids)

    def _content(self, position: int) -> tuple[Tensor, tuple[int, int]]:
        """Return the resized image and its own height and width."""
        image = _channels_first(read_image(self.samples.images[position]))
        own = (image.shape[-2], image.shape[-1])
        return self.preprocess.geometry.resize(image), own


class WindowLoader:
    """Reads the images of a rank, one after the other, and yields batches of their windows.

    A batch holds the next windows, whether they are of one image or of several: many small images
    fill it together, and a large one takes as many batches as it needs. An image is read once and
    lies in memory as uint8; only the windows of a batch are float32. All windows of an image are on
    one rank.

    Args:
        samples: Images, and labels if there is a label map.
        preprocess: How images enter the network.
        label_map: For class ids; ``None`` to read no labels.
        batch_size: Windows of a batch; the last one may have less.
        rank: Number of this process.
        world: Number of processes.
        num_workers: Processes that read ahead.
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
        num_workers: int = 0,
        keep: int = 0,
    ) -> None:
        self.preprocess = preprocess
        self.batch_size = batch_size
        self.images: DataLoader[PredictionItem] = DataLoader(
            PredictionSet(samples, preprocess, label_map, keep=keep),
            batch_size=None,
            sampler=ShardSampler(len(samples), rank=rank, world=world),
            collate_fn=_as_it_is,
            num_workers=num_workers,
            worker_init_fn=ignore_interrupt,
            persistent_workers=num_workers > 0,
            # An own generator: a loader draws from it at each start, and the gate's noise must not
            # depend on that.
            generator=torch.Generator(),
        )

    def __iter__(self) -> Iterator[PredictionBatch]:
        """Read the images anew."""
        windows = self._windows()
        while rows := list(islice(windows, self.batch_size)):
            seen, images = zip(*rows, strict=True)
            yield PredictionBatch(torch.stack(images), list(seen))

    def close(self) -> None:
        """End the processes that read ahead; reading again starts new ones."""
        end_processes(self.images)

    def _windows(self) -> Iterator[tuple[SeenWindow, Tensor]]:
        for item in self.images:
            for window, image in self.preprocess.windows(item.content, item.own):
                yield SeenWindow(item.position, item.own, item.target, window), image


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


def _as_it_is(item: Any) -> Any:
    """Keep what a data set returns: a loader would make tensors of arrays."""
    return item


def _channels_first(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)


def _read_ids(
    samples: Samples, position: int, own: tuple[int, int], label_map: LabelMap
) -> np.ndarray:
    """Return the class ids of a mask, at the size of its image if it is off by a few pixels."""
    assert samples.labels is not None
    mask = samples.labels[position]
    raw = read_mask(mask, colour=label_map.coloured)
    raw = fit_to_image(raw, own, samples.images[position], mask)
    return label_map.encode(raw, where=f"{samples.row(position)}: {describe(mask)}")


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
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.count)
        filled = np.resize(order, len(self) * self.world)
        return ((self.epoch, int(position)) for position in filled[self.rank :: self.world])


class ShardSampler(Sampler[int]):
    """Every world-th position in order, none twice and none missing over all ranks."""

    def __init__(self, count: int, *, rank: int = 0, world: int = 1) -> None:
        self.positions = range(rank, count, world)

    def __len__(self) -> int:
        """Return the number of positions of this rank."""
        return len(self.positions)

    def __iter__(self) -> Iterator[int]:
        """Yield the positions of this rank."""
        return iter(self.positions)
