"""Which expert was used for what: windows are found in the image as the encoders cut them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from tiny_sets import TINY, make_table

from easyseg import SemanticSegmentor
from easyseg.errors import OptionError
from easyseg.models.adapters.conv_lora import ConvLoRALinear
from easyseg.models.backbone import fill_windows, split_windows
from easyseg.views.expert_tables import count_use
from easyseg.views.expert_use import (
    SIZES,
    expert_choices,
    has_experts,
    object_sizes,
    window_sizes,
)


def test_objects_are_regions_of_a_class_and_ignored_pixels_do_not_count():
    ids = np.zeros((20, 20), np.uint8)
    ids[0, :2] = 1  # two of 300 pixels: small
    ids[4:7, 4:7] = 1  # nine: medium
    ids[7:10, 7:10] = 2  # touches at a corner, but is of another class: medium
    ids[15:, :] = 255
    ids[10:15, 12:20] = 1  # forty: large
    regions, sizes = object_sizes(ids, background=0)
    assert regions.max() == 4
    named = {(int(ids[y, x]), SIZES[sizes[regions[y, x]]]) for y, x in np.argwhere(regions > 0)}
    assert named == {(1, "small"), (1, "medium"), (1, "large"), (2, "medium")}
    assert not regions[15:].any()
    assert SIZES[sizes[0]] == "none"


def test_without_a_background_each_class_is_an_object():
    regions, sizes = object_sizes(np.array([[0, 0, 1], [0, 0, 1]]), background=None)
    assert regions.tolist() == [[1, 1, 2], [1, 1, 2]]
    assert [SIZES[size] for size in sizes] == ["none", "large", "large"]


@given(
    window=st.integers(1, 9),
    tokens=st.integers(1, 20),
    stride=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_windows_lie_where_the_encoders_cut_them(window, tokens, stride, seed):
    """The pixels of each window, found by cutting an image of pixel numbers as encoders do."""
    side = tokens * stride
    rng = np.random.default_rng(seed)
    ids = (ndimage.gaussian_filter(rng.normal(size=(side, side)), 1.0) > 0.1).astype(np.uint8)
    regions, sizes = object_sizes(ids, background=0)
    # A token is the square of its pixels; those that fill the last windows are of no region (-1).
    squares = regions.reshape(tokens, stride, tokens, stride).transpose(0, 2, 1, 3)
    content = torch.tensor(squares.reshape(1, tokens, tokens, -1) + 1)
    cut = split_windows(fill_windows(content, window), window).flatten(1) - 1
    found = window_sizes(regions, sizes, tokens, window, len(cut))
    for size, pixels in zip(found, cut.numpy(), strict=True):
        objects = pixels[pixels > 0]
        if not len(objects):
            assert SIZES[size] == "none"
            continue
        counts = np.bincount(objects)
        assert size in {sizes[i] for i in np.flatnonzero(counts == counts.max())}


def test_one_decision_is_for_the_whole_image():
    regions, sizes = object_sizes(np.pad(np.ones((3, 3), int), (0, 5)), background=0)
    assert [SIZES[size] for size in window_sizes(regions, sizes, 8, 7, 1)] == ["large"]


@pytest.fixture(scope="module", params=["tiny_sam", "tiny_vit"])
def fitted(request, tiny_backbones, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp(request.param)
    table = make_table(folder, 4)
    settings = TINY | {"backbone.name": request.param, "train.max_steps": 1}
    segmentor = SemanticSegmentor(path=folder / "run", verbosity=0).fit(
        table[1:], table[:1], hyperparameters=settings, accelerator="cpu"
    )
    return segmentor, table


def gated(segmentor) -> list[ConvLoRALinear]:
    network = segmentor._fitted().network
    return [layer for layer in network.modules() if isinstance(layer, ConvLoRALinear)]


def test_each_window_of_each_image_is_counted_once(fitted):
    segmentor, table = fitted
    seen: dict[int, int] = {}
    hooks = [
        layer.gate.register_forward_hook(
            lambda m, args, out, i=i: seen.__setitem__(i, seen.get(i, 0) + len(args[0]))
        )
        for i, layer in enumerate(gated(segmentor))
    ]
    use = count_use(expert_choices(segmentor, table)).counts
    for hook in hooks:
        hook.remove()
    assert use.groupby("block")["windows"].sum().to_dict() == seen
    assert set(use["scale"]) == {1, 2, 3}
    assert has_experts(segmentor)
    assert (use[use["size"] != "none"]["windows"].sum()) > 0


def test_the_expert_that_the_gate_chooses_is_counted(fitted):
    segmentor, table = fitted
    layers = gated(segmentor)
    before = [layer.gate.w_gate.detach().clone() for layer in layers]
    with torch.no_grad():
        for layer in layers:
            layer.gate.w_gate.zero_()  # Equal logits: the first one is taken.
        use = count_use(expert_choices(segmentor, table)).counts
        for layer, weights in zip(layers, before, strict=True):
            layer.gate.w_gate.copy_(weights)
    assert use.loc[use["expert"] > 0, "windows"].sum() == 0
    assert use.loc[use["expert"] == 0, "windows"].sum() > 0


def test_the_choices_of_each_image_are_its_own(fitted):
    segmentor, table = fitted
    together = expert_choices(segmentor, table)
    for position in range(len(table)):
        alone = expert_choices(segmentor, table[position : position + 1])
        for one, all_ in zip(alone, together, strict=True):
            assert one.block == all_.block
            np.testing.assert_array_equal(one.sizes[0], all_.sizes[position])
            np.testing.assert_array_equal(one.experts[0], all_.experts[position])


def test_gates_are_looked_at_in_the_precision_of_the_predictions(fitted, monkeypatch):
    segmentor, table = fitted
    asked = []

    def autocast(precision: str, device: torch.device):
        asked.append((precision, device.type))
        return torch.autocast("cpu", torch.bfloat16)

    seen = set()
    hook = segmentor._fitted().network.register_forward_pre_hook(
        lambda module, inputs: seen.add(torch.is_autocast_enabled("cpu"))
    )
    monkeypatch.setattr("easyseg.views.expert_use.autocast_for", autocast)
    expert_choices(segmentor, table[:1])
    hook.remove()
    assert asked == [("32", "cpu")]
    assert seen == {True}


def test_looking_changes_nothing(fitted):
    segmentor, table = fitted
    before = segmentor.predict_proba(table)
    expert_choices(segmentor, table)
    after = segmentor.predict_proba(table)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(m._forward_hooks for m in segmentor._fitted().network.modules())
    assert not any(m._forward_pre_hooks for m in segmentor._fitted().network.modules())


def test_a_model_without_a_choice_is_refused(tiny_backbones, tmp_path: Path):
    table = make_table(tmp_path / "data", 3)
    settings = TINY | {"adapter.kind": "lora", "train.max_steps": 1}
    segmentor = SemanticSegmentor(path=tmp_path / "run", verbosity=0).fit(
        table[1:], table[:1], hyperparameters=settings, accelerator="cpu"
    )
    assert not has_experts(segmentor)
    with pytest.raises(OptionError, match=r"no experts to choose from: adapter.kind is 'lora'"):
        expert_choices(segmentor, table)
