from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from map_pairs import golden
from sklearn.metrics import (
    balanced_accuracy_score,
    f1_score,
    jaccard_score,
    precision_score,
    recall_score,
)
from sklearn.metrics import confusion_matrix as sklearn_confusion
from torchmetrics.classification import MulticlassJaccardIndex

from easyseg.data.label_map import IGNORE
from easyseg.errors import DataError
from easyseg.metrics import functional
from easyseg.metrics.functional import (
    accuracy,
    confusion_matrix,
    dice_per_class,
    iou_per_class,
    mean_defined,
)


def random_pair(seed, num_classes, size=(37, 41), ignored=0.1):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, num_classes, size, dtype=np.uint8)
    agree = rng.random(size) < 0.6
    prediction = np.where(agree, target, rng.integers(0, num_classes, size, dtype=np.uint8))
    target[rng.random(size) < ignored] = IGNORE
    return prediction, target


@pytest.mark.parametrize("num_classes", [2, 3, 12, 255])
def test_agrees_with_scikit_learn(num_classes):
    prediction, target = random_pair(num_classes, num_classes, (120, 90))
    counted = target != IGNORE
    truth, predicted = target[counted], prediction[counted]
    matrix = confusion_matrix(prediction, target, num_classes)
    labels = list(range(num_classes))
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, sklearn_confusion(truth, predicted, labels=labels))
    kwargs = {"labels": labels, "average": None}
    np.testing.assert_allclose(iou_per_class(matrix), jaccard_score(truth, predicted, **kwargs))
    np.testing.assert_allclose(dice_per_class(matrix), f1_score(truth, predicted, **kwargs))
    assert accuracy(matrix) == pytest.approx((truth == predicted).mean())


@pytest.mark.parametrize("num_classes", [2, 5])
def test_agrees_with_torchmetrics_with_ignored_pixels(num_classes):
    prediction, target = random_pair(7, num_classes, ignored=0.3)
    reference = MulticlassJaccardIndex(num_classes, average="none", ignore_index=IGNORE)
    expected = reference(
        torch.from_numpy(prediction.astype(int)), torch.from_numpy(target.astype(int))
    )
    ours = iou_per_class(confusion_matrix(prediction, target, num_classes))
    np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-6)


def test_rows_are_the_truth():
    matrix = confusion_matrix(np.array([[1, 1, 1]]), np.array([[0, 0, 1]]), 2)
    assert matrix.tolist() == [[0, 2], [0, 1]]


def test_empty_union_is_nan_and_empty_truth_with_a_prediction_is_zero():
    nothing = confusion_matrix(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8), 2)
    assert math.isnan(iou_per_class(nothing)[1])
    assert math.isnan(dice_per_class(nothing)[1])
    false_alarm = confusion_matrix(np.eye(2, dtype=np.uint8), np.zeros((2, 2), np.uint8), 2)
    assert iou_per_class(false_alarm)[1] == 0
    assert dice_per_class(false_alarm)[1] == 0


def test_nothing_counted_is_nan_without_warnings(recwarn):
    target = np.full((2, 2), IGNORE, np.uint8)
    matrix = confusion_matrix(target, target, 3)
    assert matrix.sum() == 0
    assert math.isnan(accuracy(matrix))
    assert math.isnan(mean_defined(iou_per_class(matrix)))
    assert not recwarn.list


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.floats(0, 1))
def test_ignored_pixels_are_absent_pixels(seed, num_classes, ignored):
    prediction, target = random_pair(seed, num_classes, (9, 11), ignored)
    counted = target != IGNORE
    garbage = np.where(counted, prediction, 200).astype(np.uint8)
    expected = confusion_matrix(prediction[counted], target[counted], num_classes)
    np.testing.assert_array_equal(confusion_matrix(garbage, target, num_classes), expected)


def test_blocks_add_up(monkeypatch):
    prediction, target = random_pair(3, 4)
    expected = confusion_matrix(prediction, target, 4)
    monkeypatch.setattr(functional, "_BLOCK", 100)
    np.testing.assert_array_equal(confusion_matrix(prediction, target, 4), expected)


