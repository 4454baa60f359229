"""Decisions about what enters the network: size, scale, augmentation."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

from easyseg.models.registry import BackboneSpec, get_spec
from easyseg.plan.facts import Decision, Facts
from easyseg.plan.lengths import times_seen
from easyseg.plan.memory import images_that_fit
from easyseg.plan.preset_choice import CPU_FAST_BELOW_SECONDS
from easyseg.plan.presets import SYMMETRIES

__all__ = ["augment", "scale", "size", "size_for"]

# Under so many pixels of the input across, a shape is hardly there: it takes two to tell a line
# from the gap beside it.
THIN_BELOW_PIXELS = 2.0

# Up to this size a step of a small network waits for Python and the launching of kernels, not for
# the GPU: by benchmarks/throughput.py one of lite_medsam takes an H100 as long at 256 px as at 112.
GPU_AT_LEAST_PIXELS = 256

# The effect size from which on up and down differ, and the images that it takes to know. Street
# scenes and endoscopy are above, skin, leaves, fields and aerial views below (a test holds them).
UPRIGHT_ABOVE = 0.5
UPRIGHT_KNOWN_FROM_IMAGES = 8

# In very short fits every image is news, and changing it only slows learning down. By
# benchmarks/effects.py flips and turns cost score where images were seen 0.6 to 2.3 times (and 4.5
# times on one set), colours where they were seen 5 times; those made no difference at 10. Where
# flips and turns begin to pay, and crops, is a guess.
TURNS_FROM_TIMES = 3
COLOURS_FROM_TIMES = 10
CROPS_FROM_TIMES = 20


def size(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Take about the preset's share of the size that the backbone was trained with."""
    return size_for(facts, get_spec(values["backbone.name"]))


def size_for(facts: Facts, spec: BackboneSpec) -> Decision:
    """Return the preset's size for a backbone, or its larger one if objects would be too thin."""
    share, larger = (_side(facts.budget[share], spec) for share in ("size_share", "thin_share"))
    free = min(GPU_AT_LEAST_PIXELS, spec.default_size)
    if _is_free(facts, spec, free):
        size, larger = max(share, free), max(larger, free)
    else:
        size = share
    preset, thickness = _size_of_preset(facts, spec, size), facts.fingerprint.thickness.values()
    if size > share:
        preset = f"{preset}: on a GPU its steps take little longer than at the preset's {share}"
    if not thickness or facts.overrides.get("data.geometry") == "tile":
        return Decision(size, preset)
    usual = statistics.median(thickness)
    pixels = f"objects are {usual * size:.1f} px thick"
    if usual * size >= THIN_BELOW_PIXELS:
        return Decision(size, f"{preset}; {pixels} in it")
    if larger == size:
        return Decision(size, f"{preset}, and its largest; {pixels}, under {THIN_BELOW_PIXELS:g}")
    limit = facts.time_limit
    on_cpu = facts.hardware.accelerator == "cpu"
    if on_cpu and limit is not None and limit < CPU_FAST_BELOW_SECONDS:
        few = f"but {limit:.0f} s are too few for {larger}"
        return Decision(size, f"{preset}; {pixels}, under {THIN_BELOW_PIXELS:g}, {few}")
    return Decision(
        larger,
        f"{pixels} at {size} ({usual:.1%} of an image's long side), under {THIN_BELOW_PIXELS:g}: "
        "the preset's larger size",
    )


def _is_free(facts: Facts, spec: BackboneSpec, size: int) -> bool:
    """Return whether a size costs little more than a smaller one: on a GPU that holds a batch."""
    if facts.hardware.accelerator != "cuda":
        return False
    fit = images_that_fit(
        facts.hardware,
        spec.name,
        size,
        mixed=facts.overrides.get("train.precision", facts.hardware.precision) != "32",
        num_masks=facts.num_classes,
        kind=facts.overrides.get("adapter.kind", "conv_lora"),
    )
    batch = facts.overrides.get("train.batch_size", facts.budget["batch_size"])
    return fit >= batch / facts.hardware.processes


def _size_of_preset(facts: Facts, spec: BackboneSpec, size: int) -> str:
    if size == spec.default_size:
        return f"the size {spec.name} was trained with"
    machine = "a CPU" if facts.hardware.accelerator == "cpu" else "an accelerator"
    return (
        f"about {facts.budget['size_share']:.0%} of {spec.name}'s {spec.default_size}, the size of "
        f"the preset on {machine}; multiples of {spec.whole_windows} fill its windows"
    )


def _side(share: float, spec: BackboneSpec) -> int:
    """Return the multiple of whole windows that is nearest to the share, or the full size."""
    step = spec.whole_windows
    smallest = math.ceil(spec.min_size / step)
    size = max(smallest, round(spec.default_size * share / step)) * step
    return min(size, spec.default_size)


def scale(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Leave the images as they are (only tiles look at it)."""
    return Decision(1.0, "the images' own pixels")


def augment(facts: Facts, values: Mapping[str, Any]) -> Decision:
    """Mirror and turn images where that gives what there may be; vary more in long fits."""
    seen, (turned, why) = times_seen(facts, values), _turns(facts)
    number = f"{math.floor(10 * seen.value) / 10:g}" if seen.value >= 0.1 else "less than 0.1"
    times = f"{seen.reason}, images are seen {number} times on average"
    if seen.value < TURNS_FROM_TIMES:
        later = "" if facts.symmetries is None else f"; {why}"
        few = f"under {TURNS_FROM_TIMES}, too seldom to gain from flips and turns"
        return Decision((), f"{times}: {few}{later}")
    if seen.value < COLOURS_FROM_TIMES:
        return Decision(turned, f"{why}; {times}: too seldom for crops and colours")
    if seen.value < CROPS_FROM_TIMES:
        enough = "often enough for changed colours, too seldom for crops"
        return Decision((*turned, "colour"), f"{why}; {times}: {enough}")
    return Decision(("crop", *turned, "colour"), f"{why}; {times}: often, so crops and colours")


def _turns(facts: Facts) -> tuple[tuple[str, ...], str]:
    if facts.symmetries is not None:
        return facts.symmetries.value, facts.symmetries.reason
    found = facts.fingerprint
    if found.num_images < UPRIGHT_KNOWN_FROM_IMAGES:
        few = f"{found.num_images} images do not tell if up and down matter"
        return SYMMETRIES["left-right"], few
    difference = f"upper and lower halves differ by {found.uprightness:.1f} deviations"
    if found.uprightness > UPRIGHT_ABOVE:
        return SYMMETRIES["left-right"], f"{difference}: up is up, so images are never turned"
    return SYMMETRIES["all"], f"{difference}: up and down mean nothing, so images are turned"
