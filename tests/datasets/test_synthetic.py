from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, sobel
from sklearn.tree import DecisionTreeClassifier

from easyseg.datasets.folder import read_folder
from easyseg.datasets.synthetic import make_synthetic, synthetic_scene
from easyseg.errors import DataError, OptionError
from easyseg.metrics.streaming import SegmentationScores

SIZE = (96, 128)


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    return make_synthetic(tmp_path_factory.mktemp("synthetic"), num_train=16, num_val=1)


@pytest.fixture(scope="module")
def multiclass(tmp_path_factory):
    return make_synthetic(
        tmp_path_factory.mktemp("synthetic"), num_train=3, num_val=1, num_test=1, multiclass=True
    )


def read(table):
    return [
        (np.asarray(Image.open(row.image)), np.asarray(Image.open(row.label)))
        for row in table.itertuples()
    ]


def iou(prediction, truth):
    return (prediction & truth).sum() / (prediction | truth).sum()


def otsu(channel):
    """Otsu's threshold of an 8-bit channel: the largest variance between the two sides."""
    counts = np.bincount(channel.ravel(), minlength=256) / channel.size
    weight = np.cumsum(counts)
    mean = np.cumsum(counts * np.arange(256))
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (mean[-1] * weight - mean) ** 2 / (weight * (1 - weight))
    return int(np.nanargmax(np.where(np.isfinite(between), between, -1)))


def channels(image):
    hsv = np.asarray(Image.fromarray(image).convert("HSV"))
    return {
        "grey": np.asarray(Image.fromarray(image).convert("L")),
        **{name: image[..., i] for i, name in enumerate(("red", "green", "blue"))},
        **{name: hsv[..., i] for i, name in enumerate(("hue", "saturation"))},
    }


def texture_statistics(image):
    """Energy in bands of detail, and how much it runs in one direction, around every pixel."""
    grey = np.asarray(Image.fromarray(image).convert("L"), np.float32) / 255
    smooth = [gaussian_filter(grey, sigma) for sigma in (0, 0.7, 1.4, 2.8, 5.6)]
    bands = [gaussian_filter((a - b) ** 2, 5) for a, b in pairwise(smooth)]
    dx, dy = sobel(smooth[1], 1), sobel(smooth[1], 0)
    xx, yy, xy = (gaussian_filter(product, 5) for product in (dx * dx, dy * dy, dx * dy))
    direction = np.hypot(xx - yy, 2 * xy) / (xx + yy + 1e-6)
    return np.stack([*np.log(np.stack(bands) + 1e-6), direction], axis=-1)


def test_otsu_stays_under_half_in_every_channel_and_polarity(binary):
    pairs = read(binary.train) + read(binary.test)
    for name in channels(pairs[0][0]):
        scores = []
        for image, mask in pairs:
            channel = channels(image)[name]
            above = channel > otsu(channel)
            # Kinder than any rule could be: the better polarity is picked by looking at the truth.
            scores.append(max(iou(above, mask > 0), iou(~above, mask > 0)))
        assert 0.05 < np.mean(scores) < 0.5, name


def test_the_otsu_of_this_test_finds_bright_objects():
    image = np.full((40, 40), 60, np.uint8)
    image[10:20, 10:20] = 200
    image = image + np.random.default_rng(0).integers(0, 20, image.shape, dtype=np.uint8)
    assert iou(image > otsu(image), image >= 200) == 1


def test_a_small_model_learns_the_texture(binary):
    rng = np.random.default_rng(0)
    features, labels = [], []
    for image, mask in read(binary.train):
        picked = rng.choice(mask.size, 300, replace=False)
        features.append(texture_statistics(image).reshape(-1, 5)[picked])
        labels.append(mask.ravel()[picked] > 0)
    model = DecisionTreeClassifier(max_depth=6, random_state=0)
    model.fit(np.concatenate(features), np.concatenate(labels))
    scores = SegmentationScores(("background", "labyrinth"), binary=True)
    for image, mask in read(binary.test):
        prediction = model.predict(texture_statistics(image).reshape(-1, 5)).reshape(mask.shape)
        scores.update(prediction, mask > 0)
    assert scores.compute()["iou@dataset"] > 0.75