def test_bool_and_strided_masks():
    prediction, target = random_pair(5, 2, ignored=0.0)
    expected = confusion_matrix(prediction, target, 2)
    np.testing.assert_array_equal(confusion_matrix(prediction > 0, target > 0, 2), expected)
    np.testing.assert_array_equal(confusion_matrix(prediction.T, target.T, 2), expected)


def test_wide_ids_count_as_bytes_do():
    prediction, target = random_pair(6, 7, ignored=0.3)
    expected = confusion_matrix(prediction, target, 7)
    for dtype in (np.int64, np.uint16):
        wide = prediction.astype(dtype), target.astype(dtype)
        np.testing.assert_array_equal(confusion_matrix(*wide, 7), expected)
        np.testing.assert_array_equal(confusion_matrix(wide[0], target, 7), expected)


@pytest.mark.parametrize(
    ("prediction", "target", "words"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), ["(2, 3)", "(3, 2)"]),
        (np.full((2, 2), 2, np.uint8), np.zeros((2, 2), np.uint8), ["prediction", "[2]", "0..1"]),
        (np.zeros((2, 2), np.uint8), np.full((2, 2), 7, np.uint8), ["truth", "[7]", "255"]),
        (np.full((2, 2), -1), np.zeros((2, 2), np.uint8), ["prediction", "[-1]"]),
        (np.zeros((2, 2)), np.zeros((2, 2), np.uint8), ["prediction", "float64"]),
    ],
)
def test_wrong_masks_are_named(prediction, target, words):
    with pytest.raises(DataError) as error:
        confusion_matrix(prediction, target, 2)
    assert all(word in str(error.value) for word in words)


def test_mean_defined_does_not_depend_on_the_order():
    values = np.random.default_rng(0).random(1000) * 10.0 ** np.arange(-8, 8).repeat(125)[:1000]
    assert mean_defined(values) == mean_defined(values[::-1]) == mean_defined(np.sort(values))
    assert mean_defined([math.nan, 1.0]) == 1.0
    assert math.isnan(mean_defined([]))


@pytest.mark.parametrize("num_classes", [2, 3, 12])
def test_further_scores_agree_with_scikit_learn(num_classes):
    prediction, target = random_pair(11 + num_classes, num_classes)
    counted = target != IGNORE
    truth, predicted = target[counted], prediction[counted]
    matrix = confusion_matrix(prediction, target, num_classes)
    labels = list(range(num_classes))
    kwargs = {"labels": labels, "average": None}
    np.testing.assert_allclose(
        functional.precision_per_class(matrix), precision_score(truth, predicted, **kwargs)
    )
    np.testing.assert_allclose(
        functional.recall_per_class(matrix), recall_score(truth, predicted, **kwargs)
    )
    others = [recall_score(truth != c, predicted != c) for c in labels]
    np.testing.assert_allclose(functional.specificity_per_class(matrix), others)
    error = 1 - balanced_accuracy_score(truth, predicted)
    assert functional.balanced_error(matrix) == pytest.approx(error)
    weighted = jaccard_score(truth, predicted, labels=labels, average="weighted")
    assert functional.frequency_weighted_iou(matrix) == pytest.approx(weighted)


def test_a_share_of_nothing_is_nan_and_a_missing_class_is_left_out(recwarn):
    no_foreground = np.array([[8, 2], [0, 0]])
    assert math.isnan(functional.recall_per_class(no_foreground)[1])
    assert math.isnan(functional.precision_per_class(np.array([[8, 0], [2, 0]]))[1])
    assert math.isnan(functional.specificity_per_class(no_foreground)[0])
    assert functional.balanced_error(no_foreground) == pytest.approx(0.2)
    assert functional.frequency_weighted_iou(no_foreground) == pytest.approx(0.8)
    nothing = np.zeros((2, 2), np.int64)
    assert math.isnan(functional.balanced_error(nothing))
    assert math.isnan(functional.frequency_weighted_iou(nothing))
    assert not recwarn.list


def test_the_golden_error_of_shadows():
    expected = golden()
    counts = expected["pooled_counts"]
    matrix = np.array([[counts["tn"], counts["fp"]], [counts["fn"], counts["tp"]]])
    percent = 100 * functional.balanced_error(matrix)
    assert percent == pytest.approx(expected["pooled"]["ber_percent"], abs=1e-9)
