"""Samples as tensors: what a training step and a prediction step read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from easyseg.data.geometry import Geometry, Normalization, normalize
from easyseg.data.io import read_image, read_mask
from easyseg.data.label_map import IGNORE, LabelMap
from easyseg.data.table import Samples
from easyseg.data.transforms import augment

__all__ = [
    "EpochSampler",
    "PredictionBatch",
    "PredictionSet",
    "Preprocess",
    "ShardSampler",
    "TrainingBatch",
    "TrainingSet",
    "collate_prediction",
    "collate_training",
]


@dataclass(frozen=True)
class Preprocess:
    """Image array to network input, the same for training and prediction."""

    geometry: Geometry
    normalization: Normalization

    def __call__(self, image: np.ndarray) -> Tensor:
        """Map uint8 ``[h, w, 3]`` to float32 ``[3, H, W]``."""
        return self.geometry.image(_channels_first(image), self.normalization)


class TrainingBatch(NamedTuple):
    """Images float32 ``[B, 3, H, W]`` and class ids uint8 ``[B, H, W]`` (255 ignored)."""

    images: Tensor
    targets: Tensor


class PredictionBatch(NamedTuple):
    """Images with what is needed to bring logits back and to score them.

    Attributes:
        images: float32 ``[B, 3, H, W]``.
        positions: Row of each image in its samples.
        sizes: Own height and width of each image.
        targets: Class ids uint8 ``[h, w]`` at own size, or ``None`` where there are no labels.
    """

    images: Tensor
    positions: list[int]
    sizes: list[tuple[int, int]]
    targets: list[np.ndarray | None]


class TrainingSet(Dataset[tuple[Tensor, Tensor]]):
    """Augmented samples at the network's size; a key is ``(epoch, position)``.

    The random numbers of a sample depend on (seed, epoch, position) alone, not on workers.
    """

    def __init__(
        self,
        samples: Samples,
        preprocess: Preprocess,
        label_map: LabelMap,
        augmentations: Sequence[str],
        seed: int,
    ) -> None:
        self.samples = samples
        self.preprocess = preprocess
        self.label_map = label_map
        self.augmentations = tuple(augmentations)
        self.seed = seed

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return image float32 ``[3, H, W]`` and class ids uint8 ``[H, W]``."""
        epoch, position = key
        rng = np.random.default_rng((self.seed, epoch, position))
        image = _channels_first(read_image(self.samples.images[position]))
        ids = torch.from_numpy(_read_ids(self.samples, position, self.label_map))
        geometry = self.preprocess.geometry
        image, ids = augment(image, ids, self.augmentations, rng, resized=False)
        image, ids = geometry.resize(image), geometry.resize_ids(ids)
        image, ids = augment(image, ids, self.augmentations, rng, resized=True)
        normalized = normalize(image, self.preprocess.normalization)
        return geometry.pad(normalized), geometry.pad(ids, IGNORE)


class PredictionSet(Dataset[tuple[int, Tensor, tuple[int, int], "np.ndarray | None"]]):
    """Samples for prediction, and for scoring if a label map is given; a key is a position."""

    def __init__(
        self, samples: Samples, preprocess: Preprocess, label_map: LabelMap | None
    ) -> None:
        self.samples = samples
        self.preprocess = preprocess
        self.label_map = label_map

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def __getitem__(self, position: int) -> tuple[int, Tensor, tuple[int, int], np.ndarray | None]:
        """Return position, image ``[3, H, W]``, own size, and class ids at own size or ``None``."""
        image = read_image(self.samples.images[position])
        ids = None
        if self.label_map is not None:
            ids = _read_ids(self.samples, position, self.label_map)
        return position, self.preprocess(image), (image.shape[0], image.shape[1]), ids


def _channels_first(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)


def _read_ids(samples: Samples, position: int, label_map: LabelMap) -> np.ndarray:
    assert samples.labels is not None
    raw = read_mask(samples.labels[position])
    return label_map.encode(raw, where=samples.names[position])


def collate_training(items: list[tuple[Tensor, Tensor]]) -> TrainingBatch:
    """Stack training samples."""
    images, targets = zip(*items, strict=True)
    return TrainingBatch(torch.stack(images), torch.stack(targets))


def collate_prediction(
    items: list[tuple[int, Tensor, tuple[int, int], np.ndarray | None]],
) -> PredictionBatch:
    """Stack images; keep what differs in size as lists."""
    positions, images, sizes, targets = zip(*items, strict=True)
    return PredictionBatch(torch.stack(images), list(positions), list(sizes), list(targets))


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
