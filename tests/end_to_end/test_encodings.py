"""The same masks in every encoding: the same weights, and predictions in that encoding."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_sets import TINY, make_table

from easyseg import SemanticSegmentor
from easyseg.cli.inference import _draw
from easyseg.data.io import load_mask, read_mask
from easyseg.errors import DataError

pytestmark = pytest.mark.usefixtures("tiny_backbones")

SMALL = TINY | {"data.size": 112, "train.epochs": 1, "train.batch_size": 2}
PALETTE = [9, 9, 9, 128, 64, 128, 0, 200, 30, 255, 255, 255]
ROAD, TREE, SKY = (128, 64, 128), (10, 200, 30), (90, 20, 10)
THREE, TWO = ("sky", "road", "tree"), ("background", "thing")

# Raw values by class id; colours are triples.
CODES = {
    "ids": (0, 1, 2),
    "palette": (0, 1, 2),
    "gaps": (3, 40, 200),
    "16 bit": (0, 1000, 60000),
    "colours": (SKY, ROAD, TREE),
    "0/1": (0, 1),
    "0/255": (0, 255),
    "1 bit": (False, True),
    "palette of two": (0, 1),
    "white": ((0, 0, 0), (255, 255, 255)),  # grey in disguise: predicted as 0 and 255
    "two colours": ((200, 0, 0), (0, 0, 255)),
}


def encoded(ids: np.ndarray, code: str) -> Image.Image:
    table = np.array(CODES[code])
    if code == "1 bit":
        return Image.fromarray(ids.astype(bool))
    if "palette" in code:
        image = Image.fromarray(ids)
        image.putpalette(PALETTE)
        return image
    return Image.fromarray(table.astype(np.uint16 if code == "16 bit" else np.uint8)[ids])


def predicted(ids: np.ndarray, code: str) -> np.ndarray:
    """Return what a prediction of these ids has to be."""
    return np.asarray(encoded(ids, "0/255" if code == "white" else code))


def recode(table: pd.DataFrame, code: str, folder: Path) -> pd.DataFrame:
    folder.mkdir()
    masks = []
    for number, mask in enumerate(table["label"]):
        masks.append(str(folder / f"{number}.png"))
        encoded(np.asarray(Image.open(mask)), code).save(masks[-1])
    return table.assign(label=masks)


def fit(table, path, **options):
    segmentor = SemanticSegmentor(path=path, verbosity=0, **options)
    return segmentor.fit(table, hyperparameters=SMALL, holdout_frac=0.4, num_workers=0, seed=1)


def weights(segmentor):
    return (segmentor.path_ / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return {n: make_table(folder / f"{n}", 5, tuple(range(n))) for n in (2, 3)}


@pytest.fixture(scope="module")
def fitted(tables, tmp_path_factory):
    """The fits of plain ids, by number of classes."""
    folder = tmp_path_factory.mktemp("runs")
    named = {n: dict(enumerate(names)) for n, names in ((2, TWO), (3, THREE))}
    return {n: fit(tables[n], folder / f"{n}", classes=named[n]) for n in (2, 3)}


@pytest.mark.parametrize("code", CODES)
def test_weights_are_the_same_and_predictions_come_back(code, tables, fitted, tmp_path):
    codes = CODES[code]
    count, names = len(codes), THREE if len(codes) == 3 else TWO
    table, plain = recode(tables[count], code, tmp_path / "masks"), fitted[count]
    given = dict(zip(codes, names, strict=True))
    segmentor = fit(table, tmp_path / "run", classes=given)
    assert segmentor.classes_ == names
    assert segmentor.plan_.to_dict() == plain.plan_.to_dict()
    assert weights(segmentor) == weights(plain)

    image = table["image"][:2]
    expected = [predicted(mask, code) for mask in plain.predict(list(image))]
    again = SemanticSegmentor.load(tmp_path / "run", "cpu", verbosity=0)
    assert again.label_map_ == segmentor.label_map_
    for found, mask in zip(again.predict(list(image)), expected, strict=True):
        assert (found.dtype, found.shape) == (mask.dtype, mask.shape)
        np.testing.assert_array_equal(found, mask)
    written = segmentor.predict(list(image), output_dir=tmp_path / "out")
    for file, mask in zip(written, expected, strict=True):
        with Image.open(file) as picture, Image.open(table["label"][0]) as own:
            assert picture.mode == ("L" if code == "white" else own.mode)
            np.testing.assert_array_equal(np.asarray(picture), mask)
            if "palette" in code:
                assert picture.getpalette()[:9] == PALETTE[:9]
    ids = [read_mask(Path(f), colour=segmentor.label_map_.coloured) for f in written]
    for raw, mask in zip(ids, plain.predict(list(image)), strict=True):
        np.testing.assert_array_equal(segmentor.label_map_.encode(raw), mask)

    card = (tmp_path / "run" / "model" / "README.md").read_text()
    shown = segmentor.label_map_.shown(segmentor.label_map_.values[1])
    assert f"| {shown} | {names[1]} |" in card

    assert segmentor.evaluate(table) == plain.evaluate(tables[count])
    _draw(segmentor, tables[count]["image"][:2].tolist(), list(written), tmp_path / "out", tmp_path)
    assert len(list(tmp_path.glob("*.jpg"))) == 2


@pytest.mark.parametrize("code", ["gaps", "16 bit", "palette", "0/255", "white"])
def test_without_classes_the_ascending_order_gives_the_same_weights(code, tables, fitted, tmp_path):
    count = len(CODES[code])
    segmentor = fit(recode(tables[count], code, tmp_path / "masks"), tmp_path / "run")
    assert weights(segmentor) == weights(fitted[count])


def test_evaluate_wants_the_encoding_of_the_model(tables, fitted, tmp_path):
    colours = recode(tables[3], "colours", tmp_path / "masks")
    with pytest.raises(DataError, match="is coded in colours"):
        fitted[3].evaluate(colours)


def test_a_model_of_clean_masks_is_scored_on_jpegs(tmp_path, caplog):
    table = make_table(tmp_path / "set", 5)
    segmentor = fit(table, tmp_path / "run")
    assert not segmentor.label_map_.smeared
    clean = segmentor.evaluate(table)
    for name in table["label"]:
        Image.open(name).save(name.replace(".png", ".jpg"), quality=90)
    smeared = table.assign(label=table["label"].str.replace(".png", ".jpg"))
    with caplog.at_level(logging.WARNING, logger="easyseg"):
        scores = segmentor.evaluate(smeared)
    assert scores == pytest.approx(clean, abs=0.02)
    assert "5 of 5 masks hold shades between 0 and 255" in caplog.text
    assert not segmentor.label_map_.smeared


@pytest.mark.parametrize("quality", [75, 85, 95])
def test_binary_masks_saved_as_jpeg_train_with_a_warning(quality, tmp_path, caplog):
    table = make_table(tmp_path / "set", 5)
    clean = [np.asarray(Image.open(mask)) for mask in table["label"]]
    for name, mask in zip(table["label"], clean, strict=True):
        Image.fromarray(mask).save(name.replace(".png", ".jpg"), quality=quality)
    table["label"] = table["label"].str.replace(".png", ".jpg")
    with caplog.at_level(logging.WARNING, logger="easyseg"):
        segmentor = fit(table, tmp_path / "run")
    assert "smeared by a JPEG" in caplog.text
    label_map = segmentor.label_map_
    assert (label_map.values, label_map.smeared) == ((0, 255), True)
    for name, mask in zip(table["label"], clean, strict=True):
        ids = label_map.encode(load_mask(Path(name)).values)
        assert (ids != mask // 255).mean() < 0.01
    for mask in segmentor.predict(table["image"].tolist()):
        assert mask.dtype == np.uint8
        assert set(np.unique(mask).tolist()) <= {0, 255}
    assert "iou@image" in segmentor.evaluate(table)
    named = fit(table, tmp_path / "named", classes={0: "skin", 255: "lesion"})
    assert weights(named) == weights(segmentor)
    assert named.classes_ == ("skin", "lesion")
