"""What the machine has, found without waking a GPU that a later process may still want to own."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from easyseg.errors import OptionError, nearest
from easyseg.plan.gpus import BF16_CAPABILITY, describe_gpus
from easyseg.ranks import is_interactive
from easyseg.threads import usable_cores

if TYPE_CHECKING:
    import torch

__all__ = [
    "Accelerator",
    "Hardware",
    "cpu_native_bf16",
    "detect_hardware",
    "devices_of_notebook",
    "native_bf16",
]

Accelerator = Literal["cpu", "cuda", "mps"]

log = logging.getLogger("easyseg")

_SYNONYMS = {"cpu": "cpu", "cuda": "cuda", "gpu": "gpu", "mps": "mps", "auto": "auto"}
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Hardware:
    """What a fit can use.

    Attributes:
        accelerator: ``"cpu"``, ``"cuda"`` or ``"mps"``.
        devices: Training processes of a node: one a GPU, or CPU processes.
        device_name: Name of the device, or of several that differ.
        memory_gb: Memory of one device, the smallest; on a CPU what all processes share.
        cpu_count: Cores this process may use.
        native_bf16: True if bfloat16 products run in hardware, of all devices.
        num_nodes: Number of machines like this one.
        tensor_fp16: True if all GPUs have tensor cores, which multiply float16.
    """

    accelerator: Accelerator
    devices: int
    device_name: str
    memory_gb: float
    cpu_count: int
    native_bf16: bool
    num_nodes: int = 1
    tensor_fp16: bool = False

    @property
    def processes(self) -> int:
        """The training processes in all."""
        return self.devices * self.num_nodes

    @property
    def precision(self) -> Literal["bf16", "fp16", "32"]:
        """What training computes in: 16 bits where the hardware multiplies them fast."""
        if self.native_bf16:
            return "bf16"
        return "fp16" if self.tensor_fp16 else "32"

    def describe(self) -> str:
        """Return one line for people.

        Example:
            >>> Hardware("cpu", 1, "Xeon", 16.0, 2, True).describe()
            'CPU (Xeon, 2 cores, 16 GB)'
        """
        times = f"{self.processes} x " if self.processes > 1 else ""
        cores = f"{self.cpu_count} core{'s' if self.cpu_count != 1 else ''}, "
        inside = f"{self.device_name}, {cores if self.accelerator == 'cpu' else ''}"
        return f"{times}{self.accelerator.upper()} ({inside}{self.memory_gb:.0f} GB)"


def detect_hardware(
    accelerator: str = "auto", devices: int | str | Sequence[int] = "auto", num_nodes: int = 1
) -> Hardware:
    """Find out what to train on.

    A notebook that trains on several GPUs forks, and a forked process cannot use CUDA once its
    parent has initialised it. So GPUs are counted through ``torch.cuda.device_count`` (which asks
    NVML) and described by ``describe_gpus``. With ``accelerator="cpu"`` nothing of CUDA is touched.

    Args:
        accelerator: ``"auto"`` (CUDA before MPS before CPU), ``"cpu"``, ``"gpu"`` (CUDA or MPS),
            ``"cuda"`` or ``"mps"``.
        devices: ``"auto"`` (all GPUs, one CPU process), ``-1`` (the same), a number, or the
            indices of the GPUs.
        num_nodes: Number of machines like this one.

    Returns:
        The hardware a fit would use.

    Raises:
        OptionError: If the accelerator is unknown or not there, or has fewer devices.
    """
    kind = _find_accelerator(accelerator)
    indices = _indices(devices, kind)
    name, memory, bf16, fp16 = {"cpu": _cpu_facts, "mps": _mps_facts}.get(
        kind, lambda: _cuda_facts(indices)
    )()
    return Hardware(kind, len(indices), name, round(memory, 1), _cpu_count(), bf16, num_nodes, fp16)


def devices_of_notebook(
    accelerator: str, devices: int | str | Sequence[int]
) -> int | str | Sequence[int]:
    """Return 1 for ``"auto"`` where a notebook has several GPUs and has used one already.

    Processes for all of them would be forked, and could not use CUDA.

    Args:
        accelerator: As for :func:`detect_hardware`.
        devices: Likewise.
    """
    import torch

    if devices != "auto" or not is_interactive() or not torch.cuda.is_initialized():
        return devices
    if _find_accelerator(accelerator) != "cuda" or (there := _cuda_count()) == 1:
        return devices
    log.warning(
        "this notebook has used a GPU already, and processes for all %d of them cannot be"
        " started from it any more: one is used. Restart the kernel, or run a script, for all",
        there,
    )
    return 1


def _find_accelerator(asked: str) -> Accelerator:
    if str(asked).lower() not in _SYNONYMS:
        raise OptionError(f"accelerator={asked!r} is not known. {nearest(str(asked), _SYNONYMS)}")
    word = _SYNONYMS[str(asked).lower()]
    if word == "cpu":
        return "cpu"
    if word != "mps" and _cuda_count() > 0:
        return "cuda"
    if word != "cuda" and _mps_available():
        return "mps"
    if word == "auto":
        return "cpu"
    raise OptionError(
        f"accelerator={asked!r} was asked for, but torch sees none on this machine: check the "
        "driver, CUDA_VISIBLE_DEVICES and that this torch was built for it, or use "
        "accelerator='auto' or 'cpu'."
    )


def _indices(devices: int | str | Sequence[int], kind: Accelerator) -> tuple[int, ...]:
    """Return the device indices; for CPU processes they are just numbers."""
    there = _cuda_count() if kind == "cuda" else 1
    asked = int(devices) if isinstance(devices, str) and _is_whole(devices) else devices
    if asked == "auto" or (asked == -1 and not isinstance(asked, bool)):
        return tuple(range(there))
    if isinstance(asked, (bool, str)):
        indices: tuple[int, ...] = ()
    elif isinstance(asked, int):
        indices = tuple(range(asked))
    else:
        indices = tuple(int(index) for index in asked)
    if not indices or min(indices) < 0 or len(set(indices)) < len(indices):
        raise OptionError(
            f"devices={devices!r} is not possible: expected 'auto', -1, a number of at least 1, "
            "or a list of different GPU indices."
        )
    if kind != "cpu" and max(indices) >= there:
        raise OptionError(
            f"devices={devices!r} was asked for, but this machine has {there} {kind.upper()} "
            f"device{'s' if there > 1 else ''}. Use devices='auto'."
        )
    return indices


def _is_whole(text: str) -> bool:
    return text.strip().removeprefix("-").isdigit()


def _cuda_count() -> int:
    import torch

    return torch.cuda.device_count()


def _mps_available() -> bool:
    import torch

    return torch.backends.mps.is_available()


def _cpu_facts() -> tuple[str, float, bool, bool]:
    return _cpu_name(), _memory_gb(), cpu_native_bf16(), False


def _mps_facts() -> tuple[str, float, bool, bool]:
    return "Apple GPU", _memory_gb(), False, False


def _cuda_facts(indices: Sequence[int]) -> tuple[str, float, bool, bool]:
    """Return the names of visible GPUs, and what the weakest of them has."""
    cards = describe_gpus(indices)
    return (
        " and ".join(dict.fromkeys(card.name for card in cards)),
        min(card.memory_gb for card in cards),
        all(card.native_bf16 for card in cards),
        all(card.tensor_fp16 for card in cards),
    )


def cpu_native_bf16() -> bool:
    """Return True if the CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX).

    Torch tells it by private functions only: where one is missing or fails, the answer is no.
    """
    import torch

    for question in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        try:
            if getattr(torch.cpu, question)():
                return True
        except (AttributeError, RuntimeError, TypeError):
            continue
    return False


def native_bf16(device: torch.device) -> bool:
    """Return True if a device that is in use multiplies bfloat16 in hardware."""
    import torch

    if device.type == "cpu":
        return cpu_native_bf16()
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= BF16_CAPABILITY


def _cpu_count() -> int:
    """Return the cores this process may use, and no more threads than torch was allowed."""
    import torch

    cores = usable_cores()
    threads_were_set = any(name in os.environ for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))
    return max(1, min(cores, torch.get_num_threads())) if threads_were_set else max(1, cores)


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def _memory_gb() -> float:
    """Return the memory this process may use: the machine's, or less where a container says so."""
    limits = [_physical_bytes()]
    for file in _CGROUP_LIMITS:
        try:
            limits.append(int(Path(file).read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue
    return min(limits) / 2**30


def _physical_bytes() -> int:
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return _windows_bytes()


def _windows_bytes() -> int:
    import ctypes

    kilobytes = ctypes.c_ulonglong(0)
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 - exists on Windows only
    kernel.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes))
    return kilobytes.value * 1024 or 8 * 2**30
