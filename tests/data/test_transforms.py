from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from easyseg.data.label_map import IGNORE
from easyseg.data.transforms import AUGMENTATIONS, augment
from easyseg.plan.domains import DOMAINS


def pair():
    """Return an image that carries its target, so that they can be compared afterwards."""
    target = torch.randint(0, 3, (6, 8), dtype=torch.uint8)
    target[0] = IGNORE
    return target.float().expand(3, -1, -1).contiguous(), target


@given(st.integers(0, 1000), st.lists(st.sampled_from(sorted(AUGMENTATIONS)), max_size=3))
def test_image_and_mask_move_together(seed, names):
    image, target = pair()
    moved, ids = augment(image, target, names, np.random.default_rng(seed))
    assert torch.equal(moved, ids.float().expand(3, -1, -1))
    assert (moved.dtype, moved.shape) == (image.dtype, image.shape)
    assert (ids.dtype, ids.shape) == (target.dtype, target.shape)
    assert torch.equal(ids.flatten().sort().values, target.flatten().sort().values)


@pytest.mark.parametrize(("name", "dim"), [("hflip", -1), ("vflip", -2)])
def test_flips_happen_half_of_the_time(name, dim):
    image, target = pair()
    flipped = 0
    for seed in range(400):
        _, ids = augment(image, target, [name], np.random.default_rng(seed))
        assert torch.equal(ids, target) or torch.equal(ids, target.flip(dim))
        flipped += torch.equal(ids, target.flip(dim))
    assert 160 < flipped < 240


def test_the_generator_decides_alone():
    image, target = pair()
    names = sorted(AUGMENTATIONS)
    one, other = (augment(image, target, names, np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(one[0], other[0])


def test_nothing_to_do():
    image, target = pair()
    same, ids = augment(image, target, [], np.random.default_rng(0))
    assert same is image
    assert ids is target


def test_every_augmentation_that_a_plan_can_name_exists():
    names = ("hflip",)
    assert DOMAINS["data.augment"].read(names) == names
    assert set(names) <= set(AUGMENTATIONS)
