"""Prediction as a stream: a batch and an image in memory, logits at each image's own size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from easyseg.allocator import give_back_freed_memory
from easyseg.artifact import TrainedModel, preprocess_of
from easyseg.data.geometry import Geometry
from easyseg.data.loaders import PredictionBatch, WindowLoader
from easyseg.data.table import Samples
from easyseg.inference.mosaic import Mosaic
from easyseg.plan.hardware import native_bf16
from easyseg.plan.plan import Plan
from easyseg.ranks import Ranks
from easyseg.threads import threads_beside

__all__ = ["Assembler", "Prediction", "auto_batch_size", "autocast_for", "predict_stream"]

# On a CPU a batch is no faster than its images, and what fits into the caches is faster. A GPU
# computes several small images in the time of one; together they take the memory of a large one.
_PIXELS_A_BATCH = {"cpu": 256 * 256}
_PIXELS_ELSEWHERE = 1024 * 1024
_MAX_BATCH = 16
# Gaps between what is in use add up in a long prediction; giving them back costs a batch its pages.
_BATCHES_UNTIL_GIVEN_BACK = 50


class Prediction(NamedTuple):
    """One image's result.

    Attributes:
        position: Row of the image in its samples.
        logits: float32 ``[C, h, w]`` at the image's own size: the channels of ``Output.logits``.
        target: Class ids uint8 ``[h, w]``, if labels were read.
    """

    position: int
    logits: Tensor
    target: np.ndarray | None


class Assembler:
    """Puts the logits of consecutive batches together, image by image.

    One image's logits are held at a time: the one whose last windows are in a batch to come.

    Args:
        geometry: How images were resized and cut.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self._mosaic: Mosaic | None = None

    def add(self, batch: PredictionBatch, logits: Tensor) -> Iterator[Prediction]:
        """Yield each image that this batch completes.

        Args:
            batch: The batch, in the loader's order.
            logits: ``[B, C, h, w]`` of its windows.
        """
        for seen, one in zip(batch.windows, logits, strict=True):
            if self._mosaic is None:
                self._mosaic = Mosaic(self.geometry, seen.own)
            self._mosaic.add(seen.window, one)
            if self._mosaic.complete:
                whole, self._mosaic = self._mosaic.restore(), None
                yield Prediction(seen.position, whole, seen.target)


def auto_batch_size(plan: Plan, device: torch.device) -> int:
    """Return a batch for prediction, at most 16 windows.

    Args:
        plan: The plan, for the size of a window.
        device: Where the network is: about 256x256 pixels in all on a CPU, else 1024x1024.
    """
    pixels = _PIXELS_A_BATCH.get(device.type, _PIXELS_ELSEWHERE)
    return max(1, min(_MAX_BATCH, pixels // plan.data.size**2))


def autocast_for(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast of a plan's precision, where the device computes it in hardware.

    Args:
        precision: ``"32"``, ``"bf16"`` or ``"fp16"``.
        device: Where the network is.
    """
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    supported = native_bf16(device) if dtype == torch.bfloat16 else device.type != "cpu"
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None and supported)


def predict_stream(
    model: TrainedModel,
    samples: Samples,
    *,
    batch_size: int,
    with_targets: bool = False,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
) -> Iterator[Prediction]:
    """Predict the samples of this rank, in their order; read the next ones while a GPU computes.

    Args:
        model: The model, on its device.
        samples: Images, and labels if ``with_targets``.
        batch_size: Windows a forward pass; squashed and letterboxed images are one each.
        with_targets: Read the labels, too.
        ranks: This process among others; no image is predicted twice.

    Yields:
        One result an image. The iterator holds one batch, the logits of one image, and beside a GPU
        the few images that are read ahead.
    """
    network, plan = model.network, model.plan
    network.eval()
    device = next(network.parameters()).device
    preprocess = preprocess_of(plan)
    assembler = Assembler(preprocess.geometry)
    loader = WindowLoader(
        samples,
        preprocess,
        model.label_map if with_targets else None,
        batch_size=batch_size,
        rank=ranks.rank,
        world=ranks.world,
        threads=threads_beside(device, ranks.world),
    )
    for number, batch in enumerate(loader, start=1):
        with torch.inference_mode(), autocast_for(plan.train.precision, device):
            logits = network(batch.images.to(device)).logits
        yield from assembler.add(batch, logits)
        if number % _BATCHES_UNTIL_GIVEN_BACK == 0:
            give_back_freed_memory()
