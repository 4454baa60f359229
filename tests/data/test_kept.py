"""What was read once stays in memory, up to a limit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from easyseg.data import kept
from easyseg.data.kept import Kept


@given(
    st.lists(st.integers(0, 9), max_size=40),
    st.lists(st.integers(1, 30), min_size=10),
    st.integers(0, 120),
)
def test_values_are_the_made_ones_and_the_limit_holds(positions, sizes, limit):
    store, made, held = Kept(limit), [], 0
    known = {}
    for position in positions:

        def make(position=position):
            made.append(position)
            return (np.full(sizes[position], position, np.uint8), np.zeros(1, np.uint8))

        before = len(made)
        first, second = store.get(position, make)
        assert first.tolist() == [position] * sizes[position]
        assert second.tolist() == [0]
        assert (len(made) == before) == (position in known)
        size = sizes[position] + 1
        if position not in known and held + size <= limit:
            known[position] = size
            held += size
    assert sum(known.values()) <= limit


def test_a_process_that_reads_ahead_keeps_nothing(monkeypatch):
    store, made = Kept(limit=40), []
    monkeypatch.setattr(kept, "get_worker_info", lambda: "of a worker")
    for _ in range(2):
        store.get(0, lambda: made.append(0) or (np.zeros(10, np.uint8),))
    assert len(made) == 2
