"""Digests, hashes and thumbnails; pairs against the definition, in bounded numbers."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from easyseg.auditing import duplicates as module
from easyseg.auditing.duplicates import (
    CORRELATION,
    WITHIN,
    clusters,
    content_digest,
    look_at,
    near_duplicates,
)
from easyseg.data.io import read_image


def picture(seed: int, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    """Return a smooth random picture, as photos are."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(20, 230, (9, 12, 3), dtype=np.uint8))
    return np.array(coarse.resize(size[::-1], Image.Resampling.BICUBIC))


def compressed(rgb: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=quality)
    return read_image(Image.open(file))


def resized(rgb: np.ndarray, factor: float) -> np.ndarray:
    height, width = round(rgb.shape[0] * factor), round(rgb.shape[1] * factor)
    return np.array(Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC))


def differing_bits(a: int, b: int) -> int:
    return bin(a ^ b).count("1")


def correlation(a: bytes, b: bytes) -> float:
    x, y = (np.frombuffer(t, np.uint8).astype(float) for t in (a, b))
    return float(np.corrcoef(x, y)[0, 1])


def by_definition(hashes, within, thumbnails=None, least=CORRELATION):
    return {
        (i, j)
        for j in range(len(hashes))
        for i in range(j)
        if hashes[i]
        and hashes[j]
        and differing_bits(hashes[i], hashes[j]) <= within
        and (thumbnails is None or correlation(thumbnails[i], thumbnails[j]) >= least)
    }


def partition(labels):
    return {tuple(i for i, x in enumerate(labels) if x == label) for label in set(labels)}


def test_a_digest_is_that_of_shape_type_and_values():
    a = np.arange(12, dtype=np.uint8).reshape(3, 4)
    different = [a, a.reshape(4, 3), a.astype(np.int32), a + np.uint8(1), a.T, a[:2], a.view(bool)]
    assert len({content_digest(x) for x in different}) == len(different)
    assert content_digest(np.repeat(a, 2, axis=0)[::2]) == content_digest(a)
    assert len(content_digest(a)) == 32
    int(content_digest(a), 16)


def test_the_hash_is_the_signs_of_the_lowest_cosines():
    rgb = picture(0)
    grey = Image.fromarray(rgb).convert("L").resize((64, 64), Image.Resampling.BOX)
    small = np.asarray(grey, float)
    steps = (np.arange(64) + 0.5) * np.pi / 64
    waves = sorted(((u, v) for u in range(11) for v in range(11)), key=lambda w: (sum(w), w))
    bits = ""
    for u, v in waves[1:65]:
        scale = (1 if u else 0.5**0.5) * (1 if v else 0.5**0.5) / 32
        bits += str(int((small * np.outer(np.cos(u * steps), np.cos(v * steps))).sum() * scale > 1))
    assert look_at(rgb).perceptual_hash == int(bits, 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda rgb: compressed(rgb, 30),
        lambda rgb: resized(rgb, 0.5),
        lambda rgb: resized(rgb, 1.7),
        lambda rgb: np.clip(rgb * 1.1 + 5, 0, 255).astype(np.uint8),
        lambda rgb: compressed(resized(rgb, 0.7), 60),
        lambda rgb: rgb[2:-2, 2:-2],
    ],
    ids=["jpeg", "half", "larger", "brighter", "smaller and jpeg", "cropped"],
)
def test_copies_are_near_duplicates_and_others_are_not(change):
    images = [picture(seed) for seed in range(12)]
    images += [change(rgb) for rgb in images]
    found = near_duplicates(
        [look_at(rgb).perceptual_hash for rgb in images],
        thumbnails=[look_at(rgb).thumbnail for rgb in images],
    )
    assert sorted(found) == [(i, i + 12) for i in range(12)]


def test_a_thumbnail_is_a_stretched_grey_copy():
    rgb = np.zeros((32, 48, 3), np.uint8)
    rgb[:16] = 100
    found = np.frombuffer(look_at(rgb).thumbnail, np.uint8).reshape(16, 16)
    assert (found[:8] == 255).all()
    assert (found[8:] == 0).all()


@pytest.mark.parametrize("value", [0, 7, 255])
def test_flat_images_have_no_look_and_pair_with_none(value):
    flat = np.full((40, 50, 3), value, np.uint8)
    flat[3, 4] += np.uint8(value < 255)
    assert look_at(flat).perceptual_hash == 0
    assert look_at(flat).thumbnail == bytes(256)
    assert near_duplicates([0] * 3000) == []
    assert near_duplicates([0] * 3000, thumbnails=[bytes(256)] * 3000) == []


