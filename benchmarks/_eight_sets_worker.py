"""One cell of eight_sets.py: one method on one set with one seed, in this process."""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from _record import provenance, write_json

from easyseg import SemanticSegmentor
from easyseg.data.geometry import Geometry
from easyseg.data.io import image_size, read_image, read_mask
from easyseg.data.label_map import LabelMap
from easyseg.data.table import read_samples
from easyseg.datasets.folder import FolderDataset, read_folder
from easyseg.metrics.catalogue import default_metric
from easyseg.metrics.functional import confusion_matrix
from easyseg.metrics.streaming import SegmentationScores

ADAPTERS = {"decoder": "none", "lora": "lora", "conv_lora": "conv_lora"}
SIZE = (256, 256)
IDLE_PERCENT = 10


@dataclass(frozen=True)
class Fitted:
    """What a method has learnt.

    Attributes:
        predict: Maps a table to the class ids of its images, each at its own size.
        plan: What was decided, in plain JSON types.
        epochs: Passes over the training images.
        steps: Optimizer steps.
        validation: Seconds, and validation score, of each checkpoint that was compared.
    """

    predict: Callable[[pd.DataFrame], Sequence[np.ndarray]]
    plan: dict[str, Any]
    epochs: float
    steps: int
    validation: Sequence[tuple[float, float]]


Fit = Callable[[FolderDataset, LabelMap, int, float], Fitted]


def method_of(name: str) -> Fit:
    """Return the fit of a method, with the libraries that it needs already imported."""
    if name in ADAPTERS:
        import easyseg.training.fit  # noqa: F401 - fit imports it: the budget holds no imports

        return partial(fit_easyseg, ADAPTERS[name])
    if name == "unet":
        import _unet  # noqa: F401 - likewise

        return fit_unet
    return fit_constant


def fit_easyseg(
    kind: str, dataset: FolderDataset, labels: LabelMap, seed: int, budget: float
) -> Fitted:
    """Fit easyseg with its defaults and one kind of adapter."""
    with tempfile.TemporaryDirectory() as scratch:
        segmentor = SemanticSegmentor(
            classes=dataset.classes, ignore_index=dataset.ignore, path=scratch
        ).fit(
            dataset.train,
            dataset.val,
            hyperparameters={"adapter.kind": kind},
            time_limit=budget,
            accelerator="cpu",
            seed=seed,
        )
    plan = segmentor.plan_.to_dict()
    plan.pop("reasons")
    history = segmentor.history_
    validation = list(zip(history["seconds"], history[plan["metric"]], strict=True))

    def predict(table: pd.DataFrame) -> list[np.ndarray]:
        return [labels.encode(mask) for mask in segmentor.predict(table)]

    epochs, steps = history[["epoch", "step"]].iloc[-1]
    return Fitted(predict, plan, float(epochs), int(steps), validation)


def fit_unet(dataset: FolderDataset, labels: LabelMap, seed: int, budget: float) -> Fitted:
    """Fit the U-Net."""
    import _unet

    deadline = time.monotonic() + budget
    train, val = read_samples(dataset.train), read_samples(dataset.val)
    unet = _unet.fit_unet(train, val, labels, seed=seed, deadline=deadline)

    def predict(table: pd.DataFrame) -> list[np.ndarray]:
        return [unet.predict(read_image(Path(image))) for image in table["image"]]

    return Fitted(predict, unet.plan(), unet.epochs, unet.steps, unet.validation)


def fit_constant(dataset: FolderDataset, labels: LabelMap, seed: int, budget: float) -> Fitted:
    """Choose between two masks that know no image, by the validation score."""
    geometry = Geometry("squash", SIZE)
    ids = [
        geometry.resize_ids(torch.from_numpy(mask)).numpy()
        for mask in read_masks(dataset.train, labels)
    ]
    masks = {
        "all background": np.zeros(SIZE, np.uint8),
        "mean mask": most_frequent(ids, labels.num_classes),
    }

    def predict(mask: np.ndarray, table: pd.DataFrame) -> list[np.ndarray]:
        sizes = [Geometry("squash", image_size(Path(image))) for image in table["image"]]
        return [own.resize_ids(torch.from_numpy(mask)).numpy() for own in sizes]

    def value(name: str) -> float:
        return score(predict(masks[name], dataset.val), dataset.val, labels)["score"] or 0.0

    best = max(masks, key=value)
    return Fitted(partial(predict, masks[best]), {"mask": best}, 0, 0, [])


