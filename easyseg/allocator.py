"""Memory that is freed stays with the process while it trains or predicts."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["give_back_freed_memory", "keep_freed_memory"]

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP_ALL, _SHARED_UP_TO = -1, 2**28
_SET_BY_USERS = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"}
# Where glibc's own adjustment ends; setting the values has ended the adjustment.
_TRIM_BY_ITSELF, _SHARED_BY_ITSELF = 2**26, 2**25


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Let the allocator keep what tensors free, and give all of it back at the end.

    A step on a CPU frees and allocates the same large tensors again and again. By default glibc
    hands them back to the kernel, which then has to clear tens of thousands of pages in each step
    (`benchmarks/parts.py allocator`). Tensors from 256 MB on are still handed back: beside the work
    on them the pages cost nothing, and gaps of that size would. Older versions of glibc do so from
    32 MB on. Nothing happens without glibc (Windows, macOS, musl), nor where the environment sets
    either threshold.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    if not libc.mallopt(_M_MMAP_THRESHOLD, _SHARED_UP_TO):  # More than an older version takes.
        libc.mallopt(_M_MMAP_THRESHOLD, _SHARED_BY_ITSELF)
    libc.mallopt(_M_TRIM_THRESHOLD, _KEEP_ALL)
    try:
        yield
    finally:
        libc.mallopt(_M_MMAP_THRESHOLD, _SHARED_BY_ITSELF)
        libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_BY_ITSELF)
        give_back_freed_memory()


def give_back_freed_memory() -> None:
    """Hand all that is free to the kernel, the gaps between what is used too.

    Work that keeps freed memory and never ends does so now and then: its gaps would add up. Nothing
    happens where nothing is kept.
    """
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(ctypes.c_size_t(0))


def _glibc() -> Any:
    """Return glibc, if memory comes from it, by thresholds that the environment does not set."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    is_set = not _SET_BY_USERS.isdisjoint(os.environ)
    known = libc is not None and hasattr(libc, "gnu_get_libc_version")
    return libc if known and not is_set else None
