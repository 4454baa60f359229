from __future__ import annotations

import dataclasses

import pytest

from easyseg.errors import OptionError
from easyseg.models import registry
from easyseg.models.decoder import Decoder
from easyseg.models.network import build_encoder
from easyseg.models.registry import get_spec, list_backbones

SHIPPED = ("lite_medsam", "vit_b")


def test_what_is_shipped():
    assert set(SHIPPED) <= set(list_backbones())
    assert list_backbones() == tuple(sorted(list_backbones()))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_spec_is_true_to_its_network(name):
    spec = get_spec(name)
    size = spec.size_multiple * -(-spec.min_size // spec.size_multiple)
    encoder = build_encoder(spec, (size, size))
    assert len(encoder.attention_blocks()) == spec.num_blocks
    assert encoder.neck[2].out_channels == spec.decoder_dim
    Decoder(1, spec.prompt, dim=spec.decoder_dim, stride=spec.stride)
    assert spec.default_size % spec.size_multiple == 0
    assert spec.default_size >= spec.min_size == 128
    assert spec.license == "Apache-2.0"
    assert len(spec.sha256) == 64
    assert spec.package is not None or spec.url.endswith(spec.filename)


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
    ("name", "size"), [("vit_b", (130, 128)), ("vit_b", (112, 128)), ("lite_medsam", (128, 130))]
)
def test_impossible_sizes(name, size):
    with pytest.raises(OptionError, match=rf"input size {size[0]}x{size[1]}: {name} needs sides"):
        build_encoder(get_spec(name), size)
