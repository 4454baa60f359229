"""The scan: facts in order, or every problem of every file in one report."""

from __future__ import annotations

import io
import math
import time
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from easyseg.auditing import scan as module
from easyseg.auditing.audit import examine, examine_labelled
from easyseg.auditing.encoding import mask_encoding
from easyseg.auditing.intensities import intensities
from easyseg.auditing.scan import ImageFacts, check_readable, scan
from easyseg.auditing.shapes import mask_shapes
from easyseg.data.infer_labels import infer_label_map
from easyseg.data.label_map import LabelMap
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
    basic = [(f.size, f.mask_counts, f.mask_dtype, f.mode, f.lean, f.upper_shares) for f in facts]
    assert basic == [
        ((8, 12), {0: 72, 255: 24}, "uint8", "RGB", leans[0], {0: 24 / 72, 255: 1.0}),
        ((8, 12), {0: 72, 1: 24}, "bool", "uint8", leans[1], upper),
    ]
    assert [fact.shapes for fact in facts] == [mask_shapes(MASK), mask_shapes(MASK > 0)]
    assert facts[0].intensities == intensities(RGB)


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

    def slow_first(image, mask, colour):
        time.sleep(0.05 if image.shape[0] == 1 else 0)
        return original(image, mask, colour=colour)

    monkeypatch.setattr(module, "_look", slow_first)
    seen = []
    samples = read_samples([np.zeros((n, 3), np.uint8) for n in range(1, 9)], label=None)
    facts = scan(samples, progress=seen.append, workers=4)
    assert [fact.size for fact in facts] == [(n, 3) for n in range(1, 9)]
    assert facts[0].mask_counts is None
    assert facts[0].shapes is None
    assert facts[0].intensities is None
    assert facts[0].mask_dtype is None
    assert seen == list(range(1, 9))


def broken_table(tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    (tmp_path / "nothing.png").write_bytes(b"")
    Image.fromarray(RGB).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:150])
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "colours.tif")
    many = np.arange(400, dtype=np.uint16).reshape(20, 20)
    rows = [
        [RGB, MASK],
        [tmp_path / "broken.png", tmp_path / "colours.tif"],
        [tmp_path / "cut.png", MASK],
        [RGB, MASK[:, :-1]],
        [RGB, many],
        [RGB, -MASK.astype(int)],
        [RGB, tmp_path / "nothing.png"],
    ]
    return pd.DataFrame(rows, columns=["image", "label"], index=list("abcdefg"))


def test_broken_samples_have_facts_with_typed_problems(tmp_path):
    facts = scan(read_samples(broken_table(tmp_path)))
    found = [[(p.part, p.kind) for p in fact.problems] for fact in facts]
    assert found == [
        [],
        [("image", "unreadable"), ("label", "values")],
        [("image", "truncated")],
        [],
        [],
        [("label", "values")],
        [("label", "empty")],
    ]
    assert facts[1].size == (0, 0)
    assert facts[2].mask_counts == {0: 72, 255: 24}
    assert (facts[3].size, facts[3].mask_size) == ((8, 12), (8, 11))
    assert facts[4].num_values == 400
    assert facts[5].size == (8, 12)


def test_all_problems_of_all_files_at_once(tmp_path):
    table = broken_table(tmp_path)
    with pytest.raises(DataError) as caught:
        examine({"train": table}, image="image", label="label").refuse_errors()
    expected = [
        ("row 'b'", "broken.png: cannot be read as an image"),
        ("row 'b'", "colours.tif: a mask coded in colours of the mode CMYK"),
        ("row 'c'", "cut.png: cannot be read as an image"),
        ("row 'd'", "the mask is 8x11 (height x width), its image array uint8 [8, 12, 3] is 8x12"),
        ("row 'e'", "the mask is 20x20"),
        ("row 'e'", "400 different values"),
        ("row 'f'", "negative value -255"),
        ("row 'g'", "nothing.png: the file is empty"),
    ]
    problems = caught.value.problems
    assert len(problems) == len(expected)
    for line, (row, words) in zip(problems, expected, strict=True):
        assert line.startswith(row)
        assert words in line


def test_files_that_vanish_and_bombs(tmp_path, monkeypatch):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    samples = table([[tmp_path / "a.png", MASK]])
    with monkeypatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
        (fact,) = scan(samples)
    assert [problem.kind for problem in fact.problems] == ["bomb"]
    (tmp_path / "a.png").unlink()
    (fact,) = scan(samples)
    assert [problem.kind for problem in fact.problems] == ["missing"]


