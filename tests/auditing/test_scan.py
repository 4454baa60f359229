"""The scan: facts in order, or every problem of every file in one report."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from easyseg.auditing import scan as module
from easyseg.auditing.intensities import intensities
from easyseg.auditing.scan import ImageFacts, check_values, mask_values, scan
from easyseg.auditing.shapes import mask_shapes
from easyseg.data.label_map import LabelMap, infer_label_map
from easyseg.data.table import read_samples
from easyseg.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
MASK = np.zeros((8, 12), np.uint8)
MASK[:2] = 255


def table(rows, index=None):
    return read_samples(pd.DataFrame(rows, columns=["image", "label"], index=index))


def test_facts_of_files_and_arrays(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    Image.fromarray(MASK).save(tmp_path / "m.png")
    grey = RGB[..., 0]
    samples = table([[tmp_path / "a.png", tmp_path / "m.png"], [grey, MASK > 0]])
    facts = scan(samples)
    leans = [float(x[:4].mean() - x[4:].mean()) for x in (RGB, grey)]
    upper = {0: 24 / 72, 1: 1.0}
    assert facts == (
        ImageFacts(
            (8, 12),
            {0: 72, 255: 24},
            "uint8",
            "RGB",
            leans[0],
            {0: 24 / 72, 255: 1.0},
            mask_shapes(MASK),
            intensities(RGB),
        ),
        ImageFacts(
            (8, 12),
            {0: 72, 1: 24},
            "bool",
            "uint8",
            leans[1],
            upper,
            mask_shapes(MASK > 0),
            intensities(grey.repeat(3).reshape(8, 12, 3)),
        ),
    )
    assert [fact.intensities.grey for fact in facts] == [False, True]


def test_the_middle_row_of_an_odd_height_belongs_to_both_halves():
    image = np.zeros((3, 2), np.uint8)
    image[0], image[1] = 90, 40
    (fact,) = scan(table([[image, np.array([[0, 1], [1, 1], [0, 0]], np.uint8)]]))
    assert fact.lean == 65 - 20
    assert fact.upper_shares == {0: 1 / 3, 1: 3 / 5}


def test_an_image_of_one_row_has_two_equal_halves():
    (fact,) = scan(table([[np.full((1, 4), 7, np.uint8), np.zeros((1, 4), np.uint8)]]))
    assert (fact.lean, fact.upper_shares) == (0, {0: 0.5})


def test_images_alone_and_progress_in_order(monkeypatch):
    original = module._look

    def slow_first(image, mask):
        time.sleep(0.05 if image.shape[0] == 1 else 0)
        return original(image, mask)

    monkeypatch.setattr(module, "_look", slow_first)
    seen = []
    samples = read_samples([np.zeros((n, 3), np.uint8) for n in range(1, 9)], label=None)
    facts = scan(samples, progress=seen.append, workers=4)
    assert [fact.size for fact in facts] == [(n, 3) for n in range(1, 9)]
    assert facts[0].mask_counts is None
    assert facts[0].shapes is None
    assert facts[0].intensities.channels == (0, 0, 0)
    assert facts[0].mask_dtype is None
    assert seen == list(range(1, 9))


def test_all_problems_of_all_files_at_once(tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    Image.fromarray(RGB).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:150])
    Image.fromarray(RGB).save(tmp_path / "colours.png")
    many = np.arange(400, dtype=np.uint16).reshape(20, 20)
    samples = table(
        [
            [RGB, MASK],
            [tmp_path / "broken.png", tmp_path / "colours.png"],
            [tmp_path / "cut.png", MASK],
            [RGB, MASK[:, :-1]],
            [RGB, many],
            [RGB, -MASK.astype(int)],
        ],
        index=list("abcdef"),
    )
    with pytest.raises(DataError) as caught:
        scan(samples)
    problems = caught.value.problems
    expected = [
        ("row 'b'", "broken.png: cannot be read as an image"),
        ("row 'b'", "colours.png: a mask coded in colours"),
        ("row 'c'", "cut.png: cannot be read as an image"),
        ("row 'd'", "the mask is 8x11 (height x width), its image array uint8 [8, 12, 3] is 8x12"),
        ("row 'e'", "400 different values"),
        ("row 'e'", "the mask is 20x20"),
        ("row 'f'", "negative value -255"),
    ]
    assert len(problems) == len(expected)
    for line, (row, words) in zip(problems, expected, strict=True):
        assert line.startswith(row)
        assert words in line


@pytest.mark.parametrize(
    ("image_turned", "mask_turned", "hint"),
    [
        (True, False, "the image's EXIF orientation turns it"),
        (False, True, "the mask carries an EXIF orientation"),
        (False, None, "height and width are swapped"),
    ],
)
def test_sizes_that_only_a_turn_explains(tmp_path, image_turned, mask_turned, hint):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "a.jpg", **({"exif": exif} if image_turned else {}))
    mask = Image.fromarray(MASK.T if mask_turned is None else MASK)
    mask.save(tmp_path / "m.png", **({"exif": exif} if mask_turned else {}))
    with pytest.raises(DataError, match=hint):
        scan(table([[tmp_path / "a.jpg", tmp_path / "m.png"]]))


def test_turned_image_with_a_turned_mask_is_right(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif)
    facts = scan(table([[tmp_path / "a.jpg", MASK.T]]))
    assert facts[0].size == (12, 8)


def test_ctrl_c_does_not_wait_for_the_rest(monkeypatch):
    started = []

    def slow(image, mask):
        started.append(1)
        time.sleep(0.01)
        return ImageFacts((1, 1), None, None, "uint8", 0.0, None), []

    def interrupt(done):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_look", slow)
    samples = read_samples([np.zeros((1, 1), np.uint8)] * 200, label=None)
    with pytest.raises(KeyboardInterrupt):
        scan(samples, progress=interrupt, workers=2)
    assert len(started) < 50


def test_values_of_all_masks_and_their_widest_type():
    samples = table([[RGB, MASK], [RGB, MASK.astype(np.uint16) // 255 * 3], [RGB, MASK // 255]])
    assert mask_values(samples, scan(samples)) == ((0, 1, 3, 255), "uint16")
    samples = table([[RGB, MASK > 0], [RGB, MASK // 255]])
    assert mask_values(samples, scan(samples)) == ((0, 1), "uint8")


def test_one_bit_masks_among_masks_of_0_and_255_are_an_error():
    samples = table([[RGB, MASK > 0], [RGB, MASK]])
    with pytest.raises(DataError, match=r"1 of 2 masks have 1 bit.*array bool.*0, 1, 255"):
        mask_values(samples, scan(samples))


def test_values_need_masks():
    samples = read_samples([RGB], label=None)
    with pytest.raises(DataError, match="no masks"):
        mask_values(samples, scan(samples))


def test_unknown_values_of_other_data_are_listed_with_their_files(tmp_path):
    Image.fromarray(MASK // 255 * 4).save(tmp_path / "m.png")
    label_map = infer_label_map([0, 1, 255], "uint8")
    samples = table([[RGB, MASK], [RGB, tmp_path / "m.png"], [RGB, MASK // 255 * 3]], list("abc"))
    facts = scan(samples)
    with pytest.raises(DataError) as caught:
        check_values(samples, facts, label_map)
    first, second = caught.value.problems
    assert first.startswith("row 'b'")
    assert "m.png: the mask holds the value 4" in first
    assert second.startswith("row 'c'")
    check_values(samples, facts, LabelMap((0, 3, 4), ("a", "b", "c"), 255, "uint8"))
