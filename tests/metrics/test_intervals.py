from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from easyseg.errors import OptionError
from easyseg.metrics.intervals import bootstrap_intervals
from easyseg.metrics.streaming import SegmentationScores

BINARY = ("background", "foreground")
KEYS = ("iou@image", "iou@dataset", "accuracy@dataset")


def scored(pairs, **kwargs):
    scores = SegmentationScores(BINARY, True, **kwargs)
    for prediction, target in pairs:
        scores.update(prediction, target)
    return scores


def random_pairs(count, seed=0):
    rng = np.random.default_rng(seed)
    targets = (rng.random((count, 8, 8)) < rng.random((count, 1, 1))).astype(np.uint8)
    return [(np.where(rng.random((8, 8)) < 0.8, t, 1 - t).astype(np.uint8), t) for t in targets]


def test_intervals_are_those_of_scipy():
    pairs = random_pairs(60)
    scores = scored(pairs, resampled=True)
    found = bootstrap_intervals(scores, KEYS, resamples=4000)
    rows = np.array([row["iou@image"] for row in scores.per_image()])
    both = np.array([(p & t).sum() for p, t in pairs])
    either = np.array([(p | t).sum() for p, t in pairs])
    options = {"method": "percentile", "n_resamples": 4000, "vectorized": True}
    mean = stats.bootstrap((rows[~np.isnan(rows)],), np.mean, **options).confidence_interval
    assert found["iou@image"] == pytest.approx(tuple(mean), abs=0.006)
    pooled = stats.bootstrap(
        (both, either),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True,
        **options,
    ).confidence_interval
    assert found["iou@dataset"] == pytest.approx(tuple(pooled), abs=0.006)
    whole = scores.compute(KEYS)
    assert all(low < whole[key] < high for key, (low, high) in found.items())


def test_images_of_a_group_are_drawn_together():
    # Ten images of each of six patients are alike: they are worth six images, not sixty.
    pairs = [pair for pair in random_pairs(6) for _ in range(10)]
    groups = [f"patient {i // 10}" for i in range(60)]
    scores = scored(pairs, resampled=True)
    alone = bootstrap_intervals(scores, KEYS)
    together = bootstrap_intervals(scores, KEYS, groups)
    six = bootstrap_intervals(scored(random_pairs(6), resampled=True), KEYS)
    for key in KEYS:
        low, high = together[key]
        assert high - low > 2 * (alone[key][1] - alone[key][0])
        assert together[key] == pytest.approx(six[key])


def test_a_seed_repeats_and_levels_nest():
    scores = scored(random_pairs(20), resampled=True)
    first = bootstrap_intervals(scores, "iou@image", seed=3)
    assert first == bootstrap_intervals(scores, "iou@image", seed=3)
    assert first != bootstrap_intervals(scores, "iou@image", seed=4)
    half = bootstrap_intervals(scores, "iou@image", seed=3, level=0.5)
    assert first["iou@image"][0] < half["iou@image"][0] < half["iou@image"][1]
    assert half["iou@image"][1] < first["iou@image"][1]


def test_ninety_five_of_a_hundred_intervals_hold_the_truth():
    """Of images with known scores: a share of foreground pixels that is found."""
    rng, inside, runs = np.random.default_rng(0), 0, 120
    for _ in range(runs):
        found = rng.random(40)  # the mean of the recall of all images there could be is 0.5
        target = np.ones((1, 100), np.uint8)
        pairs = [((np.arange(100) < 100 * f).astype(np.uint8)[None], target) for f in found]
        scores = scored(pairs, metrics="recall@image", resampled=True)
        interval = bootstrap_intervals(scores, "recall@image", resamples=300)
        low, high = interval["recall@image"]
        inside += low <= 0.505 <= high  # rounding up to whole pixels adds half a percent
    assert 0.88 <= inside / runs <= 0.99


def test_what_is_not_known_is_nan():
    one = scored(random_pairs(1), resampled=True)
    assert all(map(math.isnan, bootstrap_intervals(one, KEYS)["iou@image"]))
    two = scored(random_pairs(2), resampled=True)
    assert all(map(math.isnan, bootstrap_intervals(two, "iou@image", ["a", "a"])["iou@image"]))
    nothing = [(np.zeros((2, 2), np.uint8),) * 2] * 3
    empty = bootstrap_intervals(scored(nothing, resampled=True), KEYS)
    assert all(map(math.isnan, empty["iou@image"]))
    assert empty["accuracy@dataset"] == (1, 1)


def test_groups_and_counts_must_be_there():
    with pytest.raises(OptionError, match="a group for each of 3 images, found 2"):
        bootstrap_intervals(scored(random_pairs(3), resampled=True), KEYS, ["a", "b"])
    with pytest.raises(OptionError, match="resampled=True"):
        bootstrap_intervals(scored(random_pairs(3)), KEYS)
