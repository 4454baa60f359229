"""Which processes work on a call."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from easyseg.ranks import Ranks, current_ranks


@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda:1", "cpu:gloo,cuda:nccl")])
def test_objects_are_gathered_on_the_cpu_whatever_the_device(monkeypatch, device, backend):
    asked = []
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "init_process_group", asked.append)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    assert current_ranks(torch.device(device)) == Ranks(1, 2)
    assert asked == [backend]


def test_a_process_alone_joins_nothing():
    assert current_ranks(torch.device("cpu")) == Ranks(0, 1)
