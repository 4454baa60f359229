"""Studies of the tests: a small one that says everything, and a launcher that needs no process."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from easyseg.study.reading import parse_study
from easyseg.study.results import write_failure, write_result
from easyseg.study.spec import Study
from easyseg.study.worker import Job

CONTENT: Mapping[str, Any] = {
    "about": "a study of the tests",
    "presets": "fast",
    "settings": {"adapter.num_experts": 4, "train.batch_size": 2, "adapter.rank": 4},
    "budget": {"samples": 8},
    "metrics": ["iou@image"],
    "sets": {"leaves": {"title": "Leaves"}, "roads": {"title": "Roads"}},
    "methods": {
        "lora": {"title": "LoRA", "settings": {"adapter.kind": "lora"}},
        "conv_lora": {"title": "Conv-LoRA", "settings": {"adapter.kind": "conv_lora"}},
    },
    "tuning": {"key": "optim.lr", "values": [1e-4, 1e-3], "set": "leaves", "seed": 0},
    "parts": {
        "methods": {
            "title": "Methods",
            "sets": {"leaves": [0, 1, 2], "roads": [0]},
            "baseline": "lora",
            "experts": True,
        },
        "ranks": {
            "title": "Ranks",
            "method": "conv_lora",
            "variants": {
                "rank 2": {"adapter.rank": 2},
                "rank 4": {"adapter.rank": 4},
            },
            "sets": {"leaves": [0, 1]},
        },
    },
}


def study_of(**changes: Any) -> Study:
    """Return the study of the tests, with other values under some of its keys."""
    return parse_study({**CONTENT, **changes}, name="test")


def measured(job: Job, score: float) -> dict[str, Any]:
    """Return what a worker would have measured, with one score for everything."""
    return {
        "validation": {"metric": "iou@image", "score": score},
        "tests": {"test": {"iou@image": score, "dice@image": 2 * score / (1 + score)}},
        "trained_parameters": 1_500_000,
        "fit_seconds": 90.0,
        "machine": "a machine",
        "torch": "2",
        "easyseg": "0",
        "commit": None,
    }


class Pretended:
    """A launcher that trains nothing.

    Args:
        score: Score of a job, NaN for one that fails.
        stop_after: Number of jobs after which the user presses Ctrl-C.
    """

    def __init__(
        self, score: Callable[[Job], float] = lambda job: 0.5, stop_after: float = math.inf
    ) -> None:
        self.score = score
        self.stop_after = stop_after
        self.jobs: list[Job] = []
        self.stopped = False

    def run(self, job: Job) -> None:
        """Write a result at once."""
        assert not job.file.exists()
        if len(self.jobs) >= self.stop_after:
            raise KeyboardInterrupt
        self.jobs.append(job)
        score = self.score(job)
        if math.isnan(score):
            write_failure(job.file, job.cell, "OptionError: no luck\nin two lines")
        else:
            write_result(job.file, job.cell, measured(job, score))

    def stop(self) -> None:
        """Remember it."""
        self.stopped = True


def make_sets(folder: Path, *names: str) -> Path:
    """Write a small set for each name."""
    from easyseg.datasets.synthetic import make_synthetic

    for number, name in enumerate(names):
        make_synthetic(
            folder / name, num_train=4, num_val=2, num_test=2, size=(64, 64), seed=number
        )
    return folder