def test_images_without_masks_are_only_read(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:150])
    samples = read_samples([RGB, tmp_path / "cut.png"], label=None)
    facts = scan(samples)
    assert (facts[0].digest, facts[0].perceptual_hash) == ("", None)
    with pytest.raises(DataError, match=r"row 1: .*cut\.png"):
        check_readable(samples, facts)
    check_readable(samples.take([0]), facts[:1])


def test_what_an_image_looks_like():
    grey = np.repeat(RGB[..., :1], 3, axis=-1)
    two = np.where(MASK[..., None] > 0, np.uint8([9, 80, 7]), np.uint8([200, 0, 3]))
    facts = scan(table([[RGB, MASK], [grey, MASK], [two, MASK], [MASK, MASK], [RGB, RGB]]))
    assert [fact.grey for fact in facts] == [False, True, False, True, False]
    assert [fact.identical for fact in facts] == [False, False, False, True, True]
    assert facts[0].levels == (RGB.min(), RGB.max())
    assert facts[0].brightness == pytest.approx(RGB.mean())
    assert [fact.colours for fact in facts[2:4]] == [2, 2]
    assert facts[0].colours == math.ceil(0.95 * 96)  # noise: every point is another colour
    assert facts[0].digest == facts[4].digest != facts[1].digest
    assert facts[0].mask_digest == facts[1].mask_digest != facts[4].mask_digest


@settings(max_examples=30)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_counts_and_frame_are_those_of_the_obvious_loop(raw):
    (fact,) = scan(table([[np.zeros((*raw.shape, 3), np.uint8), raw]]))
    assert fact.mask_counts == {v: int((raw == v).sum()) for v in np.unique(raw).tolist()}
    height, width = raw.shape
    frame = [
        int(raw[y, x])
        for y in range(height)
        for x in range(width)
        if y in (0, height - 1) or x in (0, width - 1)
    ]
    assert sorted(fact.border_counts) == sorted(set(frame))
    if min(height, width) > 1:
        assert fact.border_counts == Counter(frame)


def test_turned_image_with_a_turned_mask_is_right(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif)
    facts = scan(table([[tmp_path / "a.jpg", MASK.T]]))
    assert facts[0].size == (12, 8)


def test_ctrl_c_does_not_wait_for_the_rest(monkeypatch):
    started = []

    def slow(image, mask, colour):
        started.append(1)
        time.sleep(0.01)
        return ImageFacts((1, 1), None, None, "uint8", 0.0, None)

    def interrupt(done):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_look", slow)
    samples = read_samples([np.zeros((1, 1), np.uint8)] * 200, label=None)
    with pytest.raises(KeyboardInterrupt):
        scan(samples, progress=interrupt, workers=2)
    assert len(started) < 50


