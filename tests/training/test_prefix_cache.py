"""The cache of the frozen prefix: what it returns, what it computes, what it takes."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plan_makers import CPU, facts, plan_for
from tiny_sets import TINY, make_table

from easyseg import SemanticSegmentor
from easyseg.data.loaders import collate_training
from easyseg.data.transforms import augment
from easyseg.models.network import build_network, trainable_state
from easyseg.plan.choices import CACHE_FROM_SHARE
from easyseg.training.prefix_cache import PrefixCache, remove_caches

ENTRY_BYTES = 2 * 3 * 4  # what double() makes of an image below, in bytes


def images_of(keys):
    """Return one image ``[1, 2, 3]`` a key, different for different keys."""
    return torch.stack([torch.arange(6.0).view(1, 2, 3) + 10 * key for key in keys])


class Double:
    """A frozen function of images that counts what it is asked for."""

    def __init__(self):
        self.seen = []

    def __call__(self, images):
        self.seen += [int(image[0, 0, 0]) // 10 for image in images]
        return 2 * images[:, 0]


BATCHES = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=4), max_size=8)


@given(BATCHES, st.integers(0, 9), st.integers(0, 9))
def test_whatever_fits_the_features_are_those_of_the_images(
    tmp_path_factory, batches, in_memory, on_disk
):
    folder = tmp_path_factory.mktemp("run")
    cache = PrefixCache(in_memory * ENTRY_BYTES, folder=folder, disk_bytes=on_disk * ENTRY_BYTES)
    double = Double()
    for keys in batches:
        images = images_of(keys)
        assert torch.equal(cache.features(keys, images, double), 2 * images[:, 0])
    assert cache.misses == len(double.seen)
    assert cache.hits + cache.misses == sum(map(len, batches))
    kept = list(dict.fromkeys(key for keys in batches for key in keys))[: in_memory + on_disk]
    before = len(double.seen)
    for key in kept:
        cache.features([key], images_of([key]), double)
    assert len(double.seen) == before
    assert sum(file.stat().st_size for file in folder.rglob("*.bin")) <= on_disk * ENTRY_BYTES
    cache.close()
    assert not list(folder.iterdir())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory", [0, 1000])
def test_features_are_kept_bit_for_bit_in_their_dtype(tmp_path, dtype, memory):
    cache = PrefixCache(memory, folder=tmp_path, disk_bytes=1000)
    images = torch.randn(2, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    first, second = (
        cache.features("ab", images, lambda x: (x[:, 0] / 3).to(dtype)) for _ in range(2)
    )
    assert first.dtype == second.dtype == dtype
    assert torch.equal(first, second)
    assert (cache.hits, cache.misses) == (2, 2)


def test_without_room_on_the_disk_the_rest_is_computed(tmp_path, monkeypatch):
    free = SimpleNamespace(free=3 * ENTRY_BYTES)  # half of it holds one entry
    monkeypatch.setattr("shutil.disk_usage", lambda folder: free)
    cache = PrefixCache(ENTRY_BYTES, folder=tmp_path, disk_bytes=2 * ENTRY_BYTES)
    double = Double()
    for _ in range(2):
        cache.features([1, 2, 3], images_of([1, 2, 3]), double)
    assert double.seen == [1, 2, 3, 2, 3]
    assert not list(tmp_path.rglob("*.bin"))


class FullDisk:
    """A file that was opened and cannot be written to."""

    def __init__(self, file):
        file.touch()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def write(self, block):
        raise OSError(28, "No space left on device")


def test_a_disk_that_fills_up_leaves_no_half_written_map(tmp_path, monkeypatch):
    cache = PrefixCache(0, folder=tmp_path, disk_bytes=2 * ENTRY_BYTES)
    monkeypatch.setattr(Path, "open", lambda file, mode: FullDisk(file))
    features = cache.features([1], images_of([1]), Double())
    assert torch.equal(features, 2 * images_of([1])[:, 0])
    assert (cache.hits, cache.misses) == (0, 1)
    assert not list(tmp_path.rglob("*.bin"))


def test_what_a_killed_process_left_is_removed(tmp_path):
    cache = PrefixCache(0, folder=tmp_path, disk_bytes=ENTRY_BYTES)
    cache.features([1], images_of([1]), Double())
    (tmp_path / "metrics.csv").touch()
    remove_caches(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_kept_features_have_the_layout_of_fresh_ones(tmp_path):
    images = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    cache = PrefixCache(4 * 3 * 4 * 4, folder=tmp_path, disk_bytes=1000)  # one in memory
    fresh, kept = (cache.features("ab", images, lambda x: x * 2) for _ in range(2))
    assert fresh.stride() == kept.stride()
    assert torch.equal(fresh, kept)


def test_what_a_validation_kept_can_be_trained_on():
    cache = PrefixCache(1000)
    with torch.inference_mode():
        cache.features([1], images_of([1]), Double())
    weight = torch.ones(3, requires_grad=True)
    (cache.features([1], images_of([1]), Double()) * weight).sum().backward()
    assert weight.grad.tolist() == [2 * (10 + 13), 2 * (11 + 14), 2 * (12 + 15)]


@pytest.mark.parametrize("changes", [{"adapter.kind": "none"}, {"adapter.blocks": 1}, {}])
@pytest.mark.parametrize("backbone", ["tiny_sam", "tiny_vit"])
def test_features_and_gradients_of_a_step_are_those_without_a_cache(
    tiny_plan, relative_error, backbone, changes
):
    network = build_network(tiny_plan({"backbone.name": backbone, **changes}), seed=0).eval()
    with torch.no_grad():
        for _, layer in network.adapters():
            layer.lora_B.normal_(std=0.1)
    images = torch.randn(3, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    target = (images[:, 0] > 0).to(torch.uint8)
    cache = PrefixCache(2**30)
    # One alone, then all: two of them are computed beside one that is kept.
    cache.features([1], images[1:2], network.backbone.prefix)
    features = cache.features([0, 1, 2], images, network.backbone.prefix)
    assert not features.requires_grad
    gradients = []
    for output in (network(images), network.from_prefix(features)):
        loss = network.head.loss(output.logits, target) + output.aux_losses
        network.zero_grad()
        loss.backward()
        found = [value.grad for value in network.parameters() if value.grad is not None]
        gradients.append(torch.cat([value.flatten() for value in found]))
    assert cache.hits == 1
    assert relative_error(features, network.backbone.prefix(images)) < 1e-5
    assert relative_error(*gradients) < 1e-5


def test_equal_images_have_equal_keys_and_others_other_ones():
    image = torch.rand(3, 4, 4)
    ids = torch.zeros(4, 4, dtype=torch.uint8)
    items = [(image, ids), (image.clone(), ids + 1), (image.flip(-1), ids)]
    one, same, other = collate_training(items, with_keys=True).keys
    assert one == same != other
    assert collate_training(items).keys is None


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make_table(tmp_path_factory.mktemp("data"), 6)


def test_a_fit_with_a_cache_learns_the_same_and_repeats_itself(table, tmp_path, caplog):
    options = TINY | {"adapter.blocks": 1, "train.epochs": 4, "data.augment": ["hflip"]}
    losses, states, computed = {}, {}, {}
    for name, cached in (("with", True), ("again", True), ("without", False)):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="easyseg"):
            segmentor = SemanticSegmentor(path=tmp_path / name, verbosity=0).fit(
                table, hyperparameters=options | {"train.prefix_cache": cached}, accelerator="cpu"
            )
        losses[name] = list(segmentor.history_["train_loss"])
        states[name] = trainable_state(segmentor._model.network)
        computed[name] = [m for m in caplog.messages if "prefix cache" in m]
        assert not list(segmentor.path_.glob("prefix-*"))
    # 5 images train, each as it is or flipped, and 1 validates, in 4 epochs.
    [message] = computed["with"]
    kept, of = (int(word) for word in message.split() if word.isdigit())
    assert of == 4 * 6
    assert kept >= 4 * 5 - 2 * 5 + 3
    assert computed["without"] == []
    # The saved epoch may be one before anything came from the cache: the losses are of all four.
    assert losses["with"] == losses["again"]
    assert losses["with"] == pytest.approx(losses["without"], rel=1e-3)
    for name, value in states["with"].items():
        assert torch.equal(value, states["again"][name]), name
        torch.testing.assert_close(value, states["without"][name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "cached", "word"),
    [
        ({}, False, "adapters in all blocks"),
        ({"adapter.blocks": 2}, True, "80% of the blocks are frozen"),
        ({"adapter.blocks": 10}, False, "adapters in all blocks"),
        ({"adapter.kind": "none"}, True, "100% of the blocks"),
        ({"adapter.kind": "none", "train.epochs": 1}, False, "0% of the images"),
        ({"adapter.kind": "none", "data.augment": ["colour"]}, False, "another image"),
        ({"adapter.kind": "none", "data.geometry": "tile"}, False, "another window"),
        ({"train.prefix_cache": True}, True, "set by you"),
    ],
)
def test_the_plan_keeps_features_where_it_pays(changes, cached, word):
    values = {"train.epochs": 8, "data.augment": ["hflip"], **changes}
    plan = plan_for(facts(40), overrides=values)
    assert plan.train.prefix_cache is cached
    assert word in plan.reasons["train.prefix_cache"]


@pytest.mark.parametrize(
    ("names", "count"),
    [
        ([], 1),
        (["hflip"], 2),
        (["hflip", "vflip"], 4),
        (["rot90"], 4),
        (["hflip", "rot90"], 8),
        (["hflip", "vflip", "rot90"], 8),
    ],
)
@pytest.mark.parametrize("processes", [1, 3])
def test_the_plan_foresees_what_comes_again(names, count, processes):
    image = torch.arange(3 * 4 * 4, dtype=torch.uint8).view(3, 4, 4)
    rng = np.random.default_rng(0)
    epochs, fits = 6, 300
    seen, variants = 0, set()
    for _ in range(fits):
        known = set()
        for _ in range(epochs):
            changed, _ = augment(image, image[0], names, rng, resized=True)
            key = changed.contiguous().numpy().tobytes(), rng.integers(processes)
            seen += key in known
            known.add(key)
            variants.add(key[0])
    assert len(variants) == count
    values = {"adapter.kind": "none", "train.epochs": epochs, "data.augment": names}
    hardware = replace(CPU, devices=processes)
    plan = plan_for(facts(40), hardware=hardware, overrides=values)
    share = seen / (fits * epochs)
    reason = plan.reasons["train.prefix_cache"]
    assert int(re.search(r"and (\d+)%", reason)[1]) / 100 == pytest.approx(share, abs=0.03)
    assert plan.train.prefix_cache is (share >= CACHE_FROM_SHARE)
