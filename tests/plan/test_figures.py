"""Figures of the fingerprint move decisions where the reasons say so, and reasons name them."""

from __future__ import annotations

import functools
import math
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_makers import CPU, H200, facts, plan_for

from easyseg.auditing.fingerprint import Percentiles
from easyseg.plan import decisions
from easyseg.plan.adapter_choices import (
    FEW_IMAGES,
    MANY_CLASSES,
    MANY_IMAGES,
    PAPERS_SCALES,
    RANKS,
    SMALL_BACKBONE_RANK,
)
from easyseg.plan.costs import Costs
from easyseg.plan.input_choices import (
    COLOURS_FROM_TIMES,
    CROPS_FROM_TIMES,
    THIN_BELOW_PIXELS,
    TURNS_FROM_TIMES,
    UPRIGHT_ABOVE,
    UPRIGHT_KNOWN_FROM_IMAGES,
)
from easyseg.plan.lengths import LEAST_PATIENCE_STEPS, LEAST_STEPS
from easyseg.plan.optimizer_choices import (
    HIGHEST_LR,
    HIGHEST_LR_UP_TO_RANK,
    HIGHEST_LR_UP_TO_STEPS,
    WARMUP_SHARES,
    WARMUP_STEPS,
)
from easyseg.plan.preset_choice import (
    CPU_FAST_ABOVE_IMAGES,
    CPU_FAST_ABOVE_MEGAPIXELS,
    CPU_FAST_BELOW_SECONDS,
    GPU_BEST_FROM_SECONDS,
    GPU_BEST_UP_TO_IMAGES,
    GPU_FAST_ABOVE_IMAGES,
    GPU_FAST_BELOW_SECONDS,
)
from easyseg.plan.presets import load_preset

quick = settings(max_examples=40)
PRESETS = ("fast", "balanced", "best")
presets = st.sampled_from(PRESETS)
few = st.integers(1, FEW_IMAGES - 1)
usual = st.integers(FEW_IMAGES, MANY_IMAGES - 1)
many = st.integers(MANY_IMAGES, 100_000)


