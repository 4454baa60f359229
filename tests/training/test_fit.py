"""How a fit is started: random state, strategy."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy

from easyseg.errors import OptionError
from easyseg.plan.hardware import Hardware
from easyseg.training.fit import (
    Devices,
    _interrupts,
    _precision,
    _same_random_state_after,
    _strategy,
    train,
)


def numbers() -> tuple[float, ...]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_the_random_states_come_back_also_after_an_error_and_cuda_sleeps_on(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: pytest.fail("CUDA was woken"))

    @_same_random_state_after()
    def fail():
        numbers()
        raise KeyboardInterrupt

    states = random.getstate(), torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert random.getstate() == states[0]
    assert torch.get_rng_state().equal(states[1])


@pytest.mark.parametrize(("interactive", "start"), [(True, "fork"), (False, "popen")])
def test_several_devices_train_by_ddp_that_broadcasts_no_buffers(monkeypatch, interactive, start):
    if interactive:
        monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    strategy = _strategy(Devices(Hardware("cpu", 2, "Xeon", 16.0, 2, True), 2, "auto", 0))
    assert isinstance(strategy, DDPStrategy)
    assert strategy._start_method == start
    assert False in strategy._ddp_kwargs.values()


def test_fp16_starts_with_a_smaller_scale_than_pytorch(monkeypatch):
    made = []

    class Scaler:
        def __init__(self, device, init_scale):
            made.append((device, init_scale))

    monkeypatch.setattr(torch.amp, "GradScaler", Scaler)
    t4 = Hardware("cuda", 1, "Tesla T4", 15.0, 2, native_bf16=False, tensor_fp16=True)
    (plugin,) = _precision("fp16", t4)["plugins"]
    assert isinstance(plugin, MixedPrecision)
    assert (plugin.precision, plugin.device, made) == ("16-mixed", "cuda", [("cuda", 1024.0)])
    assert _precision("bf16", t4) == {"precision": "bf16-mixed"}
    assert _precision("fp16", replace(t4, accelerator="mps")) == {"precision": "16-mixed"}


def test_fsdp_says_what_it_needs(monkeypatch):
    devices = Devices(Hardware("cpu", 2, "Xeon", 16.0, 2, True), 2, "fsdp", 0)
    assert isinstance(_strategy(devices), DDPStrategy)
    monkeypatch.delattr("torch.distributed.fsdp.fully_shard")
    with pytest.raises(OptionError, match=r"PyTorch 2\.6 or later.*use 'ddp'"):
        _strategy(devices)


def test_fsdp_needs_frozen_weights(tiny_plan):
    devices = Devices(Hardware("cpu", 2, "Xeon", 16.0, 2, True), 2, "fsdp", 0)
    prepared = SimpleNamespace(plan=tiny_plan({"adapter.kind": "full"}))
    with pytest.raises(OptionError, match=r"'full' trains the encoder's own weights: use .*'ddp'"):
        train(prepared, seed=0, clock=None, devices=devices, reporter=None)


def test_a_second_interrupt_is_no_exit():
    """Lightning leaves with sys.exit(1), which a script could not catch as an interrupt."""

    def leave():
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    with pytest.raises(KeyboardInterrupt), _interrupts():
        leave()
    with pytest.raises(SystemExit), _interrupts():
        sys.exit(2)
