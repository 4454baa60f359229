from __future__ import annotations

import math
import pickle
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from map_pairs import golden, map_pairs
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    jaccard_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from easyseg.data.label_map import IGNORE
from easyseg.errors import DataError, OptionError
from easyseg.metrics.boundary import boundary_counts, boundary_iou
from easyseg.metrics.catalogue import default_metric, known_metrics, metric_keys, report_keys
from easyseg.metrics.curves import e_measure_curve, f_measure_curve
from easyseg.metrics.functional import confusion_matrix, iou_per_class
from easyseg.metrics.reference import Squashed
from easyseg.metrics.streaming import EMPTY_KEY, SegmentationScores

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
    expected = golden()
    pairs = [
        ((case["map"] / 255 > 0.5).astype(np.uint8), case["truth"]) for case in expected["cases"]
    ]
    return expected, pairs


def gather_maps(pairs, metrics, **kwargs):
    """Score maps; what the reference would squash is the map itself here."""
    scores = SegmentationScores(BINARY, True, metrics, **kwargs)
    for values, truth in pairs:
        mask = (values > 0.5).astype(np.uint8)
        scores.update(mask, truth, values, Squashed(mask, truth, values))
    return scores


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


ALL = metric_keys(True, BINARY)
MAPS = st.lists(map_pairs(ignored=(0.0, 0.3, 1.0), largest=10), min_size=1, max_size=5)


@settings(max_examples=12)
@given(MAPS, st.randoms(use_true_random=False), st.integers(1, 3))
def test_every_metric_is_the_same_in_any_order_and_over_any_number_of_processes(
    pairs, random, shards
):
    expected = gather_maps(pairs, ALL).compute()
    assert expected.keys() == {*ALL, EMPTY_KEY}
    random.shuffle(pairs)
    merged = SegmentationScores(BINARY, True, ALL)
    for rank in range(shards):
        merged.merge(pickle.loads(pickle.dumps(gather_maps(pairs[rank::shards], ALL).state())))
    np.testing.assert_equal(merged.compute(), expected)  # to the last bit


@settings(max_examples=12)
@given(MAPS)
def test_every_metric_leaves_ignored_pixels_out(pairs):
    changed = [(np.where(t == IGNORE, 1 - p, p), t) for p, t in pairs]
    np.testing.assert_equal(gather_maps(changed, ALL).compute(), gather_maps(pairs, ALL).compute())


AT_ONCE = {
    "accuracy": accuracy_score,
    "dice": partial(f1_score, zero_division=np.nan),
    "precision": partial(precision_score, zero_division=np.nan),
    "recall": partial(recall_score, zero_division=np.nan),
    "specificity": partial(recall_score, pos_label=False, zero_division=np.nan),
    "fwiou": partial(jaccard_score, average="weighted"),
}


@settings(max_examples=20)
@given(MAPS)
def test_pooled_scores_are_those_of_all_pixels_at_once(pairs):
    """By scikit-learn, which is given the pixels of all images in one list."""
    pairs = [(p.round(3), t) for p, t in pairs]  # so that no two values share a level
    names = (*AT_ONCE, "ber", "auc", "ap")
    scores = gather_maps(pairs, [f"{name}@dataset" for name in names]).compute()
    values = np.concatenate([p[t != IGNORE] for p, t in pairs])
    true = np.concatenate([t[t != IGNORE] for _, t in pairs]) == 1
    expected = dict.fromkeys(names, math.nan)
    if true.size:
        expected |= {name: score(true, values > 0.5) for name, score in AT_ONCE.items()}
        # Where the truth lacks a class, the recall of the other one is all there is.
        expected["ber"] = 1 - np.nanmean([expected["recall"], expected["specificity"]])
    if true.any():
        expected["ap"] = average_precision_score(true, values)
        if not true.all():
            expected["auc"] = roc_auc_score(true, values)
    for name, value in expected.items():
        assert scores[f"{name}@dataset"] == pytest.approx(value, abs=1e-9, nan_ok=True), name


@settings(max_examples=12)
@given(MAPS)
def test_pooled_bands_are_those_of_all_images(pairs):
    scores = gather_maps(pairs, ["boundary_iou@dataset"])
    bands = sum(boundary_counts((p > 0.5).astype(np.uint8), t, 2) for p, t in pairs)
    found = scores.compute("boundary_iou@dataset")["boundary_iou@dataset"]
    np.testing.assert_equal(found, boundary_iou(bands)[1])