def test_layout_counts_and_sizes(binary):
    assert [len(table) for table in (binary.train, binary.val, binary.test)] == [16, 1, 12]
    assert pd.read_csv(binary.root / "train.csv")["image"][0] == "images/train_0000.jpg"
    assert (binary.classes, binary.ignore) == ({0: "background", 255: "labyrinth"}, None)
    assert "synthetic" in (binary.root / "SOURCE.md").read_text().lower()
    for image, mask in read(binary.train):
        assert image.shape == (192, 256, 3)
        assert mask.shape == (192, 256)
        assert set(np.unique(mask)) == {0, 255}
        assert 0.1 <= (mask > 0).mean() <= 0.45


def test_multiclass_masks_hold_ids(multiclass):
    assert multiclass.classes == {0: "background", 1: "labyrinth", 2: "dots"}
    for _, mask in read(multiclass.train):
        assert set(np.unique(mask)) == {0, 1, 2}


def test_brightness_and_contrast_of_objects_are_those_of_the_clutter(binary):
    inside, outside = [], []
    for image, mask in read(binary.train):
        grey = np.asarray(Image.fromarray(image).convert("L"), float)
        inside.append((grey[mask > 0].mean(), grey[mask > 0].std()))
        outside.append((grey[mask == 0].mean(), grey[mask == 0].std()))
    difference = np.abs(np.mean(inside, axis=0) - np.mean(outside, axis=0))
    assert difference.max() < 12, difference  # grey levels, of 255


def digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return [(path.relative_to(root), hashlib.sha256(path.read_bytes()).digest()) for path in files]


def test_the_seed_decides(tmp_path):
    sizes = {"num_train": 2, "num_val": 1, "num_test": 1, "size": SIZE}
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        make_synthetic(tmp_path / name, seed=seed, **sizes)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    images = [dict(digest(tmp_path / name / "images")) for name in "ac"]
    assert all(images[0][name] != images[1][name] for name in images[0])


def test_a_larger_set_begins_with_the_smaller_one(tmp_path):
    small = make_synthetic(tmp_path / "s", num_train=1, num_val=0, num_test=1, size=SIZE)
    large = make_synthetic(tmp_path / "l", num_train=2, num_val=1, num_test=1, size=SIZE)
    assert small.val is None
    for table in ("train", "test"):
        (first, _), (second, _) = (read(getattr(data, table))[0] for data in (small, large))
        np.testing.assert_array_equal(first, second)


def test_splits_and_images_differ(tmp_path):
    data = make_synthetic(tmp_path / "s", num_train=2, num_val=2, num_test=2, size=SIZE)
    pictures = {image.tobytes() for image, _ in read(pd.concat([data.train, data.val, data.test]))}
    assert len(pictures) == 6


def test_written_again_over_its_own_set_but_over_nothing_else(tmp_path):
    make_synthetic(tmp_path / "set", num_train=1, num_val=1, num_test=0, size=SIZE)
    again = make_synthetic(tmp_path / "set", num_train=1, num_val=0, num_test=0, size=SIZE)
    assert (again.val, again.test) == (None, None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.csv").write_text("image,label\n")
    with pytest.raises(DataError, match="nothing was written"):
        make_synthetic(tmp_path / "mine", num_train=1, size=SIZE)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["train.csv"]
    with pytest.raises(DataError, match="found a file"):
        make_synthetic(tmp_path / "mine" / "train.csv")


@pytest.mark.parametrize(
    "options", [{"num_train": 0}, {"num_val": -1}, {"size": (32, 256)}, {"seed": -1}]
)
def test_wrong_options(tmp_path, options):
    with pytest.raises(OptionError, match=next(iter(options))):
        make_synthetic(tmp_path / "set", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [(64, 64), (97, 131)])
@pytest.mark.parametrize("multi", [False, True])
def test_small_and_odd_sizes(size, multi):
    image, ids = synthetic_scene(np.random.default_rng(0), size, multiclass=multi)
    assert image.shape == (*size, 3)
    assert ids.shape == size
    assert image.dtype == ids.dtype == np.uint8


def test_reading_the_folder_again_gives_the_same(binary):
    pd.testing.assert_frame_equal(read_folder(binary.root).train, binary.train)
