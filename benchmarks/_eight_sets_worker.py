"""One cell of eight_sets.py: one method on one set with one seed, in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _budget_fit import PACKAGES, Fit, Fitted, easyseg_fit, parser, run_cell
from _scoring import read_masks, score

from easyseg.data.geometry import Geometry
from easyseg.data.io import image_size, read_image
from easyseg.data.label_map import LabelMap
from easyseg.data.table import read_samples
from easyseg.datasets.folder import FolderDataset

ADAPTERS = {"decoder": "none", "lora": "lora", "conv_lora": "conv_lora"}
SIZE = (256, 256)


def method_of(name: str) -> Fit:
    """Return the fit of a method, with the libraries that it needs already imported."""
    if name in ADAPTERS:
        return easyseg_fit({"adapter.kind": ADAPTERS[name]})
    if name == "unet":
        import _unet  # noqa: F401 - the budget holds no imports

        return fit_unet
    return fit_constant


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


def main() -> None:
    """Run one cell and write it down."""
    options = parser(__doc__)
    options.add_argument("method")
    told = options.parse_args()
    packages = (*PACKAGES, "segmentation-models-pytorch")
    run_cell(told, {"method": told.method}, lambda: method_of(told.method), packages)


if __name__ == "__main__":
    main()
