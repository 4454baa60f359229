from __future__ import annotations

import os
import string
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from easyseg.data.infer_labels import infer_label_map
from easyseg.data.io import read_mask
from easyseg.data.table import read_samples
from easyseg.errors import DataError, OptionError
from easyseg.inference.collect import output_paths
from easyseg.inference.writers import output_names, write_mask
from easyseg.ranks import Ranks

PARTS = st.sampled_from(
    ["a", "A", "b.jpg", "B.JPG", "b.png", "b.jpg.png", "..", ".", "", "a.png", "ä", "a\u0308", ".x"]
)
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
ODD = st.text(string.printable, max_size=12)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jpg", "b.jpg"], ["a.png", "b.png"]),
        (["x/a.jpg", "y/a.jpg"], ["x/a.png", "y/a.png"]),
        (["a.jpg", "a.png"], ["a.jpg.png", "a.png.png"]),
        (["a.jpg", "A.jpg"], ["a.jpg.png", "A.jpg_2.png"]),
        (["a.jpg", "a.jpg", "b.jpg"], ["a.jpg.png", "a.jpg_2.png", "b.png"]),
        (["a.jpg", "a.tif", "a.jpg.bmp"], ["a.jpg_2.png", "a.tif.png", "a.jpg.png"]),
        (["image_00003", "image_00004"], ["image_00003.png", "image_00004.png"]),
        (["/data/x/a.jpg", "/data/y/b.jpg"], ["x/a.png", "y/b.png"]),
        (["/data/x/a.jpg"], ["a.png"]),
        (["/data/a.jpg", "b.jpg"], ["a.png", "b.png"]),
        (["C:\\in\\x\\a.jpg", "C:/in/b.jpg"], ["x/a.png", "b.png"]),
        (["C:/a.jpg", "D:/a.jpg"], ["C_/a.png", "D_/a.png"]),
        (["../../etc/a.jpg", "x/../a.tif"], ["etc/a.png", "a.png"]),
        (["./x//a.jpg"], ["x/a.png"]),
        (["12:30.jpg", "12_30.jpg"], ["12_30.jpg.png", "12_30.jpg_2.png"]),
        (["a.png/b.jpg", "a.jpg"], ["a.png/b.png", "a.jpg.png"]),
        (["..", ""], ["image.png", "image_2.png"]),
        (["scan.v1", "scan.v2"], ["scan.v1.png", "scan.v2.png"]),
        ([], []),
    ],
)
def test_names_mirror_the_input(names, expected):
    assert output_names(names) == expected


@settings(max_examples=300, deadline=None)
@given(st.lists(PATHS | PATHS.map("/".__add__) | ODD, max_size=12))
@example(["a.jpg", "a.jpg.png", "a.jpg.png.png", "a.jpg"])
def test_names_never_collide_and_never_leave_the_folder(names):
    outputs = output_names(names)
    assert len(outputs) == len(names)
    folded = [output.casefold() for output in outputs]
    assert len(set(folded)) == len(folded)
    folders = {
        str(folder).casefold() for output in outputs for folder in PurePosixPath(output).parents
    }
    assert not folders & set(folded)
    for output in outputs:
        path = PurePosixPath(output)
        assert path.suffix == ".png"
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert not set(output) & set('<>:"|?*\\')


def test_names_are_written_to_different_files(tmp_path):
    names = ["a.jpg", "A.jpg", "a.jpg", "x/a.jpg", "a.png", "x.jpg", "x.png/b.tif"]
    for value, name in enumerate(output_names(names)):
        write_mask(tmp_path / name, np.full((2, 2), value, np.uint8))
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == len(names)
    values = {int(np.asarray(Image.open(path))[0, 0]) for path in written}
    assert values == set(range(len(names)))


@pytest.mark.parametrize(
    ("dtype", "high", "mode"),
    [(bool, 1, "1"), (np.uint8, 255, "L"), (np.uint16, 65535, "I;16"), (np.int32, 65535, "I;16")],
)
def test_round_trip_is_lossless(tmp_path, dtype, high, mode):
    mask = np.random.default_rng(0).integers(0, high, (13, 17), endpoint=True).astype(dtype)
    mask[0, :2] = 0, high
    write_mask(tmp_path / "deep" / "er" / "m.png", mask)
    with Image.open(tmp_path / "deep" / "er" / "m.png") as picture:
        assert picture.format == "PNG"
        assert picture.mode in (mode, "I")  # Pillow below 11 opens 16-bit PNGs as "I"
        np.testing.assert_array_equal(np.asarray(picture).astype(np.int64), mask.astype(np.int64))


