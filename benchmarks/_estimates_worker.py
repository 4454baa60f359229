"""Half a cell of estimates.py: a plan, or a fit, in this process as a user would call it.

No library is imported before the call: what a user waits for is in its seconds.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
from pathlib import Path
from typing import Any

from _cores import CoreWatch, wait_for_idle_cores
from _record import write_json
from _turns import peak_gb

from easyseg import SemanticSegmentor
from easyseg.datasets.folder import FolderDataset, read_folder


class LastWords(logging.Handler):
    """Listens to easyseg's log for why the training ended.

    Attributes:
        reason: Why, in the words of the log; None as long as it has not ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reason: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the reason."""
        if said := re.fullmatch(r"training ended in epoch [^:]+: (.*)", record.getMessage()):
            self.reason = said[1]


def plan(dataset: FolderDataset, options: argparse.Namespace) -> None:
    """Plan, and save the plan."""
    _segmentor(dataset, options.target.parent).plan(
        dataset.train, dataset.val, hyperparameters=options.hyperparameters, accelerator="cpu"
    ).save(options.target)


def fit(dataset: FolderDataset, options: argparse.Namespace) -> None:
    """Fit by a saved plan, or by the defaults in limited time, and write down what it took."""
    words = LastWords()
    logging.getLogger("easyseg").addHandler(words)
    segmentor = _segmentor(dataset, options.target.parent / "run")
    how: dict[str, Any] = (
        {"time_limit": options.time_limit} if options.plan is None else {"plan": options.plan}
    )
    watch = CoreWatch()
    segmentor.fit(dataset.train, dataset.val, **how, accelerator="cpu")
    seconds, others, peak = watch.seconds(), watch.others_share(), peak_gb()
    values = segmentor.plan_.to_dict()
    values.pop("reasons")
    score = None  # Of limited fits alone: the others are as long as it takes to measure them.
    if options.plan is None:
        score = segmentor.evaluate(dataset.test)[values["metric"]]
    epochs, steps = segmentor.history_[["epoch", "step"]].iloc[-1]
    write_json(
        options.target,
        {
            "fit_seconds": round(seconds, 2),
            "peak_gb": round(peak, 3),
            "others_share": round(others, 3),
            "ended": words.reason,
            "epochs": int(epochs),
            "steps": int(steps),
            "metric": values["metric"],
            "score": score,
            "plan": values,
        },
    )


def _segmentor(dataset: FolderDataset, path: Path) -> SemanticSegmentor:
    return SemanticSegmentor(classes=dataset.classes, ignore_index=dataset.ignore, path=path)


def main() -> None:
    """Plan or fit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", choices=("plan", "fit"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hyperparameters", type=json.loads, default={})
    parser.add_argument("--plan", type=Path, help="what to fit by; default: the automatic plan")
    parser.add_argument("--time-limit", type=float)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--busy", action="store_true")
    options = parser.parse_args()
    dataset = read_folder(options.folder)
    if not options.busy:
        wait_for_idle_cores()
    {"plan": plan, "fit": fit}[options.work](dataset, options)


if __name__ == "__main__":
    main()
