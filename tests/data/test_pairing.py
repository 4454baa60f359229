"""Masks of another size than their images: which meet, and how."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from easyseg.data.io import read_image, read_mask
from easyseg.data.pairing import fit_to_image, size_match

IDS = np.random.default_rng(0).integers(0, 5, (40, 60), dtype=np.uint8)


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(-20, 20), st.integers(-20, 20))
def test_a_few_pixels_are_8_and_2_percent(height, width, more, wider):
    mask = (max(1, height + more), max(1, width + wider))
    off = [abs(mask[0] - height), abs(mask[1] - width)]
    few = all(d <= 8 and 100 * d <= 2 * side for d, side in zip(off, (height, width), strict=True))
    found = size_match((height, width), mask, (False, False))
    assert found == ("equal" if off == [0, 0] else "near" if few else "other")


@pytest.mark.parametrize(
    ("turned", "expected"),
    [
        ((True, False), "image turned"),
        ((False, True), "mask turned"),
        ((True, True), "other"),
        ((False, False), "other"),
    ],
)
def test_swapped_sides_need_one_turned_file(turned, expected):
    assert size_match((640, 480), (480, 640), turned) == expected
    assert size_match((640, 480), (479, 640), turned) == expected
    # Of a nearly square image the sides are near in both ways: the turn explains them wholly.
    assert size_match((640, 636), (636, 640), turned) == expected.replace("other", "near")


@given(st.integers(50, 400), st.integers(50, 400), st.integers(-1, 1), st.integers(-1, 1))
def test_resized_pixels_come_from_the_nearest_centre(height, width, more, wider):
    raw = np.arange((height + more) * (width + wider), dtype=np.int32)
    raw = raw.reshape(height + more, width + wider)
    image = np.zeros((height, width, 3), np.uint8)
    found = fit_to_image(raw, (height, width), image, raw)
    assert found.shape == (height, width)
    for axis, taken in enumerate(np.divmod(found, raw.shape[1])):
        centres = (np.arange(found.shape[axis]) + 0.5) * raw.shape[axis] / found.shape[axis] - 0.5
        off = taken - centres.reshape((-1, 1) if axis == 0 else (1, -1))
        assert np.abs(off).max() <= 0.5 + 1e-9


def test_equal_and_hopeless_sizes_stay_as_they_are():
    image = np.zeros((40, 60, 3), np.uint8)
    assert fit_to_image(IDS, (40, 60), image, IDS) is IDS
    half = IDS[::2]
    assert fit_to_image(half, (40, 60), image, half) is half


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("carrier", ["image", "mask"])
def test_a_turned_mask_lies_on_its_image(tmp_path, orientation, carrier):
    """The image shows the ids: whatever turns it, mask and image must agree."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    files = {"image": tmp_path / "image.png", "mask": tmp_path / "mask.png"}
    for name, file in files.items():
        Image.fromarray(IDS).save(file, **({"exif": exif} if name == carrier else {}))
    image, raw = read_image(files["image"]), read_mask(files["mask"])
    assert raw.shape == image.shape[1::-1]
    fitted = fit_to_image(raw, image.shape[:2], files["image"], files["mask"])
    np.testing.assert_array_equal(fitted, image[..., 0])
