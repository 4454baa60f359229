"""What the GPUs are that a fit would use, asked in ways that wake none of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

__all__ = ["BF16_CAPABILITY", "Gpu", "describe_gpus"]

BF16_CAPABILITY = (8, 0)
_TENSOR_CORE_CAPABILITY = (7, 0)  # Volta and Turing
# Chips of Turing without tensor cores: GeForce GTX and MX, (Quadro) T1000 and the like. The T4 and
# the T10 have them.
_WITHOUT_TENSOR_CORES = re.compile(r"GTX|\bMX\d|\bT\d{3,4}\b")
_QUERY = "--query-gpu=name,memory.total,compute_cap,uuid,mig.mode.current"
_ASK_TORCH = """
import json, sys, torch
found = [torch.cuda.get_device_properties(int(index)) for index in sys.argv[1:]]
print(json.dumps([[one.name, one.total_memory, one.major, one.minor] for one in found]))
"""


class Gpu(NamedTuple):
    """A GPU.

    Attributes:
        name: What its maker calls it.
        memory_gb: Its memory.
        capability: Its compute capability.
    """

    name: str
    memory_gb: float
    capability: tuple[int, int]

    @property
    def native_bf16(self) -> bool:
        """Whether it multiplies bfloat16."""
        return self.capability >= BF16_CAPABILITY

    @property
    def tensor_fp16(self) -> bool:
        """Whether it has tensor cores, which multiply float16."""
        has_them = self.capability >= _TENSOR_CORE_CAPABILITY
        return has_them and not _WITHOUT_TENSOR_CORES.search(self.name)


def describe_gpus(indices: Sequence[int]) -> tuple[Gpu, ...]:
    """Describe visible GPUs.

    ``nvidia-smi`` is asked first, then PyTorch in a process of its own, and PyTorch in this one,
    which initialises CUDA, only where both fail, or where that has happened already.

    Args:
        indices: Their indices, as PyTorch counts them.
    """
    import torch

    if not torch.cuda.is_initialized():
        variables = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
        found = _ask(tuple(indices), tuple(os.environ.get(name, "") for name in variables))
        if found is not None:
            return found
    properties = [torch.cuda.get_device_properties(index) for index in indices]
    return tuple(_gpu(one.name, one.total_memory, one.major, one.minor) for one in properties)


@lru_cache
def _ask(indices: tuple[int, ...], variables: tuple[str, str]) -> tuple[Gpu, ...] | None:
    """Ask from outside, once: it may take seconds.

    Args:
        indices: The GPUs.
        variables: What the environment says of them, by which the answer differs.
    """
    visible, order = variables
    return _ask_nvidia_smi(indices, visible, order) or _ask_another_process(indices)


def _gpu(name: str, memory: int, major: int, minor: int) -> Gpu:
    return Gpu(name, memory / 2**30, (major, minor))


def _ask_nvidia_smi(indices: Sequence[int], visible: str, order: str) -> tuple[Gpu, ...] | None:
    """Ask the driver's tool; None where it is missing, or its order may be another one than CUDA's.

    It counts by the slot, CUDA by speed unless ``CUDA_DEVICE_ORDER`` says otherwise: that matters
    where the cards differ.
    """
    try:
        answer = _output(["nvidia-smi", _QUERY, "--format=csv,noheader,nounits"])
        cards: dict[str, Gpu] = {}
        for line in answer.strip().splitlines():
            name, megabytes, version, uuid, slices = map(str.strip, line.rsplit(",", 4))
            if slices == "Enabled":
                return None  # A slice has less memory than its card.
            major, minor = map(int, version.split("."))
            cards[uuid] = Gpu(name, float(megabytes) / 1024, (major, minor))
        if len(set(cards.values())) == 1:
            return (*cards.values(),)[:1] * len(indices)
        parts = [part.strip() for part in visible.split(",")]
        places = [parts[index] if any(parts) else str(index) for index in indices]
        if order == "PCI_BUS_ID" and all(map(str.isdigit, places)):
            return tuple((*cards.values(),)[int(place)] for place in places)
        named = [[card for uuid, card in cards.items() if uuid.startswith(p)] for p in places]
        return tuple(one for (one,) in named)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def _ask_another_process(indices: Sequence[int]) -> tuple[Gpu, ...] | None:
    try:
        answer = _output([sys.executable, "-c", _ASK_TORCH, *map(str, indices)])
        return tuple(_gpu(*card) for card in json.loads(answer))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        return None


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