@settings(max_examples=12)
@given(MAPS)
def test_curves_are_the_means_of_those_of_the_images(pairs):
    keys = ["e_measure_max@dataset", "f_measure_max@dataset"]
    for asked in ([], keys[1:], keys):
        scores = gather_maps(pairs, asked)
        assert [f"{name}_max@dataset" for name in scores.curves()] == asked
    counted = [pair for pair in pairs if (pair[1] != IGNORE).any()]
    for name, curve in (("e_measure", e_measure_curve), ("f_measure", f_measure_curve)):
        mean = np.mean([curve(*pair) for pair in counted], axis=0) if counted else math.nan
        found = scores.curves()[name]
        assert found.shape == (256,)
        np.testing.assert_allclose(found, np.broadcast_to(mean, 256), atol=1e-9)


def test_golden_means_of_maps():
    expected = golden()
    found = gather_maps([(c["map"] / 255, c["truth"]) for c in expected["cases"]], ALL).compute()
    mean = expected["mean_over_cases"]
    for key, name in {
        "s_measure@image": "s_measure",
        "weighted_f@image": "weighted_f_beta1",
        "weighted_f_0.3@image": "weighted_f_beta0.3",
        "weighted_f_0.3@reference": "weighted_f_beta0.3",
        "mae@reference": "mae_minmax",
        "e_measure_adaptive@image": "e_measure_adaptive",
        "e_measure_mean@image": "e_measure_mean_curve",
        "e_measure_max@dataset": "e_measure_max_curve",
        "f_measure_adaptive@image": "f_beta2_0.3_adaptive",
        "f_measure_mean@image": "f_beta2_0.3_mean_curve",
        "f_measure_max@dataset": "f_beta2_0.3_max_curve",
    }.items():
        assert found[key] == pytest.approx(mean[name], abs=1e-9), key
    best = np.mean([case["expected"]["e_measure_max_curve"] for case in expected["cases"]])
    assert found["e_measure_max@image"] == pytest.approx(best)
    plain = np.mean([case["expected"]["mae_plain"] for case in expected["cases"]])
    assert found["mae@image"] == pytest.approx(plain)
    percent = expected["pooled"]["ber_percent"]
    assert 100 * found["ber@dataset"] == pytest.approx(percent, abs=1e-9)


@settings(max_examples=12)
@given(pair_lists(4))
def test_every_metric_of_several_classes_streams(pairs):
    keys = metric_keys(False, CLASSES)
    scores = SegmentationScores(CLASSES, False, keys)
    for prediction, target in pairs:
        scores.update(prediction, target, squashed=Squashed(prediction, target))
    found = scores.compute()
    assert found.keys() == {*keys, EMPTY_KEY}
    confusion = sum(confusion_matrix(p, t, 4) for p, t in pairs)
    zeros = np.nan_to_num(iou_per_class(confusion))
    assert found["miou@reference"] == pytest.approx(zeros.mean())
    bands = boundary_iou(sum(boundary_counts(p, t, 4) for p, t in pairs))
    for name, value in zip(CLASSES, bands, strict=True):
        np.testing.assert_equal(found[f"boundary_iou@dataset/{name}"], value)
    rows = scores.per_image()
    assert set(rows[0]) == {key for key, of in known_metrics(False, CLASSES).items() if of.of_image}
    for key in rows[0]:
        defined = [row[key] for row in rows if not math.isnan(row[key])]
        expected = np.mean(defined) if defined else math.nan
        assert found[key] == pytest.approx(expected, nan_ok=True)


def test_only_what_is_asked_for_is_kept_and_it_stays_small():
    scores = gather([(np.zeros((64, 64), np.uint8),) * 2] * 5)
    state = scores.state()
    assert {key: value.shape for key, value in state["sums"].items()} == {"confusion": (4, 4)}
    assert state["rows"].shape == (5, 2)
    assert state["each"] is None
    state["sums"]["confusion"] = None
    assert scores.compute()["accuracy@dataset"] == 1
    maps = gather_maps([(np.zeros((8, 8)), np.zeros((8, 8), np.uint8))], "auc@dataset")
    assert maps.state()["sums"].keys() == {"confusion", "levels"}
    assert maps.state()["rows"].shape == (1, 2)


