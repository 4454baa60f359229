from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from easyseg.data.label_map import IGNORE
from easyseg.data.transforms import AUGMENTATIONS, FOREGROUND_SHARE, augment, random_window
from easyseg.plan.domains import DOMAINS

GEOMETRIC = ("crop", "hflip", "rot90", "vflip")  # They move pixels and mix none.


def rng(seed):
    return np.random.default_rng(seed)


def apply(name, image, ids, seed):
    return augment(image, ids, [name], rng(seed), resized=AUGMENTATIONS[name].resized)


def pair(height=9, width=14):
    """Return an image that carries its ids, so that they can be compared afterwards."""
    ids = torch.randint(0, 3, (height, width), dtype=torch.uint8)
    ids[0] = IGNORE
    return ids.expand(3, -1, -1).contiguous(), ids


@given(st.integers(0, 1000), st.lists(st.sampled_from(GEOMETRIC), max_size=4))
def test_image_and_mask_move_together(seed, names):
    image, ids = pair()
    moved, moved_ids = augment(image, ids, names, rng(seed), resized=False)
    assert torch.equal(moved, moved_ids.expand(3, -1, -1))
    assert moved.dtype == moved_ids.dtype == torch.uint8
    if "crop" not in names:
        assert torch.equal(moved_ids.flatten().sort().values, ids.flatten().sort().values)


@pytest.mark.parametrize(("name", "dim"), [("hflip", -1), ("vflip", -2)])
def test_flips_happen_half_of_the_time(name, dim):
    image, ids = pair()
    flipped = 0
    for seed in range(400):
        _, found = apply(name, image, ids, seed)
        assert torch.equal(found, ids) or torch.equal(found, ids.flip(dim))
        flipped += torch.equal(found, ids.flip(dim))
    assert 160 < flipped < 240


def test_right_angles_are_all_seen_equally_often():
    image, ids = pair()
    seen = [0, 0, 0, 0]
    for seed in range(400):
        _, found = apply("rot90", image, ids, seed)
        turns = [k for k in range(4) if torch.equal(found, ids.rot90(k))]
        assert len(turns) == 1
        seen[turns[0]] += 1
    assert all(70 < count < 130 for count in seen)


@settings(max_examples=200)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 40))
def test_a_crop_is_a_window_of_the_image(seed, height, width):
    ids = torch.arange(height * width).reshape(height, width) % 251  # Each window is another one.
    image = ids.to(torch.uint8).expand(3, -1, -1)
    cut, cut_ids = apply("crop", image, ids.to(torch.uint8), seed)
    rows, cols = cut_ids.shape
    assert 1 <= rows <= height
    assert 1 <= cols <= width
    assert torch.equal(cut, cut_ids.expand(3, -1, -1))
    windows = ids.to(torch.uint8).unfold(0, rows, 1).unfold(1, cols, 1)
    assert (windows == cut_ids).flatten(2).all(dim=2).any()


def test_crops_keep_the_stated_area_and_reach_all_borders():
    image, ids = pair(100, 150)
    shares, corners = [], set()
    for seed in range(300):
        height_width = apply("crop", image, ids, seed)[1].shape
        shares.append(height_width.numel() / ids.numel())
    assert 0.38 < min(shares) < 0.45
    assert max(shares) == 1
    marked = torch.zeros(100, 150, dtype=torch.uint8)
    for corner, place in enumerate([(0, 0), (0, -1), (-1, 0), (-1, -1)], start=1):
        marked[place] = corner
    for seed in range(300):
        corners.add(tuple(apply("crop", image, marked, seed)[1].unique().tolist()))
    assert any(1 in c for c in corners)
    assert any(1 not in c for c in corners)


def test_a_turned_image_is_turned_as_its_mask_and_its_corners_are_ignored():
    ids = torch.zeros(64, 64, dtype=torch.uint8)
    ids[16:48, 24:40] = 1
    image = (200 * ids).expand(3, -1, -1).contiguous()
    turned = 0
    for seed in range(30):
        moved, moved_ids = apply("rotate", image, ids, seed)
        assert moved.shape == image.shape
        known = moved_ids != IGNORE
        turned += not known.all()
        # Bilinear against nearest: they may part at the object's border only.
        wrong = ((moved[0] > 100) != (moved_ids == 1)) & known
        assert wrong.float().mean() < 0.02
        assert not moved_ids[26:38, 28:36].ne(1).any()
    assert 8 < turned < 22


