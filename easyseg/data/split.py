"""The validation part: which samples are held out, so that it tells about images never seen.

What belongs together stays on one side, each class is on both sides where that is possible, and
the share of the part is the asked one as nearly as the groups allow.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sklearn.model_selection import train_test_split

from easyseg.errors import DataError, OptionError

__all__ = ["LARGEST_HELD", "holdout"]

LARGEST_HELD = 2  # times the asked part: a larger group is not held out if there is a smaller one

_NEAR = 0.1  # of the asked part: a part of groups that misses it by no more is as good as exact
_LENIENT = 0.5  # of the asked part: by how much groups may miss it for the sake of a class
_DRAWS = 50  # of groups of different sizes; the first one that is near is taken, else the nearest
_EXCHANGES = 200
_CANDIDATES = 64  # units of each side that an exchange chooses from


def holdout(
    samples_count: int,
    frac: float,
    seed: int,
    presence: np.ndarray | None = None,
    groups: Sequence[Hashable] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Split positions at random into a training and a validation part.

    Samples are drawn in strata: of the rarest class that each one holds. A group is drawn as one,
    with all the classes of its samples. A class that only one group holds stays in training: what
    is not learned needs no validation.

    Args:
        samples_count: Number of samples, at least 2.
        frac: Share of the validation part, between 0 and 1; each part gets at least one sample.
        seed: The same seed gives the same split.
        presence: Which classes each sample holds, bool ``[samples_count, K]``; ``None``: the draw
            does not look at classes.
        groups: One label a sample; samples of one label stay together. ``None``: each is alone.

    Returns:
        Training positions and validation positions, int64, each ascending.

    Raises:
        DataError: There are fewer than two samples, or only one group.
        OptionError: ``frac`` is not between 0 and 1, or ``presence`` or ``groups`` has another
            length.

    Example:
        >>> train, val = holdout(10, 0.2, seed=0)
        >>> len(train), len(val)
        (8, 2)
        >>> holdout(6, 0.3, seed=0, groups=["a", "a", "b", "b", "b", "b"])[1].tolist()
        [0, 1]
    """
    _check(samples_count, frac, presence, groups)
    unit_of, sizes = _units(samples_count, groups)
    classes = np.zeros((len(sizes), 0 if presence is None else presence.shape[1]), bool)
    if presence is not None:
        np.logical_or.at(classes, unit_of, presence)
    # Masks of another coding may number the classes otherwise: the draw must not see their order.
    classes = classes[:, np.lexsort(classes[::-1])]
    held = min(max(round(frac * samples_count), 1), samples_count - 1)
    units = _Units(sizes, classes, held)
    chosen = units.exchange(units.draw(seed), seed)[unit_of]
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _check(
    samples_count: int,
    frac: float,
    presence: np.ndarray | None,
    groups: Sequence[Hashable] | None,
) -> None:
    if not 0 < frac < 1:
        raise OptionError(f"holdout_frac={frac}: expected a share between 0 and 1, such as 0.2")
    if samples_count < 2:
        raise DataError(
            f"{samples_count} sample cannot be split into a training and a validation part;"
            " give more, or tuning_data"
        )
    for name, values in (("presence", presence), ("groups", groups)):
        if values is not None and len(values) != samples_count:
            raise OptionError(f"{name} of {len(values)} samples for {samples_count} samples")
    if groups is not None and len(set(groups)) == 1:
        raise DataError(
            f"all {samples_count} samples belong to one group, {groups[0]!r}: no split keeps it on"
            " one side; give tuning_data, or groups that divide the samples"
        )


