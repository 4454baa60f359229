from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageColor

from easyseg.errors import DataError, OptionError
from easyseg.visualize import PALETTE, overlay

GREY = np.full((20, 30, 3), 100, np.uint8)


def disc(value=255, dtype=np.uint8):
    mask = np.zeros((20, 30), dtype)
    mask[5:15, 8:22] = value
    return mask


def test_tint_inside_line_on_the_border_background_untouched():
    picture = overlay(GREY, disc(1), alpha=0.5)
    assert isinstance(picture, Image.Image)
    assert (picture.mode, picture.size) == ("RGB", (30, 20))
    pixels = np.asarray(picture)
    color = np.array(ImageColor.getrgb(PALETTE[0]))
    inner = np.zeros((20, 30), bool)
    inner[6:14, 9:21] = True
    line = (disc(1) > 0) & ~inner
    assert (pixels[disc(1) == 0] == 100).all()
    assert (pixels[line] == color).all()
    assert np.abs(pixels[inner] - (100 + color) / 2).max() <= 0.5


def test_large_pictures_have_thicker_lines():
    mask = np.zeros((600, 600), np.uint8)
    mask[100:200, 100:200] = 1
    pixels = np.asarray(overlay(np.zeros((600, 600, 3), np.uint8), mask, alpha=0))
    assert [bool(pixels[150, column].any()) for column in (99, 100, 101, 102)] == [0, 1, 1, 0]


def test_paths_arrays_and_pictures_give_the_same(tmp_path):
    image, mask = tmp_path / "i.png", tmp_path / "m.png"
    Image.fromarray(GREY).save(image)
    Image.fromarray(disc()).save(mask)
    expected = overlay(GREY, disc()).tobytes()
    assert overlay(image, mask).tobytes() == expected
    assert overlay(str(image), str(mask)).tobytes() == expected
    assert overlay(Image.fromarray(GREY), Image.fromarray(disc())).tobytes() == expected


def test_a_value_has_one_colour_whatever_else_is_in_the_picture():
    alone, both = disc(2), disc(2)
    both[0, 0] = 1
    first, second = (np.asarray(overlay(GREY, mask, alpha=1)) for mask in (alone, both))
    np.testing.assert_array_equal(first[5:15, 8:22], second[5:15, 8:22])
    assert (first[10, 10] != second[0, 0]).any()


def test_a_picture_full_of_foreground_is_tinted():
    pixels = np.asarray(overlay(GREY, np.full((20, 30), 255, np.uint8)))
    assert (pixels != 100).any(axis=-1).all()
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) == 1  # no line along the picture's edge


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int32, np.int64])
def test_every_label_dtype(dtype):
    assert np.asarray(overlay(GREY, disc(1, dtype)))[10, 10].tolist() != [100, 100, 100]


def test_ignored_pixels_stay_as_they_are():
    mask = disc(1)
    mask[:, 25:] = 255
    assert (np.asarray(overlay(GREY, mask, ignore=255))[:, 25:] == 100).all()
    assert (np.asarray(overlay(GREY, mask))[:, 25:] != 100).any()


def test_colours_by_value_and_as_a_palette():
    mask = disc(1)
    mask[0, :] = 7
    pixels = np.asarray(overlay(GREY, mask, alpha=1, colors={1: "red", 7: (1, 2, 3)}))
    assert pixels[10, 10].tolist() == [255, 0, 0]
    assert pixels[0, 0].tolist() == [1, 2, 3]
    pixels = np.asarray(overlay(GREY, mask, alpha=1, colors=["#010101", "#020202"]))
    assert pixels[10, 10].tolist() == [1, 1, 1]
    assert pixels[0, 0].tolist() == [1, 1, 1]  # 7 wraps around


def test_masks_coded_in_colours_show_those(tmp_path):
    mask = np.zeros((20, 30, 3), np.uint8)
    mask[5:15, 8:22] = (128, 64, 128)
    mask[0, :] = (0, 255, 0)
    pixels = np.asarray(overlay(GREY, mask, alpha=1, ignore=0x00FF00))
    assert pixels[10, 10].tolist() == [128, 64, 128]
    assert pixels[0, 0].tolist() == pixels[18, 2].tolist() == [100, 100, 100]
    named = overlay(GREY, mask, alpha=1, colors={0x804080: "red"})
    assert np.asarray(named)[10, 10].tolist() == [255, 0, 0]
    listed = overlay(GREY, mask, alpha=1, colors=["#010203"])
    assert np.asarray(listed)[10, 10].tolist() == [1, 2, 3]


def test_grey_colours_of_a_set_coded_in_colours():
    pixels = np.asarray(overlay(GREY, disc(7), alpha=1, coloured=True, ignore=7))
    assert pixels[10, 10].tolist() == [7, 7, 7]
    pixels = np.asarray(overlay(GREY, disc(7), alpha=1, coloured=True, ignore=0x070707))
    assert pixels[10, 10].tolist() == [100, 100, 100]


def test_palette_masks_have_the_colours_of_their_indices():
    mask = Image.fromarray(disc(2))
    mask.putpalette([0, 0, 0, 1, 1, 1, 2, 2, 2])
    assert overlay(GREY, mask).tobytes() == overlay(GREY, disc(2)).tobytes()


def test_the_inputs_are_not_changed():
    image, mask = GREY.copy(), disc()
    overlay(image, mask)
    assert (image == GREY).all()
    assert (mask == disc()).all()


def test_sizes_that_differ_are_named():
    with pytest.raises(DataError, match=r"\(20, 30\) and \(30, 20\)"):
        overlay(GREY, disc().T)


@pytest.mark.parametrize(
    "options", [{"alpha": 1.5}, {"alpha": -1}, {"colors": ["no colour"]}, {"colors": {255: (1, 2)}}]
)
def test_wrong_options(options):
    with pytest.raises(OptionError):
        overlay(GREY, disc(), **options)


def test_neighbouring_palette_colours_are_far_apart():
    colors = np.array([ImageColor.getrgb(color) for color in PALETTE], float)
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=-1)
    assert distances[~np.eye(len(colors), dtype=bool)].min() > 60


def test_import_is_light_and_the_public_name_is_the_function():
    code = (
        "import sys, easyseg.visualize\n"
        "heavy = {'numpy', 'PIL', 'torch', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import numpy as np, easyseg\n"
        "from easyseg import overlay\n"
        "pair = np.zeros((4, 6), np.uint8), np.ones((4, 6), np.uint8)\n"
        "assert easyseg.overlay(*pair).size == overlay(*pair).size == (6, 4)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_background_may_have_another_value_than_0():
    mask = np.full((4, 6), 255, np.uint8)
    mask[:, 3:] = 0
    picture = overlay(np.zeros((4, 6, 3), np.uint8), mask, alpha=1.0, background=255)
    assert picture.getpixel((0, 0)) == (0, 0, 0)
    assert picture.getpixel((5, 0)) != (0, 0, 0)
