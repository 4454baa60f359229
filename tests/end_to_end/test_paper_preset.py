"""The paper's preset at its own size, on a SAM of random weights."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_sets import make_table

from easyseg import SemanticSegmentor


@pytest.mark.slow
@pytest.mark.parametrize("values", [(0, 255), (0, 1, 2)])
def test_it_runs_a_few_steps_at_1024(tmp_path, values):
    table = make_table(tmp_path / "set", 3, values)
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
    )
    plan = segmentor.plan_
    assert (plan.preset, plan.data.size, plan.optim.kind) == ("paper", 1024, "adam")
    several = len(values) > 2
    assert plan.head.kind == ("mask_classification" if several else "binary")
    assert list(segmentor.history_["step"]) == [2]
    assert np.isfinite(segmentor.history_["train_loss"]).all()
    assert segmentor.predict(table["image"][2])[0].shape == (74, 84)
