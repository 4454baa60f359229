"""Score a model on labelled samples, at each image's own size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from easyseg.allocator import keep_freed_memory
from easyseg.artifact import TrainedModel
from easyseg.data.table import Samples
from easyseg.inference.predict import Prediction, predict_stream
from easyseg.metrics.reference import SIDE, Squashed, squash_target
from easyseg.metrics.streaming import SegmentationScores
from easyseg.models.heads import Head
from easyseg.ranks import Ranks

__all__ = ["new_scores", "score", "take_in"]


def new_scores(
    model_names: tuple[str, ...],
    problem_type: str,
    metrics: Sequence[str] | str = (),
    *,
    resampled: bool = False,
) -> SegmentationScores:
    """Return empty scores for a problem, of the usual report and of further metrics."""
    return SegmentationScores(
        model_names, binary=problem_type == "binary", metrics=metrics, resampled=resampled
    )


def take_in(
    scores: SegmentationScores, head: Head, item: Prediction, threshold: float | None = None
) -> None:
    """Add a prediction with its truth to scores; only what their metrics need is made of it.

    Args:
        scores: Where it goes.
        head: What makes class ids and probabilities of logits.
        item: One image's logits and truth.
        threshold: Probability above which a pixel is foreground, binary only.
    """
    assert item.target is not None
    probabilities = squashed = None
    if scores.needs_probabilities:
        probabilities = head.probabilities(item.logits)[1].cpu().numpy()
    if scores.needs_squashed:
        prediction, foreground = _squash(head, item.logits, scores.binary)
        squashed = Squashed(prediction, squash_target(item.target), foreground)
    ids = head.decide(item.logits, threshold)
    scores.update(ids.cpu().numpy(), item.target, probabilities, squashed)


def _squash(head: Head, logits: Tensor, binary: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Return class ids and, binary, probabilities of the foreground at the reference's size.

    The logits are at the image's own size: :mod:`easyseg.metrics.reference` says what that changes.
    """
    whole = F.interpolate(logits[None].float(), (SIDE, SIDE), mode="bilinear")[0]
    probabilities = head.probabilities(whole)
    ids = probabilities.argmax(dim=0).to(torch.uint8).cpu().numpy()
    return ids, probabilities[1].cpu().numpy() if binary else None


def score(
    model: TrainedModel,
    samples: Samples,
    *,
    batch_size: int,
    metrics: Sequence[str] | str = (),
    resampled: bool = False,
    threshold: float | None = None,
    ranks: Ranks,
    on_image: Callable[[], None] | None = None,
) -> SegmentationScores:
    """Predict and score labelled samples; every rank returns the scores of all.

    Args:
        model: The model.
        samples: Images with labels.
        batch_size: Windows a forward pass.
        metrics: Keys beside those of the usual report.
        resampled: Keep what intervals need.
        threshold: Probability above which a pixel is foreground, binary only.
        ranks: This process among others.
        on_image: Called after each image of this rank.

    Returns:
        The scores, of the images in the order of the samples.
    """
    label_map, problem = model.label_map, model.plan.problem_type
    mine = new_scores(label_map.names, problem, metrics, resampled=resampled)
    positions: list[int] = []
    stream = predict_stream(model, samples, batch_size=batch_size, with_targets=True, ranks=ranks)
    with keep_freed_memory():
        for item in stream:
            take_in(mine, model.network.head, item, threshold)
            positions.append(item.position)
            if on_image is not None:
                on_image()
    scores = new_scores(label_map.names, problem, metrics, resampled=resampled)
    order: list[int] = []
    for state, seen in ranks.gather((mine.state(), positions)):
        scores.merge(state)
        order.extend(seen)
    return scores.take(np.argsort(order))
