"""The part of easyseg in ``autogluon_step``: TABLE FOLDER PRECISION DEVICE."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
from _turns import Turns

from easyseg import SemanticSegmentor


class Wait(L.Callback):
    """Takes each training step in its turn.

    Args:
        gpu: Whether a GPU takes it.
    """

    def __init__(self, gpu: bool) -> None:
        self.turns = Turns("step", gpu)

    def on_train_batch_start(self, *arguments: Any) -> None:
        """Wait for the turn."""
        self.turns.begin()

    def on_train_batch_end(self, *arguments: Any) -> None:
        """End the turn."""
        self.turns.end()


def main(table: Path, folder: Path, precision: str, device: str) -> None:
    """Fit on all rows but the last, which validates; then predict single images."""
    rows = pd.read_csv(table)
    train, tuning = rows[:-1], rows[-1:]
    segmentor = SemanticSegmentor(path=folder, verbosity=0).fit(
        train,
        tuning,
        hyperparameters={
            "backbone.name": "vit_b",
            "backbone.weights": "random",
            "adapter.rank": 3,
            "adapter.num_experts": 8,
            "data.size": 1024,
            "train.batch_size": 1,
            "train.epochs": 1,
            "train.precision": precision,
            "train.gradient_checkpointing": False,
        },
        accelerator=device,
        devices=1,
        num_workers=0,
        callbacks=[Wait(device == "cuda")],
    )
    turns = Turns("prediction", device == "cuda")
    for path in train["image"]:
        turns.begin()
        segmentor.predict([path])
        turns.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
