"""Which preset ``presets="auto"`` stands for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from easyseg.plan.facts import Decision
from easyseg.plan.hardware import Hardware

if TYPE_CHECKING:
    from easyseg.auditing.fingerprint import Fingerprint

__all__ = ["choose_preset"]

CPU_FAST_ABOVE_IMAGES = 1000
CPU_FAST_ABOVE_MEGAPIXELS = 2000.0
CPU_FAST_BELOW_SECONDS = 240.0
GPU_BEST_UP_TO_IMAGES = 300
GPU_FAST_ABOVE_IMAGES = 20_000
# Guesses: to load a large backbone and see a few hundred images takes a minute or two of a GPU.
GPU_FAST_BELOW_SECONDS = 300.0
GPU_BEST_FROM_SECONDS = 1800.0


def choose_preset(
    fingerprint: Fingerprint, hardware: Hardware, time_limit: float | None
) -> Decision:
    """Choose the preset by device, time limit, number and size of the images (median, pixels)."""
    count = fingerprint.num_images
    height, width = fingerprint.height.median, fingerprint.width.median
    megapixels = count * height * width / 1e6
    seen = f"{hardware.describe()}, {count} images of about {width:.0f}x{height:.0f} px"
    if hardware.accelerator == "cpu":
        if time_limit is not None and time_limit < CPU_FAST_BELOW_SECONDS:
            return Decision("fast", f"{seen}, {time_limit:.0f} s: little time on a CPU")
        if count > CPU_FAST_ABOVE_IMAGES:
            return Decision("fast", f"{seen}: more than {CPU_FAST_ABOVE_IMAGES} on a CPU")
        if megapixels > CPU_FAST_ABOVE_MEGAPIXELS:
            return Decision("fast", f"{seen}: reading {megapixels:.0f} megapixels an epoch is long")
        return Decision("balanced", f"{seen}: few enough for a CPU")
    limit = math.inf if time_limit is None else time_limit
    if limit < GPU_FAST_BELOW_SECONDS:
        return Decision("fast", f"{seen}, {limit:.0f} s: little time")
    if count > GPU_FAST_ABOVE_IMAGES:
        return Decision("fast", f"{seen}: so many teach enough in few epochs")
    if limit < GPU_BEST_FROM_SECONDS:
        return Decision("balanced", f"{seen}, {limit:.0f} s: too little for the largest backbones")
    if count <= GPU_BEST_UP_TO_IMAGES:
        return Decision("best", f"{seen}: few enough to train long")
    return Decision("balanced", seen)
