"""What is freed stays with the process in training, and with no one afterwards."""

import platform
from pathlib import Path

import pytest
import torch

from easyseg.training.allocator import keep_freed_memory

resource = pytest.importorskip("resource")
MEGABYTES = 2**20


def new_pages(times: int) -> int:
    """Return how many pages the kernel had to clear for tensors that come and go."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        kept = [torch.ones(6 * MEGABYTES) for _ in range(6)]  # 24 MB each.
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    """Return the bytes of this process in memory."""
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets the allocator of glibc")
def test_freed_memory_is_used_again_and_given_back_at_the_end():
    outside = new_pages(times=3)
    with keep_freed_memory():
        new_pages(times=1)
        assert new_pages(times=3) < outside / 10
        held = resident()
    assert resident() < held - 100 * MEGABYTES


def test_what_the_environment_sets_stays(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    monkeypatch.setattr("ctypes.CDLL", lambda name: FakeLibc())
    with keep_freed_memory():
        pass


class FakeLibc:
    """A glibc whose allocator must not be touched."""

    gnu_get_libc_version = None

    def mallopt(self, *arguments):
        raise AssertionError(arguments)


def test_it_ends_with_an_error_inside():
    with pytest.raises(ArithmeticError), keep_freed_memory():
        raise ArithmeticError
