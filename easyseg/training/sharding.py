"""FSDP for what is never trained: frozen weights are shared out over the processes of a node.

Trained parameters are few (4 of 641 million in SAM ViT-H) and stay whole on every device. So
gradients, clipping, optimizer, averages and checkpoints are those of DDP, and only the large frozen
rest is gathered, step by step of the backbone, where it is needed.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from easyseg.models.backbone import Backbone

__all__ = ["hold_whole", "shard_frozen"]


def shard_frozen(
    root: nn.Module, backbone: Backbone, device: torch.device, *, nodes: int, start: int = 0
) -> None:
    """Keep a share of the frozen weights of each step of a backbone in each process of a node.

    A step's weights are gathered before its forward and its backward pass and given back after
    each. To be called in all processes, before DDP wraps ``root``, which leaves frozen parameters
    alone from then on.

    Args:
        root: What DDP will wrap; it holds the backbone.
        backbone: The backbone, adapters included.
        device: The device of this process; the weights move there.
        nodes: Number of nodes, all with the same number of processes.
        start: Index of the first step that is shared out. Steps whose features may come from a
            cache, here or there, cannot be: the processes would not gather them in step.
    """
    world = torch.distributed.get_world_size()
    mesh = init_device_mesh(device.type, (nodes, world // nodes), mesh_dim_names=("node", "device"))
    trained = {parameter for parameter in backbone.parameters() if parameter.requires_grad}
    for step in backbone.steps()[start:]:
        fully_shard(step, mesh=mesh["device"], ignored_params=trained, reshard_after_forward=True)
    frozen = [name for name, value in root.named_parameters() if not value.requires_grad]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(root, frozen)


def hold_whole(backbone: Backbone, whole: bool) -> None:
    """Hold the whole weights of a backbone, or again a share of them, in all processes.

    Forward passes with whole weights wait for no other process. In a validation processes may have
    different numbers of batches, so they could not gather weights in step; without gradients there
    is memory for that.

    Args:
        backbone: The backbone.
        whole: Whether to hold all of it.
    """
    for step in backbone.steps():
        if isinstance(step, FSDPModule):
            step.set_reshard_after_forward(not whole)
            (step.unshard if whole else step.reshard)()
