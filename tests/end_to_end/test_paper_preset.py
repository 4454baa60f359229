"""The paper's preset at its own size, on a ViT-B of random weights: all of it, and two blocks."""

from __future__ import annotations

import inspect

import lightning as L
import numpy as np
import pytest
import torch
from tiny_sets import make_table

from easyseg import SemanticSegmentor


class Trained(L.Callback):
    """Keeps what the steps were taken with."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        (self.optimizer,) = trainer.optimizers
        self.clip = trainer.gradient_clip_val
        self.rates = {group["lr"] for group in self.optimizer.param_groups}


@pytest.mark.slow
@pytest.mark.parametrize("values", [(0, 255), (0, 1, 2)])
def test_it_runs_a_few_steps_at_1024(affordable, tmp_path, values):
    several = len(values) > 2
    if several:
        affordable("vit_b")
    table, trained = make_table(tmp_path / "set", 3, values), Trained()
    segmentor = SemanticSegmentor(path=tmp_path / "run", verbosity=0).fit(
        table[:2],
        table[2:],
        presets="paper",
        hyperparameters={
            "backbone.name": "vit_b",
            "backbone.weights": "random",
            "train.batch_size": 1,
            "train.max_steps": 2,
        },
        accelerator="cpu",
        callbacks=[trained],
    )
    assert type(trained.optimizer) is torch.optim.Adam
    assert trained.clip == 1.0
    assert trained.rates == {5e-5}  # Of 1e-4, at the second of two steps.
    plan = segmentor.plan_
    assert (plan.preset, plan.data.size, plan.optim.kind) == ("paper", 1024, "adam")
    assert plan.head.kind == ("mask_classification" if several else "binary")
    assert list(segmentor.history_["step"]) == [2]
    assert np.isfinite(segmentor.history_["train_loss"]).all()
    assert segmentor.predict(table["image"][2])[0].shape == (74, 84)


def test_its_validation_part_is_the_default_of_fit():
    assert inspect.signature(SemanticSegmentor.fit).parameters["holdout_frac"].default == 0.2
