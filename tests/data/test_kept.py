"""What was read once stays in memory, up to a limit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

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


class Sizes(Dataset):
    """What a store holds, in bytes, after each sample."""

    def __init__(self) -> None:
        self.store: Kept[tuple[np.ndarray]] = Kept(limit=100)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, position: int) -> int:
        self.store.get(position, lambda: (np.zeros(10, np.uint8),))
        return self.store.used


def test_processes_that_read_ahead_keep_nothing():
    """What they send lies in shared memory, with an open file each, for as long as it lives."""
    assert [int(used) for used in DataLoader(Sizes(), batch_size=None)] == [10, 20, 30, 40]
    loader = DataLoader(Sizes(), batch_size=None, num_workers=1, persistent_workers=True)
    assert [int(used) for _ in range(2) for used in loader] == [0] * 8
