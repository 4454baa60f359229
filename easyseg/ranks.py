"""Which part of a table this process predicts, and how the parts come together.

Who only asks whether it is the first process, such as the command line, does not import torch.
"""

from __future__ import annotations

import atexit
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

__all__ = [
    "Ranks",
    "current_ranks",
    "is_first_process",
    "is_interactive",
    "leave_group_at_exit",
    "local_rank",
]

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those that work on the same call.

    Attributes:
        rank: Number of this process.
        world: Number of processes.
    """

    rank: int = 0
    world: int = 1

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in their order, on every rank."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values


def current_ranks(device: torch.device) -> Ranks:
    """Return the ranks of the running process group; join the one that torchrun announced.

    A fit over several processes leaves its group running, so prediction after it is shared as well.
    A single process, or one whose fit ran in processes of its own (``ddp_spawn``,
    ``ddp_notebook``), predicts alone.

    Args:
        device: Where the network is.
    """
    import torch.distributed as dist

    if not dist.is_available():
        return Ranks()
    if not dist.is_initialized():
        if not dist.is_torchelastic_launched() or int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return Ranks()
        # Results are gathered through the CPU, or every rank would use the first GPU for it; NCCL
        # is there for a fit that may follow.
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    leave_group_at_exit()
    return Ranks(dist.get_rank(), dist.get_world_size())


def leave_group_at_exit() -> None:
    """See to it that a running process group is left before Python itself ends.

    Gloo's threads may hold tensors a little longer than the call that they served; one that frees
    them while Python ends aborts the process ("terminate called without an active exception").
    """
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        atexit.unregister(_leave_group)  # known once, however often it is asked for
        atexit.register(_leave_group)


def _leave_group() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def is_interactive() -> bool:
    """Return whether this process is a notebook's or a prompt's: others can only be forked."""
    return hasattr(sys, "ps1")


def is_first_process() -> bool:
    """Return whether this process is the first of those that run the same script.

    Asked before any process group is there, so the environment is read: that of torchrun and of
    Lightning's launcher, or of SLURM.
    """
    for variable in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        if variable in os.environ:
            return int(os.environ[variable]) + int(os.environ.get("NODE_RANK", "0")) == 0
    return True


def local_rank() -> int:
    """Return the number of this process on its machine, 0 if it is alone."""
    return int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")))
