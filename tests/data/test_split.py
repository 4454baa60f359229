"""The holdout split: groups and classes on their sides, shares, repeatable."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from easyseg.data.split import holdout
from easyseg.errors import DataError, OptionError


def held_out(count: int, frac: float) -> int:
    return min(max(round(frac * count), 1), count - 1)


def missing(presence, groups, val) -> tuple[int, int]:
    """Count the classes without training and, of those of several groups, without validation."""
    inside = np.isin(np.arange(len(presence)), val)
    unlearned = unvalidated = 0
    for column in presence.T:
        holders = {groups[i] for i in np.flatnonzero(column)}
        unlearned += bool(column.any() and not column[~inside].any())
        unvalidated += bool(len(holders) > 1 and not column[inside].any())
    return unlearned, unvalidated


@st.composite
def sets(draw, most_samples=40, most_classes=4, grouped=None):
    count = draw(st.integers(2, most_samples))
    classes = draw(st.integers(1, most_classes))
    chances = draw(st.lists(st.sampled_from([0.1, 0.5, 0.95]), min_size=classes, max_size=classes))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    presence = rng.random((count, classes)) < chances
    groups = list(range(count))
    if draw(st.booleans()) if grouped is None else grouped:
        most = draw(st.integers(2, count))
        groups = [f"g{g}" for g in rng.integers(0, most, count)]
        groups[0], groups[-1] = "first", "last"
    return presence, groups


@given(data=sets(), frac=st.floats(0.001, 0.999), seed=st.integers(0, 2**32 - 1))
def test_two_parts_that_share_no_group(data, frac, seed):
    presence, groups = data
    count = len(groups)
    train, val = holdout(count, frac, seed, presence, groups)
    assert sorted([*train, *val]) == list(range(count))
    assert min(len(train), len(val)) >= 1
    assert list(train) == sorted(train)
    assert list(val) == sorted(val)
    assert not {groups[i] for i in train} & {groups[i] for i in val}
    np.testing.assert_array_equal(holdout(count, frac, seed, presence, groups)[1], val)


@given(data=sets(), frac=st.floats(0.001, 0.999), order=st.permutations(range(4)))
def test_the_order_of_the_classes_does_not_matter(data, frac, order):
    presence, groups = data
    other = presence[:, [k for k in order if k < presence.shape[1]]]
    for expected, found in zip(
        holdout(len(groups), frac, 0, presence, groups),
        holdout(len(groups), frac, 0, other, groups),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


@given(data=sets(grouped=False), frac=st.floats(0.001, 0.999), seed=st.integers(0, 2**32 - 1))
def test_single_samples_give_the_asked_share(data, frac, seed):
    presence, _ = data
    free = presence[:, presence.sum(axis=0) == 1].any(axis=1)
    _, val = holdout(len(presence), frac, seed, presence)
    possible = len(presence) - int(free.sum()) or len(presence) - 1
    assert len(val) == min(held_out(len(presence), frac), possible)


@given(
    count=st.integers(2, 60),
    frac=st.floats(0.001, 0.999),
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["none", "all alike", "two strata"]),
)
def test_without_groups_it_is_the_split_of_scikit_learn(count, frac, seed, kind):
    """As it was before groups and several classes, unless a class would be on one side only."""
    held = held_out(count, frac)
    presence = np.ones((count, 2), bool)
    if kind == "two strata":
        presence[::3, 1] = False
    strata = None if kind == "none" else presence[:, 1].astype(int)
    if strata is not None:
        sizes = np.unique(strata, return_counts=True)[1]
        if sizes.min() < 2 or len(sizes) > min(held, count - held):
            strata = None
    expected = np.sort(
        train_test_split(np.arange(count), test_size=held, random_state=seed, stratify=strata)[1]
    )
    _, val = holdout(count, frac, seed, None if kind == "none" else presence)
    if kind == "none" or missing(presence, range(count), expected) == (0, 0):
        if presence[:, 1].sum() != 1:
            np.testing.assert_array_equal(val, expected)
    else:
        assert missing(presence, range(count), val) <= missing(presence, range(count), expected)


def test_seeds_differ():
    assert holdout(100, 0.2, 0)[1].tolist() != holdout(100, 0.2, 1)[1].tolist()
    groups = [i // 4 for i in range(100)]
    one, other = (holdout(100, 0.2, seed, None, groups)[1].tolist() for seed in (0, 1))
    assert one != other


def test_strata_are_shared_out_alike():
    presence = np.array([[True, i >= 80] for i in range(100)])
    for seed in range(5):
        _, val = holdout(100, 0.2, seed, presence)
        assert presence[val, 1].sum() == 4


def test_of_several_classes_the_rarest_is_the_stratum():
    presence = np.zeros((100, 4), bool)
    presence[:, 0] = True
    presence[:70, 1] = presence[60:90, 2] = presence[:10, 3] = True
    for seed in range(5):
        _, val = holdout(100, 0.2, seed, presence)
        assert presence[val, 3].sum() == 2
        assert presence[val, 2].sum() == 6


@given(data=sets(most_samples=9, most_classes=3), frac=st.floats(0.1, 0.5), seed=st.integers(0, 99))
@settings(max_examples=200)
def test_no_class_is_missing_that_another_split_would_have(data, frac, seed):
    """Against all splits that miss the asked size by no more; the search is one exchange deep."""
    presence, groups = data
    _, val = holdout(len(groups), frac, seed, presence, groups)
    units = sorted(set(groups), key=str)
    found = missing(presence, groups, val)
    held = held_out(len(groups), frac)
    best = found
    for number in range(1, len(units)):
        for chosen in itertools.combinations(units, number):
            other = [i for i, group in enumerate(groups) if group in chosen]
            if abs(len(other) - held) <= abs(len(val) - held):
                best = min(best, missing(presence, groups, other))
    assert found[0] <= best[0]
    assert found[1] <= best[1] + 1


def test_rare_classes_are_on_both_sides():
    rng = np.random.default_rng(0)
    presence = np.zeros((1000, 12), bool)
    presence[:, 0] = True
    for k in range(1, 12):
        presence[rng.choice(1000, 2, replace=False), k] = True
    for seed in range(3):
        _, val = holdout(1000, 0.2, seed, presence)
        assert len(val) == 200
        assert missing(presence, range(1000), val) == (0, 0)


def test_a_class_of_one_group_stays_in_training():
    groups = [i // 5 for i in range(50)]
    presence = np.ones((50, 2), bool)
    presence[:, 1] = [group == 3 for group in groups]
    for seed in range(20):
        train, val = holdout(50, 0.2, seed, presence, groups)
        assert {groups[i] for i in range(50) if presence[i, 1]} <= {groups[i] for i in train}
        assert len(val) == 10
    presence = np.zeros((20, 1), bool)
    presence[7] = True
    assert all(7 in holdout(20, 0.5, seed, presence)[0] for seed in range(20))


def test_classes_that_each_have_one_group_still_give_two_parts():
    presence = np.eye(3, dtype=bool).repeat([8, 1, 1], axis=0)
    groups = ["a"] * 8 + ["b", "c"]
    train, val = holdout(10, 0.2, 0, presence, groups)
    assert len(val) == 1
    assert len(train) == 9


@given(
    sizes=st.lists(st.integers(1, 20), min_size=12, max_size=40),
    frac=st.floats(0.15, 0.5),
    seed=st.integers(0, 99),
)
def test_the_share_of_groups_is_near_the_asked_one(sizes, frac, seed):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    _, val = holdout(len(groups), frac, seed, None, groups.tolist())
    held = held_out(len(groups), frac)
    assert abs(len(val) - held) <= max(0.1 * held, 1) + max(sizes) / 4


def test_a_group_that_is_too_large_stays_in_training():
    groups = [0] * 80 + list(range(1, 21))
    for seed in range(10):
        _, val = holdout(100, 0.2, seed, None, groups)
        assert min(val) >= 80
        assert 18 <= len(val) <= 20
    assert len(holdout(100, 0.2, 0, None, [0] * 90 + [1] * 10)[1]) == 10
    assert len(holdout(100, 0.2, 0, None, [0] * 50 + [1] * 50)[1]) == 50


def test_many_groups_take_little_time():
    presence = np.random.default_rng(0).random((20_000, 20)) < 0.01
    groups = [i // 2 if i < 5000 else i for i in range(20_000)]
    _, val = holdout(20_000, 0.2, 0, presence, groups)
    assert abs(len(val) - 4000) <= 400


@pytest.mark.parametrize("frac", [0, 1, -0.2, 1.5, float("nan")])
def test_shares_outside_are_errors(frac):
    with pytest.raises(OptionError, match="holdout_frac"):
        holdout(10, frac, 0)


def test_too_few_samples_one_group_and_wrong_lengths():
    with pytest.raises(DataError, match="tuning_data"):
        holdout(1, 0.2, 0)
    with pytest.raises(DataError, match=r"all 4 samples belong to one group, 'p1'.*tuning_data"):
        holdout(4, 0.2, 0, None, ["p1"] * 4)
    with pytest.raises(OptionError, match="presence of 3 samples for 10"):
        holdout(10, 0.2, 0, np.ones((3, 2), bool))
    with pytest.raises(OptionError, match="groups of 3 samples for 10"):
        holdout(10, 0.2, 0, None, [1, 2, 3])
