from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from map_pairs import map_pairs
from sklearn.metrics import average_precision_score, roc_auc_score

from easyseg.data.label_map import IGNORE
from easyseg.metrics.ranking import (
    LEVELS,
    auc,
    average_precision,
    exact_levels,
    level_counts,
)


@settings(max_examples=40)
@given(map_pairs(ignored=(0.0, 0.3, 1.0)))
def test_agrees_with_scikit_learn(pair):
    values, truth = pair
    counted = truth != IGNORE
    p, t = values[counted], truth[counted]
    counts = exact_levels(values, truth)
    if t.any():
        assert average_precision(counts) == pytest.approx(average_precision_score(t, p))
    else:
        assert math.isnan(average_precision(counts))
    if 0 < t.sum() < t.size:
        assert auc(counts) == pytest.approx(roc_auc_score(t, p))
    else:
        assert math.isnan(auc(counts))


def sure_maps(seed):
    """Return maps as networks give them: most probabilities are close to 0 or to 1."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((200, 150)) < 0.2).astype(np.uint8)
    logits = rng.normal(8.0 * truth - 6, 4).astype(np.float32)
    return 1 / (1 + np.exp(-logits)), truth


def test_levels_are_fine_enough_for_sure_maps_pooled_over_images():
    pairs = [sure_maps(seed) for seed in range(3)]
    pooled = sum(level_counts(*pair) for pair in pairs)
    assert pooled.shape == (2, LEVELS)
    p, t = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1))
    assert auc(pooled) == pytest.approx(roc_auc_score(t, p), abs=1e-6)
    assert average_precision(pooled) == pytest.approx(average_precision_score(t, p), abs=1e-4)


@pytest.mark.parametrize(
    ("centre", "spread", "tolerance"),
    [(0.002, 0.002, 1e-3), (0.0, 0.02, 1e-3), (-1.0, 0.05, 1e-3), (-3.0, 0.2, 1e-3)],
)
def test_levels_are_fine_enough_for_unsure_maps(centre, spread, tolerance):
    """Networks that were hardly trained give nearly the same probability everywhere."""
    rng = np.random.default_rng(0)
    truth = (rng.random((300, 300)) < 0.02).astype(np.uint8)
    logits = rng.normal(centre + 3 * spread * truth, spread)
    values = (1 / (1 + np.exp(-logits))).astype(np.float32)
    counts = level_counts(values, truth)
    p, t = values.ravel(), truth.ravel()
    assert average_precision(counts) == pytest.approx(average_precision_score(t, p), abs=tolerance)
    assert auc(counts) == pytest.approx(roc_auc_score(t, p), abs=tolerance / 10)


@settings(max_examples=15)
@given(map_pairs(ignored=(0.0, 0.5, 1.0), largest=10))
def test_levels_keep_order_and_number(pair):
    values, truth = pair
    counts = level_counts(values, truth)
    assert counts.sum(axis=1).tolist() == [(truth == 1).sum(), (truth == 0).sum()]
    # Rounding into levels never turns an order around: it can only make a tie of it.
    order = np.sort(np.unique(values))
    levels = [level_counts(np.array([[v]]), np.ones((1, 1), np.uint8))[0].argmax() for v in order]
    assert levels == sorted(levels)


def test_a_network_that_finds_all_but_trusts_nothing_ranks_well():
    truth = np.array([[1, 0, 0]], np.uint8)
    values = np.array([[1e-3, 1e-5, 1e-6]], np.float32)
    assert auc(level_counts(values, truth)) == 1


def test_certainty_is_the_last_level():
    counts = level_counts(np.array([[0.0, 1.0]], np.float32), np.array([[0, 1]], np.uint8))
    assert counts[1, 0] == counts[0, -1] == 1
