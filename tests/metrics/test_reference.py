"""The conventions of the reference code, by what it uses: torchmetrics and PySODMetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchmetrics
from map_pairs import golden
from torch.nn import functional as F

from easyseg.data.label_map import IGNORE
from easyseg.inference.predict import Prediction
from easyseg.metrics.evaluate import take_in
from easyseg.metrics.reference import SIDE, Squashed, reference_scores, squash_target
from easyseg.metrics.streaming import SegmentationScores
from easyseg.models.heads import BinaryHead, SoftmaxHead

NAMES = ("iou", "ber", "s_measure", "e_measure_mean", "weighted_f_0.3", "mae")
BINARY = ("background", "foreground")


@pytest.mark.parametrize("case", golden()["cases"], ids=lambda case: case["name"])
def test_each_image_is_scored_as_the_reference_scores_it(case):
    values, truth = case["map"] / 255, case["truth"]
    found = reference_scores(Squashed(values > 0.5, truth, values), NAMES)
    expected = {
        "s_measure": case["expected"]["s_measure"],
        "e_measure_mean": case["expected"]["e_measure_mean_curve"],
        "weighted_f_0.3": case["expected"]["weighted_f_beta0.3"],
        "mae": case["expected"]["mae_minmax"],
    }
    p, t = torch.from_numpy(values).float()[None], torch.from_numpy(truth)[None].long()
    expected["iou"] = float(torchmetrics.JaccardIndex(task="binary")(p, t))
    accuracy = torchmetrics.Accuracy(
        task="multiclass", num_classes=2, average="macro", multidim_average="samplewise"
    )
    above = (p * 255 > 125).long()
    expected["ber"] = float(1 - accuracy(above, t))
    for name in NAMES:
        assert found[name] == pytest.approx(expected[name], abs=1e-6), name


def test_an_image_without_labelled_pixels_has_no_score():
    rng = np.random.default_rng(0)
    values, nothing = rng.random((9, 9)), np.full((9, 9), IGNORE, np.uint8)
    found = reference_scores(Squashed(values > 0.5, nothing, values), NAMES)
    assert all(math.isnan(value) for value in found.values()), found
    scores = SegmentationScores(BINARY, True, "iou@reference")
    truth = (values > 0.5).astype(np.uint8)
    for target in (truth, nothing):
        scores.update(truth, target, squashed=Squashed(truth, target, values))
    assert scores.compute("iou@reference") == {"iou@reference": 1.0}


def test_a_squashed_truth_has_no_new_ids():
    truth = np.zeros((30, 50), np.uint8)
    truth[:10], truth[20:] = 7, 255
    squashed = squash_target(truth)
    assert squashed.shape == (SIDE, SIDE)
    assert set(np.unique(squashed)) == {0, 7, 255}
    nearest = F.interpolate(
        torch.from_numpy(truth)[None, None].float(), (SIDE, SIDE), mode="nearest"
    )
    assert (squashed == nearest[0, 0].numpy()).mean() > 0.99


def test_logits_are_squashed_before_they_become_probabilities():
    rng = np.random.default_rng(0)
    truth = (rng.random((40, 60)) < 0.4).astype(np.uint8)
    logits = torch.from_numpy(rng.normal(4 * truth - 2, 2).astype(np.float32))[None]
    scores = SegmentationScores(BINARY, True, [f"{name}@reference" for name in NAMES])
    take_in(scores, BinaryHead(), Prediction(0, logits, truth))
    values = F.interpolate(logits[None], (SIDE, SIDE), mode="bilinear").sigmoid()[0, 0].numpy()
    expected = reference_scores(Squashed(values > 0.5, squash_target(truth), values), NAMES)
    found = scores.compute()
    for name in NAMES:
        assert found[f"{name}@reference"] == pytest.approx(expected[name], abs=1e-6)
    assert found["iou@reference"] != found["iou@image"]


def test_several_classes_are_pooled_and_one_that_is_nowhere_counts_zero():
    names = ("a", "b", "c")
    logits = torch.zeros(3, 8, 8)
    logits[0, :, :4] = logits[1, :, 4:] = 9.0
    truth = np.zeros((8, 8), np.uint8)
    truth[:, 4:] = 1
    scores = SegmentationScores(names, False, "miou@reference")
    take_in(scores, SoftmaxHead(3), Prediction(0, logits, truth))
    found = scores.compute()
    assert found["miou@dataset"] == 1
    assert found["miou@reference"] == pytest.approx(2 / 3)


def test_probabilities_are_made_only_where_they_are_needed():
    class Watched(BinaryHead):
        calls = 0

        def probabilities(self, logits):
            Watched.calls += 1
            return super().probabilities(logits)

    item = Prediction(0, torch.randn(1, 6, 7), np.eye(6, 7, dtype=np.uint8))
    for metrics, calls in (((), 0), (["hd95@image", "ber@image"], 0), (["mae@image"], 1)):
        Watched.calls = 0
        take_in(SegmentationScores(BINARY, True, metrics), Watched(), item)
        assert Watched.calls == calls