def test_an_image_without_rising_frequencies_is_not_taken_for_flat():
    ramp = np.tile(np.arange(64, dtype=np.uint8)[:, None, None], (1, 64, 3))
    assert look_at(ramp).perceptual_hash == 1
    assert look_at(ramp[:1, :1]).perceptual_hash == 0


near_hashes = st.lists(
    st.builds(
        lambda base, flips: base ^ sum(1 << bit for bit in flips),
        st.sampled_from([0, 2**64 - 1, 0x0123456789ABCDEF]),
        st.sets(st.integers(0, 63), max_size=8),
    ),
    max_size=30,
)


@given(hashes=near_hashes, within=st.integers(0, 16), block=st.sampled_from([1, 40, 2**21]))
def test_pairs_are_those_of_the_definition(hashes, within, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "NEIGHBOURS", 100)
        patch.setattr(module, "_BLOCK", block)
        found = near_duplicates(hashes, within)
    assert len(found) == len(set(found))
    assert set(found) == by_definition(hashes, within)
    assert found == sorted(found, key=lambda pair: pair[::-1])


@given(hashes=near_hashes, within=st.integers(0, 16), block=st.sampled_from([1, 40, 2**21]))
def test_few_pairs_an_image_hold_the_same_clusters_together(hashes, within, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "NEIGHBOURS", 1)
        patch.setattr(module, "_BLOCK", block)
        found = near_duplicates(hashes, within)
    expected = by_definition(hashes, within)
    assert set(found) <= expected
    assert len(found) <= 2 * len(hashes)
    same = partition(clusters(len(hashes), sorted(expected)))
    assert partition(clusters(len(hashes), found)) == same
    for j in {j for _, j in expected}:  # the nearest one before it is kept
        distances = {i: differing_bits(hashes[i], hashes[j]) for i, k in expected if k == j}
        kept = [distances[i] for i, k in found if k == j]
        assert min(kept) == min(distances.values())


@given(seed=st.integers(0, 10**6), least=st.sampled_from([0.3, 0.8, 0.97]))
def test_thumbnails_confirm_what_hashes_propose(seed, least):
    rng = np.random.default_rng(seed)
    bases = rng.integers(0, 256, (3, 256))
    noise = rng.normal(0, 1, (12, 256)) * rng.integers(5, 80, (12, 1))
    thumbs = [
        np.clip(bases[k % 3] + noise[k], 0, 255).astype(np.uint8).tobytes() for k in range(12)
    ]
    hashes = [int(h) for h in rng.choice([5, 7, 2**40 - 1], 12)]
    expected = by_definition(hashes, WITHIN, thumbs, least)
    assert set(near_duplicates(hashes, thumbnails=thumbs, correlation=least)) == expected


def test_a_long_film_of_one_scene_gives_few_pairs_an_image_and_one_cluster():
    count = 4000
    hashes = [2**63 + (i % 7) for i in range(count)]
    thumbs = [look_at(picture(0)).thumbnail] * count
    found = near_duplicates(hashes, thumbnails=thumbs)
    assert len(found) <= 9 * count
    assert set(clusters(count, found)) == {0}


@given(
    count=st.integers(0, 20),
    pairs=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=20),
)
def test_clusters_are_what_pairs_connect(count, pairs):
    pairs = [(i, j) for i, j in pairs if max(i, j) < count]
    expected = list(range(count))
    for _ in range(count):  # labels flow along the pairs until nothing changes
        for i, j in pairs:
            expected[i] = expected[j] = min(expected[i], expected[j])
    assert partition(clusters(count, pairs)) == partition(expected)


@pytest.mark.parametrize(
    ("name", "least", "most"), [("skin_isic", 0, 0), ("road_epfl", 0, 0), ("highway_cdnet", 5, 34)]
)
def test_real_sets(shared_data, name, least, most):
    """Frames of a fixed camera are near duplicates; lesions and tiles are not."""
    with (shared_data / name / "test.csv").open() as file:
        images = [read_image(shared_data / name / row["image"]) for row in csv.DictReader(file)]
    pairs = near_duplicates(
        [look_at(rgb).perceptual_hash for rgb in images],
        thumbnails=[look_at(rgb).thumbnail for rgb in images],
    )
    assert least <= len({i for pair in pairs for i in pair}) <= most
