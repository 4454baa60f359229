"""The other end of ``autogluon_step.Runner``; only what both environments have."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

try:
    import resource
except ImportError:  # Windows.
    resource = None  # type: ignore[assignment]


def say(**content: Any) -> None:
    """Answer the parent process."""
    # On a line of its own: progress bars leave theirs open.
    print("\n## " + json.dumps(content), file=sys.__stdout__, flush=True)


def peak_gb() -> float:
    """Return the largest resident size of this process so far, in GB."""
    if resource is None:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


class Turns:
    """Waits for its turn, and says how long it took.

    Args:
        work: What is done.
        gpu: Whether a GPU does it: its work is waited for, and its memory is what counts.
    """

    def __init__(self, work: str, gpu: bool = False) -> None:
        self.work = work
        self.gpu = gpu
        self._ready = False
        self._started = 0.0

    def begin(self) -> None:
        """Wait until it is asked for."""
        if not self._ready:
            say(ready=self.work)
            self._ready = True
        if not sys.stdin.readline():
            sys.exit("nobody asks any more")
        self._started = time.perf_counter()

    def end(self) -> None:
        """Say how long it took."""
        peak = peak_gb()
        if self.gpu:
            import torch

            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated() / 1e9
        seconds = time.perf_counter() - self._started
        say(seconds=round(seconds, 4), peak_gb=round(peak, 3))
