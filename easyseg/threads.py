"""Work that threads do ahead, in order, while the caller goes on."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

__all__ = ["MOST_THREADS", "map_ahead", "threads_beside", "usable_cores"]

# Microseconds of all cores that a container may use in a period of so many.
_CGROUP_QUOTAS = (
    ("/sys/fs/cgroup/cpu.max",),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)

MOST_THREADS = 8
"""More would wait for Python's lock, and for the disk."""
_MOST_BESIDE = 4  # Each has an image in hand, which may be a large one.

T = TypeVar("T")
R = TypeVar("R")


def usable_cores() -> int:
    """Return the number of cores that this process may use, a container's quota included."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    for files in _CGROUP_QUOTAS:
        try:
            words = " ".join(Path(file).read_text(encoding="ascii") for file in files).split()
            quota, period = (int(word) for word in words)
        except (OSError, ValueError):  # No such file; "max": no quota.
            continue
        if quota > 0:
            cores = min(cores, math.ceil(quota / period))
    return max(1, cores)


def threads_beside(device: torch.device, processes: int = 1) -> int:
    """Return how many threads read and write while a device computes: none beside a CPU.

    Args:
        device: The device.
        processes: Processes that share the cores.

    Example:
        >>> import torch
        >>> threads_beside(torch.device("cpu"))
        0
        >>> 1 <= threads_beside(torch.device("cuda")) <= 4
        True
    """
    if device.type == "cpu":  # Its cores compute.
        return 0
    return max(1, min(_MOST_BESIDE, usable_cores() // processes))


def map_ahead(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Yield the result of a function for each item, in order; threads work on the next ones.

    Threads rather than processes: decoders, encoders and tensors let other threads run, nothing is
    copied, and a script without ``if __name__ == "__main__"`` is not started again.

    Args:
        function: What is done; an exception is raised in its turn.
        items: Taken in this thread, one after the other. If that fails, what is in hand is lost.
        threads: Number of threads, and of items in hand at most beside the one that is yielded; 0:
            everything is done here.

    Example:
        >>> list(map_ahead(abs, [-1, 2, -3], threads=2))
        [1, 2, 3]
    """
    if not threads:
        yield from map(function, items)
        return
    rest, coming = iter(items), deque[Future[R]]()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="easyseg", initializer=_one_core)
    try:
        coming.extend(pool.submit(function, item) for item in islice(rest, threads))
        while coming:
            done = coming.popleft().result()
            coming.extend(pool.submit(function, item) for item in islice(rest, 1))
            yield done
    finally:
        pool.shutdown(cancel_futures=True)


def _one_core() -> None:
    """Let tensors of this thread be computed by it alone: each would bring a team of its own."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.get_num_threads()  # Torch sets its number when a thread first asks for it.
    threadpool_limits(1, user_api="openmp")
