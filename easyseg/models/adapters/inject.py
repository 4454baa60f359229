"""The one place that puts adapters into a network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from easyseg.errors import OptionError
from easyseg.models.adapters.conv_lora import ConvLoRALinear
from easyseg.models.adapters.lora import LoRALinear

__all__ = ["ADAPTERS", "inject_adapters", "project"]

ADAPTERS: dict[str, type[LoRALinear]] = {"conv_lora": ConvLoRALinear, "lora": LoRALinear}


def inject_adapters(
    module: nn.Module, kind: str = "conv_lora", *, target: str = "qkv", **options: Any
) -> tuple[str, ...]:
    """Freeze a network and replace its linear layers of one name by adapters, in place.

    Works on any network whose attention keeps its projections in ``nn.Linear`` layers of a known
    name, timm's and SAM's vision transformers (``qkv``) among them. Only the adapters are trainable
    afterwards. Layers that already are adapters are left alone, trainable as they are.

    Args:
        module: The network, or a part of it.
        kind: ``"conv_lora"`` or ``"lora"``.
        target: Last part of the names of the layers to adapt.
        **options: Arguments of the adapter's class, such as ``rank`` or ``num_prefix_tokens``.

    Returns:
        The dotted names of the adapted layers within ``module``.

    Raises:
        OptionError: If ``kind`` is not known or no layer has the name.

    Example:
        >>> vit = nn.ModuleDict({"attn": nn.ModuleDict({"qkv": nn.Linear(8, 24)})})
        >>> inject_adapters(vit, "lora", rank=2)
        ('attn.qkv',)
    """
    if kind not in ADAPTERS:
        raise OptionError(f"adapter kind {kind!r} is not known; expected one of {sorted(ADAPTERS)}")
    names = [
        name
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and name.rpartition(".")[2] == target
    ]
    if not names:
        raise OptionError(
            f"{type(module).__name__} has no nn.Linear named {target!r} to adapt; name the layers "
            "with target="
        )
    adapters = [layer for layer in module.modules() if isinstance(layer, LoRALinear)]
    kept = {p for layer in adapters for p in layer.parameters() if p.requires_grad}
    for parameter in module.parameters():
        parameter.requires_grad_(parameter in kept)
    for name in names:
        parent, _, leaf = name.rpartition(".")
        base = module.get_submodule(name)
        assert isinstance(base, nn.Linear)
        setattr(module.get_submodule(parent), leaf, ADAPTERS[kind](base, **options))
    return tuple(names)


def project(layer: nn.Module, x: Tensor, images: int | None = None) -> tuple[Tensor, Tensor]:
    """Apply a linear layer that may be adapted, and return its auxiliary loss (zero if it is not).

    Attention modules use it so that auxiliary losses travel as return values: a loss kept as an
    attribute would lose its graph under checkpointing and is fragile under compilation and DDP.

    Args:
        layer: A linear layer, an adapter, or another module in the place of one.
        x: Features ``[B, ..., in_features]``.
        images: Number of images that the B windows come from, each B / images in a row; ``None``:
            each is one.
    """
    if isinstance(layer, LoRALinear):
        return layer.forward_with_aux(x, images)
    return layer(x), x.new_zeros((), dtype=torch.float32)