def _units(samples_count: int, groups: Sequence[Hashable] | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of each sample's group, in order of appearance, and the groups' sizes."""
    if groups is None:
        return np.arange(samples_count), np.ones(samples_count, np.int64)
    numbers: dict[Hashable, int] = {}
    unit_of = np.array([numbers.setdefault(group, len(numbers)) for group in groups])
    return unit_of, np.bincount(unit_of)


@dataclass(frozen=True)
class _Units:
    """What is drawn as one: groups, or single samples.

    Attributes:
        sizes: Samples of each of U units.
        classes: Which classes a unit holds, bool ``[U, K]``.
        held: Samples that are to be held out.
    """

    sizes: np.ndarray
    classes: np.ndarray
    held: int

    @cached_property
    def pool(self) -> np.ndarray:
        """Positions of the units that may be held out.

        Not those that alone hold a class, nor much larger ones than the part, unless all are.
        """
        alone = self.classes[:, self.classes.sum(axis=0) == 1].sum(axis=1) > 0
        free = np.arange(len(alone)) if alone.all() else np.flatnonzero(~alone)
        return free[self.sizes[free] <= max(LARGEST_HELD * self.held, self.sizes[free].min())]

    def draw(self, seed: int) -> np.ndarray:
        """Draw the units that are held out, bool ``[U]``; units of several sizes repeatedly."""
        sizes = self.sizes[self.pool]
        most = len(self.pool) - (len(self.pool) == len(self.sizes))  # one stays in training
        count = min(max(round(self.held / sizes.mean()), 1), most)
        strata = _strata(self.classes[self.pool], min(count, len(self.pool) - count))
        seeds = np.random.SeedSequence(seed).generate_state(_DRAWS).tolist()
        best = np.zeros(len(self.sizes), bool)
        for number in [seed, *seeds] if np.ptp(sizes) else [seed]:
            chosen = np.zeros(len(self.sizes), bool)
            chosen[self.pool] = True
            if count < len(self.pool):
                rest, _ = train_test_split(
                    self.pool, test_size=count, random_state=number, stratify=strata
                )
                chosen[rest] = False
            if not best.any() or self._excess(chosen) < self._excess(best):
                best = chosen
            if not self._excess(best):
                break
        return best

    def exchange(self, chosen: np.ndarray, seed: int) -> np.ndarray:
        """Add, drop and swap units while that brings classes to both sides, or the share nearer.

        A part of single samples keeps its size.
        """
        rng = np.random.default_rng(seed)
        for _ in range(_EXCHANGES):
            better = self._better(chosen, rng)
            if better is None:
                break
            chosen = better
        return chosen

    def _better(self, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
        """Return the best that a unit in, a unit out, or both give; None if none is better."""
        total, inside = self.classes.sum(axis=0), self.classes[chosen].sum(axis=0)
        size = int(self.sizes[chosen].sum())
        fault = self._fault(size, inside, total)
        if not fault:
            return None
        in_pool = chosen[self.pool]
        added = self._candidates(self.pool[~in_pool], (inside == 0) & (total > 1), rng)
        dropped = self._candidates(self.pool[in_pool], inside == total, rng)
        # The last row and the last column stand for no unit.
        sizes = size + _and_none(self.sizes[added])[:, None] - _and_none(self.sizes[dropped])
        classes = self.classes.astype(np.int64)
        counts = inside + _and_none(classes[added])[:, None] - _and_none(classes[dropped])
        units = chosen.sum() + (np.arange(len(added) + 1) < len(added))[:, None]
        units = units - (np.arange(len(dropped) + 1) < len(dropped))
        lenient = int(_LENIENT * self.held) if self.sizes.max() > 1 else 0
        allowed = np.abs(sizes - self.held) <= max(lenient, abs(size - self.held))
        allowed &= (units > 0) & (units < len(chosen))
        faults = np.where(allowed, self._fault(sizes, counts, total), np.inf)
        row, column = np.unravel_index(np.argmin(faults), faults.shape)
        if not faults[row, column] < fault:
            return None
        better = chosen.copy()
        better[added[row : row + 1]] = True
        better[dropped[column : column + 1]] = False
        return better

    def _fault(self, size: np.ndarray | int, inside: np.ndarray, total: np.ndarray) -> np.ndarray:
        """Return how bad parts are: classes not in training, then not held out, then the share."""
        unlearned = ((inside == total) & (total > 0)).sum(axis=-1)
        unvalidated = ((inside == 0) & (total > 1)).sum(axis=-1)
        most = float(self.sizes.sum())
        excess = np.maximum(np.abs(size - self.held) - _NEAR * self.held, 0)
        return (unlearned * (len(total) + 1) + unvalidated) * most + excess

    def _excess(self, chosen: np.ndarray) -> float:
        return max(abs(float(self.sizes[chosen].sum()) - self.held) - _NEAR * self.held, 0)

    def _candidates(
        self, units: np.ndarray, wanted: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Return some of the units, those with wanted classes first, else at random."""
        units = rng.permutation(units)
        holds = self.classes[units][:, wanted].sum(axis=1)
        return units[np.argsort(-holds, kind="stable")[:_CANDIDATES]]


def _and_none(values: np.ndarray) -> np.ndarray:
    """Append zeros: what no unit adds."""
    return np.concatenate([values, np.zeros_like(values, shape=(1, *values.shape[1:]))])


def _strata(classes: np.ndarray, most: int) -> np.ndarray | None:
    """Return the stratum of each unit: the rarest class that it holds, of those that not all hold.

    Args:
        classes: Which classes each unit holds, bool ``[U, K]``.
        most: Number of strata that may be made: as many as the smaller part has units.

    Returns:
        Numbers ``[U]``, at least two units of each; None if there are no classes, or if that would
        leave one stratum though the units differ.
    """
    if not classes.shape[1]:
        return None
    counts = classes.sum(axis=0)
    telling = np.flatnonzero((counts > 0) & (counts < len(classes)))
    strata = np.zeros(len(classes), np.int64)
    for k in telling[np.argsort(counts[telling], kind="stable")]:
        members = (strata == 0) & classes[:, k]
        if members.sum() > 1 and len(np.unique(strata[strata > 0])) < most - 1:
            strata[members] = k + 1
    values, sizes = np.unique(strata, return_counts=True)
    if sizes.min() == 1:  # only those of no stratum can be so few
        strata[strata == values[np.argmin(sizes)]] = values[np.argmax(sizes)]
    return None if len(telling) and len(np.unique(strata)) == 1 else strata