def test_what_an_image_lacks_for_a_metric_is_an_error():
    mask = np.zeros((2, 2), np.uint8)
    with pytest.raises(DataError, match="s_measure@image: needs each image's probabilities"):
        SegmentationScores(BINARY, True, "s_measure@image").update(mask, mask)
    with pytest.raises(DataError, match="iou@reference: needs each image"):
        SegmentationScores(BINARY, True, "iou@reference").update(mask, mask)


def test_a_metric_that_was_not_asked_for_is_an_error():
    with pytest.raises(OptionError, match=r"hd95@image: was not asked for"):
        gather([], BINARY, binary=True).compute("hd95@image")


def test_images_in_another_order():
    pairs = [(np.full((4, 4), level), np.eye(4, dtype=np.uint8)) for level in (0.2, 0.6, 0.9)]
    scores = gather_maps(pairs, ["mae@image", "auc@dataset"], resampled=True)
    again = scores.take([2, 0, 1])
    assert again.compute() == scores.compute()
    assert again.per_image() == [scores.per_image()[i] for i in (2, 0, 1)]
    weights = np.array([[0, 0, 3]])
    keys = ["mae@image", "iou@dataset"]
    np.testing.assert_equal(
        again.resample(weights, keys), scores.resample(weights[:, [1, 2, 0]], keys)
    )
    with pytest.raises(OptionError, match="each of the 3 images once"):
        scores.take([0, 0, 1])


@settings(max_examples=10)
@given(MAPS, st.integers(0, 2**32 - 1))
def test_resampling_is_scoring_the_images_that_were_drawn(pairs, seed):
    scores = gather_maps(pairs, ALL, resampled=True)
    drawn = np.random.default_rng(seed).integers(0, len(pairs), (3, len(pairs)))
    weights = np.stack([np.bincount(draw, minlength=len(pairs)) for draw in drawn])
    found = scores.resample(weights, ALL)
    for number, draw in enumerate(drawn):
        expected = gather_maps([pairs[i] for i in draw], ALL).compute(ALL)
        for key in ALL:
            assert found[key][number] == pytest.approx(expected[key], abs=1e-12, nan_ok=True), key


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
def test_keys_of_the_report(names, binary):
    keys = report_keys(binary, names)
    pair = (np.zeros((2, 2), np.uint8),) * 2
    assert tuple(gather([pair], names, binary).compute()) == (*keys, EMPTY_KEY)
    assert default_metric(binary) in keys


def test_asked_metrics_come_in_the_order_asked():
    scores = gather([(np.zeros((2, 2), np.uint8),) * 2])
    assert list(scores.compute(["dice@dataset", "iou@image"])) == ["dice@dataset", "iou@image"]
    assert scores.compute("miou@dataset") == {"miou@dataset": 1.0}


def test_unknown_metrics_are_named_with_the_nearest():
    with pytest.raises(OptionError, match="iou@dataset/weed"):
        gather([]).compute(["iou@dataset/wed"])
    with pytest.raises(OptionError, match="'mae@image'"):
        SegmentationScores(CLASSES, False, "mae@image")  # of probabilities of a foreground


def test_no_images_no_scores():
    scores = SegmentationScores(BINARY, True, ALL).compute()
    assert scores.pop(EMPTY_KEY) == 0
    assert scores.keys() == set(ALL)
    assert all(math.isnan(value) for value in scores.values())
    curves = SegmentationScores(BINARY, True, ALL).curves()
    assert all(np.isnan(curve).all() and curve.shape == (256,) for curve in curves.values())


def test_a_refused_image_leaves_no_trace():
    scores = SegmentationScores(BINARY, binary=True)
    with pytest.raises(DataError):
        scores.update(np.full((2, 2), 9, np.uint8), np.zeros((2, 2), np.uint8))
    assert len(scores) == 0
    assert scores.state()["sums"] == {"confusion": None}


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
    with pytest.raises(OptionError, match="same problem"):
        gather([], BINARY, binary=True).merge(gather([], BINARY, binary=False))


def test_scores_of_other_metrics_do_not_merge():
    plain = gather([], BINARY, binary=True)
    for key in ("hd95@image", "boundary_iou@dataset", "ber@dataset"):
        with pytest.raises(OptionError, match=f"same metrics.*{key}"):
            plain.merge(SegmentationScores(BINARY, True, key))
    with pytest.raises(OptionError, match="same resampled"):
        plain.merge(SegmentationScores(BINARY, True, resampled=True))
