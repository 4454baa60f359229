from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from easyseg.data.label_map import IGNORE
from easyseg.errors import DataError, OptionError
from easyseg.metrics.functional import confusion_matrix, iou_per_class
from easyseg.metrics.streaming import (
    EMPTY_KEY,
    SegmentationScores,
    check_metrics,
    default_metric,
    metric_keys,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"
BINARY = ("background", "lesion")
CLASSES = ("soil", "crop", "weed", "stone")


def gather(pairs, names=CLASSES, binary=False):
    scores = SegmentationScores(names, binary)
    for prediction, target in pairs:
        scores.update(prediction, target)
    return scores


@st.composite
def pair_lists(draw, num_classes):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pairs = []
    for _ in range(draw(st.integers(1, 6))):
        size = tuple(rng.integers(1, 9, 2))
        present = rng.integers(1, num_classes + 1)  # so that classes are often missing
        target = rng.integers(0, present, size).astype(np.uint8)
        prediction = rng.integers(0, present, size).astype(np.uint8)
        target[rng.random(size) < rng.choice([0.0, 0.3, 1.0])] = IGNORE
        pairs.append((prediction, target))
    return pairs


def golden_pairs():
    expected = json.loads((GOLDEN / "expected.json").read_text())
    pairs = []
    for case in expected["cases"]:
        truth, prediction = (
            np.asarray(Image.open(GOLDEN / f"{case['name']}_{kind}.png")) for kind in ("gt", "pred")
        )
        pairs.append(((prediction / 255 > 0.5).astype(np.uint8), (truth > 128).astype(np.uint8)))
    return expected, pairs


def test_golden_pooled_figures():
    expected, pairs = golden_pairs()
    scores = gather(pairs, BINARY, binary=True).compute()
    assert scores["iou@dataset"] == pytest.approx(expected["pooled"]["iou"], abs=1e-12)
    assert scores["dice@dataset"] == pytest.approx(expected["pooled"]["dice"], abs=1e-12)
    counts = expected["pooled_counts"]
    right, wrong = counts["tp"] + counts["tn"], counts["fp"] + counts["fn"]
    assert scores["accuracy@dataset"] == pytest.approx(right / (right + wrong), abs=1e-12)


def test_golden_figures_of_each_image():
    expected, pairs = golden_pairs()
    rows = gather(pairs, BINARY, binary=True).per_image()
    for case, row in zip(expected["cases"], rows, strict=True):
        tp, fp, fn = (case["expected"][key] for key in ("tp", "fp", "fn"))
        if tp + fp + fn == 0:
            assert case["name"] == "14_empty_zeros"
            assert math.isnan(row["iou@image"])
            assert math.isnan(row["dice@image"])
        else:
            assert row["iou@image"] == pytest.approx(tp / (tp + fp + fn))
            assert row["dice@image"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    defined = [row["iou@image"] for row in rows if not math.isnan(row["iou@image"])]
    scores = gather(pairs, BINARY, binary=True).compute()
    assert scores["iou@image"] == pytest.approx(np.mean(defined))
    assert scores[EMPTY_KEY] == len(rows) - len(defined) == 1


@settings(max_examples=50, deadline=None)
@given(pair_lists(4))
def test_streaming_is_scoring_at_once(pairs):
    scores = gather(pairs).compute()
    pooled = confusion_matrix(
        np.concatenate([prediction.ravel() for prediction, _ in pairs]),
        np.concatenate([target.ravel() for _, target in pairs]),
        4,
    )
    iou = iou_per_class(pooled)
    for name, value in zip(CLASSES, iou, strict=True):
        np.testing.assert_equal(scores[f"iou@dataset/{name}"], value)
    expected = math.nan if np.isnan(iou).all() else float(np.nanmean(iou))
    assert scores["miou@dataset"] == pytest.approx(expected, nan_ok=True)


@settings(max_examples=50, deadline=None)
@given(pair_lists(4), st.randoms(use_true_random=False))
def test_the_order_of_the_images_changes_no_bit(pairs, random):
    before = gather(pairs).compute()
    random.shuffle(pairs)
    np.testing.assert_equal(gather(pairs).compute(), before)


@settings(max_examples=50, deadline=None)
@given(pair_lists(2), st.integers(1, 4))
def test_merged_shards_are_the_whole(pairs, shards):
    whole = gather(pairs, BINARY, binary=True)
    merged = SegmentationScores(BINARY, binary=True)
    for rank in range(shards):
        shard = gather(pairs[rank::shards], BINARY, binary=True)
        other = shard if rank % 2 else pickle.loads(pickle.dumps(shard.state()))
        assert merged.merge(other) is merged
    assert len(merged) == len(pairs)
    np.testing.assert_equal(merged.compute(), whole.compute())
    shuffled = [row for rank in range(shards) for row in whole.per_image()[rank::shards]]
    np.testing.assert_equal(merged.per_image(), shuffled)


@settings(max_examples=50, deadline=None)
@given(pair_lists(4))
def test_predictions_on_ignored_pixels_do_not_count(pairs):
    changed = [(np.where(t == IGNORE, 3 - p, p).astype(np.uint8), t) for p, t in pairs]
    np.testing.assert_equal(gather(changed).compute(), gather(pairs).compute())


def test_the_state_is_a_copy_that_stays_small():
    scores = gather([(np.zeros((64, 64), np.uint8),) * 2] * 5)
    state = scores.state()
    assert {key: value.shape for key, value in state.items()} == {"pooled": (4, 4), "rows": (5, 2)}
    state["pooled"][:] = 0
    assert scores.compute()["accuracy@dataset"] == 1


def test_image_mean_of_classes_takes_the_classes_that_are_there():
    truth = np.array([[0, 0, 1, 1]], np.uint8)
    prediction = np.array([[0, 0, 1, 3]], np.uint8)
    row = gather([(prediction, truth)]).per_image()[0]
    assert row["iou@image"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert row["dice@image"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_binary_scores_the_foreground_and_miou_both():
    truth = np.array([[0, 0, 0, 1]], np.uint8)
    prediction = np.array([[0, 0, 1, 1]], np.uint8)
    scores = gather([(prediction, truth)], BINARY, binary=True).compute()
    assert scores["iou@image"] == scores["iou@dataset"] == 0.5
    assert scores["miou@dataset"] == pytest.approx((2 / 3 + 0.5) / 2)


def test_image_and_data_set_averages_differ():
    small = (np.array([[0, 0]], np.uint8), np.array([[0, 1]], np.uint8))
    large = (np.ones((10, 10), np.uint8),) * 2
    scores = gather([small, large], BINARY, binary=True).compute()
    assert scores["iou@image"] == 0.5
    assert scores["iou@dataset"] == pytest.approx(100 / 101)


@pytest.mark.parametrize(("names", "binary"), [(BINARY, True), (CLASSES, False)])
def test_keys(names, binary):
    keys = metric_keys(binary, names)
    pair = (np.zeros((2, 2), np.uint8),) * 2
    assert tuple(gather([pair], names, binary).compute()) == (*keys, EMPTY_KEY)
    assert default_metric(binary) in keys
    assert all("@" in key for key in keys)
    assert ("iou@dataset" in keys) == binary


def test_asked_metrics_come_in_the_order_asked():
    scores = gather([(np.zeros((2, 2), np.uint8),) * 2])
    assert list(scores.compute(["dice@dataset", "iou@image"])) == ["dice@dataset", "iou@image"]
    assert scores.compute("miou@dataset") == {"miou@dataset": 1.0}


def test_unknown_metrics_are_named_with_the_nearest():
    with pytest.raises(OptionError, match=r"'iou@imag'.*Did you mean 'iou@image'"):
        check_metrics(["iou@imag"], True, BINARY)
    with pytest.raises(OptionError, match="iou@dataset/weed"):
        gather([]).compute(["iou@dataset/wed"])
    with pytest.raises(OptionError, match="multi-class"):
        check_metrics("iou", False, CLASSES)


def test_no_images_no_scores():
    scores = SegmentationScores(BINARY, binary=True).compute()
    assert scores.pop(EMPTY_KEY) == 0
    assert all(math.isnan(value) for value in scores.values())


def test_a_refused_image_leaves_no_trace():
    scores = SegmentationScores(BINARY, binary=True)
    with pytest.raises(DataError):
        scores.update(np.full((2, 2), 9, np.uint8), np.zeros((2, 2), np.uint8))
    assert len(scores) == 0
    assert scores.state()["pooled"].sum() == 0


@pytest.mark.parametrize(
    ("names", "binary"), [(CLASSES, True), (("a", "a"), False), ((), False), (("only",), True)]
)
def test_names_must_fit_the_problem(names, binary):
    with pytest.raises(OptionError):
        SegmentationScores(names, binary)


def test_scores_of_other_classes_do_not_merge():
    with pytest.raises(OptionError, match="same classes"):
        gather([]).merge(gather([], BINARY, binary=True))
    with pytest.raises(OptionError, match="same classes"):
        gather([]).merge(gather([], BINARY, binary=True).state())
    with pytest.raises(OptionError, match="same classes"):
        gather([], BINARY, binary=True).merge(gather([], BINARY, binary=False))
