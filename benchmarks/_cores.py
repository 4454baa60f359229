"""Waits until the cores are idle, and measures what other processes take of them."""

from __future__ import annotations

import time

IDLE_PERCENT = 10


class CoreWatch:
    """Measures how much of all cores other processes take, from its construction on."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self._before = self._others()

    def seconds(self) -> float:
        """Return the wall-clock seconds since the start."""
        return time.monotonic() - self.started

    def others_share(self) -> float:
        """Return the share of all cores that others took."""
        import psutil

        taken = self._others() - self._before
        return max(0.0, taken / (self.seconds() * psutil.cpu_count()))

    @staticmethod
    def _others() -> float:
        import psutil

        times = psutil.cpu_times()
        return sum(times) - times.idle - getattr(times, "iowait", 0.0) - time.process_time()


def wait_for_idle_cores() -> None:
    """Return when the cores were idle for a few seconds."""
    import psutil

    while (percent := psutil.cpu_percent(interval=5)) > IDLE_PERCENT:
        print(f"waiting: others take {percent:.0f} % of the cores", flush=True)
