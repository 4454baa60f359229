"""A few images with their predictions: which ones, what is wrong with them, how good they are."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from tiny_sets import make_table

from easyseg.data.label_map import IGNORE, LabelMap
from easyseg.errors import DataError, NotFittedError, OptionError
from easyseg.segmentor import SemanticSegmentor
from easyseg.views.colours import background_of, class_colours
from easyseg.views.examples import ERRORS, error_map, find_examples

LETTERS = list("abcdef")


@given(
    st.data(),
    array_shapes(min_dims=2, max_dims=2, max_side=4),
    st.sampled_from([None, 0, 1]),
)
def test_errors_are_what_they_are_called_pixel_by_pixel(data, shape, background):
    prediction = data.draw(arrays(np.uint8, shape, elements=st.integers(0, 2)))
    truth = data.draw(arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, IGNORE])))
    found = error_map(prediction, truth, background)
    for p, t, code in zip(prediction.flat, truth.flat, found.flat, strict=True):
        if t in (IGNORE, p):
            assert code == 0
        elif t == background:
            assert ERRORS[code - 1] == "false positive"
        elif p == background:
            assert ERRORS[code - 1] == "false negative"
        else:
            assert ERRORS[code - 1] == "wrong class"


def test_predictions_and_scores_are_those_of_the_segmentor(binary, binary_table):
    found = find_examples(binary, binary_table, 10, seed=0)
    masks = binary.predict(binary_table)
    rows = binary.evaluate(binary_table, found.metric, per_image=True)
    assert found.metric == "iou@image"
    assert found.background == 0
    assert found.names == ("background", "foreground")
    for item, letter in zip(found.items, LETTERS, strict=True):
        assert item.name == binary_table.loc[letter, "image"]
        assert item.prediction.dtype == np.uint8
        assert np.array_equal(item.prediction, masks[letter] // 255)
        with Image.open(binary_table.loc[letter, "label"]) as mask:
            assert np.array_equal(item.truth, np.asarray(mask) // 255)
        with Image.open(item.name) as image:
            assert np.array_equal(item.image, np.asarray(image))
        expected = rows.loc[letter, found.metric]
        assert item.score == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_the_seed_says_which_images(binary, binary_table):
    def names(num_images, seed):
        return [item.name for item in find_examples(binary, binary_table, num_images, seed).items]

    every = list(binary_table["image"])
    assert names(2, 0) == names(2, 0)
    chosen = {tuple(names(2, seed)) for seed in range(8)}
    assert len(chosen) > 2
    for two in chosen:  # each once, in the order of the table
        assert [every.index(name) for name in two] == sorted({every.index(name) for name in two})


@pytest.mark.parametrize("kind", ["no column", "list", "folder", "csv"])
def test_images_without_labels_have_no_truth(binary, binary_table, tmp_path, kind):
    images = binary_table[["image"]]
    data = {"no column": images, "list": list(images["image"])[:2], "csv": tmp_path / "a.csv"}
    images.to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "images").mkdir()
    with Image.open(images.loc["a", "image"]) as image:
        image.save(tmp_path / "images" / "one.png")
    found = find_examples(binary, data.get(kind, tmp_path / "images"), 2, seed=0)
    assert len(found.items) == (1 if kind == "folder" else 2)
    assert all(item.truth is None and math.isnan(item.score) for item in found.items)


def test_a_csv_with_labels_is_scored(binary, binary_table, tmp_path):
    binary_table.to_csv(tmp_path / "a.csv", index=False)
    assert all(i.truth is not None for i in find_examples(binary, tmp_path / "a.csv", 1, 0).items)


def test_smeared_labels_are_read_as_they_are_scored(binary, binary_table, tmp_path):
    table = binary_table.copy()
    for letter, name in binary_table["label"].items():
        with Image.open(name) as mask:
            mask.save(tmp_path / f"{letter}.jpg", quality=90)
        table.loc[letter, "label"] = str(tmp_path / f"{letter}.jpg")
    clean, found = (find_examples(binary, each, 10, 0) for each in (binary_table, table))
    for item, other in zip(clean.items, found.items, strict=True):
        assert (item.truth != other.truth).mean() < 0.01


def test_large_images_are_shown_smaller_and_scored_as_they_are(untrained, tmp_path):
    rng = np.random.default_rng(0)
    ids = np.zeros((600, 1100), np.uint8)
    ids[100:300, 200:900] = 1
    image = rng.integers(0, 255, (600, 1100, 3), dtype=np.uint8)
    segmentor = untrained(LabelMap((0, 1), ("background", "road"), None, "uint8"))
    table = pd.DataFrame({"image": [image], "label": [ids]})
    (item,) = find_examples(segmentor, table, 1, 0).items
    assert item.image.shape == (279, 512, 3)
    assert item.truth.shape == item.prediction.shape == (279, 512)
    whole = segmentor.predict(table).iloc[0]
    rows = ((np.arange(279) + 0.5) * 1100 / 512).astype(int)
    columns = ((np.arange(512) + 0.5) * 1100 / 512).astype(int)
    assert np.array_equal(item.prediction, whole[rows[:, None], columns])
    assert np.array_equal(item.truth, ids[rows[:, None], columns])
    both = ((whole == 1) & (ids == 1)).sum() / ((whole == 1) | (ids == 1)).sum()
    assert item.score == pytest.approx(both)
    assert abs(item.image.mean() - image.mean()) < 1


@pytest.mark.parametrize("kind", ["ids", "colours", "palette"])
def test_masks_of_each_encoding_with_ignored_pixels(untrained, tmp_path, kind):
    values, names = (0, 2, 7), ("background", "crop", "weed")
    shades = {"ids": None, "colours": None, "palette": [i for v in range(8) for i in (v, 9, 200)]}
    ids = np.random.default_rng(1).choice([0, 1, 2, IGNORE], size=(50, 70)).astype(np.uint8)
    raw = np.array([*values, 9])[np.where(ids == IGNORE, 3, ids)]
    if kind == "colours":
        codes = (0, 0x804080, 0x0000FF)
        label_map = LabelMap(codes, names, 0xFFFFFF, "rgb")
        packed = np.array([*codes, 0xFFFFFF])[np.where(ids == IGNORE, 3, ids)]
        raw = np.dstack([packed >> 16, packed >> 8 & 255, packed & 255])
        colours = ("#000000", "#804080", "#0000FF")
    else:
        palette = None if shades[kind] is None else tuple(shades[kind])
        label_map = LabelMap(values, names, 9, "uint8", palette)
        colours = ("#0009C8", "#0209C8", "#0709C8")
    image = np.zeros((50, 70, 3), np.uint8)
    table = pd.DataFrame({"image": [image], "label": [raw.astype(np.uint8)]})
    segmentor = untrained(label_map)
    found = find_examples(segmentor, table, 1, 0)
    (item,) = found.items
    assert np.array_equal(item.truth, ids)
    assert found.metric == "iou@image"  # miou@dataset is of no single image
    score = segmentor.evaluate(table, "iou@image", per_image=True)["iou@image"].iloc[0]
    assert item.score == pytest.approx(score)
    if kind != "ids":
        assert found.colours == colours
    assert found.background == 0


def test_colours_are_those_of_overlay_and_differ():
    from easyseg import overlay

    label_map = LabelMap((0, 3, 12, 15, 27), tuple("abcde"), None, "uint8")
    found = class_colours(label_map)
    assert len(set(found)) == 5
    for value, colour in zip(label_map.values[1:3], found[1:3], strict=True):
        picture = overlay(np.zeros((3, 3)), np.full((3, 3), value), alpha=1.0)
        assert "#{:02X}{:02X}{:02X}".format(*picture.getpixel((1, 1))) == colour
    # 15 and 27 have the colour of 3 in `overlay`: here they have others.
    many = LabelMap(tuple(range(36)), tuple(map(str, range(36))), None, "uint8")
    assert len(set(class_colours(many))) == 36


@pytest.mark.parametrize(
    ("values", "names", "problem", "background"),
    [
        ((0, 255), ("background", "lesion"), "binary", 0),
        ((7, 3), ("skin", "lesion"), "binary", 0),
        ((1, 0, 2), ("road", "Background", "car"), "multiclass", 1),
        ((0, 1, 2), ("class_0", "class_1", "class_2"), "multiclass", 0),
        ((0, 1, 2), ("sky", "road", "car"), "multiclass", None),
        ((1, 2, 3), ("background", "road", "car"), "multiclass", None),
    ],
)
def test_which_class_is_the_background(values, names, problem, background):
    assert background_of(LabelMap(values, names, None, "uint8"), problem) == background


def test_what_cannot_be_shown_is_refused(binary, binary_table, tmp_path):
    for wrong in (0, -1, 2.0, "4"):
        with pytest.raises(OptionError, match=r"num_images is .*, expected a whole number"):
            find_examples(binary, binary_table, wrong, 0)
    with pytest.raises(NotFittedError):
        find_examples(SemanticSegmentor(), binary_table, 1, 0)
    gone = binary_table.assign(image=str(tmp_path / "gone.png"))
    with pytest.raises(DataError, match="there is no such file"):
        find_examples(binary, gone, 1, 0)
    other = make_table(tmp_path / "other", 1, (0, 7))
    with pytest.raises(DataError, match="the mask holds the value 7"):
        find_examples(binary, other, 1, 0)
