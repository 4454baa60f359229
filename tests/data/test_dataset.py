"""Samples as tensors, and their loaders: each one at its turn, the same whoever loads it."""

from __future__ import annotations

import re
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from easyseg.data import dataset, loaders
from easyseg.data.dataset import PredictionSet, Preprocess, TrainingSet
from easyseg.data.geometry import Geometry, normalize
from easyseg.data.label_map import IGNORE, LabelMap
from easyseg.data.loaders import EpochLoader, EpochSampler, WindowLoader
from easyseg.data.table import Samples
from easyseg.errors import DataError

PREPROCESS = Preprocess(Geometry("letterbox", (64, 64)), "minmax")
TILES = Preprocess(Geometry("tile", (32, 32)), "minmax")
LABELS = LabelMap((0, 255), ("background", "lesion"), 7, "uint8")
SIZES = [(40, 60), (64, 64), (90, 30), (33, 71), (20, 20), (64, 10)]


@pytest.fixture
def samples():
    """Return images and masks in memory, each of its own size."""
    rng = np.random.default_rng(0)
    # Brighter to the right: windows of an image have other values than the whole.
    images = tuple(
        (rng.random((*size, 3)) * np.linspace(60, 256, size[1])[:, None]).astype(np.uint8)
        for size in SIZES
    )
    labels = tuple(rng.choice(np.array([0, 7, 255], np.uint8), size) for size in SIZES)
    names = tuple(f"image_{i:05d}" for i in range(len(SIZES)))
    return Samples(pd.RangeIndex(len(SIZES)), images, labels, names)


def training_set(samples, augmentations=("hflip",), seed=0, preprocess=PREPROCESS, keep=0):
    return TrainingSet(samples, preprocess, LABELS, augmentations, seed, keep=keep)


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


@pytest.mark.parametrize("preprocess", [PREPROCESS, TILES], ids=["letterbox", "tile"])
@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_hold_the_same_samples_whoever_reads_them(samples, preprocess, workers):
    """One after the other, again, with one left out, and after one that ended early."""
    data = training_set(samples, preprocess=preprocess)
    loader = EpochLoader(data, batch_size=4, epochs=7, seed=5, num_workers=workers)
    assert len(loader) == 2
    try:
        for epoch, taken in ((0, 2), (1, 2), (1, 2), (4, 1), (4, 1), (5, 2), (6, 2)):
            loader.sampler.set_epoch(epoch)
            keys = list(loader.sampler)
            batches = [batch for batch, _ in zip(loader, range(taken), strict=False)]
            assert [len(batch.images) for batch in batches] == [4, 2][:taken]
            for batch, own in zip(batches, (keys[:4], keys[4:]), strict=False):
                images, targets = zip(*(data[key] for key in own), strict=True)
                assert torch.equal(batch.images, torch.stack(images))
                assert torch.equal(batch.targets, torch.stack(targets))
    finally:
        loader.close()
    assert loader._loader._iterator is None


class NotedSet(TrainingSet):
    """Leaves a file for each sample that is read, in whatever process."""

    folder: Path

    def __getitem__(self, key):
        (self.folder / f"{key[0]}-{key[1]}-{time.monotonic_ns()}").touch()
        return super().__getitem__(key)


def test_loader_processes_read_into_the_next_epoch(samples, tmp_path):
    data = NotedSet(samples, PREPROCESS, LABELS, (), 0)
    data.folder = tmp_path
    loader = EpochLoader(data, batch_size=4, epochs=2, seed=0, num_workers=8)
    assert loader._loader.num_workers == 2

    def wait_for(epoch):
        end = time.monotonic() + 60
        while len(list(tmp_path.glob(f"{epoch}-*"))) < len(SIZES) and time.monotonic() < end:
            time.sleep(0.01)

    try:
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            batches = iter(loader)
            wait_for(epoch)  # Nothing was asked for yet.
            for _ in range(len(loader)):  # A trainer does not ask for more than the last one.
                next(batches)
        wait_for(1)
        # Each was read once, and nothing of an epoch that will not be.
        assert len(list(tmp_path.iterdir())) == 2 * len(SIZES)
        assert not list(tmp_path.glob("2-*"))
    finally:
        loader.close()


def located(height, width):
    """Return an image that says where each pixel is and which class it has, and its mask."""
    labels = np.random.default_rng(height).choice(np.array([0, 7, 255], np.uint8), (height, width))
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(height)[:, None], np.arange(width)
    image[..., 2] = labels
    return image, labels


