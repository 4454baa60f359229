"""FSDP for what is never trained: frozen weights are shared out over the processes of a node.

Trained parameters are few (4 of 641 million in SAM ViT-H) and stay whole on every device. So
gradients, clipping, optimizer, averages and what is saved are those of DDP, and only the large
frozen rest is gathered, step by step of the backbone, where it is needed.
"""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from easyseg.models.backbone import Backbone

__all__ = ["WholeInValidation", "shard_frozen"]


def shard_frozen(
    root: nn.Module, backbone: Backbone, device: torch.device, *, nodes: int, start: int = 0
) -> None:
    """Keep a share of the frozen weights of each step of a backbone in each process of a node.

    A step's weights are gathered before its forward and its backward pass and given back after
    each. To be called in all processes, before DDP wraps ``root``, which leaves frozen parameters
    alone from then on. Where a node has one process there is nothing to share.

    Args:
        root: What DDP will wrap; it holds the backbone.
        backbone: The backbone, adapters included.
        device: The device of this process; the weights move there.
        nodes: Number of nodes, all with the same number of processes.
        start: Index of the first step that is shared out. Steps whose features may come from a
            cache, here or there, cannot be: the processes would not gather them in step.
    """
    here = torch.distributed.get_world_size() // nodes
    if here == 1:
        return
    mesh = init_device_mesh(device.type, (nodes, here), mesh_dim_names=("node", "device"))
    trained = {parameter for parameter in backbone.parameters() if parameter.requires_grad}
    steps = list(backbone.steps())[start:]
    for step in steps:
        fully_shard(step, mesh=mesh["device"], ignored_params=trained, reshard_after_forward=True)
    _share_streams(steps)
    frozen = [name for name, value in root.named_parameters() if not value.requires_grad]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(root, frozen)


def _share_streams(steps: list[nn.Module]) -> None:
    """Let all steps gather in one stream: an allocator keeps freed memory for each stream apart."""
    try:
        from torch.distributed.fsdp import share_comm_ctx
    except ImportError:  # Older than PyTorch 2.10 or so.
        return
    share_comm_ctx(steps)  # type: ignore[arg-type]


class WholeInValidation(L.Callback):
    """Holds the whole weights during a validation, and again a share of them after it.

    Forward passes with whole weights wait for no other process, and in a validation processes may
    have different numbers of batches; without gradients there is memory for that. After an error
    the shares come back too: a module cannot be moved with half of its weights gathered.
    """

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Gather all weights."""
        _hold_whole(module, True)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Keep a share of them."""
        _hold_whole(module, False)

    def on_exception(
        self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException
    ) -> None:
        """Keep a share of them."""
        _hold_whole(module, False)


def _hold_whole(root: Any, whole: bool) -> None:
    for step in root.modules():
        if isinstance(step, FSDPModule):
            step.set_reshard_after_forward(not whole)
            (step.unshard if whole else step.reshard)()
