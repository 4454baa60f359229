"""What was read once stays in memory, up to a limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from torch.utils.data import get_worker_info

__all__ = ["KEPT_BYTES", "Kept"]

KEPT_BYTES = 2**29
"""What a training process keeps of its training images, and as much of its validation images."""


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound="tuple[_Sized, ...]")


class Kept(Generic[T]):
    """Arrays or tensors by position; what does not fit any more is made anew each time.

    Nothing is ever dropped for something else: samples come in a new order each epoch, so that
    another choice would be no better. Processes that read ahead keep nothing: any of them may get
    any sample, and what they send lies in memory that both sides share for as long as it lives.

    Args:
        limit: Bytes that may be kept.

    Attributes:
        used: Bytes that are kept.

    Example:
        >>> import numpy as np
        >>> kept = Kept(limit=100)
        >>> def make():
        ...     print("made")
        ...     return (np.zeros(80, np.uint8),)
        >>> same = kept.get(0, make)[0] is kept.get(0, make)[0]
        made
        >>> other = kept.get(1, make), kept.get(1, make)  # No room for a second one.
        made
        made
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._values: dict[int, T] = {}
        self.used = 0

    def __contains__(self, position: int) -> bool:
        """Tell whether the value of a position is kept."""
        return position in self._values

    def get(self, position: int, make: Callable[[], T]) -> T:
        """Return what is kept for a position, or make it, and keep it if there is room.

        Args:
            position: Number of a sample.
            make: Makes its value; whoever gets it must not change it.
        """
        if position in self._values:
            return self._values[position]
        value = make()
        size = sum(part.nbytes for part in value)
        if get_worker_info() is None and self.used + size <= self.limit:
            self._values[position] = value
            self.used += size
        return value
