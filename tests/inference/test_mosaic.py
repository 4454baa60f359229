"""Logits of windows become the map they were cut from."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from easyseg.data.geometry import Geometry, normalize
from easyseg.inference.mosaic import Mosaic

INPUTS = st.sampled_from([(128, 128), (96, 160)])
CELLS = st.sampled_from([1, 4])
SIDES = st.integers(1, 420)


def merge(geometry, own, logits_of):
    """Return the restored logits of an image, given those of each window."""
    mosaic = Mosaic(geometry, own)
    for window in reversed(geometry.windows(own)):  # any order will do
        assert not mosaic.complete
        mosaic.add(window, logits_of(window))
    assert mosaic.complete
    return mosaic.restore()


@settings(max_examples=60)
@given(st.sampled_from(["squash", "letterbox", "tile"]), INPUTS, CELLS, SIDES, SIDES)
def test_a_constant_stays_a_constant(kind, size, cell, height, width):
    logits = torch.full((2, size[0] // cell, size[1] // cell), -3.7)
    merged = merge(Geometry(kind, size), (height, width), lambda _: logits)
    assert merged.shape == (2, height, width)
    assert merged.dtype == torch.float32
    assert (merged + 3.7).abs().max() < 1e-5


@settings(max_examples=60)
@given(INPUTS, SIDES, SIDES)
def test_windows_of_any_map_give_back_the_map(size, height, width):
    """Smaller than a window, as large, larger; with a "network" that returns what it sees."""
    geometry = Geometry("tile", size)
    image = torch.randn(3, height, width)
    merged = merge(geometry, (height, width), lambda w: geometry.pad(geometry.cut(image, w)))
    assert (merged - image).abs().max() < 1e-5


@settings(max_examples=60)
@given(INPUTS, CELLS, st.sampled_from([0.5, 1.0, 1.7]), SIDES, SIDES)
def test_merging_is_exact_for_coarse_logits_too(size, cell, scale, height, width):
    geometry, own = Geometry("tile", size, scale), (height, width)
    whole = torch.randn(2, *(side // cell for side in geometry.extent(own)))

    def part(window):
        top, left = window.top // cell, window.left // cell
        return whole[:, top : top + size[0] // cell, left : left + size[1] // cell]

    merged = merge(geometry, own, part)
    assert merged.shape == (2, height, width)
    torch.testing.assert_close(merged, geometry.restore(whole, own), rtol=1e-4, atol=1e-4)


@settings(max_examples=40)
@given(CELLS, st.sampled_from([0.5, 1.0, 1.7]), st.integers(80, 420), st.integers(80, 420))
def test_a_smooth_image_survives_at_any_scale(cell, scale, height, width):
    """Half a pixel of shift, or padding that leaks in, would show at once."""
    geometry = Geometry("tile", (128, 128), scale)
    y = (torch.arange(height) + 0.5)[:, None] / height
    x = (torch.arange(width) + 0.5) / width
    channels = [torch.sin(1.5 * x + a) * torch.cos(y + a) for a in (0.0, 0.7, 2.0)]
    image = (127.5 + 127 * torch.stack(channels)).to(torch.uint8)
    content = geometry.resize(image)

    def see(window):
        seen = geometry.pad(normalize(geometry.cut(content, window), "sam"))
        return torch.nn.functional.avg_pool2d(seen, cell)

    error = (merge(geometry, (height, width), see) - normalize(image, "sam")).abs()
    # The outermost half cell is extrapolated, and padding may be part of it.
    assert error[:, height // 8 : -height // 8, width // 8 : -width // 8].max() < 0.05


def test_a_single_window_is_not_touched():
    logits = torch.randn(3, 32, 32)
    for kind, own in (("squash", (57, 301)), ("letterbox", (57, 301)), ("tile", (57, 101))):
        geometry = Geometry(kind, (128, 128))
        assert torch.equal(merge(geometry, own, lambda _: logits), geometry.restore(logits, own))


def test_windows_fade_into_each_other():
    geometry = Geometry("tile", (128, 128))
    merged = merge(geometry, (128, 224), lambda w: torch.full((1, 128, 128), float(w.left > 0)))
    for row in merged[0]:
        assert not row[:96].any()
        assert (row[128:] == 1).all()
        steps = row[95:129].diff()
        assert (steps > 0).all()
        assert steps.max() < 0.04


def test_half_precision_is_summed_in_float32():
    geometry = Geometry("tile", (128, 128))
    merged = merge(geometry, (300, 300), lambda _: torch.full((1, 32, 32), 1.5).bfloat16())
    assert merged.dtype == torch.float32
    assert (merged - 1.5).abs().max() < 1e-6


def test_a_window_counts_once_and_none_may_be_missing():
    geometry = Geometry("tile", (128, 128))
    mosaic = Mosaic(geometry, (128, 200))
    first, _ = geometry.windows((128, 200))
    mosaic.add(first, torch.zeros(1, 32, 32))
    with pytest.raises(KeyError):
        mosaic.add(first, torch.zeros(1, 32, 32))
    with pytest.raises(AssertionError):
        mosaic.restore()
