"""The wall-clock budget of a fit."""

from __future__ import annotations

import time
from dataclasses import dataclass

__all__ = ["Clock"]


@dataclass(frozen=True)
class Clock:
    """The wall-clock budget of a fit.

    Attributes:
        started: ``time.monotonic()`` of the call of ``fit``.
        limit: Seconds, or ``None``.
    """

    started: float
    limit: float | None = None

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.started

    def remaining(self) -> float:
        """Return the seconds left; infinite without a limit."""
        return float("inf") if self.limit is None else self.limit - self.elapsed()

    def share(self) -> float:
        """Return the share of the budget that is used up, 0 without a limit."""
        return 0.0 if self.limit is None else min(1.0, self.elapsed() / self.limit)