def test_rotation_is_that_of_torchvision():
    image, ids = pair(20, 30)
    seed = next(s for s in range(50) if apply("rotate", image, ids, s)[1].ne(ids).any())
    angle = 20.0 * (2 * rng(seed).random() - 1)
    _, found = apply("rotate", image, ids, seed)
    expected = TF.rotate(ids[None], angle, InterpolationMode.NEAREST, fill=[float(IGNORE)])[0]
    assert torch.equal(found, expected)


def test_ignored_pixels_stay_ignored_when_turned():
    image, _ = pair(30, 30)
    ids = torch.full((30, 30), IGNORE, dtype=torch.uint8)
    for seed in range(10):
        assert (apply("rotate", image, ids, seed)[1] == IGNORE).all()


def test_colour_changes_the_image_alone_and_mildly():
    torch.manual_seed(0)
    image = torch.randint(60, 190, (3, 12, 10), dtype=torch.uint8)
    ids = torch.zeros(12, 10, dtype=torch.uint8)
    changed = 0
    for seed in range(50):
        other, same = apply("colour", image, ids, seed)
        assert same is ids
        assert (other.dtype, other.shape) == (image.dtype, image.shape)
        # What was brighter stays brighter.
        grey, new = image.float().mean(0).flatten(), other.float().mean(0).flatten()
        assert torch.corrcoef(torch.stack([grey, new]))[0, 1] > 0.9
        changed += not torch.equal(other, image)
    assert 30 < changed < 50


def test_the_generator_decides_alone():
    image, ids = pair()
    for resized in (False, True):
        results = []
        for _ in range(2):
            torch.rand(3)
            names = sorted(AUGMENTATIONS)
            results.append(augment(image, ids, names, rng(5), resized=resized))
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])


def test_each_one_has_its_turn_before_or_after_the_resizing():
    image, ids = pair()
    for name, augmentation in AUGMENTATIONS.items():
        same, same_ids = augment(image, ids, [name], rng(1), resized=not augmentation.resized)
        assert same is image
        assert same_ids is ids


def test_every_augmentation_is_one_that_a_plan_can_name():
    names = tuple(AUGMENTATIONS)
    assert DOMAINS["data.augment"].read(names) == names


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 60))
def test_a_window_to_train_on_lies_on_the_content(seed, height, width):
    ids = torch.zeros(height, width, dtype=torch.uint8)
    ids[height // 2, width // 3] = seed % 3
    top, left = random_window(ids, (24, 32), rng(seed))
    assert 0 <= top <= max(0, height - 24)
    assert 0 <= left <= max(0, width - 32)


def test_where_there_is_nothing_to_choose_no_random_number_is_drawn():
    generator = rng(0)
    before = generator.bit_generator.state
    for shape in ((24, 32), (3, 32), (1, 1)):
        assert random_window(torch.ones(shape, dtype=torch.uint8), (24, 32), generator) == (0, 0)
    assert generator.bit_generator.state == before


def test_a_third_of_the_windows_looks_for_foreground_rare_classes_as_often_as_common_ones():
    ids = torch.zeros(300, 400, dtype=torch.uint8)
    ids[200:203, 100:103] = 1  # 9 pixels
    ids[20:60, 320:360] = 2  # 1600 pixels
    ids[280:] = IGNORE
    generator = rng(0)
    windows = [random_window(ids, (16, 16), generator) for _ in range(1500)]
    for class_id, side in ((1, 3), (2, 40)):
        hits = sum(bool((ids[t : t + 16, le : le + 16] == class_id).any()) for t, le in windows)
        by_chance = (side + 15) ** 2 / (285 * 385)
        expected = FOREGROUND_SHARE / 2 + (1 - FOREGROUND_SHARE) * by_chance
        assert abs(hits / 1500 - expected) < 0.035


def test_without_foreground_every_place_is_as_likely():
    ids = torch.zeros(20, 20, dtype=torch.uint8)
    ids[:10] = IGNORE
    generator = rng(0)
    places = [random_window(ids, (17, 20), generator) for _ in range(800)]
    tops = torch.tensor([top for top, _ in places])
    assert (tops.bincount() - 200).abs().max() < 50
    assert {left for _, left in places} == {0}


def test_every_pixel_of_a_class_is_as_likely():
    ids = torch.zeros(9, 9, dtype=torch.uint8)
    ids[[0, 3, 3, 8], [0, 2, 7, 8]] = 4
    generator = rng(1)
    windows = [random_window(ids, (1, 1), generator) for _ in range(3000)]
    seen = torch.tensor([windows.count(tuple(place)) for place in ids.nonzero().tolist()])
    assert (seen - 3000 * (FOREGROUND_SHARE / 4 + (1 - FOREGROUND_SHARE) / 81)).abs().max() < 60
