"""Geometry and its inverse: own size in, own size out, nothing shifted, padding left behind."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from easyseg.data.geometry import Geometry, normalize
from easyseg.data.label_map import IGNORE

KINDS = st.sampled_from(["squash", "letterbox"])
SIDES = st.integers(1, 300)
INPUTS = st.sampled_from([(128, 128), (96, 160), (160, 96)])
CELLS = st.sampled_from([1, 4])  # pixels a logit: LiteMedSAM's and SAM's


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
    entered = geometry.image(image, "sam")
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
    entered = geometry.image(waves(height, width), "sam")
    assert not entered[:, rows:].any()
    assert not entered[:, :, cols:].any()
    mask = geometry.mask(torch.ones(height, width, dtype=torch.uint8))
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
    entered = geometry.mask(disc)
    image = geometry.image((255 * disc).expand(3, -1, -1), "minmax")[0]
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
    mask = Geometry("squash", (128, 128)).mask(ids)
    assert (mask[:64] == IGNORE).all()
    assert (mask[64:] == 0).all()


def test_an_image_of_the_right_size_is_left_as_it_is():
    image = waves(128, 128)
    for kind in ("squash", "letterbox"):
        geometry = Geometry(kind, (128, 128))
        assert torch.equal(geometry.image(image, "sam"), normalize(image, "sam"))
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
    entered = geometry.image(torch.zeros(3, *own, dtype=torch.uint8), "minmax")
    assert entered.shape == (3, 128, 128)
    assert geometry.mask(torch.zeros(own, dtype=torch.uint8)).shape == (128, 128)
    assert geometry.restore(torch.zeros(1, 32, 32), own).shape == (1, *own)


def test_a_mask_is_read_at_the_centre_of_each_cell():
    """A third of the size: the middle of three pixels, not the first."""
    ids = torch.zeros(384, 384, dtype=torch.uint8)
    ids[1::3, 1::3] = 1
    assert (Geometry("squash", (128, 128)).mask(ids) == 1).all()