@pytest.mark.parametrize("colours", [2, 3, 16, 17, 200, 256])
def test_palette_pngs_keep_indices_and_colours(tmp_path, colours):
    rng = np.random.default_rng(colours)
    mask = rng.integers(0, colours, (13, 17)).astype(np.uint8)
    mask[0, 0] = colours - 1
    palette = rng.integers(0, 256, 3 * colours).tolist()
    write_mask(tmp_path / "m.png", mask, palette)
    with Image.open(tmp_path / "m.png") as picture:
        assert picture.mode == "P"
        assert picture.getpalette()[: 3 * colours] == palette
        np.testing.assert_array_equal(np.asarray(picture), mask)
        shown = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(shown, np.reshape(palette, (-1, 3))[mask])
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), mask)


def test_colours_become_an_rgb_png(tmp_path):
    mask = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)
    write_mask(tmp_path / "m.png", mask)
    with Image.open(tmp_path / "m.png") as picture:
        assert picture.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(picture), mask)


@pytest.mark.parametrize(
    "mask",
    [
        np.full((2, 2), 2, np.uint8),
        np.zeros((2, 2), np.uint16),
        np.zeros((2, 2), bool),
        np.zeros((2, 2, 3), np.uint8),
    ],
)
def test_a_palette_that_does_not_fit_is_refused_before_writing(tmp_path, mask):
    with pytest.raises(DataError, match=r"m\.png: a palette of 2 colours"):
        write_mask(tmp_path / "m.png", mask, [0, 0, 0, 9, 9, 9])
    assert not list(tmp_path.iterdir())


def test_views_are_written_as_they_look(tmp_path):
    mask = np.arange(24, dtype=np.uint8).reshape(4, 6)
    write_mask(tmp_path / "m.png", mask[::2, ::-1].T)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "m.png")), mask[::2, ::-1].T)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.full((2, 2), 65536, np.int32), ["0..65535", "65536"]),
        (np.full((2, 2), -1, np.int32), ["-1"]),
        (np.zeros((2, 2)), ["float64"]),
        (np.zeros((2, 2), np.int64), ["int64"]),
        (np.zeros((2, 2, 3), np.uint16), ["(2, 2, 3)", "uint16"]),
        (np.zeros((2, 2, 4), np.uint8), ["(2, 2, 4)"]),
        (np.zeros((0, 2), np.uint8), ["(0, 2)"]),
    ],
)
def test_what_a_png_cannot_hold_is_refused_before_writing(tmp_path, mask, words):
    with pytest.raises(DataError) as error:
        write_mask(tmp_path / "new" / "m.png", mask)
    assert all(word in str(error.value) for word in ["m.png", *words])
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "m.png"
    write_mask(path, np.zeros((2, 2), np.uint8))
    before = path.read_bytes()

    def half_a_file(self, target, **kwargs):
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", half_a_file)
    with pytest.raises(OSError, match="disk full"):
        write_mask(path, np.ones((2, 2), np.uint8))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_appears_whole(tmp_path, monkeypatch):
    path = tmp_path / "m.png"
    seen = []
    real = os.replace

    def watched(source, target):
        seen.append((path.exists(), Image.open(source).size))
        real(source, target)

    monkeypatch.setattr(os, "replace", watched)
    write_mask(path, np.zeros((2, 3), np.uint8))
    assert seen == [(False, (3, 2))]
    assert path.exists()


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_others_may_read_the_file_as_any_other(tmp_path):
    write_mask(tmp_path / "m.png", np.zeros((2, 2), np.uint8))
    (tmp_path / "plain").touch()
    assert (tmp_path / "m.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_ids_that_no_png_holds_are_refused_before_the_first_prediction(tmp_path):
    samples = read_samples(pd.DataFrame({"image": [np.zeros((4, 4), np.uint8)]}), label=None)
    label_map = infer_label_map([0, 70_000], "int32")
    with pytest.raises(OptionError, match="values up to 70000, a PNG holds 0 to 65535"):
        output_paths(tmp_path, samples, Ranks(), label_map, overwrite=False)
    small = infer_label_map([0, 7], "int32")
    assert len(output_paths(tmp_path, samples, Ranks(), small, overwrite=False)) == 1
