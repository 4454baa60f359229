"""Threads: the same results in the same order, few in hand, nothing left behind."""

from __future__ import annotations

import os
import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from easyseg import threads
from easyseg.threads import map_ahead


@given(st.lists(st.integers(), max_size=20), st.integers(0, 4))
def test_results_come_in_order(items, threads):
    assert list(map_ahead(lambda n: n * n, iter(items), threads)) == [n * n for n in items]


@pytest.mark.parametrize("threads", [1, 3])
def test_the_next_items_are_worked_on_meanwhile_and_no_more(threads):
    started, taken = [], []

    def items():
        for number in range(20):
            taken.append(threading.current_thread())
            yield number

    def work(number):
        started.append(number)
        return number

    results = map_ahead(work, items(), threads)
    assert started == []
    assert next(results) == 0
    end = time.monotonic() + 30
    while len(started) < 1 + threads and time.monotonic() < end:
        time.sleep(0.001)
    assert sorted(started) == list(range(1 + threads))
    assert taken == [threading.main_thread()] * (1 + threads)
    results.close()
    assert len(taken) == 1 + threads


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_is_raised_in_its_turn(threads):
    def work(number):
        if number == 2:
            raise ArithmeticError(number)
        return number

    results = map_ahead(work, range(5), threads)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ArithmeticError):
        next(results)
    assert not [t for t in threading.enumerate() if t.name.startswith("easyseg_")]


def test_a_thread_computes_on_one_core_and_others_as_before():
    before = torch.get_num_threads()
    torch.set_num_threads(3)  # The tests themselves may have one.
    try:
        assert list(map_ahead(lambda _: torch.get_num_threads(), range(4), 2)) == [1] * 4
        assert torch.get_num_threads() == 3
        found = []
        other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        other.start()
        other.join()
        assert found == [3]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"max": "max 100000\n"}, 6),
        ({"max": "150000 100000\n"}, 2),
        ({"max": "1000 100000\n"}, 1),
        ({"max": "900000 100000\n"}, 6),
        ({"quota": "-1\n", "period": "100000\n"}, 6),
        ({"quota": "300000\n", "period": "100000\n"}, 3),
        ({"max": "a riddle"}, 6),
        ({}, 6),
    ],
)
def test_a_containers_quota_of_cores_counts(monkeypatch, tmp_path, files, cores):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    quotas = (tmp_path / "max",), (tmp_path / "quota", tmp_path / "period")
    monkeypatch.setattr(threads, "_CGROUP_QUOTAS", quotas)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)), raising=False)
    assert threads.usable_cores() == cores
