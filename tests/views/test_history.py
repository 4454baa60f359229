"""The course of a fit: what is on the axes is in the history, and the saved epoch is marked."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyseg import SemanticSegmentor
from easyseg.clock import Clock
from easyseg.errors import ArtifactError, NotFittedError
from easyseg.training import callbacks
from easyseg.training.callbacks import BestModel
from easyseg.training.module import SegmentationModule
from easyseg.views.history import plot_history, saved_row

pytest.importorskip("matplotlib", reason="figures need matplotlib: the extra 'plots'")


def history_of(scores, metric="iou@image", **columns) -> pd.DataFrame:
    count = len(scores)
    return pd.DataFrame(
        {
            "epoch": range(1, count + 1),
            "step": [5 * epoch for epoch in range(1, count + 1)],
            "seconds": [2.5 * epoch for epoch in range(1, count + 1)],
            "train_loss": np.linspace(1.0, 0.5, count),
            metric: scores,
            **columns,
        }
    )


@given(
    scores=st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3, math.nan]), min_size=1, max_size=6),
    metric=st.sampled_from(["iou@image", "ber@dataset"]),
)
def test_the_saved_row_is_the_one_that_the_fit_saves(scores, metric):
    history, kept = history_of(scores, metric), []
    rows = iter(history.to_dict("records"))

    class Callback(BestModel):
        def _row(self, trainer, module):
            return next(rows)

    def save(model, folder):
        kept.append(len(callback.rows) - 1)

    callback = Callback(Path(), metric, Clock(0.0))
    module = SegmentationModule.__new__(SegmentationModule)
    with (
        patch.object(callbacks, "write_artifact", save),
        patch.object(callbacks, "_write_csv"),
        patch.object(SegmentationModule, "trained_model"),
    ):
        for _ in scores:
            callback.on_validation_end(SimpleNamespace(is_global_zero=True, max_epochs=6), module)
    assert saved_row(history, metric) == kept[-1]


@pytest.mark.parametrize(("metric", "best"), [("dice@image", 2), ("mae@image", 0)])
def test_what_is_drawn_is_the_history(metric, best):
    history = history_of([0.4, 0.5, 0.8, 0.7], metric, lr=[3e-4, 2e-4, 1e-4, 0.0])
    figure = plot_history(history, metric)
    loss, score, rate = figure.axes
    for panel, column in ((loss, "train_loss"), (score, metric), (rate, "lr")):
        x, y = panel.lines[0].get_data()
        assert list(x) == [1, 2, 3, 4]
        assert list(y) == list(history[column])
        assert panel.lines[-1].get_xdata()[0] == best + 1  # the dotted line of the saved epoch
    star = score.lines[1]
    assert star.get_marker() == "*"
    assert [float(v[0]) for v in star.get_data()] == [best + 1, history[metric][best]]
    assert score.get_title("left") == f"validation {metric}"
    words = f"best {history[metric][best]:.3f}, epoch {best + 1} (step {5 * best + 5}, "
    assert score.get_title("right").startswith(words)
    assert rate.get_xlabel() == "epoch"


def test_without_rates_and_with_one_epoch():
    figure = plot_history(history_of([0.4]), "iou@image")
    assert len(figure.axes) == 2
    low, high = figure.axes[-1].get_xlim()
    assert low < 1 < high
    figure.draw_without_rendering()


def test_an_epoch_without_a_score_is_not_called_the_best():
    figure = plot_history(history_of([math.nan, math.nan]), "iou@image")
    assert figure.axes[1].get_title("right") == ""
    figure.draw_without_rendering()


def test_a_segmentor_draws_its_own_history(binary, tmp_path):
    figure = binary.plot_history()
    score = figure.axes[1]
    assert list(score.lines[0].get_ydata()) == list(binary.history_[binary.plan_.metric])
    assert float(score.lines[1].get_ydata()[0]) == binary.best_score_
    # The run folder keeps the history, a saved model does not.
    loaded = SemanticSegmentor.load(binary.path_, "cpu", verbosity=0)
    found = loaded.plot_history().axes[1].lines[0].get_ydata()
    assert list(found) == list(score.lines[0].get_ydata())
    saved = SemanticSegmentor.load(binary.save(tmp_path / "saved"), "cpu", verbosity=0)
    with pytest.raises(ArtifactError, match=r"saved holds no history: .*load the run folder"):
        saved.plot_history()


def test_before_a_fit_there_is_no_history():
    with pytest.raises(NotFittedError, match="call fit"):
        SemanticSegmentor().plot_history()