@pytest.fixture(scope="module", autouse=True)
def presets_are_read_once():
    """Read each preset once: hundreds of plans are made here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decisions, "load_preset", functools.cache(load_preset))
        yield


def names(count):
    return tuple(f"class_{i}" for i in range(count))


def decided(key, fingerprint=None, **options):
    """Return the value and the reason of one decision."""
    fingerprint = fingerprint or facts()
    classes = len(fingerprint.class_shares)
    kind = "binary" if classes == 2 else "multiclass"
    plan = plan_for(fingerprint, num_classes=classes, problem_type=kind, **options)
    return plan.values()[key], plan.reasons[key]


def budget(preset, machine="cpu"):
    return load_preset(preset)["budget"][machine]


# Rank: the number of images, the number of classes.


@quick
@given(presets, few, usual, many)
def test_few_images_take_a_rank_less_and_many_one_more(preset, fewer, between, more):
    counts = (fewer, between, more)
    found = [decided("adapter.rank", facts(count), presets=preset) for count in counts]
    places = [RANKS.index(rank) for rank, _ in found]
    base = RANKS.index(SMALL_BACKBONE_RANK)
    assert places == [base - 1, base, base + 1]
    for count, (_, reason) in zip(counts, found, strict=True):
        assert f"{count}" in reason
    assert f"under {FEW_IMAGES}" in found[0][1]
    assert f"from {MANY_IMAGES}" in found[2][1]


@quick
@given(
    presets, st.integers(2, MANY_CLASSES - 1), st.integers(MANY_CLASSES, 200), few | usual | many
)
def test_many_classes_take_a_rank_more(preset, below, above, count):
    (less, _), (more, reason) = (
        decided("adapter.rank", facts(count, names=names(classes)), presets=preset)
        for classes in (below, above)
    )
    assert RANKS.index(more) == RANKS.index(less) + 1
    assert f"({above}, from {MANY_CLASSES})" in reason


# Warm-up: the number of steps.


@quick
@given(presets, few | usual | many, st.integers(1, 5000) | st.just(-1))
def test_the_warm_up_is_a_number_of_steps(preset, count, most):
    plan = plan_for(facts(count), presets=preset, overrides={"train.max_steps": most})
    steps = plan.train.epochs * math.ceil(count / plan.train.batch_size)
    steps = min(steps, most) if most > 0 else steps
    low, high = WARMUP_SHARES
    assert plan.optim.warmup == pytest.approx(min(max(WARMUP_STEPS / steps, low), high), abs=1e-3)
    assert plan.reasons["optim.warmup"].startswith(f"{WARMUP_STEPS} steps of {steps}, ")


# Experts and scales: how much objects differ in size.


def objects(times, small=1e-4):
    return replace(facts(), object_sizes=Percentiles(small, small, small * times**2))


@quick
@given(presets, st.floats(1, 1e3), st.floats(1e-5, 1e-2))
def test_the_more_objects_differ_the_more_experts(preset, times, small):
    found = objects(times, small)
    number, reason = decided("adapter.num_experts", found, presets=preset)
    most = budget(preset)["experts"]
    assert most // 2 <= number <= most
    sizes = found.object_sizes
    wanted = most * math.sqrt(sizes.p90 / sizes.p10) / PAPERS_SCALES
    assert number == min(most, max(most // 2, math.ceil(wanted)))
    assert f"{sizes.p10:.2%} to {sizes.p90:.2%}" in reason
    assert f"{most} from {PAPERS_SCALES} times on" in reason
    scales, reason = decided("adapter.scales", found, presets=preset)
    assert scales == tuple(range(1, number + 1))
    assert f"{math.sqrt(sizes.p90 / sizes.p10):.1f} times as long" in reason


@quick
@given(presets, st.floats(1.0, 0.49 * PAPERS_SCALES), st.floats(1.01 * PAPERS_SCALES, 100.0))
def test_all_experts_from_eight_times_on_half_of_them_at_half_of_that(preset, less, more):
    numbers = [decided("adapter.num_experts", objects(t), presets=preset)[0] for t in (less, more)]
    most = budget(preset)["experts"]
    assert numbers == [most // 2, most]


def test_without_objects_the_preset_has_its_experts():
    number, reason = decided("adapter.num_experts", replace(facts(), object_sizes=None))
    assert (number, reason.split()[:2]) == (8, ["no", "object"])
    assert "times as long" not in decided("adapter.scales", replace(facts(), object_sizes=None))[1]


# Rate: the steps that the number of images makes, and the rank.


@quick
@given(presets, st.integers(1, 3000))
def test_the_rate_falls_from_the_stated_number_of_steps_on(preset, count):
    overrides = {"train.epochs": 10, "train.batch_size": 1, "adapter.rank": 4}
    rate, reason = decided("optim.lr", facts(count), presets=preset, overrides=overrides)
    assert (rate == HIGHEST_LR) == (count * 10 <= HIGHEST_LR_UP_TO_STEPS)
    assert rate == pytest.approx(
        HIGHEST_LR * min(1, math.sqrt(HIGHEST_LR_UP_TO_STEPS / (10 * count))), rel=0.05
    )
    assert reason.startswith(f"{count} images in batches of 1 make {10 * count} steps")


@quick
@given(st.integers(1, HIGHEST_LR_UP_TO_RANK), st.integers(HIGHEST_LR_UP_TO_RANK + 1, 64))
def test_higher_ranks_than_were_tried_take_a_lower_rate(low, high):
    rates = [decided("optim.lr", overrides={"adapter.rank": rank}) for rank in (1, low, high)]
    assert rates[0] == rates[1]
    assert rates[2][0] == pytest.approx(
        rates[0][0] * (HIGHEST_LR_UP_TO_RANK / high) ** 0.5, rel=0.1
    )
    assert f"rank {high}" in rates[2][1]
    off = {"adapter.rank": high, "adapter.kind": "none"}
    assert decided("optim.lr", overrides=off)[0] == rates[0][0]


# Size: the thickness of the usual class, in pixels of the preset's size.


def of_thickness(*shares):
    found = facts(names=names(len(shares) + 1))
    return replace(found, thickness=dict(zip(names(len(shares) + 1)[1:], shares, strict=True)))


@pytest.mark.parametrize(
    ("preset", "hardware", "size", "larger"),
    [
        ("fast", CPU, 112, 112),
        ("balanced", CPU, 112, 168),
        ("best", CPU, 224, 256),
        ("fast", H200, 448, 672),
        ("balanced", H200, 1024, 1024),
    ],
)
@quick
@given(thin=st.floats(0.01, 0.99), thick=st.floats(1.01, 50))
def test_thin_objects_get_the_larger_size_of_the_preset(
    preset, hardware, size, larger, thin, thick
):
    named = {"backbone.name": "vit_b"} if hardware is H200 else {}
    options = {"presets": preset, "hardware": hardware, "overrides": named}
    line = THIN_BELOW_PIXELS / size
    small, why_small = decided("data.size", of_thickness(line * thick), **options)
    large, why_large = decided("data.size", of_thickness(line * thin), **options)
    assert (small, large) == (size, larger)
    assert f"{THIN_BELOW_PIXELS * thick:.1f} px thick" in why_small
    assert f"{THIN_BELOW_PIXELS * thin:.1f} px thick" in why_large
    assert f"under {THIN_BELOW_PIXELS:g}" in why_large


@quick
@given(st.floats(0.001, 0.015), st.floats(0.02, 0.5), st.floats(0.02, 0.5))
def test_one_thin_class_of_three_is_not_the_usual_one(thin, thick, other):
    assert decided("data.size", of_thickness(thick, thin, other))[0] == 112
    assert decided("data.size", of_thickness(thin, thin, other))[0] == 168


@quick
@given(st.floats(1, CPU_FAST_BELOW_SECONDS - 1), st.floats(CPU_FAST_BELOW_SECONDS, 1e5))
def test_a_short_limit_has_no_time_for_the_larger_size(short, long):
    options = {"fingerprint": of_thickness(0.01), "presets": "balanced"}
    size, reason = decided("data.size", time_limit=short, **options)
    assert size == 112
    assert f"{short:.0f} s are too few for 168" in reason
    assert decided("data.size", time_limit=long, **options)[0] == 168


def test_tiles_are_cut_from_the_images_own_pixels_however_thin_objects_are():
    tiles = {"data.geometry": "tile"}
    assert decided("data.size", of_thickness(0.001), overrides=tiles)[0] == 112
    assert "thick" not in decided("data.size", replace(facts(), thickness={}))[1]


# Augmentation: how much up differs from down, and the epochs that the number of images makes.


@quick
@given(
    st.floats(0, UPRIGHT_ABOVE),
    st.floats(UPRIGHT_ABOVE, 99, exclude_min=True),
    st.integers(UPRIGHT_KNOWN_FROM_IMAGES, 10_000),
    presets,
)
def test_images_are_turned_below_the_stated_uprightness(level, tilted, count, preset):
    for uprightness, turned in ((level, True), (tilted, False)):
        found = replace(facts(count), uprightness=uprightness)
        names, reason = decided("data.augment", found, presets=preset)
        assert "hflip" in names
        assert {"vflip", "rot90"} & set(names) == ({"vflip", "rot90"} if turned else set())
        assert f"{uprightness:.1f} deviations" in reason


@quick
@given(st.integers(1, UPRIGHT_KNOWN_FROM_IMAGES - 1), st.integers(UPRIGHT_KNOWN_FROM_IMAGES, 1000))
def test_too_few_images_do_not_tell_up_from_down(fewer, enough):
    found, reason = decided("data.augment", facts(fewer))
    assert "vflip" not in found
    assert f"{fewer} images" in reason
    assert "vflip" in decided("data.augment", facts(enough))[0]


@quick
@given(st.integers(1, 2000))
def test_the_number_of_images_makes_epochs_and_those_make_colours_and_crops(count):
    (epochs, reason), (augment, _) = (
        decided(key, facts(count), presets="balanced") for key in ("train.epochs", "data.augment")
    )
    bounds = budget("balanced")
    wanted = round(bounds["samples"] / count)
    assert epochs == min(max(wanted, bounds["min_epochs"]), bounds["max_epochs"])
    assert f"{count} an epoch" in reason
    assert ("colour" in augment) == (epochs >= COLOURS_FROM_TIMES)
    assert ("crop" in augment) == (epochs >= CROPS_FROM_TIMES)


@quick
@given(st.integers(1, 300), presets)
def test_few_images_make_more_epochs_on_a_gpu_and_are_waited_for_longer(count, preset):
    bounds = budget(preset, "gpu")
    batch, (epochs, why), (wait, reason) = (
        decided(key, facts(count), hardware=H200, presets=preset, obtainable=("vit_b",))
        for key in ("train.batch_size", "train.epochs", "train.patience")
    )
    steps = math.ceil(count / batch[0])
    for taken, usual, least in (
        (epochs, bounds["epochs"], LEAST_STEPS),
        (wait, bounds["patience"], LEAST_PATIENCE_STEPS),
    ):
        assert taken == max(usual, math.ceil(least / steps))
    for few, words in (
        (bounds["epochs"] * steps < LEAST_STEPS, why),
        (bounds["patience"] * steps < LEAST_PATIENCE_STEPS, reason),
    ):
        assert (f"{count} images make {steps} steps an epoch" in words) == few


@quick
@given(st.integers(20, 400), st.floats(0.05, 6))
def test_images_that_a_limit_lets_a_fit_see_rarely_stay_as_they_are(count, times):
    paid = Costs(step=1.0, image=0.0, build=0.0, before=0.0, memory_gb=None)
    steps = math.ceil(times * count)
    augment, reason = decided(
        "data.augment", facts(count), presets="fast", time_limit=steps, costs=paid
    )
    assert (augment == ()) == (steps / count < TURNS_FROM_TIMES)
    times = float(re.search(r"seen (?:less than )?([\d.]+) times", reason)[1])
    assert times == pytest.approx(steps / count, abs=0.1)
    assert (times < TURNS_FROM_TIMES) == (augment == ())
    assert f"your {steps} s pay for {steps} steps" in reason


# Head, loss, class weights: the number of classes and their shares.


@quick
@given(st.integers(3, 200))
def test_several_classes_change_head_loss_and_balance(classes):
    for key, two, several in (
        ("head.kind", "binary", "softmax"),
        ("head.num_tokens", 1, classes),
        ("loss.kind", "structure", "ce_dice"),
        ("loss.balance_weight", 1.0, 2.0),
    ):
        assert decided(key)[0] == two
        assert decided(key, facts(names=names(classes)))[0] == several
    assert f"{classes} classes" in decided("head.kind", facts(names=names(classes)))[1]


@quick
@given(st.floats(0.001, 0.32), st.floats(0.001, 0.32))
def test_the_rarer_of_two_classes_weighs_more(first, second):
    shares = dict(zip(names(3), (first, second, 1 - first - second), strict=True))
    weights, reason = decided(
        "loss.class_weights", replace(facts(names=names(3)), class_shares=shares)
    )
    assert (weights[0] - weights[1]) * (first - second) <= 0
    assert f"{min(shares.values()):.1%}" in reason


# Batch: no larger than the number of images.


@quick
@given(st.integers(1, 3), st.integers(4, 1000))
def test_a_batch_is_filled_from_its_number_of_images_on(fewer, enough):
    size, reason = decided("train.batch_size", facts(fewer), hardware=H200)
    assert (size, f"only {fewer} images" in reason) == (fewer, True)
    assert decided("train.batch_size", facts(enough), hardware=H200)[0] == 4


# The preset that auto stands for: number and size of the images.


@pytest.mark.parametrize(
    ("hardware", "bound", "up_to", "above"),
    [
        (CPU, CPU_FAST_ABOVE_IMAGES, "balanced", "fast"),
        (H200, GPU_BEST_UP_TO_IMAGES, "best", "balanced"),
        (H200, GPU_FAST_ABOVE_IMAGES, "balanced", "fast"),
    ],
)
@quick
@given(more=st.integers(1, 10_000))
def test_auto_goes_by_the_number_of_images(hardware, bound, up_to, above, more):
    for count, preset in ((bound, up_to), (bound + more, above)):
        found, reason = decided("preset", facts(count), hardware=hardware)
        assert found == preset
        assert f"{count} images" in reason


@pytest.mark.parametrize(
    ("bound", "below", "above"),
    [(GPU_FAST_BELOW_SECONDS, "fast", "balanced"), (GPU_BEST_FROM_SECONDS, "balanced", "best")],
)
@quick
@given(share=st.floats(0.2, 0.99))
def test_auto_goes_by_the_time_limit_on_a_gpu(bound, below, above, share):
    short = decided("preset", hardware=H200, time_limit=share * bound)
    assert short[0] == ("fast" if share * bound < GPU_FAST_BELOW_SECONDS else below)
    assert f"{share * bound:.0f} s" in short[1]
    assert decided("preset", hardware=H200, time_limit=bound)[0] == above
    assert decided("preset", hardware=H200)[0] == "best"


@quick
@given(st.floats(1.01, 20))
def test_auto_goes_by_the_megapixels_of_all_images(times):
    side = math.sqrt(CPU_FAST_ABOVE_MEGAPIXELS * 1e6 / 100)
    assert decided("preset", facts(100, side / 1.001))[0] == "balanced"
    found, reason = decided("preset", facts(100, side * times))
    assert found == "fast"
    assert "megapixels" in reason


# Over real sets.

SETS = {
    "camvid": 11,
    "cwfid": 3,
    "glass_gdd": 2,
    "highway_cdnet": 3,
    "leaf_disease": 2,
    "polyp_cvc": 2,
    "road_epfl": 2,
    "skin_isic": 2,
}


@pytest.fixture(scope="module")
def real_plans(shared_data):
    """The plans of every real set in every preset, from at most 33 images and the whole number."""
    from easyseg.auditing.encoding import mask_encoding
    from easyseg.auditing.fingerprint import fingerprint
    from easyseg.auditing.scan import scan
    from easyseg.data.table import read_samples

    plans = {}
    for name, classes in SETS.items():
        samples = read_samples(shared_data / name / "train.csv")
        count = len(samples)
        samples = samples.take(range(0, count, max(1, count // 33)))
        scanned = scan(samples)
        label_map = mask_encoding(samples.labels, scanned).label_map()
        found = replace(fingerprint(scanned, (), label_map), num_images=count)
        assert len(found.class_shares) == classes
        kind = "binary" if classes == 2 else "multiclass"
        for preset in PRESETS:
            plans[name, preset] = plan_for(
                found, problem_type=kind, num_classes=classes, presets=preset
            )
    return plans


@pytest.mark.parametrize("preset", PRESETS)
def test_rank_experts_and_rate_depend_on_the_real_set(real_plans, preset):
    for key in ("adapter.rank", "adapter.num_experts", "optim.lr"):
        found = {plan.values()[key] for (_, name), plan in real_plans.items() if name == preset}
        assert len(found) > 1, key


def test_roads_get_all_symmetries_streets_are_mirrored_and_small_plants_seen_larger(real_plans):
    for preset in PRESETS:
        roads, streets = (set(real_plans[n, preset].data.augment) for n in ("road_epfl", "camvid"))
        assert {"hflip", "vflip", "rot90"} <= roads
        assert streets - {"crop", "colour"} == {"hflip"}
    sizes = {name: real_plans[name, "balanced"].data.size for name in SETS}
    assert {name for name, size in sizes.items() if size > 112} == {"cwfid"}
