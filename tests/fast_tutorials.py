"""What makes a tutorial fast, from the outside: its cells are those that readers run.

In the kernel and in all Python processes that it starts, `install` is called before anything else
(by a ``sitecustomize.py`` on their path). The data sets are miniatures, see `write_miniatures`.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

# Two steps of a random network of milliseconds; what a cell sets itself, it gets.
FAST = {
    "backbone.name": "tiny_vit",
    "backbone.weights": "random",
    "adapter.kind": "conv_lora",
    "data.size": 112,
    "train.max_steps": 2,
    "train.precision": "32",
}
FEW = 6
SIZE = (112, 144)


def install() -> None:
    """Let every fit take two steps and every generated set hold a few small images."""
    from tiny_specs import TINY_VIT

    from easyseg.datasets import synthetic
    from easyseg.models.registry import register
    from easyseg.segmentor import SemanticSegmentor

    register(TINY_VIT)

    def short(method: Any) -> Any:
        @functools.wraps(method)
        def call(self: Any, *tables: Any, **options: Any) -> Any:
            options.pop("time_limit", None)
            if options.get("plan") is None:
                options["hyperparameters"] = FAST | dict(options.get("hyperparameters") or {})
            return method(self, *tables, **options)

        return call

    SemanticSegmentor.fit = short(SemanticSegmentor.fit)  # type: ignore[method-assign]
    SemanticSegmentor.plan = short(SemanticSegmentor.plan)  # type: ignore[method-assign]

    make = synthetic.make_synthetic

    @functools.wraps(make)
    def make_few(folder: Any, **options: Any) -> Any:
        few = {"num_train": FEW, "num_val": 2, "num_test": 4}
        less = {name: min(count, options.get(name, count)) for name, count in few.items()}
        return make(folder, **{**options, **less, "size": SIZE})

    synthetic.make_synthetic = make_few


def write_miniatures(parent: Path) -> None:
    """Write a few made-up images in the place of each small public set.

    Names of files tell groups, as those of films do; masks hold all values of the set, void too.
    """
    from easyseg.datasets.sample_sets import SAMPLE_SETS

    for number, spec in enumerate(SAMPLE_SETS):
        rng = np.random.default_rng(number)
        root = parent / spec.name
        (root / "images").mkdir(parents=True)
        (root / "masks").mkdir()
        for part, count in (("train", FEW), ("val", 2), ("test", 4)):
            rows = []
            for index in range(count):
                name = f"{part}{index // 2:02d}_{index:03d}"
                row = f"images/{name}.jpg", f"masks/{name}.png"
                image, mask = _scene(rng, list(spec.classes))
                if spec.ignore_index is not None:
                    mask[:4] = spec.ignore_index
                Image.fromarray(image).save(root / row[0])
                Image.fromarray(mask).save(root / row[1])
                rows.append(row)
            pd.DataFrame(rows, columns=["image", "label"]).to_csv(root / f"{part}.csv", index=False)


def _scene(rng: np.random.Generator, values: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Make an image with a box of its own colour for each class, and its mask."""
    image = rng.integers(0, 90, (*SIZE, 3), dtype=np.uint8)
    mask = np.full(SIZE, values[0], np.uint8)
    for rank, value in enumerate(values[1:]):
        side = SIZE[0] // 2 if len(values) == 2 else SIZE[0] // 5
        top = int(rng.integers(4, SIZE[0] - side))
        left = int(rng.integers(0, SIZE[1] - side))
        mask[top : top + side, left : left + side] = value
        image[top : top + side, left : left + side, rank % 3] += np.uint8(120)
    return image, mask
