"""A probability map beside its truth, as all scores of such maps see it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from easyseg.data.label_map import IGNORE
from easyseg.errors import DataError

__all__ = ["TargetedMap", "counted_box", "targeted_map"]


@dataclass(frozen=True)
class TargetedMap:
    """A map of foreground probabilities with its truth, cut to the pixels that count.

    Pixels without a label count as if they lay outside of the image.

    Attributes:
        values: float64 ``[h, w]``, 0 where a pixel does not count.
        truth: bool ``[h, w]``, the foreground.
        counted: bool ``[h, w]``, the pixels with a label.
    """

    values: np.ndarray
    truth: np.ndarray
    counted: np.ndarray

    @property
    def background(self) -> np.ndarray:
        """Pixels of the background, bool ``[h, w]``."""
        return self.counted & ~self.truth

    @property
    def size(self) -> int:
        """Number of pixels that count."""
        return int(np.count_nonzero(self.counted))

    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Return values float64 ``[N]`` and truth bool ``[N]`` of the pixels that count."""
        return self.values[self.counted], self.truth[self.counted]


def targeted_map(
    probabilities: np.ndarray, target: np.ndarray, *, stretch: bool = False
) -> TargetedMap:
    """Check a probability map and its truth, and cut them to the pixels that count.

    Args:
        probabilities: Probability of the foreground ``[H, W]``, floating, 0..1.
        target: Class ids ``[H, W]``: 1 is the foreground, 0 the background, 255 is left out; or
            bool.
        stretch: Stretch the values that count to 0..1 first, unless they are all alike, as the
            published evaluations of salient and camouflaged objects do.

    Returns:
        The map, empty if no pixel counts.

    Raises:
        DataError: If the sizes differ, a value is no probability, or an id is neither 0 nor 1.
    """
    if probabilities.shape != target.shape or target.ndim != 2:
        raise DataError(
            f"Probabilities and truth are {probabilities.shape} and {target.shape}; expected the "
            "same size (height, width) for both."
        )
    if probabilities.dtype.kind != "f":
        raise DataError(f"The probabilities are {probabilities.dtype}; expected floating values.")
    counted = np.ones(target.shape, bool) if target.dtype == bool else target != IGNORE
    box = counted_box(counted)
    values = probabilities[box].astype(np.float64)
    truth, counted = target[box], counted[box]
    if not bool(((truth == 0) | (truth == 1) | ~counted).all()):
        outside = sorted({int(i) for i in np.unique(truth[counted])} - {0, 1})
        raise DataError(
            f"The truth holds the class ids {outside}; a map of probabilities is scored against "
            f"the foreground (1), the background (0) and ignored pixels ({IGNORE})."
        )
    seen = values[counted]
    if seen.size:
        low, high = seen.min(), seen.max()
        if not (low >= 0 and high <= 1):
            raise DataError(
                f"The probabilities run from {low} to {high}; expected values from 0 to 1."
            )
        if stretch and high > low:
            values = (values - low) / (high - low)
    values[~counted] = 0
    return TargetedMap(values, (truth == 1) & counted, counted)


def counted_box(counted: np.ndarray) -> tuple[slice, slice]:
    """Return the smallest rectangle that holds all pixels that count.

    Args:
        counted: bool ``[H, W]``.

    Returns:
        Slices of rows and columns, empty ones if no pixel counts.

    Example:
        >>> import numpy as np
        >>> counted_box(np.array([[False, False], [False, True]]))
        (slice(1, 2, None), slice(1, 2, None))
    """
    rows, columns = np.flatnonzero(counted.any(axis=1)), np.flatnonzero(counted.any(axis=0))
    if not rows.size:
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
