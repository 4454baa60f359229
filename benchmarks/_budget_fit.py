"""A fit within a budget of seconds, scored on the test images and written down, in this process."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _cores import CoreWatch, wait_for_idle_cores
from _record import provenance, write_json
from _scoring import score

from easyseg import SemanticSegmentor
from easyseg.data.label_map import LabelMap
from easyseg.datasets.folder import FolderDataset, read_folder

PACKAGES = ("easyseg", "torchvision", "lightning")


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


def easyseg_fit(overrides: Mapping[str, Any]) -> Fit:
    """Return the fit of easyseg with its defaults but these, its libraries already imported."""
    import easyseg.training.fit  # noqa: F401 - fit imports it: the budget holds no imports

    return partial(_fit_easyseg, overrides)


def _fit_easyseg(
    overrides: Mapping[str, Any], dataset: FolderDataset, labels: LabelMap, seed: int, budget: float
) -> Fitted:
    with tempfile.TemporaryDirectory() as scratch:
        segmentor = SemanticSegmentor(
            classes=dataset.classes, ignore_index=dataset.ignore, path=scratch
        ).fit(
            dataset.train,
            dataset.val,
            hyperparameters=overrides,
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


def parser(docstring: str) -> argparse.ArgumentParser:
    """Return a parser of what every such cell is told.

    Args:
        docstring: That of the script.
    """
    options = argparse.ArgumentParser(description=docstring)
    options.add_argument("folder", type=Path)
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--budget", type=float, required=True)
    options.add_argument("--target", type=Path, required=True)
    options.add_argument("--busy", action="store_true")
    return options


def run_cell(
    options: argparse.Namespace,
    what: Mapping[str, str],
    fit: Callable[[], Fit],
    packages: Sequence[str] = PACKAGES,
) -> None:
    """Fit, score, and write down.

    Args:
        options: Of the ``parser``.
        what: What is fitted, as it is written down beside the set.
        fit: Makes the fit, importing what that needs: the budget holds no imports.
        packages: Whose versions are written down.
    """
    # First of all: a package that is missing must not cost a fit.
    measured = {"packages": {name: metadata.version(name) for name in packages}, **provenance()}
    run = fit()
    dataset = read_folder(options.folder)
    labels = LabelMap(
        tuple(dataset.classes), tuple(dataset.classes.values()), dataset.ignore, "uint8"
    )
    if not options.busy:
        wait_for_idle_cores()
    watch = CoreWatch()
    fitted = run(dataset, labels, options.seed, options.budget)
    seconds, others = watch.seconds(), watch.others_share()
    write_json(
        options.target,
        {
            "set": options.folder.name,
            **what,
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