def read_masks(table: pd.DataFrame, labels: LabelMap) -> list[np.ndarray]:
    """Return the true class ids of a table."""
    return [labels.encode(read_mask(Path(mask)), mask) for mask in table["label"]]


def most_frequent(ids: Sequence[np.ndarray], num_classes: int) -> np.ndarray:
    """Return the most frequent class of each pixel, the lower id on a tie.

    With two classes it is the mean mask over one half.

    Args:
        ids: Class ids uint8 of one size, 255 ignored.
        num_classes: Number of classes.
    """
    stacked = np.stack(ids)
    counts = np.stack([(stacked == number).sum(0) for number in range(num_classes)])
    return counts.argmax(0).astype(np.uint8)


def score(predicted: Sequence[np.ndarray], table: pd.DataFrame, labels: LabelMap) -> dict[str, Any]:
    """Score class ids at own size: the same code for every method.

    Args:
        predicted: Class ids of each image.
        table: Images and masks, in that order.
        labels: Raw mask values and class ids.

    Returns:
        ``metric``, the key of the problem's metric; ``score``, its value; ``scores``, all values;
        ``images``, of each image its scores, and by class the pixels in the intersection and in
        the union of truth and prediction, of which pooled scores can be resampled.
    """
    scores = SegmentationScores(labels.names, labels.binary)
    counts = []
    for mask, truth in zip(predicted, read_masks(table, labels), strict=True):
        scores.update(mask, truth)
        matrix = confusion_matrix(mask, truth, labels.num_classes)
        both = matrix.diagonal()
        union = matrix.sum(0) + matrix.sum(1) - both
        counts.append({"intersection": both.tolist(), "union": union.tolist()})
    metric, values = default_metric(labels.binary), plain(scores.compute())
    return {
        "metric": metric,
        "score": values[metric],
        "scores": values,
        "images": [
            {"image": Path(image).name, **plain(row), **count}
            for image, row, count in zip(table["image"], scores.per_image(), counts, strict=True)
        ],
    }


def plain(scores: dict[str, float]) -> dict[str, float | None]:
    """Return scores for JSON, which has no NaN."""
    return {key: None if math.isnan(value) else value for key, value in scores.items()}


class CoreWatch:
    """Measures how much of all cores other processes take, from its construction on."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self._before = self._others()

    def seconds(self) -> float:
        """Return the wall-clock seconds since the start."""
        return time.monotonic() - self.started

    def others_share(self) -> float:
        """Return the share of all cores that others took."""
        import psutil

        taken = self._others() - self._before
        return max(0.0, taken / (self.seconds() * psutil.cpu_count()))

    @staticmethod
    def _others() -> float:
        import psutil

        times = psutil.cpu_times()
        return sum(times) - times.idle - getattr(times, "iowait", 0.0) - time.process_time()


def wait_for_idle_cores() -> None:
    """Return when the cores were idle for a few seconds."""
    import psutil

    while (percent := psutil.cpu_percent(interval=5)) > IDLE_PERCENT:
        print(f"waiting: others take {percent:.0f} % of the cores", flush=True)


def main() -> None:
    """Run one cell and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("method")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--budget", type=float, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--busy", action="store_true")
    options = parser.parse_args()
    names = ("easyseg", "torchvision", "lightning", "segmentation-models-pytorch")
    # First of all: a package that is missing must not cost a fit.
    measured = {"packages": {name: metadata.version(name) for name in names}, **provenance()}
    fit = method_of(options.method)
    dataset = read_folder(options.folder)
    labels = LabelMap(
        tuple(dataset.classes), tuple(dataset.classes.values()), dataset.ignore, "uint8"
    )
    if not options.busy:
        wait_for_idle_cores()
    watch = CoreWatch()
    fitted = fit(dataset, labels, options.seed, options.budget)
    seconds, others = watch.seconds(), watch.others_share()
    write_json(
        options.target,
        {
            "set": options.folder.name,
            "method": options.method,
            "seed": options.seed,
            "budget_seconds": options.budget,
            "fit_seconds": round(seconds, 2),
            "others_share": round(others, 3),
            "epochs": fitted.epochs,
            "steps": fitted.steps,
            "validation": fitted.validation,
            **score(fitted.predict(dataset.test), dataset.test, labels),
            "plan": fitted.plan,
            **measured,
        },
    )


if __name__ == "__main__":
    main()