@given(
    st.integers(0, 1000),
    st.integers(1, 80),
    st.integers(1, 80),
    st.lists(st.sampled_from(["hflip", "vflip", "rot90", "crop"]), unique=True),
)
def test_a_training_window_holds_what_the_image_holds_there(seed, height, width, augmentations):
    """Ids lie on their pixels, neighbours stay neighbours, what is beyond the image is ignored."""
    image, labels = located(height, width)
    image[0, 0] = 0, 0, 255  # so that "minmax" divides by 255, whatever the window shows
    labels[0, 0] = 255
    one = Samples(pd.RangeIndex(1), (image,), (labels,), ("image",))
    # A crop may leave neither 0 nor 255, and "sam" does not look at what is there.
    preprocess = Preprocess(TILES.geometry, "sam" if "crop" in augmentations else "minmax")
    seen, target = training_set(one, augmentations, seed, preprocess)[2, 0]
    values = 255 * seen
    if preprocess.normalization == "sam":
        zero = normalize(torch.zeros(3, 1, 1, dtype=torch.uint8), "sam")
        one_step = (normalize(torch.full((3, 1, 1), 255, dtype=torch.uint8), "sam") - zero) / 255
        values = (seen - zero) / one_step
    rows, cols, raw = values.round().to(torch.int64)
    known = target != IGNORE
    assert torch.equal((raw == 255)[known], (target == 1)[known])
    there = labels[rows[known].numpy(), cols[known].numpy()]
    assert (there == raw[known].numpy()).all()
    inside = slice(0, min(32, height)), slice(0, min(32, width))
    if not {"crop", "rot90"} & set(augmentations):
        assert torch.equal(target[inside] == IGNORE, raw[inside] == 7)
        outside = torch.ones(32, 32, dtype=torch.bool)
        outside[inside] = False
        assert (target[outside] == IGNORE).all()
        assert not seen[:, outside].any()
        assert (rows[inside].diff(dim=0).abs() == 1).all()
        assert (cols[inside].diff(dim=1).abs() == 1).all()


def test_windows_move_from_epoch_to_epoch_and_look_for_foreground():
    image, _ = located(200, 240)
    labels = np.zeros((200, 240), np.uint8)
    labels[150:152, 30:32] = 255
    one = Samples(pd.RangeIndex(1), (image,), (labels,), ("image",))
    seen = training_set(one, (), preprocess=TILES)
    windows = [seen[epoch, 0] for epoch in range(300)]
    assert len({image.numpy().tobytes() for image, _ in windows}) > 250
    found = sum(bool((target == 1).any()) for _, target in windows)
    assert 0.27 < found / 300 < 0.43
    assert torch.equal(windows[7][0], training_set(one, (), preprocess=TILES)[7, 0][0])


def test_prediction_keeps_own_sizes_and_full_size_targets(samples):
    items = PredictionSet(samples, PREPROCESS, LABELS)
    assert len(items) == len(SIZES)
    for position in (4, 1, 2):
        item = items[position]
        assert (item.position, item.own) == (position, SIZES[position])
        assert (item.content.dtype, item.content.shape[0]) == (torch.uint8, 3)
        expected = np.select(
            [samples.labels[position] == raw for raw in (0, 255, 7)], [0, 1, IGNORE]
        )
        assert np.array_equal(item.target, expected)


def test_training_and_prediction_see_the_same_image(samples):
    for preprocess, position in ((PREPROCESS, 3), (TILES, 4)):
        seen = training_set(samples, (), preprocess=preprocess)[0, position][0]
        [batch] = WindowLoader(samples.take([position]), preprocess, None, batch_size=4)
        assert torch.equal(batch.images, seen[None])


def test_without_labels_there_are_no_targets(samples):
    unlabelled = Samples(samples.index, samples.images, None, samples.names)
    assert PredictionSet(unlabelled, PREPROCESS, None)[0].target is None


@pytest.mark.parametrize("preprocess", [PREPROCESS, TILES], ids=["letterbox", "tile"])
@pytest.mark.parametrize("threads", [0, 2])
def test_batches_hold_the_windows_of_one_image_after_the_other(samples, preprocess, threads):
    geometry = preprocess.geometry
    expected = [(p, window) for p, own in enumerate(SIZES) for window in geometry.windows(own)]
    loader = WindowLoader(samples, preprocess, LABELS, batch_size=4, threads=threads)
    for _ in range(2):
        batches = list(loader)
        sizes = [len(batch.images) for batch in batches]
        assert set(sizes[:-1]) <= {4}
        assert sum(sizes) == len(expected)
        seen = [row for batch in batches for row in batch.windows]
        assert [(row.position, row.window) for row in seen] == expected
        assert [row.own for row in seen] == [SIZES[row.position] for row in seen]
        images = torch.cat([batch.images for batch in batches])
        for row, image in zip(seen, images, strict=True):
            assert np.array_equal(row.target == IGNORE, samples.labels[row.position] == 7)
            whole = normalize(
                geometry.resize(torch.from_numpy(samples.images[row.position]).permute(2, 0, 1)),
                "minmax",
            )
            torch.testing.assert_close(image, geometry.pad(geometry.cut(whole, row.window)))


