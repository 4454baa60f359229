"""Geometry and its inverse: own size in, own size out, nothing shifted, padding left behind."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from easyseg.data.geometry import Geometry, normalize, value_span
from easyseg.data.label_map import IGNORE

KINDS = st.sampled_from(["squash", "letterbox"])
SIDES = st.integers(1, 300)
INPUTS = st.sampled_from([(128, 128), (96, 160), (160, 96)])
CELLS = st.sampled_from([1, 4])  # pixels a logit: LiteMedSAM's and SAM's
SCALES = st.sampled_from([0.1, 0.5, 1.0, 1.7])


def enter(geometry, image, normalization):
    """Return what the network sees of an image through its only window."""
    return geometry.pad(normalize(geometry.resize(image), normalization))


def enter_ids(geometry, ids):
    return geometry.pad(geometry.resize_ids(ids), IGNORE)


@given(KINDS, INPUTS, SIDES, SIDES)
def test_content_fills_the_input_and_keeps_the_aspect(kind, size, height, width):
    content = Geometry(kind, size).content((height, width))
    assert all(
        4 <= mine <= side and mine % 4 == 0 for mine, side in zip(content, size, strict=True)
    )
    assert any(mine == side for mine, side in zip(content, size, strict=True))
    if kind == "squash":
        assert content == size
    else:
        scale = min(size[0] / height, size[1] / width)
        for mine, own in zip(content, (height, width), strict=True):
            assert abs(mine - own * scale) <= 2 or mine == 4


@settings(max_examples=60)
@given(KINDS, INPUTS, CELLS, SIDES, SIDES)
def test_restore_gives_back_the_own_size(kind, size, cell, height, width):
    logits = torch.zeros(2, size[0] // cell, size[1] // cell, dtype=torch.bfloat16)
    restored = Geometry(kind, size).restore(logits, (height, width))
    assert restored.shape == (2, height, width)
    assert restored.dtype == torch.float32


def waves(height, width):
    """Return a smooth uint8 image whose channels differ."""
    y = (torch.arange(height) + 0.5)[:, None] / height
    x = (torch.arange(width) + 0.5) / width
    channels = [torch.sin(1.5 * x + a) * torch.cos(y + a) for a in (0.0, 0.7, 2.0)]
    return (127.5 + 127 * torch.stack(channels)).to(torch.uint8)


@settings(max_examples=60)
@given(KINDS, INPUTS, CELLS, st.integers(40, 300), st.integers(40, 300))
def test_a_smooth_image_survives_the_way_there_and_back(kind, size, cell, height, width):
    """Half a pixel of shift, or padding that leaks in, would show at once."""
    geometry = Geometry(kind, size)
    image = waves(height, width)
    entered = enter(geometry, image, "sam")
    assert entered.shape == (3, *size)
    logits = torch.nn.functional.avg_pool2d(entered, cell)
    expected = normalize(image, "sam")
    error = (geometry.restore(logits, (height, width)) - expected).abs()
    # The outermost half cell is extrapolated.
    assert error[:, height // 8 : -height // 8, width // 8 : -width // 8].max() < 0.05
    assert error.max() < 0.4


@settings(max_examples=60)
@given(KINDS, INPUTS, CELLS, SIDES, SIDES)
def test_padding_is_zero_ignored_and_cut(kind, size, cell, height, width):
    geometry = Geometry(kind, size)
    rows, cols = geometry.content((height, width))
    entered = enter(geometry, waves(height, width), "sam")
    assert not entered[:, rows:].any()
    assert not entered[:, :, cols:].any()
    mask = enter_ids(geometry, torch.ones(height, width, dtype=torch.uint8))
    assert (mask[:rows, :cols] == 1).all()
    assert (mask[rows:] == IGNORE).all()
    assert (mask[:, cols:] == IGNORE).all()
    logits = torch.randn(1, size[0] // cell, size[1] // cell)
    other = logits.clone()
    other[:, rows // cell :] = 1e9
    other[:, :, cols // cell :] = -1e9
    own = (height, width)
    assert torch.equal(geometry.restore(logits, own), geometry.restore(other, own))


@settings(max_examples=40)
@given(KINDS, INPUTS, st.integers(60, 300), st.integers(60, 300))
def test_a_mask_lies_on_its_image_and_comes_back(kind, size, height, width):
    y = (torch.arange(height) + 0.5)[:, None] / height
    x = (torch.arange(width) + 0.5) / width
    disc = ((y - 0.4) ** 2 + (x - 0.6) ** 2 < 0.09).to(torch.uint8)
    geometry = Geometry(kind, size)
    entered = enter_ids(geometry, disc)
    image = enter(geometry, (255 * disc).expand(3, -1, -1), "minmax")[0]
    inside = entered != IGNORE
    agree = (image > 0.5)[inside] == (entered == 1)[inside]
    assert agree.float().mean() > 0.97
    back = geometry.restore((entered == 1).float()[None], (height, width))[0] > 0.5
    union = (back | (disc == 1)).sum()
    assert (back & (disc == 1)).sum() / union > 0.9


@given(INPUTS, st.integers(2, 300), st.integers(2, 300))
@settings(max_examples=30)
def test_squashing_and_restoring_commute_with_flips(size, height, width):
    geometry = Geometry("squash", size)
    logits = torch.randn(1, *size, dtype=torch.float32)
    one = geometry.restore(logits, (height, width)).flip(-1, -2)
    other = geometry.restore(logits.flip(-1, -2), (height, width))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_ignored_pixels_stay_ignored():
    ids = torch.zeros(64, 64, dtype=torch.uint8)
    ids[:32] = IGNORE
    mask = enter_ids(Geometry("squash", (128, 128)), ids)
    assert (mask[:64] == IGNORE).all()
    assert (mask[64:] == 0).all()


def test_an_image_of_the_right_size_is_left_as_it_is():
    image = waves(128, 128)
    for kind in ("squash", "letterbox"):
        geometry = Geometry(kind, (128, 128))
        assert torch.equal(enter(geometry, image, "sam"), normalize(image, "sam"))
        logits = torch.randn(2, 128, 128)
        assert torch.equal(geometry.restore(logits, (128, 128)), logits)


def test_sam_normalization_is_that_of_the_package():
    from segment_anything.modeling import Sam

    image = waves(20, 30)
    sam = Sam(torch.nn.Identity(), torch.nn.Identity(), torch.nn.Identity())
    expected = (image - sam.pixel_mean) / sam.pixel_std
    torch.testing.assert_close(normalize(image, "sam"), expected)


def test_minmax_normalization():
    image = waves(20, 30) // 2 + 20
    found = normalize(image, "minmax")
    assert (float(found.min()), float(found.max())) == (0.0, 1.0)
    constant = normalize(torch.full((3, 4, 4), 7, dtype=torch.uint8), "minmax")
    assert not constant.any()


@pytest.mark.parametrize("kind", ["squash", "letterbox"])
@pytest.mark.parametrize("own", [(1, 1), (1, 4000), (3000, 2)])
def test_extreme_sizes(kind, own):
    geometry = Geometry(kind, (128, 128))
    entered = enter(geometry, torch.zeros(3, *own, dtype=torch.uint8), "minmax")
    assert entered.shape == (3, 128, 128)
    assert enter_ids(geometry, torch.zeros(own, dtype=torch.uint8)).shape == (128, 128)
    assert geometry.restore(torch.zeros(1, 32, 32), own).shape == (1, *own)


def test_a_mask_is_read_at_the_centre_of_each_cell():
    """A third of the size: the middle of three pixels, not the first."""
    ids = torch.zeros(384, 384, dtype=torch.uint8)
    ids[1::3, 1::3] = 1
    assert (enter_ids(Geometry("squash", (128, 128)), ids) == 1).all()


@given(INPUTS, SIDES, SIDES)
def test_squash_and_letterbox_have_one_window(size, height, width):
    for kind in ("squash", "letterbox"):
        geometry = Geometry(kind, size)
        assert geometry.windows((height, width)) == ((0, 0),)
        assert geometry.extent((height, width)) == size


@given(SCALES, st.integers(1, 1000), st.integers(1, 1000))
def test_tiles_keep_the_scale(scale, height, width):
    content = Geometry("tile", (128, 128), scale).content((height, width))
    if scale == 1:
        assert content == (height, width)
    for mine, own in zip(content, (height, width), strict=True):
        assert abs(mine - own * scale) <= 2 or mine == 4


@given(INPUTS, SCALES, st.integers(1, 700), st.integers(1, 700))
def test_windows_cover_every_pixel(size, scale, height, width):
    geometry = Geometry("tile", size, scale)
    own = (height, width)
    rows, cols = geometry.content(own)
    extent = geometry.extent(own)
    windows = geometry.windows(own)
    seen = torch.zeros(extent, dtype=torch.bool)
    for top, left in windows:
        assert top % 4 == left % 4 == 0
        seen[top : top + size[0], left : left + size[1]] = True
    assert seen.all()
    for side, filled, covered in zip(size, (rows, cols), extent, strict=True):
        # An image that is smaller than a window is padded, a larger one by less than a cell.
        assert covered == side if filled <= side else filled <= covered < filled + 4
    assert len(set(windows)) == len(windows)
    for axis, side in enumerate(size):
        starts = sorted({window[axis] for window in windows})
        steps = [b - a for a, b in itertools.pairwise(starts)]
        assert all(0 < step <= 0.75 * side + 4 for step in steps)
        assert len(starts) <= 1 + -(-extent[axis] // (0.75 * side))


@given(INPUTS, st.integers(1, 400), st.integers(1, 400))
@settings(max_examples=30)
def test_cutting_and_padding_lose_nothing(size, height, width):
    geometry = Geometry("tile", size)
    content = geometry.resize(torch.randint(0, 256, (3, height, width), dtype=torch.uint8))
    whole = torch.full((3, *geometry.extent((height, width))), 7, dtype=torch.uint8)
    whole[:, :height, :width] = content
    for window in geometry.windows((height, width)):
        padded = geometry.pad(geometry.cut(content, window), 7)
        assert padded.shape == (3, *size)
        assert torch.equal(padded, geometry.cut(whole, window))


def test_a_window_is_normalised_as_its_whole_image():
    image = torch.randint(20, 90, (3, 60, 80), dtype=torch.uint8)
    image[:, 40:] = 200
    whole = normalize(image, "minmax")
    low, high = (int(v) for v in image.aminmax())
    for part in (slice(0, 40), slice(30, 50), slice(45, 60)):  # the last one is constant
        span = value_span(image[:, part], (low, high))
        torch.testing.assert_close(normalize(image[:, part], "minmax", span), whole[:, part])
    assert torch.equal(normalize(image, "minmax", value_span(image, (low, high))), whole)
    constant = torch.full((3, 4, 4), 7, dtype=torch.uint8)
    assert not normalize(constant, "minmax", value_span(constant, (7, 7))).any()
