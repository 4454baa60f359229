"""The validation part: which samples are held out, so that it tells about images never seen.

What belongs together stays on one side, each class is on both sides where that is possible, and
the share of the part is the asked one as nearly as the groups allow.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from sklearn.model_selection import train_test_split

from easyseg.errors import DataError, OptionError

__all__ = ["holdout"]

_TRIES = 50  # draws of groups of unequal sizes; the one nearest to the asked share is taken
_LARGEST = 2  # times the asked part is a group that is held out, if there are smaller ones
_CANDIDATES = 64  # groups that are considered for an exchange


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
    held = min(max(round(frac * samples_count), 1), samples_count - 1)
    classes = np.zeros((len(sizes), 0), bool)
    if presence is not None:
        classes = np.zeros((len(sizes), presence.shape[1]), bool)
        np.logical_or.at(classes, unit_of, presence)
    pool = _pool(sizes, classes, held)
    chosen = _draw(pool, sizes, classes, held, seed)
    chosen = _exchange(chosen, pool, sizes, classes, held, seed)
    inside = chosen[unit_of]
    return np.flatnonzero(~inside), np.flatnonzero(inside)


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
            f"all {samples_count} samples belong to one group, {groups[0]!r}, which cannot be on one"
            " side of a split: give tuning_data, or groups that divide the samples"
        )


def _units(
    samples_count: int, groups: Sequence[Hashable] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of each sample's group, in order of appearance, and the groups' sizes."""
    if groups is None:
        return np.arange(samples_count), np.ones(samples_count, np.int64)
    numbers: dict[Hashable, int] = {}
    unit_of = np.array([numbers.setdefault(group, len(numbers)) for group in groups])
    return unit_of, np.bincount(unit_of)


def _pool(sizes: np.ndarray, classes: np.ndarray, held: int) -> np.ndarray:
    """Return the groups that may be held out, bool; at least one is in it and at least one not.

    Those do not that alone hold a class, or that are much larger than the part; the smallest one
    does if no other is left.
    """
    alone = classes[:, classes.sum(axis=0) == 1].any(axis=1)
    for wanted in (~alone & (sizes <= _LARGEST * held), ~alone, np.ones(len(sizes), bool)):
        if not wanted.any():
            continue
        ...
