"""Adapters drop into any vision transformer."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from easyseg.errors import OptionError
from easyseg.models.adapters import ConvLoRALinear, LoRALinear, inject_adapters, project


def timm_vit(**options):
    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224",
        img_size=64,
        embed_dim=24,
        depth=2,
        num_heads=2,
        num_classes=5,
        **options,
    ).eval()


@pytest.mark.parametrize("kind", ["conv_lora", "lora"])
def test_a_transformer_of_timm_starts_as_it_was_and_trains_its_adapters_only(kind):
    network = timm_vit()
    images = torch.randn(2, 3, 64, 64)
    before = network(images)
    options = {"num_prefix_tokens": network.num_prefix_tokens} if kind == "conv_lora" else {}
    names = inject_adapters(network, kind, rank=2, **options)
    assert names == ("blocks.0.attn.qkv", "blocks.1.attn.qkv")
    torch.testing.assert_close(network(images), before)
    trainable = [n for n, p in network.named_parameters() if p.requires_grad]
    assert trainable
    assert all(name.startswith(names) for name in trainable)
    network(images).sum().backward()
    assert network.blocks[0].attn.qkv.lora_B.grad.abs().max() > 0


def test_other_targets_and_options():
    network = timm_vit()
    assert len(inject_adapters(network, "conv_lora", target="fc1", num_prefix_tokens=1)) == 2
    assert isinstance(network.blocks[1].mlp.fc1, ConvLoRALinear)
    assert type(network.blocks[1].attn.qkv) is nn.Linear


def test_layers_that_are_adapted_are_left_alone():
    network = timm_vit()
    inject_adapters(network.blocks[0], "lora")
    first = network.blocks[0].attn.qkv
    assert inject_adapters(network, "lora") == ("blocks.1.attn.qkv",)
    assert network.blocks[0].attn.qkv is first


def test_adapters_that_are_there_stay_trainable():
    network = timm_vit()
    inject_adapters(network.blocks[0], "lora")
    first = {n for n, p in network.blocks[0].named_parameters() if p.requires_grad}
    network.requires_grad_(True).blocks[0].attn.qkv.weight.requires_grad_(False)
    network.blocks[0].attn.qkv.bias.requires_grad_(False)
    inject_adapters(network, "lora", target="fc1")
    trainable = {n for n, p in network.named_parameters() if p.requires_grad}
    assert {f"blocks.0.{name}" for name in first} <= trainable
    assert all(name.rpartition(".")[2] in ("lora_A", "lora_B") for name in trainable)
    assert len(trainable) == 2 * 3


def test_unknown_kind_and_missing_target():
    with pytest.raises(OptionError, match=r"'dora' is not known; expected one of .*'conv_lora'"):
        inject_adapters(timm_vit(), "dora")
    with pytest.raises(OptionError, match=r"no nn.Linear named 'query'.*target="):
        inject_adapters(timm_vit(), target="query")


def test_project_returns_the_auxiliary_loss_of_an_adapter_and_zero_of_a_plain_layer():
    x = torch.randn(4, 3, 3, 8)
    plain = nn.Linear(8, 12)
    y, aux = project(plain, x)
    assert torch.equal(y, plain(x))
    assert aux == 0
    layer = ConvLoRALinear(plain, num_experts=2).eval()
    assert project(layer, x)[1] == layer.forward_with_aux(x)[1] > 0
    assert project(LoRALinear(nn.Linear(8, 12)), x)[1] == 0
