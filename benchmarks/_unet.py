"""A baseline of eight_sets.py: a U-Net with a ResNet-18 encoder, from scratch.

The network is that of segmentation-models-pytorch. It gets what a careful user would give it:
images decoded once, flips, a loss for the problem (with the class weights of easyseg's plan), a
learning rate that reaches zero as the time is up, and the best of its last checkpoints by the
validation score.

Crops and colours are left out: tried on a held-out third of two training sets, in so short a time
they cost it score. bf16 is used where the hardware computes it and channels-last everywhere, for
its steps are faster so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from easyseg.data.geometry import Geometry, normalize
from easyseg.data.io import read_image, read_mask
from easyseg.data.label_map import IGNORE, LabelMap
from easyseg.data.table import Samples
from easyseg.data.transforms import augment
from easyseg.metrics.catalogue import default_metric
from easyseg.metrics.streaming import SegmentationScores
from easyseg.plan.choices import rare_class_weights
from easyseg.plan.hardware import cpu_native_bf16

GEOMETRY = Geometry("squash", (256, 256))


@dataclass(frozen=True)
class Settings:
    """How the U-Net is trained.

    Attributes:
        augment: Keys of ``easyseg.data.transforms.AUGMENTATIONS``.
        bf16: Forward and backward pass in bfloat16.
        lr: Highest learning rate of AdamW; it falls to zero with the time, as half a cosine.
        weight_decay: Of AdamW.
        batch_size: Images of a step.
        checkpoints: Shares of the time after which the validation images are scored.
    """

    augment: tuple[str, ...]
    bf16: bool
    lr: float = 1e-3
    weight_decay: float = 1e-2
    batch_size: int = 8
    checkpoints: tuple[float, ...] = (0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, eq=False)
class UNet:
    """A trained U-Net.

    Attributes:
        network: In evaluation mode.
        settings: How it was trained.
        epochs: Passes over the training images.
        steps: Optimizer steps.
        validation: Seconds since the start, and score, of each checkpoint.
    """

    network: nn.Module
    settings: Settings
    epochs: float
    steps: int
    validation: tuple[tuple[float, float], ...]

    def plan(self) -> dict[str, Any]:
        """Return how it was trained, in plain JSON types."""
        return {"network": "Unet resnet18", "size": GEOMETRY.size[0], **asdict(self.settings)}

    @torch.inference_mode()
    def predict(self, image: np.ndarray) -> np.ndarray:
        """Return the class ids ``[h, w]`` of an image uint8 ``[h, w, 3]``."""
        small = _resized(image)
        logits = _logits(self.network, normalize(small, "sam")[None], self.settings.bf16)[0]
        return _decide(GEOMETRY.restore(logits, image.shape[:2]))


def fit_unet(train: Samples, val: Samples, labels: LabelMap, *, seed: int, deadline: float) -> UNet:
    """Train until the time is up.

    Args:
        train: Training images and masks.
        val: Images and masks that choose the checkpoint.
        labels: Raw mask values and class ids.
        seed: Seed of weights, order and augmentation.
        deadline: When to return, on the clock of ``time.monotonic``.

    Returns:
        The best checkpoint.
    """
    started = time.monotonic()
    turns = ("hflip", "vflip") if labels.binary else ("hflip",)
    settings = Settings(turns, cpu_native_bf16())
    torch.manual_seed(seed)
    classes = 1 if labels.binary else labels.num_classes
    network = smp.Unet("resnet18", encoder_weights=None, classes=classes)
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )
    loaded = _load(train, labels)
    class_weights = None if labels.binary else _class_weights(loaded, classes)
    batches = _batches(loaded, settings, seed)
    validation_images = _load(val, labels)
    pending = list(settings.checkpoints)
    validation: list[tuple[float, float]] = []
    best: dict[str, Tensor] = {}
    steps, step_seconds, validation_seconds = 0, 0.0, 0.0
    while pending:
        now = time.monotonic()
        end = deadline - step_seconds - validation_seconds
        share = min(1.0, (now - started) / max(1e-9, end - started))
        if share < pending[0]:
            optimizer.param_groups[0]["lr"] = settings.lr * (1 + math.cos(math.pi * share)) / 2
            images, ids = next(batches)
            loss = _loss(_logits(network.train(), images, settings.bf16), ids, class_weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
            step_seconds = time.monotonic() - now
        else:
            pending = [checkpoint for checkpoint in pending if checkpoint > share]
            score = _validate(network.eval(), validation_images, labels, settings.bf16)
            if not validation or score > max(score for _, score in validation):
                best = {name: value.clone() for name, value in network.state_dict().items()}
            validation.append((round(now - started, 2), score))
            validation_seconds = time.monotonic() - now
    network.load_state_dict(best)
    epochs = round(steps * settings.batch_size / len(train), 1)
    return UNet(network.eval(), settings, epochs, steps, tuple(validation))


def _resized(image: np.ndarray) -> Tensor:
    return GEOMETRY.resize(torch.from_numpy(image).permute(2, 0, 1))


def _load(samples: Samples, labels: LabelMap) -> list[tuple[Tensor, Tensor]]:
    """Decode all images and masks and bring them to the network's size."""
    assert samples.labels is not None
    loaded = []
    for image, mask in zip(samples.images, samples.labels, strict=True):
        ids = GEOMETRY.resize_ids(torch.from_numpy(labels.encode(read_mask(mask))))
        loaded.append((_resized(read_image(image)), ids))
    return loaded


