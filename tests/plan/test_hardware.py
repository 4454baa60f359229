from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from easyseg.errors import OptionError
from easyseg.plan import gpus
from easyseg.plan.hardware import Hardware, detect_hardware, devices_of_notebook


@pytest.fixture(autouse=True)
def other_machines():
    """Let no answer of one machine be that of another one."""
    gpus._ask.cache_clear()
    yield
    gpus._ask.cache_clear()


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    asked: list[list[str]] = []

    def answer(command, **_):
        asked.append(command)
        card = "NVIDIA H200, 143771, 9.0, GPU-{}, Disabled\n"
        return SimpleNamespace(stdout=card.format("a") + card.format("b"))

    monkeypatch.setattr(gpus.subprocess, "run", answer)
    return asked


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_cpu_is_described(no_gpu):
    found = detect_hardware("cpu", 2)
    assert (found.accelerator, found.devices) == ("cpu", 2)
    assert found.memory_gb > 0.1
    assert 1 <= found.cpu_count <= (os.cpu_count() or 1)
    assert isinstance(found.native_bf16, bool)
    assert found.device_name
    assert detect_hardware("auto").accelerator == "cpu"
    assert detect_hardware("auto").devices == 1


def test_cpu_never_asks_cuda(monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("CUDA was asked")

    for name in ("device_count", "is_available", "get_device_properties", "_lazy_init"):
        monkeypatch.setattr(torch.cuda, name, forbidden)
    detect_hardware("cpu")


def test_detection_leaves_cuda_uninitialised():
    code = (
        "import torch; from easyseg.plan.hardware import detect_hardware; "
        "detect_hardware('cpu'); assert not torch.cuda.is_initialized()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("word", ["gpu", "cuda", "auto", "CUDA"])
def test_gpus_are_described_without_initialising_them(two_gpus, word):
    assert detect_hardware(word) == Hardware(
        "cuda",
        2,
        "NVIDIA H200",
        140.4,
        detect_hardware("cpu").cpu_count,
        native_bf16=True,
        tensor_fp16=True,
    )
    assert [command[0] for command in two_gpus] == ["nvidia-smi"]


# In the order of their slots; by CUDA's the fast one is the first.
UNLIKE = (
    "NVIDIA GeForce GTX 1060, 6144, 6.1, GPU-1060-x, [N/A]\n"
    "NVIDIA GeForce RTX 4090, 24576, 8.9, GPU-4090-x, [N/A]\n"
)
BY_TORCH = [["RTX 4090", 24 * 2**30, 8, 9], ["GTX 1060", 6 * 2**30, 6, 1]]


@pytest.fixture
def unlike_gpus(two_gpus, monkeypatch):
    def answer(command, **_):
        if command[0] == "nvidia-smi":
            return SimpleNamespace(stdout=UNLIKE)
        assert command[0] == sys.executable
        return SimpleNamespace(stdout=json.dumps([BY_TORCH[int(i)] for i in command[3:]]))

    monkeypatch.setattr(gpus.subprocess, "run", answer)


@pytest.mark.parametrize(
    ("environment", "devices", "name", "memory"),
    [
        ({}, [0], "RTX 4090", 24.0),
        ({}, [1], "GTX 1060", 6.0),
        ({"CUDA_VISIBLE_DEVICES": "1,0"}, [0], "RTX 4090", 24.0),
        ({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, [0], "NVIDIA GeForce GTX 1060", 6.0),
        (
            {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1,0"},
            [0],
            "NVIDIA GeForce RTX 4090",
            24.0,
        ),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1060,GPU-4090"}, [1], "NVIDIA GeForce RTX 4090", 24.0),
    ],
)
def test_unlike_gpus_are_told_apart_as_cuda_counts_them(
    unlike_gpus, monkeypatch, environment, devices, name, memory
):
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    found = detect_hardware("cuda", devices)
    assert (found.device_name, found.memory_gb) == (name, memory)


def test_a_machine_is_asked_once(two_gpus, monkeypatch):
    detect_hardware("cuda")
    detect_hardware("cuda")
    assert len(two_gpus) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    detect_hardware("cuda")
    assert len(two_gpus) == 2


def test_of_unlike_gpus_the_weakest_counts(unlike_gpus, monkeypatch):
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    found = detect_hardware("cuda", 2)
    assert (found.device_name, found.memory_gb) == ("RTX 4090 and GTX 1060", 6.0)
    assert (found.native_bf16, found.tensor_fp16, found.precision) == (False, False, "32")


def test_of_a_sliced_gpu_torch_is_asked(unlike_gpus, monkeypatch):
    monkeypatch.setattr(gpus, "_output", partial(sliced, gpus._output))
    assert detect_hardware("cuda", [0]).device_name == "RTX 4090"


def sliced(ask, command):
    card = "NVIDIA H100, 81559, 9.0, GPU-a, Enabled\n"
    return card if command[0] == "nvidia-smi" else ask(command)


def test_without_other_processes_torch_is_asked_here(two_gpus, monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("nvidia-smi")

    properties = SimpleNamespace(name="Tesla T4", total_memory=16 * 2**30, major=7, minor=5)
    monkeypatch.setattr(gpus.subprocess, "run", missing)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    found = detect_hardware("cuda", 1)
    assert (found.device_name, found.memory_gb) == ("Tesla T4", 16.0)
    assert (found.native_bf16, found.tensor_fp16) == (False, True)


@pytest.mark.parametrize(
    ("name", "capability", "fp16", "bf16"),
    [
        ("Tesla P100-PCIE-16GB", "6.0", False, False),
        ("Tesla V100-SXM2-16GB", "7.0", True, False),
        ("NVIDIA GeForce GTX 1660", "7.5", False, False),
        ("NVIDIA GeForce MX450", "7.5", False, False),
        ("NVIDIA T1000 8GB", "7.5", False, False),
        ("Quadro T2000", "7.5", False, False),
        ("NVIDIA T600", "7.5", False, False),
        ("Tesla T4", "7.5", True, False),
        ("Quadro RTX 4000", "7.5", True, False),
        ("NVIDIA GeForce RTX 2070", "7.5", True, False),
        ("NVIDIA A10G", "8.6", True, True),
    ],
)
def test_what_a_gpu_multiplies_in_hardware(monkeypatch, name, capability, fp16, bf16):
    answer = SimpleNamespace(stdout=f"{name}, 16384, {capability}, GPU-a, [N/A]\n")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(gpus.subprocess, "run", lambda *_, **__: answer)
    found = detect_hardware("cuda")
    assert (found.device_name, found.tensor_fp16, found.native_bf16) == (name, fp16, bf16)


@pytest.mark.parametrize(
    ("devices", "count"), [("auto", 2), (-1, 2), ("-1", 2), (1, 1), ("2", 2), ([0, 1], 2), ([1], 1)]
)
def test_devices_in_all_their_forms(two_gpus, devices, count):
    assert detect_hardware("cuda", devices).devices == count


@pytest.mark.parametrize(("prompt", "woken", "count"), [(1, 1, 1), (1, 0, 2), (0, 1, 2)])
def test_a_notebook_that_has_used_a_gpu_goes_on_with_one(
    two_gpus, monkeypatch, caplog, prompt, woken, count
):
    if prompt:
        monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    else:
        monkeypatch.delattr(sys, "ps1", raising=False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: bool(woken))
    with caplog.at_level("WARNING", logger="easyseg"):
        assert devices_of_notebook("auto", "auto") == (1 if count == 1 else "auto")
        assert ("one is used" in caplog.text) == (count == 1)
        caplog.clear()
        assert devices_of_notebook("cpu", "auto") == "auto"
        assert devices_of_notebook("gpu", -1) == -1
        assert devices_of_notebook("gpu", [0, 1]) == [0, 1]
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        assert devices_of_notebook("gpu", "auto") == "auto"
    assert not caplog.records


@pytest.mark.parametrize("devices", [0, -2, 3, "many", [], [2], [0, 0], True])
def test_impossible_devices_are_refused(two_gpus, devices):
    with pytest.raises(OptionError, match="devices="):
        detect_hardware("cuda", devices)


@pytest.mark.parametrize("word", ["gpu", "cuda", "mps"])
def test_an_accelerator_that_is_not_there_is_an_error(no_gpu, word):
    with pytest.raises(OptionError, match="torch sees none"):
        detect_hardware(word)


def test_unknown_accelerator_names_the_nearest():
    with pytest.raises(OptionError, match="Did you mean 'cuda'"):
        detect_hardware("cudaa")


def test_a_torch_without_the_private_questions_says_no_bf16(monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert detect_hardware("cpu").native_bf16 is False


@pytest.mark.gpu
def test_a_real_gpu_is_described_and_still_asleep():
    if torch.cuda.device_count() == 0:
        pytest.skip("needs a CUDA device")
    code = (
        "import torch; from easyseg.plan.hardware import detect_hardware; "
        "found = detect_hardware('cuda', 1); print(found.describe()); "
        "asleep = not torch.cuda.is_initialized(); "
        "real = torch.cuda.get_device_properties(0); "
        "assert real.name in found.device_name or found.device_name in real.name; "
        "assert abs(real.total_memory / 2**30 - found.memory_gb) < 0.1 * found.memory_gb; "
        "assert found.native_bf16 == (torch.cuda.get_device_capability(0) >= (8, 0)); "
        "import shutil; assert asleep or shutil.which('nvidia-smi') is None"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