def test_values_of_all_masks_and_their_widest_type():
    samples = table([[RGB, MASK], [RGB, MASK.astype(np.uint16) // 255 * 3], [RGB, MASK // 255]])
    found = mask_encoding(samples.labels, scan(samples))
    assert (found.values, found.dtype) == ((0, 1, 3, 255), "uint16")
    samples = table([[RGB, MASK > 0], [RGB, MASK // 255]])
    found = mask_encoding(samples.labels, scan(samples))
    assert (found.values, found.dtype) == ((0, 1), "uint8")


def test_one_bit_masks_among_masks_of_0_and_255_are_an_error():
    samples = table([[RGB, MASK > 0], [RGB, MASK]])
    with pytest.raises(DataError, match=r"1 of 2 masks have 1 bit.*array bool.*0, 1, 255"):
        mask_encoding(samples.labels, scan(samples))


def test_values_need_masks():
    samples = read_samples([RGB], label=None)
    with pytest.raises(DataError, match="no masks"):
        mask_encoding(samples.images, scan(samples))


def test_unknown_values_of_other_data_are_listed_with_their_files(tmp_path):
    Image.fromarray(MASK // 255 * 4).save(tmp_path / "m.png")
    rows = [[RGB, MASK], [RGB, tmp_path / "m.png"], [RGB, MASK // 255 * 3]]
    data = pd.DataFrame(rows, columns=["image", "label"], index=list("abc"))

    def check(label_map):
        examine_labelled(
            data, label_map, image="image", label="label", data_root=None
        ).refuse_errors()

    with pytest.raises(DataError) as caught:
        check(infer_label_map([0, 1, 255], "uint8"))
    first, second = caught.value.problems
    assert first.startswith("row 'b'")
    assert "m.png: the mask holds the value 4" in first
    assert second.startswith("row 'c'")
    check(LabelMap((0, 3, 4), ("a", "b", "c"), 255, "uint8"))


def test_wide_ids_among_colours_are_an_error_that_names_the_row():
    colours = np.where(MASK[..., None] > 0, np.uint8([128, 64, 128]), np.uint8(0))
    rows = [[RGB, colours], [255 - RGB, np.full((8, 12), 300, np.uint16)]]
    table = pd.DataFrame(rows, columns=["image", "label"], index=["a", "b"])
    with pytest.raises(DataError) as caught:
        examine({"train": table}, image="image", label="label").refuse_errors()
    (line,) = caught.value.problems
    assert line.startswith("row 'b': array uint16 [8, 12]: the mask holds")


def test_of_a_picture_in_the_place_of_a_mask_little_is_kept():
    many = np.random.default_rng(0).integers(0, 400, (40, 40)).astype(np.uint16)
    (fact,) = scan(table([[np.zeros((40, 40, 3), np.uint8), many]]))
    counts = sorted(Counter(many.ravel().tolist()).values(), reverse=True)
    assert fact.num_values == len(counts) > module.MOST_VALUES
    enough = np.cumsum(counts) >= 0.95 * many.size
    assert fact.covering == int(enough.argmax()) + 1
    assert (fact.mask_counts, fact.upper_shares, fact.border_counts, fact.shapes) == ({},) * 4


def smeared_mask():
    """Return a JPEG of a disk."""
    y, x = np.mgrid[:96, :96]
    file = io.BytesIO()
    disk = np.uint8(255) * (np.hypot(y - 40, x - 50) < 30)
    Image.fromarray(disk).save(file, "JPEG", quality=50)
    return Image.open(file)


def test_of_a_smeared_mask_the_shapes_of_its_two_values_are_kept():
    mask = smeared_mask()
    raw = np.asarray(mask)
    (fact,) = scan(table([[np.zeros((96, 96, 3), np.uint8), mask]]))
    assert fact.num_values > 32
    assert fact.shapes == {}
    shapes = mask_shapes((raw >= 128) * np.uint8(255))
    assert fact.thresholded.shapes == shapes
    upper = (raw[:48] >= 128).sum() / (raw >= 128).sum()
    assert fact.thresholded.upper_shares[255] == upper
    again = fact.as_smeared()
    assert (again.shapes, again.upper_shares) == (shapes, fact.thresholded.upper_shares)


@pytest.mark.parametrize("mask", [MASK, MASK // 255 * 3, MASK > 0, MASK.astype(np.uint16) * 2])
def test_masks_that_cannot_be_smeared_are_not_thresholded(mask):
    (fact,) = scan(table([[RGB, mask]]))
    assert fact.thresholded is None
    assert fact.as_smeared() == fact


def test_masks_that_turn_out_to_be_colours_are_read_again_without_their_images(monkeypatch):
    colours = np.where(MASK[..., None] > 0, np.uint8([128, 64, 128]), np.uint8(0))
    indexed = Image.fromarray(MASK // 255)
    indexed.putpalette([0, 0, 0, 128, 64, 128])
    itself = Image.fromarray(RGB[..., 0])
    itself.putpalette(np.random.default_rng(1).integers(0, 256, 768, dtype=np.uint8).tolist())
    wide = np.full((8, 12), 300, np.uint16)
    samples = table(
        [
            [RGB, colours],
            [RGB[::-1], MASK],
            [RGB[:, ::-1], MASK > 0],
            [255 - RGB, indexed],
            [np.asarray(itself.convert("RGB")), itself],
            [RGB // 2, wide],
            [np.full((9, 9), np.nan), MASK],
        ]
    )
    expected = scan(samples, colour=True)
    read = []
    original = module.load_image
    monkeypatch.setattr(module, "load_image", lambda image: read.append(1) or original(image))
    found = scan(samples)
    assert len(read) == len(samples)
    assert found[4].identical
    assert found[5].problems == expected[5].problems != ()
    assert found[5].mask_counts is None
    for one, other in zip(found[:5] + found[6:], expected[:5] + expected[6:], strict=True):
        assert one == other
