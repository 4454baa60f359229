"""Samples as tensors: each one at its turn, the same whoever loads it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from easyseg.data.dataset import (
    EpochSampler,
    PredictionSet,
    Preprocess,
    ShardSampler,
    TrainingSet,
    collate_prediction,
    collate_training,
)
from easyseg.data.geometry import Geometry
from easyseg.data.label_map import IGNORE, LabelMap
from easyseg.data.table import Samples
from easyseg.errors import DataError

PREPROCESS = Preprocess(Geometry("letterbox", (64, 64)), "minmax")
LABELS = LabelMap((0, 255), ("background", "lesion"), 7, "uint8")
SIZES = [(40, 60), (64, 64), (90, 30), (33, 71), (20, 20), (64, 10)]


@pytest.fixture
def samples():
    """Return images and masks in memory, each of its own size."""
    rng = np.random.default_rng(0)
    images = tuple(rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES)
    labels = tuple(rng.choice(np.array([0, 7, 255], np.uint8), size) for size in SIZES)
    names = tuple(f"image_{i:05d}" for i in range(len(SIZES)))
    return Samples(pd.RangeIndex(len(SIZES)), images, labels, names)


def training_set(samples, augmentations=("hflip",), seed=0):
    return TrainingSet(samples, PREPROCESS, LABELS, augmentations, seed)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 5), st.integers(0, 3))
def test_over_all_ranks_an_epoch_holds_every_sample(count, world, epoch, seed):
    shares = []
    for rank in range(world):
        sampler = EpochSampler(count, seed, rank=rank, world=world)
        sampler.set_epoch(epoch)
        shares.append(list(sampler))
        assert len(shares[-1]) == len(sampler)
    assert len({len(share) for share in shares}) == 1
    keys = [key for share in shares for key in share]
    assert {epoch_of for epoch_of, _ in keys} == {epoch}
    positions = [position for _, position in keys]
    assert set(positions) == set(range(count))
    assert len(positions) < count + world
    assert all(type(position) is int for position in positions)


def test_epochs_and_seeds_are_shuffled_differently_and_repeatably():
    def order(seed, epoch):
        sampler = EpochSampler(50, seed)
        sampler.set_epoch(epoch)
        return [position for _, position in sampler]

    orders = [order(seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(o) for o in orders}) == 4
    assert order(1, 1) == orders[3]
    assert orders[0] != sorted(orders[0])


@given(st.integers(0, 60), st.integers(1, 9))
def test_shards_hold_every_sample_once_and_in_order(count, world):
    shards = [ShardSampler(count, rank=rank, world=world) for rank in range(world)]
    assert all(list(shard) == sorted(shard) for shard in shards)
    assert [len(shard) for shard in shards] == [len(list(shard)) for shard in shards]
    assert sorted(p for shard in shards for p in shard) == list(range(count))


def test_a_training_sample(samples):
    image, target = training_set(samples)[0, 0]
    assert (image.shape, image.dtype) == ((3, 64, 64), torch.float32)
    assert (target.shape, target.dtype) == ((64, 64), torch.uint8)
    assert set(target.unique().tolist()) == {0, 1, IGNORE}
    assert (target[44:] == IGNORE).all()  # 40x60 becomes 44x64


def test_random_numbers_come_from_seed_epoch_and_position(samples):
    first, same, other = training_set(samples), training_set(samples), training_set(samples, seed=1)
    for key in ((0, 0), (3, 2)):
        np.random.random(7)  # the global state does not matter
        torch.rand(3)
        assert torch.equal(first[key][0], same[key][0])
    epochs = range(12)
    assert len({first[epoch, 1][0].numpy().tobytes() for epoch in epochs}) == 2
    flips = [[bool(torch.equal(s[e, 1][0], s[0, 1][0])) for e in epochs] for s in (first, other)]
    assert flips[0] != flips[1]


def test_workers_change_nothing(samples):
    batches = []
    for workers in (0, 2):
        sampler = EpochSampler(len(samples), 0)
        sampler.set_epoch(3)
        loader = DataLoader(
            training_set(samples),
            batch_size=4,
            sampler=sampler,
            num_workers=workers,
            collate_fn=collate_training,
            generator=torch.Generator(),
        )
        batches.append(list(loader))
    assert [len(batch.images) for batch in batches[0]] == [4, 2]
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.targets, other.targets)


def test_prediction_keeps_positions_own_sizes_and_full_size_targets(samples):
    dataset = PredictionSet(samples, PREPROCESS, LABELS)
    assert len(dataset) == len(SIZES)
    batch = collate_prediction([dataset[position] for position in (4, 1, 2)])
    assert batch.images.shape == (3, 3, 64, 64)
    assert batch.positions == [4, 1, 2]
    assert batch.sizes == [SIZES[4], SIZES[1], SIZES[2]]
    for position, target in zip(batch.positions, batch.targets, strict=True):
        expected = np.select(
            [samples.labels[position] == raw for raw in (0, 255, 7)], [0, 1, IGNORE]
        )
        assert np.array_equal(target, expected)


def test_training_and_prediction_see_the_same_image(samples):
    seen = training_set(samples, augmentations=())[0, 3][0]
    assert torch.equal(PredictionSet(samples, PREPROCESS, None)[3][1], seen)


def test_without_labels_there_are_no_targets(samples):
    unlabelled = Samples(samples.index, samples.images, None, samples.names)
    assert PredictionSet(unlabelled, PREPROCESS, None)[0][3] is None


def test_an_unknown_mask_value_names_its_sample(samples):
    labels = (np.full(SIZES[0], 9, np.uint8), *samples.labels[1:])
    broken = Samples(samples.index, samples.images, labels, samples.names)
    with pytest.raises(DataError, match="image_00000"):
        training_set(broken)[0, 0]
