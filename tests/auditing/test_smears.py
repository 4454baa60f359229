"""Smeared binary masks are known by their set; ids, gaps and grey levels are not taken for them."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from easyseg.auditing.encoding import MaskEncoding, mask_encoding
from easyseg.auditing.scan import scan
from easyseg.data.io import load_mask, read_mask
from easyseg.data.table import read_samples
from easyseg.errors import DataError

BINARY = ("glass_gdd", "leaf_disease", "polyp_cvc", "road_epfl", "skin_isic")


def encoding_of(masks):
    images = [
        np.zeros((*(m.shape if isinstance(m, np.ndarray) else m.size[::-1]), 3), np.uint8)
        for m in masks
    ]
    samples = read_samples(pd.DataFrame({"image": images, "label": list(masks)}))
    return mask_encoding(samples.labels, scan(samples))


def jpeg(mask, quality):
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "JPEG", quality=quality)
    return Image.open(file)


def resized(mask, scale, how):
    height, width = mask.shape
    size = (round(width * scale), round(height * scale))
    return np.asarray(Image.fromarray(mask).resize(size, how))


SMEARS = {
    **{f"jpeg {q}": lambda mask, q=q: jpeg(mask, q) for q in (20, 50, 75, 85, 90, 95, 100)},
    **{
        f"png of a jpeg {q}": lambda mask, q=q: np.array(jpeg(mask, q))
        for q in (20, 50, 75, 90, 95)
    },
    **{
        f"{how.name.lower()} x{scale}": lambda mask, how=how, scale=scale: resized(mask, scale, how)
        for how in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
        for scale in (0.37, 0.5, 2, 3.3)
    },
    "drawn four times as large": lambda mask: resized(mask, 0.25, Image.Resampling.BOX),
    "blurred": lambda mask: ndimage.gaussian_filter(mask, 1.5),
}


def discs(count=6, side=96):
    """Binary masks of a few discs and bars, 0 and 255."""
    rng = np.random.default_rng(5)
    rows, columns = np.ogrid[:side, : side + 20]
    for _ in range(count):
        row, column = rng.integers(20, side - 20, 2)
        mask = np.hypot(rows - row, columns - column) < rng.integers(8, 30)
        mask |= (np.abs(rows - 0.4 * columns - 20) < 4) & (columns > 10)
        yield mask.astype(np.uint8) * np.uint8(255)


@pytest.mark.parametrize("smear", SMEARS)
def test_generated_binary_masks_are_known_however_smeared(smear):
    masks = list(discs())
    found = encoding_of([SMEARS[smear](mask) for mask in masks])
    assert found.smeared
    label_map = found.label_map()
    assert (label_map.values, label_map.smeared) == ((0, 255), True)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("smear", ["jpeg 75", "jpeg 95", "png of a jpeg 90", "bilinear x0.5"])
def test_real_binary_masks_are_known_however_smeared(shared_data, name, smear):
    samples = read_samples(shared_data / name / "train.csv").take(range(6))
    masks = [(read_mask(mask) > 0) * np.uint8(255) for mask in samples.labels]
    assert not encoding_of(masks).smeared
    smeared = [SMEARS[smear](mask) for mask in masks]
    found = encoding_of(smeared)
    assert found.smeared
    if "jpeg" in smear:
        label_map = found.label_map()
        for mask, source in zip(masks, smeared, strict=True):
            assert (label_map.encode(load_mask(source).values) != mask // 255).mean() < 0.01


@pytest.mark.parametrize("name", ["camvid", "cwfid", "highway_cdnet", *BINARY])
def test_real_ids_are_never_taken_for_smears(shared_data, name):
    samples = read_samples(shared_data / name / "test.csv").take(range(5))
    assert not mask_encoding(samples.labels, scan(samples)).smeared


@pytest.mark.parametrize("name", ["camvid", "highway_cdnet"])
@pytest.mark.parametrize("quality", [75, 95])
def test_real_ids_saved_as_jpeg_stay_an_error(shared_data, name, quality):
    """Void is 255, and the ids are near 0: two ends, but with classes inside."""
    samples = read_samples(shared_data / name / "train.csv").take(range(12))
    found = encoding_of([jpeg(read_mask(mask), quality) for mask in samples.labels])
    assert not found.smeared
    with pytest.raises(DataError):
        found.label_map()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_classes_are_never_taken_for_smears(data):
    """Any ids: with gaps or without, with 255 or without, however rare all but two of them are."""
    count = data.draw(st.integers(2, 30))
    between = data.draw(st.lists(st.integers(1, 254), min_size=count, max_size=count, unique=True))
    values = np.array([0, 255, *between], np.uint8)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    masks = []
    for _ in range(3):
        mask = np.zeros((60, 80), np.uint8)
        mask[:, 40:] = 255
        for value in values[2:]:
            size = rng.integers(3, 9, 2)
            top, left = rng.integers(0, 50), rng.integers(0, 71)
            mask[top : top + size[0], left : left + size[1]] = value
        masks.append(mask)
    assert not encoding_of(masks).smeared


def test_grey_levels_without_two_modes_stay_an_error():
    ramp = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    for masks in ([ramp], [jpeg(ramp, 90)], [ramp[:, ::-1].copy(), np.zeros((64, 256), np.uint8)]):
        found = encoding_of(masks)
        assert not found.smeared
        with pytest.raises(DataError):
            found.label_map()


def test_a_mask_of_three_levels_in_a_jpeg_is_not_binary():
    mask = next(iter(discs(1)))
    mask[60:90, 70:110] = 128
    found = encoding_of([jpeg(mask, 90)])
    assert not found.smeared
    with pytest.raises(DataError):
        found.label_map()


def test_colours_palettes_and_wide_ids_are_never_smeared():
    mask = resized(next(iter(discs(1))), 2, Image.Resampling.BICUBIC)
    assert encoding_of([mask]).smeared
    with_palette = Image.fromarray(mask)
    with_palette.putpalette(list(range(256)) * 3)
    assert not encoding_of([with_palette]).smeared
    assert not encoding_of([mask.astype(np.uint16)]).smeared


def test_masks_of_one_level_each_are_classes():
    flat = [jpeg(np.full((9, 9), level, np.uint8), 95) for level in (0, 1, 254, 255)]
    assert encoding_of(flat) == MaskEncoding((0, 1, 254, 255), "uint8")


def test_few_levels_of_a_jpeg_are_not_ids_and_void():
    """Read as ids, {0, 1, 255} would mean that 255 is ignored."""
    mask = next(iter(discs(1)))
    mask[0, 0] = 1
    assert encoding_of([mask]).label_map().ignore == 255
    picture = Image.fromarray(mask)
    picture.format = "JPEG"
    label_map = encoding_of([picture]).label_map()
    assert (label_map.values, label_map.ignore, label_map.smeared) == ((0, 255), None, True)
