"""Regions, their areas and their thickness, against a slow count pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from easyseg.auditing.shapes import (
    LONG_SIDE,
    MOST_AREAS,
    MOST_VALUES,
    Shapes,
    mask_shapes,
    shrunk,
)

small_masks = arrays(
    np.uint8,
    array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.sampled_from([0, 3, 200]),
)


def slow_shapes(mask):
    """Flood each region from its first pixel, and count the sides of its pixels one by one."""
    height, width = mask.shape
    areas, sides = {}, {}
    unseen = {(y, x) for y in range(height) for x in range(width)}
    for y, x in sorted(unseen):
        value = int(mask[y, x])
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            if 0 <= y + dy < height and 0 <= x + dx < width:
                sides[value] = sides.get(value, 0) + int(mask[y + dy, x + dx] != value)
        if (y, x) not in unseen:
            continue
        edge, region = [(y, x)], 0
        unseen.remove((y, x))
        while edge:
            here = edge.pop()
            region += 1
            for there in [(here[0] + a, here[1] + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]:
                if there in unseen and mask[there] == value:
                    unseen.remove(there)
                    edge.append(there)
        areas.setdefault(value, []).append(region)
    return areas, sides


@given(small_masks)
def test_regions_areas_and_perimeters_are_those_of_a_slow_count(mask):
    before = mask.copy()
    found = mask_shapes(mask)
    areas, sides = slow_shapes(mask)
    assert list(found) == sorted(areas)
    for value, shape in found.items():
        assert shape.components == len(areas[value])
        assert shape.areas == pytest.approx([area / mask.size for area in sorted(areas[value])])
        width = 2 * sum(areas[value]) / sides[value] if sides.get(value) else min(mask.shape)
        assert shape.thickness == pytest.approx(min(width, min(mask.shape)) / max(mask.shape))
    assert (mask == before).all()


@given(small_masks, st.sampled_from([np.uint16, np.int32, np.int64]))
def test_the_type_of_the_mask_does_not_matter(mask, dtype):
    assert mask_shapes(mask.astype(dtype)) == mask_shapes(mask)


def test_bool_colours_and_background():
    mask = np.zeros((8, 8), bool)
    mask[2:4] = True
    found = mask_shapes(mask)
    assert found == {0: Shapes(2, (16 / 64, 32 / 64), 0.75), 1: Shapes(1, (16 / 64,), 0.25)}
    assert mask_shapes(mask, background=0) == {1: found[1]}
    red = 255 << 16
    assert mask_shapes(mask * np.int32(red), background=0) == {red: found[1]}


@given(arrays(np.uint8, (32, 32), elements=st.integers(0, 2)), st.integers(9, 20))
def test_a_larger_picture_of_the_same_has_the_same_shapes(mask, times):
    same, large = mask.repeat(8, 0).repeat(8, 1), mask.repeat(8 * times, 0).repeat(8 * times, 1)
    assert max(same.shape) == LONG_SIDE
    assert mask_shapes(large) == mask_shapes(same)


@pytest.mark.parametrize("shape", [(1, 1000), (1000, 1), (3, 5), (257, 256), (640, 480, 3)])
def test_the_copy_is_of_the_nearest_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    copy = shrunk(pixels)
    scale = min(1, LONG_SIDE / max(shape[:2]))
    height, width = (max(1, round(side * scale)) for side in shape[:2])
    assert copy.shape == (height, width, *shape[2:])
    for y, x in ((0, 0), (height // 2, width // 3), (height - 1, width - 1)):
        there = int((y + 0.5) * shape[0] / height), int((x + 0.5) * shape[1] / width)
        assert (copy[y, x] == pixels[there]).all()


def strip(degrees, width):
    y, x = np.mgrid[-100:100, -100:100]
    turn = np.deg2rad(degrees)
    return np.abs(x * np.sin(turn) + y * np.cos(turn)) < width / 2


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90])
@pytest.mark.parametrize("width", [7, 21])
def test_the_thickness_of_a_strip_is_about_its_width(degrees, width):
    found = mask_shapes(strip(degrees, width))[1].thickness * 200
    slant = sum(abs(part(np.deg2rad(degrees))) for part in (np.sin, np.cos))
    assert found == pytest.approx(width / slant, rel=0.1)
    assert 0.6 * width < found <= 1.01 * width


def test_cracks_are_told_from_blobs_of_the_same_area():
    y, x = np.mgrid[:240, :320]
    disk = (y - 120) ** 2 + (x - 160) ** 2 < 40**2
    crack = np.abs(y - 120 - 30 * np.sin(x / 25)) < disk.sum() / 320 / 2
    blob, line = (mask_shapes(mask)[1] for mask in (disk, crack))
    assert blob.areas == pytest.approx(line.areas, rel=0.2)
    assert blob.thickness * 320 == pytest.approx(0.39 * 80, rel=0.05)
    assert line.thickness < 0.4 * blob.thickness


def test_a_line_thinner_than_a_pixel_of_the_copy_is_thin():
    mask = np.zeros((2000, 3000), np.uint8)
    mask[np.arange(1800), np.arange(1800)] = 1
    assert mask_shapes(mask, background=0)[1].thickness <= 1 / LONG_SIDE


def test_many_specks_and_many_values_cost_no_more_memory():
    specks = np.zeros((256, 256), np.uint8)
    specks[::2, ::2] = 1
    specks[10:40, 10:40] = 1
    (shape,) = mask_shapes(specks, background=0).values()
    assert shape.components > 10_000
    assert len(shape.areas) == MOST_AREAS
    assert shape.areas[0] == 1 / 256**2
    assert shape.areas[-1] >= 30 * 30 / 256**2
    many = np.arange(200, dtype=np.uint8).repeat(np.arange(1, 201)).reshape(150, 134)
    assert list(mask_shapes(many)) == list(range(200 - MOST_VALUES, 200))
