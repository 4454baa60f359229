"""All backbones: that each spec is true, and that its network runs, learns and is saved."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext

import pytest
import safetensors.torch
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from easyseg.errors import OptionError
from easyseg.models import backbone, registry, sam_vit, tiny_vit
from easyseg.models.decoder import Decoder
from easyseg.models.network import (
    build_encoder,
    build_network,
    load_trainable_state,
    trainable_state,
)
from easyseg.models.registry import get_spec, list_backbones

SHIPPED = ("lite_medsam", "mobile_sam", "vit_b", "vit_h", "vit_l")


def test_what_is_shipped():
    assert set(SHIPPED) <= set(list_backbones())
    assert list_backbones() == tuple(sorted(list_backbones()))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_spec_is_true_to_its_network(name):
    spec = get_spec(name)
    with torch.device("meta"):
        encoder = build_encoder(spec, (spec.default_size, spec.default_size))
    assert len(encoder.attention_blocks()) == spec.num_blocks
    assert encoder.neck[2].out_channels == spec.decoder_dim
    Decoder(1, spec.prompt, dim=spec.decoder_dim, stride=spec.stride)
    assert spec.default_size % spec.size_multiple == 0
    assert spec.default_size >= spec.min_size == 112
    assert spec.whole_windows % spec.size_multiple == 0
    assert spec.license == "Apache-2.0"
    assert len(spec.sha256) == 64
    assert spec.package is not None or spec.url.endswith("/" + spec.filename)


def one_block_a_stage(spec):
    """Return a TinyViT whose shapes are soon known: all blocks of a stage have the same windows."""
    if spec.family != "tiny_vit":
        return spec
    return dataclasses.replace(spec, arch={**spec.arch, "depths": (1, 1, 1, 1)}, num_blocks=3)


@pytest.mark.parametrize("name", SHIPPED)
def test_sizes_from_the_smallest_to_beyond_the_default(name, affordable):
    """Shapes only, nothing is computed; each size fills up its windows in another manner.

    Tensors that pretend to be on a CPU take its way through the attention; those on "meta" do not.
    """
    spec = one_block_a_stage(affordable(name))
    step = 15 * spec.size_multiple
    heights = range(spec.min_size, spec.default_size + step, step)
    with FakeTensorMode():
        for height, width in zip(heights, heights[::-1], strict=True):
            embedding, _ = build_encoder(spec, (height, width))(torch.empty(2, 3, height, width))
            grid = (height // spec.stride, width // spec.stride)
            assert embedding.shape == (2, spec.decoder_dim, *grid)


@pytest.mark.parametrize("name", SHIPPED)
def test_multiples_of_whole_windows_are_the_sizes_that_fill_nothing_up(
    name, affordable, monkeypatch
):
    spec = dataclasses.replace(one_block_a_stage(affordable(name)), min_size=1)
    filled = []

    def fill(x, window):
        out = backbone.fill_windows(x, window)
        filled.append(out.shape != x.shape)
        return out

    for module in (sam_vit, tiny_vit):
        monkeypatch.setattr(module, "fill_windows", fill)
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # Not on "meta".
    for size in range(spec.whole_windows // 2, 2 * spec.whole_windows + 1, spec.size_multiple):
        filled.clear()
        with torch.device("meta"):
            build_encoder(spec, (size, size))(torch.empty(1, 3, size, size))
        assert filled
        assert any(filled) == (size % spec.whole_windows != 0), size


@pytest.mark.parametrize("steps", [0, 8])
@pytest.mark.parametrize("name", SHIPPED)
def test_forward_backward_save_and_load(name, steps, affordable, tiny_plan):
    """At the smallest size, and at 15x15 tokens (36x36 of LiteMedSAM), no multiple of a window."""
    spec = affordable(name)
    size = spec.min_size + steps * spec.size_multiple
    plan = tiny_plan({"backbone.name": name, "data.size": size})
    network = build_network(plan, seed=0)
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for _, layer in network.adapters():
            layer.lora_B.normal_(std=0.1)  # at zero, the parts before it have no gradient

    output = network(images)
    side = 4 * size // spec.stride
    assert output.logits.shape == (1, 1, side, side)
    target = (images[:, 0] > 0).to(torch.uint8)
    (network.head.loss(output.logits, target) + output.aux_losses).backward()
    without = {n for n, p in network.named_parameters() if (p.grad is None) == p.requires_grad}
    assert not without
    layers = 4 if spec.family == "tiny_vit" else 1  # LoRA beside proj, fc1 and fc2 as well
    assert len(list(network.adapters())) == layers * spec.num_blocks
    for adapter_name, layer in network.adapters():
        assert layer.lora_A.grad.any(), adapter_name
        assert layer.lora_B.grad.any(), adapter_name

    network.eval()
    with torch.no_grad():
        expected = network(images).logits
        saved = safetensors.torch.save(trainable_state(network))
        for value in trainable_state(network).values():
            value.normal_()
        assert not torch.equal(network(images).logits, expected)
        load_trainable_state(network, safetensors.torch.load(saved))
        assert torch.equal(network(images).logits, expected)


def test_unknown_name_with_the_nearest():
    with pytest.raises(OptionError, match=r"'vitb' is not known. Did you mean 'vit_b'\?"):
        get_spec("vitb")


def test_a_spec_is_frozen_and_hashable():
    spec = get_spec("vit_b")
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.stride = 8
    assert hash(spec) == hash(dataclasses.replace(spec))


def test_register_adds_and_replaces(monkeypatch):
    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))
    spec = dataclasses.replace(get_spec("vit_b"), name="mine")
    assert registry.register(spec) is spec
    assert get_spec("mine") is spec
    other = dataclasses.replace(spec, default_size=512)
    registry.register(other)
    assert get_spec("mine") is other


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vit_b", (130, 128)),
        ("vit_b", (96, 128)),
        ("lite_medsam", (128, 130)),
        ("mobile_sam", (136, 128)),
    ],
)
def test_impossible_sizes(name, size):
    with pytest.raises(OptionError, match=rf"input size {size[0]}x{size[1]}: {name} needs sides"):
        build_encoder(get_spec(name), size)
