"""Samples as tensors: what a training step and a prediction step read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from easyseg.data.geometry import Geometry, Normalization, Window, normalize, value_span
from easyseg.data.io import describe, read_image, read_mask
from easyseg.data.kept import Kept
from easyseg.data.label_map import IGNORE, LabelMap
from easyseg.data.pairing import fit_to_image
from easyseg.data.table import Samples
from easyseg.data.transforms import augment, random_window, wants_own_pixels

__all__ = ["PredictionItem", "PredictionSet", "Preprocess", "TrainingSet"]


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
    """

    def __init__(
        self, samples: Samples, preprocess: Preprocess, label_map: LabelMap | None
    ) -> None:
        self.samples = samples
        self.preprocess = preprocess
        self.label_map = label_map

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def __getitem__(self, position: int) -> PredictionItem:
        """Return the resized image, and its class ids if there is a label map."""
        image = _channels_first(read_image(self.samples.images[position]))
        own = (image.shape[-2], image.shape[-1])
        content, ids = self.preprocess.geometry.resize(image), None
        if self.label_map is not None:
            ids = _read_ids(self.samples, position, own, self.label_map)
        return PredictionItem(position, content, own, ids)


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
