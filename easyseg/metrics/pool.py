"""Counts that are added up over images, and, for intervals, those of each image."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from scipy import sparse

__all__ = ["CountPool"]

_AT_ONCE = 1 << 21  # counts of resamples that are held at a time: 16 MiB


class CountPool:
    """Sums of integer counts; constant memory unless those of each image are kept.

    Args:
        kinds: Names of the counts.
        each: Also keep the counts of each image, as sparse rows.
    """

    def __init__(self, kinds: Collection[str], *, each: bool = False) -> None:
        self._sums: dict[str, np.ndarray | None] = dict.fromkeys(sorted(kinds))
        self._each: dict[str, list[Any]] | None = {k: [] for k in self._sums} if each else None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the counts."""
        return tuple(self._sums)

    def add(self, counts: Mapping[str, np.ndarray]) -> None:
        """Add those of an image.

        Args:
            counts: int64 of any shape, always the same, for each kind.
        """
        for kind, own in counts.items():
            self._add(kind, own)
            if self._each is not None:
                self._each[kind].append(sparse.csr_array(own.reshape(1, -1)))

    def _add(self, kind: str, counts: np.ndarray | None) -> None:
        before = self._sums[kind]
        if counts is not None:
            self._sums[kind] = counts if before is None else before + counts

    def total(self, kind: str) -> np.ndarray | None:
        """Return the sum over all images; None if there are none."""
        return self._sums[kind]

    def resampled(self, kind: str, weights: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the sum over the images as often as each of them comes in a resample.

        Args:
            kind: Name of the counts.
            weights: int64 ``[R, images]``; there must be images, and their counts must be kept.
        """
        total = self._sums[kind]
        assert self._each is not None
        assert total is not None
        rows = sparse.vstack(self._each[kind], format="csr")
        step = max(1, _AT_ONCE // total.size)
        for start in range(0, len(weights), step):
            for counts in weights[start : start + step] @ rows:
                yield counts.reshape(total.shape)

    def state(self) -> dict[str, Any]:
        """Return ``sums`` and ``each``, which another process can merge; copies of the lists."""
        each = None
        if self._each is not None:
            each = {k: sparse.vstack(v, format="csr") for k, v in self._each.items() if v}
        return {"sums": dict(self._sums), "each": each}

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add the ``state()`` of a pool of the same kinds; its images follow."""
        for kind, counts in state["sums"].items():
            self._add(kind, counts)
        if self._each is not None:
            for kind, rows in state["each"].items():
                self._each[kind].append(rows)