def _batches(
    loaded: list[tuple[Tensor, Tensor]], settings: Settings, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of augmented images without end; every epoch has its own order."""
    rng = np.random.default_rng(seed)

    def augmented() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            for position in rng.permutation(len(loaded)):
                image, ids = augment(*loaded[position], settings.augment, rng, resized=False)
                image, ids = GEOMETRY.resize(image), GEOMETRY.resize_ids(ids)
                image, ids = augment(image, ids, settings.augment, rng, resized=True)
                yield normalize(image, "sam"), ids

    samples = augmented()
    while True:
        images, ids = zip(*(next(samples) for _ in range(settings.batch_size)), strict=True)
        yield torch.stack(images), torch.stack(ids)


def _logits(network: nn.Module, images: Tensor, bf16: bool) -> Tensor:
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return network(images).float()


def _decide(logits: Tensor) -> np.ndarray:
    """Turn logits ``[K, h, w]`` (binary: ``[1, h, w]``) into class ids uint8."""
    ids = logits[0] > 0 if len(logits) == 1 else logits.argmax(0)
    return ids.to(torch.uint8).numpy()


def _class_weights(loaded: list[tuple[Tensor, Tensor]], classes: int) -> Tensor:
    """Return the weights of easyseg's plan."""
    counts = sum(torch.bincount(ids.flatten(), minlength=256)[:classes] for _, ids in loaded)
    assert isinstance(counts, Tensor)
    return torch.tensor(rare_class_weights((counts / counts.sum()).tolist()))


def _loss(logits: Tensor, ids: Tensor, class_weights: Tensor | None) -> Tensor:
    """Cross-entropy plus one minus soft Dice, pooled over the batch; ignored pixels count nowhere.

    Args:
        logits: ``[B, K, h, w]``, binary problems ``[B, 1, h, w]``.
        ids: Class ids uint8 ``[B, h, w]``.
        class_weights: Weight of each class in the cross-entropy, float32 ``[K]``.
    """
    counted = (ids != IGNORE)[:, None]
    known = torch.where(counted[:, 0], ids, 0).long()
    if logits.shape[1] == 1:
        truth = known[:, None].float()
        entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        probabilities = logits.sigmoid()
    else:
        truth = F.one_hot(known, logits.shape[1]).permute(0, 3, 1, 2).float()
        entropy = F.cross_entropy(logits, known, reduction="none")[:, None]
        probabilities = logits.softmax(1)
    both = (probabilities * truth * counted).sum((0, 2, 3))
    sizes = ((probabilities + truth) * counted).sum((0, 2, 3))
    dice = (2 * both + 1) / (sizes + 1)
    weight = counted if class_weights is None else counted * class_weights[known][:, None]
    return (entropy * weight).sum() / weight.sum().clamp(min=1e-6) + 1 - dice.mean()


@torch.inference_mode()
def _validate(
    network: nn.Module, loaded: list[tuple[Tensor, Tensor]], labels: LabelMap, bf16: bool
) -> float:
    """Return the key metric at the network's size."""
    scores = SegmentationScores(labels.names, labels.binary)
    for image, ids in loaded:
        logits = _logits(network, normalize(image, "sam")[None], bf16)[0]
        scores.update(_decide(logits), ids.numpy())
    metric = default_metric(labels.binary)
    return scores.compute(metric)[metric]
