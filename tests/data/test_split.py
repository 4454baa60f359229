"""The holdout split: a partition, repeatable, stratified where that is possible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyseg.data.split import holdout
from easyseg.errors import DataError, OptionError


@settings(deadline=None)
@given(
    count=st.integers(2, 60),
    frac=st.floats(0.001, 0.999),
    seed=st.integers(0, 2**31),
    groups=st.one_of(st.none(), st.integers(1, 8)),
)
def test_it_is_a_repeatable_partition_with_two_parts(count, frac, seed, groups):
    strata = None if groups is None else [i * i % groups for i in range(count)]
    train, val = holdout(count, frac, seed, strata)
    assert sorted([*train, *val]) == list(range(count))
    assert min(len(train), len(val)) >= 1
    assert list(train) == sorted(train)
    assert list(val) == sorted(val)
    assert len(val) == min(max(round(frac * count), 1), count - 1)
    again = holdout(count, frac, seed, strata)
    np.testing.assert_array_equal(again[1], val)


def test_seeds_differ():
    assert holdout(100, 0.2, 0)[1].tolist() != holdout(100, 0.2, 1)[1].tolist()


def test_strata_are_shared_out_alike():
    strata = [0] * 80 + [1] * 20
    for seed in range(5):
        _, val = holdout(100, 0.2, seed, strata)
        assert sum(strata[i] for i in val) == 4


def test_strata_that_cannot_be_shared_out_are_left_aside():
    for strata in ([0] * 9 + [1], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]):
        train, val = holdout(10, 0.2, 0, strata)
        assert (len(train), len(val)) == (8, 2)


@pytest.mark.parametrize("frac", [0, 1, -0.2, 1.5, float("nan")])
def test_shares_outside_are_errors(frac):
    with pytest.raises(OptionError, match="holdout_frac"):
        holdout(10, frac, 0)


def test_too_few_samples_and_wrong_strata():
    with pytest.raises(DataError, match="tuning_data"):
        holdout(1, 0.2, 0)
    with pytest.raises(OptionError, match="3 strata for 10"):
        holdout(10, 0.2, 0, [0, 1, 2])
