"""Prediction as a stream: one batch in memory, logits back at each image's own size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from easyseg.artifact import TrainedModel, preprocess_of
from easyseg.data.dataset import PredictionSet, ShardSampler, collate_prediction
from easyseg.data.table import Samples
from easyseg.plan.hardware import cpu_native_bf16
from easyseg.plan.plan import Plan
from easyseg.ranks import Ranks

__all__ = ["Prediction", "auto_batch_size", "autocast_for", "predict_stream"]

_PIXELS_A_BATCH = 512 * 512
_MAX_BATCH = 16


class Prediction(NamedTuple):
    """One image's result.

    Attributes:
        position: Row of the image in its samples.
        logits: float32 ``[num_masks, h, w]`` at the image's own size.
        target: Class ids uint8 ``[h, w]``, if labels were read.
    """

    position: int
    logits: Tensor
    target: np.ndarray | None


def auto_batch_size(plan: Plan) -> int:
    """Return a batch for prediction: about a quarter of a megapixel, at most 16 images."""
    return max(1, min(_MAX_BATCH, _PIXELS_A_BATCH // plan.data.size**2))


def autocast_for(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast of a plan's precision, where the device computes it in hardware.

    Args:
        precision: ``"32"``, ``"bf16"`` or ``"fp16"``.
        device: Where the network is.
    """
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    supported = device.type != "cpu" or (dtype == torch.bfloat16 and cpu_native_bf16())
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None and supported)


def predict_stream(
    model: TrainedModel,
    samples: Samples,
    *,
    batch_size: int,
    with_targets: bool = False,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
    num_workers: int = 0,
) -> Iterator[Prediction]:
    """Predict the samples of this rank, in their order.

    Args:
        model: The model, on its device.
        samples: Images, and labels if ``with_targets``.
        batch_size: Images a forward pass.
        with_targets: Read the labels, too.
        ranks: This process among others; no image is predicted twice.
        num_workers: Loader processes.

    Yields:
        One result an image. The iterator holds one batch at a time.
    """
    network, plan = model.network, model.plan
    network.eval()
    device = next(network.parameters()).device
    preprocess = preprocess_of(plan)
    loader = DataLoader(
        PredictionSet(samples, preprocess, model.label_map if with_targets else None),
        batch_size=batch_size,
        sampler=ShardSampler(len(samples), rank=ranks.rank, world=ranks.world),
        collate_fn=collate_prediction,
        num_workers=num_workers,
        generator=torch.Generator(),
        pin_memory=device.type == "cuda",
    )
    for batch in loader:
        images = batch.images.to(device, non_blocking=True)
        with torch.inference_mode(), autocast_for(plan.train.precision, device):
            logits = network(images).logits
        for row, position in enumerate(batch.positions):
            with torch.inference_mode():
                own = preprocess.geometry.restore(logits[row], batch.sizes[row])
            yield Prediction(position, own, batch.targets[row])
