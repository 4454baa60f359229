"""The validation part: which samples are held out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import train_test_split

from easyseg.errors import DataError, OptionError

__all__ = ["holdout"]


def holdout(
    samples_count: int, frac: float, seed: int, strata: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Split positions at random into a training and a validation part.

    Args:
        samples_count: Number of samples, at least 2.
        frac: Share of the validation part, between 0 and 1; each part gets at least one sample.
        seed: The same seed gives the same split.
        strata: One group a sample, to be shared out alike. Left aside when a group has one member
            only, or when a part is smaller than the number of groups.

    Returns:
        Training positions and validation positions, int64, each ascending.

    Raises:
        DataError: There are fewer than two samples.
        OptionError: ``frac`` is not between 0 and 1, or ``strata`` has another length.

    Example:
        >>> train, val = holdout(10, 0.2, seed=0)
        >>> len(train), len(val)
        (8, 2)
    """
    if not 0 < frac < 1:
        raise OptionError(f"holdout_frac={frac}: expected a share between 0 and 1, such as 0.2")
    if samples_count < 2:
        raise DataError(
            f"{samples_count} sample cannot be split into a training and a validation part;"
            " give more, or tuning_data"
        )
    if strata is not None and len(strata) != samples_count:
        raise OptionError(f"{len(strata)} strata for {samples_count} samples")
    held = min(max(round(frac * samples_count), 1), samples_count - 1)
    if strata is not None:
        counts = np.unique(np.asarray(strata), return_counts=True)[1]
        if counts.min() < 2 or len(counts) > min(held, samples_count - held):
            strata = None
    train, val = train_test_split(
        np.arange(samples_count), test_size=held, random_state=seed, stratify=strata
    )
    return np.sort(train), np.sort(val)
