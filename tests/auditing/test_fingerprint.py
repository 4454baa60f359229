"""The fingerprint: hand-counted numbers, the way through JSON, and real sets."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from easyseg.auditing.encoding import mask_encoding
from easyseg.auditing.fingerprint import (
    SPECK,
    Fingerprint,
    Percentiles,
    Quantiles,
    fingerprint,
)
from easyseg.auditing.intensities import Intensities
from easyseg.auditing.scan import ImageFacts, scan
from easyseg.auditing.shapes import Shapes
from easyseg.data.label_map import LabelMap
from easyseg.data.table import read_samples
from easyseg.errors import DataError
from easyseg.plan.input_choices import UPRIGHT_ABOVE

# Whether up and down differ in the images of a real set.
UPRIGHT = {
    "camvid": True,
    "cwfid": False,
    "highway_cdnet": True,
    "leaf_disease": False,
    "polyp_cvc": True,
    "road_epfl": False,
    "skin_isic": False,
    # Photographs: it differs, but their halves look too much alike for it to be seen.
    "glass_gdd": False,
}
LABELS = LabelMap((0, 3, 7), ("soil", "crop", "weed"), 255, "uint8")
FACTS = (
    ImageFacts(
        (10, 10),
        {0: 60, 3: 20, 255: 20},
        "uint8",
        "RGB",
        1.0,
        {0: 0.5, 3: 0.9, 255: 0.5},
        brightness=60.0,
        shapes={
            0: Shapes(1, (0.6,), 0.5),
            3: Shapes(2, (0.05, 0.15), 0.2),
            255: Shapes(9, (0.2,), 0.01),
        },
        intensities=Intensities((30.0, 60.0, 90.0), 5.0),
    ),
    ImageFacts(
        (20, 10),
        {0: 200},
        "uint8",
        "L",
        2.0,
        {0: 0.5},
        grey=True,
        brightness=90.0,
        shapes={0: Shapes(1, (1.0,), 0.5)},
        intensities=Intensities((90.0, 90.0, 90.0), 15.0),
    ),
    ImageFacts((10, 40), {255: 400}, "uint8", "RGB", 6.0, {255: 0.5}),
)


def test_hand_counted():
    found = fingerprint(FACTS, FACTS[:2], LABELS)
    assert found == Fingerprint(
        num_images=3,
        num_tuning=2,
        height=Quantiles(10, 10, 20),
        width=Quantiles(10, 10, 40),
        image_modes={"L": 1, "RGB": 2},
        mask_dtype="uint8",
        mask_values={0: 260 / 700, 3: 20 / 700, 255: 420 / 700},
        class_shares={"soil": 260 / 280, "crop": 20 / 280, "weed": 0.0},
        images_with={"soil": 2, "crop": 1, "weed": 0},
        empty_masks=2,
        ignored_share=420 / 700,
        uprightness=3 / 7**0.5,  # Brightness: mean 3, deviation sqrt(7); the soil lies evenly.
        components=Quantiles(2, 2, 2),
        object_sizes=Percentiles.of([0.05, 0.15]),
        thickness={"crop": 0.2},
        brightness=Quantiles(60, 75, 90),
        contrast=Quantiles(5, 10, 15),
        channels=(60.0, 75.0, 90.0),
        grey_images=1,
    )


def with_shapes(*shapes):
    """Return a fact of a mask with these shapes, by value."""
    return [
        ImageFacts((9, 9), {0: 81}, "uint8", "L", 0.0, {0: 0.5}, shapes=each) for each in shapes
    ]


def test_shapes_are_those_of_all_classes_but_the_first():
    soil = Shapes(50, (0.9,), 0.9)
    found = fingerprint(
        with_shapes(
            {0: soil, 3: Shapes(1, (0.1,), 0.1), 7: Shapes(2, (0.2, 0.3), 0.3)},
            {0: soil, 3: Shapes(4, (0.4, 0.4, 0.4, 0.4), 0.2)},
            {0: soil, 3: Shapes(1, (0.5,), 0.6), 255: soil},
            {0: soil},
        ),
        (),
        LABELS,
    )
    assert found.components == Quantiles(1, 3, 4)
    assert found.thickness == {"crop": 0.2, "weed": 0.3}
    areas = [0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4, 0.5]
    assert found.object_sizes == Percentiles(*np.quantile(areas, [0.1, 0.5, 0.9]).tolist())


def test_specks_are_no_objects_unless_there_is_nothing_else():
    speck, object_ = SPECK / 2, 0.2
    mixed, alone = (
        fingerprint(with_shapes({3: Shapes(len(areas), areas, 0.1)}), (), LABELS)
        for areas in ((speck, speck, object_), (speck, speck))
    )
    assert mixed.object_sizes == Percentiles(object_, object_, object_)
    assert mixed.components == Quantiles(3, 3, 3)
    assert alone.object_sizes == Percentiles(speck, speck, speck)


def test_nothing_measured_is_said_as_nothing():
    found = fingerprint(FACTS[2:], (), LABELS)
    assert (found.components, found.object_sizes, found.thickness) == (None, None, {})
    assert (found.brightness, found.contrast, found.channels) == (None, None, None)


def upright(leans, uppers):
    facts = [
        ImageFacts((2, 2), {0: 2, 3: 2}, "uint8", "L", lean, {0: 1 - upper, 3: upper})
        for lean, upper in zip(leans, uppers, strict=True)
    ]
    return fingerprint(facts, (), LABELS).uprightness


def test_uprightness_is_the_largest_effect_size():
    level, tilted = [1.0, -1.0, 1.0, -1.0], [0.5, 0.8, 0.6, 0.9]
    spread = np.std(tilted, ddof=1)
    assert upright(level, [0.4, 0.6, 0.5, 0.5]) == pytest.approx(0, abs=1e-9)
    assert upright(level, tilted) == pytest.approx(0.2 / spread)
    assert upright([3.0, 5.0, 4.0, 4.0], tilted) == pytest.approx(4 / np.std([3, 5, 4, 4], ddof=1))


def test_uprightness_without_a_deviation():
    assert upright([0.0, 0.0], [0.5, 0.5]) == 0
    assert upright([0.0, 0.0], [0.7, 0.7]) == 99
    assert upright([5.0], [0.9]) == 0


def test_a_class_that_few_images_hold_says_nothing_about_up_and_down():
    rare = ImageFacts((2, 2), {0: 2, 7: 2}, "uint8", "L", 0.0, {0: 0.5, 7: 1.0})
    usual = ImageFacts((2, 2), {0: 4}, "uint8", "L", 0.0, {0: 0.5})
    assert fingerprint([rare, usual, usual], (), LABELS).uprightness == 0
    assert fingerprint([rare, rare, usual], (), LABELS).uprightness == 99


def test_all_ignored_gives_shares_of_zero():
    found = fingerprint(FACTS[2:], (), LABELS)
    assert found.class_shares == {"soil": 0.0, "crop": 0.0, "weed": 0.0}
    assert found.ignored_share == 1.0


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            lambda counts, shape, found: ImageFacts(
                (1, sum(counts.values())),
                counts,
                "uint8",
                "RGB",
                0.0,
                dict.fromkeys(counts, 0.5),
                shapes=shape and dict.fromkeys(counts, shape),
                intensities=found,
            ),
            st.dictionaries(st.sampled_from([0, 3, 7, 255]), st.integers(1, 10**9), min_size=1),
            st.none() | st.just(Shapes(2, (1e-5, 0.3), 0.1)),
            st.none() | st.just(Intensities((1.0, 2.0, 3.0), 4.0)),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_json_round_trip_and_shares_that_sum_to_one(facts):
    found = fingerprint(facts, (), LABELS)
    record = json.loads(json.dumps(found.to_dict()))
    assert Fingerprint.from_dict(record) == found
    assert Fingerprint.from_dict(record | {"hardware": {"accelerator": "cpu"}}) == found
    assert np.isclose(sum(found.mask_values.values()), 1)
    assert found.ignored_share == 1 or np.isclose(sum(found.class_shares.values()), 1)


def test_errors():
    with pytest.raises(DataError, match="no training sample"):
        fingerprint((), FACTS, LABELS)
    with pytest.raises(DataError, match="the value 9"):
        fingerprint([ImageFacts((1, 1), {9: 1}, "uint8", "L", 0.0, {9: 0.5})], (), LABELS)


@pytest.mark.parametrize(
    ("name", "values", "ignore"),
    [
        ("skin_isic", (0, 1), None),
        ("cwfid", (0, 1, 2), None),
        ("camvid", tuple(range(11)), 255),
        ("highway_cdnet", (0, 1, 2), 255),
    ],
)
def test_real_sets_from_table_to_fingerprint(shared_data, name, values, ignore):
    samples = read_samples(shared_data / name / "test.csv")
    samples = samples.take(range(0, len(samples), max(1, len(samples) // 12)))
    facts = scan(samples)
    label_map = mask_encoding(samples.labels, facts).label_map()
    assert (label_map.values, label_map.ignore, label_map.dtype) == (values, ignore, "uint8")
    found = fingerprint(facts, (), label_map)
    assert found.num_images == len(samples)
    assert found.image_modes == {"RGB": len(samples)}
    assert all(share > 0 for share in found.class_shares.values())
    assert (found.ignored_share > 0) == (ignore is not None)


@pytest.mark.parametrize(("name", "upright"), UPRIGHT.items())
def test_real_sets_that_know_up_from_down(shared_data, name, upright):
    samples = read_samples(shared_data / name / "train.csv")
    samples = samples.take(range(0, len(samples), max(1, len(samples) // 33)))
    facts = scan(samples)
    label_map = mask_encoding(samples.labels, facts).label_map()
    assert (fingerprint(facts, (), label_map).uprightness > UPRIGHT_ABOVE) == upright


# Shapes and intensities of real sets that anyone sees at a glance.


@pytest.fixture(scope="module")
def real(shared_data):
    found = {}
    for name in ("skin_isic", "cwfid", "polyp_cvc", "road_epfl"):
        samples = read_samples(shared_data / name / "train.csv")
        samples = samples.take(range(0, len(samples), max(1, len(samples) // 12)))
        facts = scan(samples)
        found[name] = fingerprint(facts, (), mask_encoding(samples.labels, facts).label_map())
    return found


def test_plants_are_thinner_smaller_and_more_than_lesions(real):
    plants, lesions = real["cwfid"], real["skin_isic"]
    assert max(plants.thickness.values()) < min(lesions.thickness.values()) / 3
    assert plants.object_sizes.p50 < lesions.object_sizes.p50 / 5
    assert plants.components.median > 5
    assert lesions.components.median == 1


def test_an_endoscope_is_in_the_dark_and_lesions_are_pale_red(real):
    assert real["polyp_cvc"].brightness.median < real["skin_isic"].brightness.median
    red, green, blue = real["skin_isic"].channels
    assert red > max(green, blue)
    assert all(found.grey_images == 0 for found in real.values())


# Smeared masks.


def strips_and_disks(count=6, side=128):
    """Binary masks of a few disks and thin strips, 0 and 255, more of them in the upper half."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:side, :side]
    for _ in range(count):
        row, column = rng.integers(20, 45, 2)
        mask = np.hypot(y - row, x - column) < rng.integers(8, 14)
        mask |= np.abs(y - 80 - 0.2 * x) < 2
        yield mask.astype(np.uint8) * np.uint8(255)


def jpeg(mask):
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "JPEG", quality=60)
    return Image.open(file)


def fingerprint_of(masks):
    blank = np.zeros((128, 128, 3), np.uint8)
    samples = read_samples(pd.DataFrame({"image": [blank] * len(masks), "label": masks}))
    facts = scan(samples)
    label_map = mask_encoding(samples.labels, facts).label_map()
    return fingerprint(facts, (), label_map), label_map.smeared


@pytest.mark.parametrize("smear", [jpeg, lambda mask: ndimage.gaussian_filter(mask, 1.5)])
def test_smeared_masks_have_the_shapes_of_clean_ones(smear):
    clean, no = fingerprint_of(list(strips_and_disks()))
    found, smeared = fingerprint_of([smear(mask) for mask in strips_and_disks()])
    assert (no, smeared) == (False, True)
    assert found.components == clean.components == Quantiles(2, 2, 2)
    for name in ("p10", "p50", "p90"):
        assert getattr(found.object_sizes, name) == pytest.approx(
            getattr(clean.object_sizes, name), rel=0.15
        )
    assert found.thickness["foreground"] == pytest.approx(clean.thickness["foreground"], rel=0.15)
    assert found.uprightness == pytest.approx(clean.uprightness, rel=0.15)
