"""S-measure, E-measure, F-measures and the mean error against PySODMetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from map_pairs import golden, map_pairs

from easyseg.data.label_map import IGNORE
from easyseg.errors import DataError
from easyseg.metrics import curves, structure
from easyseg.metrics.maps import targeted_map

FUNCTIONS = {
    "s_measure": structure.s_measure,
    "mae_plain": curves.mean_absolute_error,
    "mae_minmax": lambda p, t: curves.mean_absolute_error(p, t, stretch=True),
    "weighted_f_beta1": structure.weighted_f_measure,
    "weighted_f_beta0.3": lambda p, t: structure.weighted_f_measure(p, t, beta=0.3),
    "e_measure_adaptive": curves.e_measure_adaptive,
    "e_measure_mean_curve": lambda p, t: curves.e_measure_curve(p, t).mean(),
    "e_measure_max_curve": lambda p, t: curves.e_measure_curve(p, t).max(),
    "f_beta2_0.3_adaptive": curves.f_measure_adaptive,
    "f_beta2_0.3_mean_curve": lambda p, t: curves.f_measure_curve(p, t).mean(),
    "f_beta2_0.3_max_curve": lambda p, t: curves.f_measure_curve(p, t).max(),
}
CASES = golden()["cases"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_golden_values(case):
    counts = {"tp", "fp", "fn", "tn"}
    assert case["expected"].keys() - counts == FUNCTIONS.keys()
    for name, function in FUNCTIONS.items():
        found = function(case["map"] / 255, case["truth"])
        assert found == pytest.approx(case["expected"][name], abs=1e-9), name


@settings(max_examples=60)
@given(map_pairs())
def test_agrees_with_pysodmetrics(pair):
    sod = pytest.importorskip("py_sod_metrics")
    values, truth = pair
    divides_by_zero = truth.size == 1 or _centre_is_at_the_end(truth)
    stored = (values * 255).astype(np.uint8)  # PySODMetrics takes 8 bits
    measures = {
        "sm": sod.Smeasure(),
        "em": sod.Emeasure(),
        "wfm": sod.WeightedFmeasure(beta=0.3),
        "mae": sod.MAE(),
    }
    for name, measure in measures.items():
        if not (divides_by_zero and name in ("sm", "em")):
            measure.step(stored, truth * 255)
    ours = stored / 255
    assert structure.weighted_f_measure(ours, truth, beta=0.3) == pytest.approx(
        measures["wfm"].get_results()["wfm"], abs=1e-9
    )
    assert curves.mean_absolute_error(ours, truth, stretch=True) == pytest.approx(
        measures["mae"].get_results()["mae"]
    )
    if divides_by_zero:
        assert 0 <= structure.s_measure(ours, truth) <= 1
        return
    assert structure.s_measure(ours, truth) == pytest.approx(
        measures["sm"].get_results()["sm"], abs=1e-9
    )
    em = measures["em"].get_results()["em"]
    assert curves.e_measure_adaptive(ours, truth) == pytest.approx(em["adp"], abs=1e-9)
    # Its curve begins with the highest threshold.
    np.testing.assert_allclose(curves.e_measure_curve(ours, truth), em["curve"][::-1], atol=1e-9)


def _centre_is_at_the_end(truth) -> bool:
    rows, columns = np.nonzero(truth)
    height, width = truth.shape
    return bool(
        rows.size and (rows.mean().round() + 1 >= height or columns.mean().round() + 1 >= width)
    )


@settings(max_examples=40)
@given(map_pairs(), st.sampled_from([0.3, 1.0]))
def test_f_curve_is_f_at_each_threshold(pair, beta2):
    values, truth = pair
    curve = curves.f_measure_curve(values, truth, beta2=beta2, stretch=False)
    levels = (values.astype(np.float64) * 255).astype(np.uint8)
    for threshold in (0, 1, 64, 77, 200, 255):
        mask = levels >= threshold
        hits = (mask & (truth == 1)).sum()
        if hits == 0:
            assert curve[threshold] == 0
            continue
        precision, recall = hits / mask.sum(), hits / truth.sum()
        expected = (1 + beta2) * precision * recall / (beta2 * precision + recall)
        assert curve[threshold] == pytest.approx(expected)


@settings(max_examples=60)
@given(map_pairs(ignored=(0.0, 0.2, 0.9, 1.0)), st.data())
def test_ignored_pixels_are_absent_pixels(pair, data):
    values, truth = pair
    expected = {name: function(values, truth) for name, function in FUNCTIONS.items()}
    garbage = np.where(truth == IGNORE, 1 - values, values)  # what is predicted there
    # A frame of ignored pixels around the image is as good as no frame.
    frame = [data.draw(st.tuples(st.integers(0, 5), st.integers(0, 5))) for _ in range(2)]
    framed = np.pad(truth, frame, constant_values=IGNORE)
    around = np.pad(values, frame, constant_values=0.9)
    for name, function in FUNCTIONS.items():
        for p, t in ((garbage, truth), (around, framed)):
            assert function(p, t) == pytest.approx(expected[name], abs=1e-12, nan_ok=True), name


@settings(max_examples=40)
@given(map_pairs(ignored=(0.3,)))
def test_pixelwise_scores_are_those_of_the_pixels_that_count(pair):
    values, truth = pair
    counted = truth != IGNORE
    if not counted.any():
        return
    flat = values[counted][None], truth[counted][None]
    for name, function in FUNCTIONS.items():
        if name != "s_measure" and not name.startswith("weighted"):
            assert function(values, truth) == pytest.approx(function(*flat), abs=1e-12), name


def slow_regions(values, truth):
    """Score the regions of an S-measure pixel by pixel; ignored pixels are in no region."""
    counted = [(r, c) for r, c in np.ndindex(*truth.shape) if truth[r, c] != IGNORE]
    inside = [place for place in counted if truth[place] == 1]
    row, column = (round(float(np.mean([p[axis] for p in inside]))) for axis in (0, 1))
    score = 0.0
    for low in (True, False):
        for left in (True, False):
            part = [p for p in counted if (p[0] <= row) == low and (p[1] <= column) == left]
            if not part:
                continue
            x = np.array([float(values[p]) for p in part])
            y = np.array([float(truth[p]) for p in part])
            free = max(len(part) - 1, 1)
            covariance = ((x - x.mean()) * (y - y.mean())).sum() / free
            variances = (((x - x.mean()) ** 2).sum() + ((y - y.mean()) ** 2).sum()) / free
            above = 4 * x.mean() * y.mean() * covariance
            below = (x.mean() ** 2 + y.mean() ** 2) * variances
            similarity = above / below if above else float(below == 0)
            score += similarity * len(part) / len(counted)
    return score


@settings(max_examples=30)
@given(map_pairs(ignored=(0.3,), largest=12))
def test_regions_without_their_ignored_pixels(pair):
    values, truth = pair
    seen = targeted_map(values, truth)
    if 0 < seen.truth.sum() < seen.size:
        # The centre is rounded to even in both, counted from the box of what counts.
        rows, columns = (np.flatnonzero((truth != IGNORE).any(axis=axis)) for axis in (1, 0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        ours = structure.s_measure(values, truth, alpha=0, stretch=False)
        assert ours == pytest.approx(max(0, slow_regions(values[box], truth[box])), abs=1e-9)


def test_nothing_that_counts_is_nan_without_warnings(recwarn):
    truth, values = np.full((3, 4), IGNORE, np.uint8), np.full((3, 4), 0.5, np.float32)
    assert all(math.isnan(function(values, truth)) for function in FUNCTIONS.values())
    assert not recwarn.list


def test_a_float32_map_and_a_bool_truth_are_as_good():
    case = CASES[0]
    values = (case["map"] / 255).astype(np.float32)
    for name in ("s_measure", "weighted_f_beta1", "mae_plain"):
        found = FUNCTIONS[name](values, case["truth"].astype(bool))
        assert found == pytest.approx(case["expected"][name], abs=1e-6)


@pytest.mark.parametrize(
    ("values", "truth", "words"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2), np.uint8), ["(2, 3)", "(3, 2)"]),
        (np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8), ["uint8", "floating"]),
        (np.full((2, 2), 1.5), np.zeros((2, 2), np.uint8), ["1.5", "from 0 to 1"]),
        (np.full((2, 2), np.nan), np.zeros((2, 2), np.uint8), ["nan"]),
        (np.zeros((2, 2)), np.full((2, 2), 7, np.uint8), ["[7]", "255"]),
    ],
)
def test_wrong_maps_are_named(values, truth, words):
    with pytest.raises(DataError) as error:
        structure.s_measure(values, truth)
    assert all(word in str(error.value) for word in words)


def test_what_is_predicted_on_ignored_pixels_may_be_anything():
    truth = np.array([[0, 1, IGNORE]], np.uint8)
    assert curves.mean_absolute_error(np.array([[0.0, 1.0, np.nan]]), truth) == 0
