"""The ways to adapt an encoder, by the name that a plan gives them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from easyseg.models.adapters.bottleneck import BottleneckLinear
from easyseg.models.adapters.inject import inject_adapters
from easyseg.models.adapters.sam_adapter import SamAdapter
from easyseg.models.adapters.scale_shift import scale_and_shift_layers
from easyseg.models.adapters.side import LadderSide
from easyseg.models.backbone import Backbone
from easyseg.models.sam_vit import SamBlock, SamViT
from easyseg.models.tiny_vit import ConvBN, TinyViTBlock
from easyseg.plan.sections import AdapterPlan

__all__ = ["METHODS", "adapt", "use_batch_statistics"]

# The side of a patch, by which the authors of VPT spread their prompts at the start.
_PATCH = 16


def adapt(backbone: Backbone, adapter: AdapterPlan) -> Backbone:
    """Freeze an encoder, but for what the planned method adds to it or trains of it.

    Args:
        backbone: The encoder; it is changed in place.
        adapter: The method and its options, which fit the encoder.

    Returns:
        The adapted encoder: the same one, or one around it.
    """
    backbone.requires_grad_(False)
    return METHODS[adapter.kind](backbone, adapter)


def use_batch_statistics(backbone: Backbone) -> None:
    """Let batch normalisation that is trained use the statistics of the batch, for a fresh start.

    Args:
        backbone: The adapted encoder.
    """
    for layer in backbone.modules():
        if isinstance(layer, ConvBN):
            layer.live = layer.bn.weight.requires_grad


def _number_of_blocks(backbone: Backbone, adapter: AdapterPlan) -> int:
    return len(backbone.attention_blocks()) if adapter.blocks == "all" else int(adapter.blocks)


def _blocks(backbone: Backbone, adapter: AdapterPlan) -> list[SamBlock | TinyViTBlock]:
    """Return the attention blocks that are adapted."""
    blocks = backbone.attention_blocks()[-_number_of_blocks(backbone, adapter) :]
    return [block for block in blocks if isinstance(block, SamBlock | TinyViTBlock)]


def _parts(backbone: Backbone, adapter: AdapterPlan) -> list[nn.Module]:
    """Return the encoder, or what of it comes from the first adapted block on."""
    if adapter.blocks == "all":
        return [backbone]
    steps, first = list(backbone.steps()), _blocks(backbone, adapter)[0]
    start = next(index for index, step in enumerate(steps) if step is first)
    return [*steps[start:], backbone.neck]


def _mlp_layers(block: SamBlock | TinyViTBlock) -> list[str]:
    """Return the names of the two linear layers of a block's MLP."""
    return [name for name, layer in block.mlp.named_children() if isinstance(layer, nn.Linear)]


def _none(backbone: Backbone, adapter: AdapterPlan) -> Backbone:
    return backbone


def _bitfit(backbone: Backbone, adapter: AdapterPlan) -> Backbone:
    """Train the bias terms (Ben Zaken et al., ACL 2022), those of norms among them."""
    for part in _parts(backbone, adapter):
        for name, parameter in part.named_parameters():
            parameter.requires_grad_(name.rpartition(".")[2] == "bias")
    return backbone


def _full(backbone: Backbone, adapter: AdapterPlan) -> Backbone:
    for part in _parts(backbone, adapter):
        part.requires_grad_(True)
    return backbone


def _bottleneck(backbone: Backbone, adapter: AdapterPlan) -> Backbone:
    """Put Houlsby's two adapters into each block: behind its attention and behind its MLP."""
    for block in _blocks(backbone, adapter):
        for parent, name in ((block.attn, "proj"), (block.mlp, _mlp_layers(block)[-1])):
            layer = BottleneckLinear(getattr(parent, name), adapter.rank)
            setattr(parent, name, layer)
    return backbone


def _vpt(backbone: Backbone, adapter: AdapterPlan) -> Backbone:
    """Give each block prompts of its own (VPT-Deep, Jia et al., ECCV 2022).

    There prompts are further tokens of a block's input, and what the block makes of them is
    dropped: others take their place in the next one. So all they do is to be attended to, and no
    more is computed of them. In windowed attention each window has them (as in the authors' Swin);
    they have no position.
    """
    for block in _blocks(backbone, adapter):
        weight = block.attn.qkv.weight
        spread = math.sqrt(6 / (3 * _PATCH**2 + weight.shape[1]))
        prompts = weight.new_empty(adapter.num_prompts, weight.shape[1])
        block.prompts = nn.Parameter(nn.init.uniform_(prompts, -spread, spread))
    return backbone


def _ssf(backbone: Backbone, adapter: AdapterPlan) -> Backbone:
    for part in _parts(backbone, adapter):
        scale_and_shift_layers(part)
    return backbone


def _lora(backbone: Backbone, adapter: AdapterPlan) -> Backbone:
    """Put LoRA or Conv-LoRA beside the planned layers of each block."""
    plain: dict[str, Any] = {"kind": "lora", "rank": adapter.rank, "alpha": adapter.alpha}
    options = plain
    if adapter.kind == "conv_lora":
        options = plain | {
            "kind": "conv_lora",
            "num_experts": adapter.num_experts,
            "scales": adapter.scales,
            "gate": adapter.gate,
            "routing": adapter.routing,
            "identity": adapter.identity,
        }
    fused = [part for part in "qkv" if part in adapter.targets]
    for block in _blocks(backbone, adapter):
        if fused:
            rows = block.attn.rows_of(fused) if len(fused) < len("qkv") else None
            inject_adapters(block, target="qkv", rows=rows, **options)
        for part, names in (("proj", ["proj"]), ("mlp", _mlp_layers(block))):
            if part in (*adapter.targets, *adapter.lora_targets):
                for name in names:
                    how = options if part in adapter.targets else plain
                    inject_adapters(block, target=name, **how)
    return backbone


def _lst(backbone: Backbone, adapter: AdapterPlan) -> Backbone:
    assert isinstance(backbone, SamViT)
    return LadderSide(backbone, _number_of_blocks(backbone, adapter), adapter.reduction)


def _sam_adapter(backbone: Backbone, adapter: AdapterPlan) -> Backbone:
    assert isinstance(backbone, SamViT)
    return SamAdapter(backbone, _number_of_blocks(backbone, adapter), adapter.reduction)


METHODS: Mapping[str, Callable[[Backbone, AdapterPlan], Backbone]] = {
    "none": _none,
    "bitfit": _bitfit,
    "adapter": _bottleneck,
    "vpt": _vpt,
    "ssf": _ssf,
    "lora": _lora,
    "conv_lora": _lora,
    "full": _full,
    "lst": _lst,
    "sam_adapter": _sam_adapter,
}
"""What each ``adapter.kind`` does to an encoder; ``plan/adapter_kinds.py`` says what it needs."""