def test_all_windows_of_an_image_are_on_one_rank(samples):
    shares = [
        {
            row.position
            for batch in WindowLoader(samples, TILES, None, batch_size=3, rank=rank, world=4)
            for row in batch.windows
        }
        for rank in range(4)
    ]
    assert shares == [{0, 4}, {1, 5}, {2}, {3}]


def test_images_are_read_when_their_windows_are_due(samples, monkeypatch):
    read = []
    monkeypatch.setattr(dataset, "read_image", lambda image: read.append(0) or image)
    batches = iter(WindowLoader(samples, TILES, None, batch_size=2))
    next(batches)
    next(batches)
    assert len(read) == 1
    assert len(TILES.geometry.windows(SIZES[0])) > 3


@pytest.fixture
def reads(monkeypatch):
    """Return the list of the images that are read from now on."""
    read = []
    monkeypatch.setattr(dataset, "read_image", lambda image: read.append(0) or image.copy())
    return read


@pytest.mark.parametrize("augmentations", [("hflip", "rot90", "colour"), ("crop", "rotate")])
def test_training_images_are_read_once_and_stay_as_they_are(samples, reads, augmentations):
    kept = training_set(samples, augmentations, preprocess=TILES, keep=2**20)
    seen = [[kept[epoch, position] for position in range(len(SIZES))] for epoch in range(3)]
    assert len(reads) == len(SIZES)
    for epoch in range(3):
        for position, (image, target) in enumerate(seen[epoch]):
            fresh = training_set(samples, augmentations, preprocess=TILES)
            assert torch.equal(image, fresh[epoch, position][0])
            assert torch.equal(target, fresh[epoch, position][1])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than there are cores
def test_no_more_processes_read_ahead_than_shared_memory_takes(samples, monkeypatch, caplog):
    """A batch of two images of 64x64 has 106,496 bytes, and a process two of them."""
    data = training_set(samples)

    def workers(free, world=1):
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr(loaders.shutil, "disk_usage", lambda folder: usage)
        loader = EpochLoader(data, batch_size=2, epochs=1, seed=0, world=world, num_workers=3)
        return loader._loader.num_workers

    assert workers(10**9) == 3
    assert not caplog.records
    assert workers(2 * 106_496 * 2 / 0.79) == 2
    assert workers(2 * 106_496 * 2 / 0.81) == 1
    assert workers(2 * 106_496 * 2 / 0.79, world=2) == 1
    assert workers(1000) == 0
    assert "0 rather than 3" in caplog.text

    def none(folder):
        raise FileNotFoundError(folder)

    monkeypatch.setattr(loaders.shutil, "disk_usage", none)
    loader = EpochLoader(data, batch_size=2, epochs=1, seed=0, num_workers=3)
    assert loader._loader.num_workers == 3


@pytest.mark.parametrize(("keep", "again"), [(0, 6), (20_000, 4), (2**20, 0)])
@pytest.mark.parametrize("threads", [0, 2])
def test_images_that_are_scored_again_are_read_once(samples, reads, keep, again, threads):
    """As far as there is room for them, whoever reads them."""
    alone = list(WindowLoader(samples, TILES, LABELS, batch_size=4))
    reads.clear()
    loader = WindowLoader(samples, TILES, LABELS, batch_size=4, threads=threads, keep=keep)
    for expected in (len(SIZES), again, again):
        for one, other in zip(list(loader), alone, strict=True):
            assert torch.equal(one.images, other.images)
            for a, b in zip(one.windows, other.windows, strict=True):
                assert (a.position, a.own, a.window) == (b.position, b.own, b.window)
                assert np.array_equal(a.target, b.target)
        assert len(reads) == expected
        reads.clear()


def test_an_unknown_mask_value_names_its_sample(samples):
    labels = (np.full(SIZES[0], 9, np.uint8), *samples.labels[1:])
    broken = Samples(samples.index, samples.images, labels, samples.names)
    where = re.escape(f"{broken.row(0)}: array uint8 {list(SIZES[0])}: the mask holds the value 9")
    with pytest.raises(DataError, match=where):
        training_set(broken)[0, 0]
