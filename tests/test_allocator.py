"""What is freed stays with the process in training, and with no one afterwards."""

import json
import os
import platform
import subprocess
import sys

import pytest

from easyseg import allocator
from easyseg.allocator import give_back_freed_memory, keep_freed_memory

# In a process of its own: what other tests left in the heap would count too.
SCRIPT = """
import json, resource
import torch
from easyseg.allocator import keep_freed_memory

def new_pages(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        kept = [torch.ones(6 * 2**20) for _ in range(6)]  # 24 MB each.
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

outside = new_pages(3)
with keep_freed_memory():
    new_pages(1)
    inside, held = new_pages(3), resident()
print(json.dumps({"outside": outside, "inside": inside, "given_back": held - resident()}))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets the allocator of glibc")
def test_freed_memory_is_used_again_and_given_back_at_the_end():
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["inside"] < found["outside"] / 10
    assert found["given_back"] > 100 * 2**20


class FakeLibc:
    """A glibc that notes what it is asked."""

    gnu_get_libc_version = None

    def __init__(self, largest):
        self.largest, self.calls = largest, []

    def mallopt(self, parameter, value):
        self.calls.append((parameter, value))
        return int(parameter != allocator._M_MMAP_THRESHOLD or value <= self.largest)

    def malloc_trim(self, pad):
        self.calls.append("trim")


@pytest.fixture
def libc(monkeypatch):
    """Return a function that puts a fake glibc in, which takes a threshold up to ``largest``."""
    for name in allocator._SET_BY_USERS:
        monkeypatch.delenv(name, raising=False)

    def put(largest: int) -> FakeLibc:
        fake = FakeLibc(largest)
        monkeypatch.setattr(allocator.sys, "platform", "linux")
        monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: fake)
        return fake

    return put


def test_older_versions_keep_what_they_can(libc):
    fake = libc(largest=2**25)
    with keep_freed_memory():
        assert fake.calls == [(-3, 2**28), (-3, 2**25), (-1, -1)]
    assert fake.calls[3:] == [(-3, 2**25), (-1, 2**26), "trim"]


def test_an_error_ends_it_too(libc):
    fake = libc(largest=2**31)
    with pytest.raises(ArithmeticError), keep_freed_memory():
        raise ArithmeticError
    assert fake.calls[-1] == "trim"


def test_what_the_environment_sets_stays(libc, monkeypatch):
    fake = libc(largest=2**31)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    with keep_freed_memory():
        give_back_freed_memory()
    assert fake.calls == []


def test_what_is_free_can_be_given_back_at_any_time(libc):
    fake = libc(largest=2**31)
    with keep_freed_memory():
        give_back_freed_memory()
        assert fake.calls[-1] == "trim"
    assert fake.calls.count("trim") == 2
