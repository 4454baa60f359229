"""Small sets on disk and the options of fits that take seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

# The tiny backbone has no pretrained weights; these make a fit of it last seconds.
TINY = {
    "backbone.name": "tiny_sam",
    "backbone.weights": "random",
    "data.size": 128,
    "optim.lr": 3e-3,
    "adapter.rank": 2,
    "adapter.num_experts": 3,
    "train.epochs": 2,
    "train.precision": "32",
}


def write_pair(folder: Path, number: int, size: tuple[int, int], values: tuple[int, ...]) -> None:
    """Write an image with one bright box a class, and its mask."""
    rng = np.random.default_rng(number)
    height, width = size
    image = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
    mask = np.full(size, values[0], np.uint8)
    for rank, value in enumerate(values[1:]):
        top, left = rng.integers(2, height // 2), rng.integers(2, width // 2)
        box = (slice(top, top + height // 3), slice(left, left + width // 3))
        mask[box] = value
        image[box] = 0
        image[(*box, rank % 3)] = 230
    Image.fromarray(image).save(folder / f"image_{number}.png")
    Image.fromarray(mask).save(folder / f"mask_{number}.png")


def make_table(folder: Path, count: int, values: tuple[int, ...] = (0, 255)) -> pd.DataFrame:
    """Write ``count`` pairs of different sizes; the table has absolute paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        write_pair(folder, number, (60 + 7 * number, 90 - 3 * number), values)
    return pd.DataFrame(
        {
            "image": [str(folder / f"image_{n}.png") for n in range(count)],
            "label": [str(folder / f"mask_{n}.png") for n in range(count)],
        }
    )
