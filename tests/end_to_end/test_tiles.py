"""Images that are larger than the network's input, seen in windows at their own scale."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_sets import TINY, write_pair

from easyseg import SemanticSegmentor

SIZES = [(200, 260), (300, 150), (128, 129), (60, 90), (230, 230), (129, 400)]
TILES = TINY | {"data.geometry": "tile"}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    for number, size in enumerate(SIZES):
        write_pair(folder, number, size, (0, 255))
    numbers = range(len(SIZES))
    return pd.DataFrame(
        {
            "image": [str(folder / f"image_{n}.png") for n in numbers],
            "label": [str(folder / f"mask_{n}.png") for n in numbers],
        }
    )


@pytest.fixture(scope="module")
def tiled(large, tmp_path_factory):
    path = tmp_path_factory.mktemp("tiled") / "run"
    return SemanticSegmentor(path=path, verbosity=0).fit(
        large.head(3), large.tail(3), hyperparameters=TILES, accelerator="cpu"
    )


def test_the_plan_says_what_was_done(tiled):
    plan = json.loads((tiled.path_ / "plan.json").read_text())
    assert (plan["data"]["geometry"], plan["data"]["scale"]) == ("tile", 1.0)
    assert len(tiled.history_) == 2


def test_masks_come_in_own_size_however_they_are_asked_for(tiled, large, tmp_path):
    masks = tiled.predict(large)
    for mask, size in zip(masks, SIZES, strict=True):
        assert mask.shape == size
        assert set(np.unique(mask)) <= {0, 255}
    paths = tiled.predict(large, output_dir=tmp_path)
    for (row, mask), path in zip(tiled.predict_iter(large), paths, strict=True):
        np.testing.assert_array_equal(mask, masks[row])
        with Image.open(path) as written:
            np.testing.assert_array_equal(np.asarray(written), mask)
    for one, other in zip(masks, tiled.predict(large, batch_size=3), strict=True):
        assert (one == other).mean() > 0.999
    for p, mask in zip(tiled.predict_proba(large), masks, strict=True):
        np.testing.assert_array_equal(p[1] > 0.5, mask == 255)


def test_validation_scores_what_evaluate_scores(tiled, large):
    scores = tiled.evaluate(large.tail(3))
    assert tiled.best_score_ == pytest.approx(scores["iou@image"], abs=1e-6)
    rows = tiled.evaluate(large, per_image=True)
    truth = [np.asarray(Image.open(path)) == 255 for path in large["label"]]
    for mask, target, score in zip(tiled.predict(large), truth, rows["iou@image"], strict=True):
        found = mask == 255
        expected = (found & target).sum() / (found | target).sum()
        assert score == pytest.approx(expected, abs=1e-6)


def test_a_saved_model_tiles_as_before(tiled, large, tmp_path):
    tiled.save(tmp_path / "saved")
    again = SemanticSegmentor.load(tmp_path / "saved", device="cpu", verbosity=0)
    assert again.plan_.data.geometry == "tile"
    for one, other in zip(tiled.predict(large), again.predict(large), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_fit_does_not_depend_on_the_workers(large, tmp_path):
    losses = []
    for workers in (0, 2):
        segmentor = SemanticSegmentor(path=tmp_path / f"run{workers}", verbosity=0)
        segmentor.fit(
            large.head(4),
            hyperparameters=TILES | {"data.scale": 0.7, "train.epochs": 1},
            accelerator="cpu",
            num_workers=workers,
        )
        losses.append(segmentor.history_[["train_loss", "iou@image"]].to_numpy())
    np.testing.assert_array_equal(*losses)
