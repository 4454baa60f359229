"""Masks of 100 and of 2,000 images written to files: peak memory, and what reading costs.

    python benchmarks/predict_many.py

A model of lite_medsam at 112 pixels with fresh adapters predicts JPEG images of 1024x768 (soft
blobs, which decode somewhat faster than photos), each number of them in a fresh process. Reading is
what the loader spends on decoding and resizing; the check of all files before the first prediction
is counted apart. Nothing else should use the cores. The result goes to
benchmarks/results/predict_many.json and into benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _record import RESULTS, provenance, publish, write_json
from _steps import binary_plan
from _turns import peak_gb
from PIL import Image

COUNTS = (100, 2000)
SIZE = (1024, 768)


def write_images(folder: Path, count: int) -> None:
    """Write photos of large, soft blobs, each another one."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        blobs = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        blobs.resize(SIZE, Image.Resampling.BICUBIC).save(folder / f"{number:04}.jpg", quality=90)


def write_model(folder: Path) -> None:
    """Save a model that was never trained."""
    from easyseg.artifact import TrainedModel, write_artifact
    from easyseg.data.label_map import LabelMap
    from easyseg.models.network import build_network

    plan = binary_plan({"backbone.name": "lite_medsam", "data.size": 112})
    labels = LabelMap((0, 255), ("background", "foreground"), None, "uint8")
    network = build_network(plan, seed=0)
    write_artifact(TrainedModel(network=network, plan=plan, label_map=labels, seed=0), folder)


class Stopwatch:
    """Adds up the seconds of calls of a function."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - started

        return timed


def measure(model: Path, images: Path, target: Path) -> dict[str, float]:
    """Predict a folder in this process."""
    from easyseg import SemanticSegmentor
    from easyseg.data.dataset import PredictionSet

    reading, checking = Stopwatch(), Stopwatch()
    segmentor = SemanticSegmentor.load(model, device="cpu").set_params(verbosity=0)
    PredictionSet.__getitem__ = reading.around(PredictionSet.__getitem__)  # type: ignore[method-assign]
    SemanticSegmentor._check_readable = checking.around(SemanticSegmentor._check_readable)  # type: ignore[method-assign]
    before = peak_gb()
    started = time.perf_counter()
    paths = segmentor.predict(images, output_dir=target)
    seconds = time.perf_counter() - started
    assert all(Path(path).is_file() for path in paths)
    return {
        "images": len(paths),
        "seconds": round(seconds, 2),
        "reading_seconds": round(reading.seconds, 2),
        "checking_seconds": round(checking.seconds, 2),
        "peak_gb_before": round(before, 3),
        "peak_gb": round(peak_gb(), 3),
    }


def table(result: Mapping[str, Any]) -> str:
    """Return a row for each number of images."""
    lines = [
        "| images | peak memory | seconds an image | reading | check before |",
        "|---|---|---|---|---|",
    ]
    for run in result["runs"]:
        predicting = run["seconds"] - run["checking_seconds"]
        lines.append(
            f"| {run['images']} | {run['peak_gb']:.2f} GB | {run['seconds'] / run['images']:.3f} "
            f"| {run['reading_seconds'] / predicting:.0%} of the prediction "
            f"| {run['checking_seconds'] / run['seconds']:.0%} of all |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure each number of images in a fresh process and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--here", nargs=3, type=Path, help="model, images, target: predict only")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(*options.here)))
        return
    measured = provenance()
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_model(folder / "model")
        for count in COUNTS:
            images = folder / f"images-{count}"
            write_images(images, count)
            command = [sys.executable, __file__, "--here", folder / "model", images]
            done = subprocess.run(
                [*map(str, command), str(folder / f"masks-{count}")],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            runs.append(json.loads(done.stdout))
    result = {"size": SIZE, "runs": runs, **measured}
    write_json(RESULTS / "predict_many.json", result)
    publish(table(result), [result], "predict_many")


if __name__ == "__main__":
    main()
