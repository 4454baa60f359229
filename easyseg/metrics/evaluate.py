"""Score a model on labelled samples, at each image's own size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from easyseg.allocator import keep_freed_memory
from easyseg.artifact import TrainedModel
from easyseg.data.table import Samples
from easyseg.inference.predict import predict_stream
from easyseg.metrics.streaming import SegmentationScores
from easyseg.ranks import Ranks

__all__ = ["new_scores", "score"]


def new_scores(model_names: tuple[str, ...], problem_type: str) -> SegmentationScores:
    """Return empty scores for a problem."""
    return SegmentationScores(model_names, binary=problem_type == "binary")


def score(
    model: TrainedModel,
    samples: Samples,
    *,
    batch_size: int,
    threshold: float | None = None,
    ranks: Ranks,
    num_workers: int = 0,
    on_image: Callable[[], None] | None = None,
) -> tuple[SegmentationScores, np.ndarray]:
    """Predict and score labelled samples; every rank returns the scores of all.

    Args:
        model: The model.
        samples: Images with labels.
        batch_size: Windows a forward pass.
        threshold: Probability above which a pixel is foreground, binary only.
        ranks: This process among others.
        num_workers: Loader processes.
        on_image: Called after each image of this rank.

    Returns:
        The scores, and the row in ``samples`` of each scored image, int64 in the scores' order.
    """
    mine = new_scores(model.label_map.names, model.plan.problem_type)
    positions: list[int] = []
    stream = predict_stream(
        model,
        samples,
        batch_size=batch_size,
        with_targets=True,
        ranks=ranks,
        num_workers=num_workers,
    )
    with keep_freed_memory():
        for item in stream:
            assert item.target is not None
            ids = model.network.head.decide(item.logits, threshold)
            mine.update(ids.cpu().numpy(), item.target)
            positions.append(item.position)
            if on_image is not None:
                on_image()
    scores = new_scores(model.label_map.names, model.plan.problem_type)
    order: list[int] = []
    for state, seen in ranks.gather((mine.state(), positions)):
        scores.merge(state)
        order.extend(seen)
    return scores, np.array(order, np.int64)
