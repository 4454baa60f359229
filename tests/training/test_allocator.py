"""What is freed stays with the process in training, and with no one afterwards."""

import sys
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
        kept = [torch.ones(12 * MEGABYTES) for _ in range(4)]  # 48 MB each.
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    """Return the bytes of this process in memory."""
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(sys.platform != "linux", reason="sets the allocator of glibc")
def test_freed_memory_is_used_again_and_given_back_at_the_end():
    outside = new_pages(times=3)
    before = resident()
    with keep_freed_memory():
        new_pages(times=1)
        assert new_pages(times=3) < outside / 10
        assert resident() > before + 100 * MEGABYTES
    assert resident() < before + 50 * MEGABYTES


def test_it_ends_with_an_error_inside():
    with pytest.raises(ArithmeticError), keep_freed_memory():
        raise ArithmeticError
