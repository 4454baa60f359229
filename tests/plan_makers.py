"""Makers of fingerprints and plans for tests of decisions."""

from __future__ import annotations

from easyseg.auditing.fingerprint import Fingerprint, Percentiles, Quantiles
from easyseg.plan.decisions import decide
from easyseg.plan.hardware import Hardware

CPU = Hardware("cpu", 1, "Xeon", 16.0, 2, True)
H200 = Hardware("cuda", 1, "NVIDIA H200", 140.0, 16, True)


def facts(count: int = 64, side: float = 600.0, names: tuple[str, ...] = ("background", "lesion")):
    return Fingerprint(
        num_images=count,
        num_tuning=16,
        height=Quantiles(side, side, side),
        width=Quantiles(side, side, side),
        image_modes={"RGB": count},
        mask_dtype="uint8",
        mask_values={i: 1 / len(names) for i in range(len(names))},
        class_shares=dict.fromkeys(names, 1 / len(names)),
        images_with=dict.fromkeys(names, count),
        empty_masks=0,
        ignored_share=0.0,
        uprightness=0.0,
        components=Quantiles(1, 1, 3),
        object_sizes=Percentiles(0.001, 0.01, 0.1),
        thickness=dict.fromkeys(names[1:], 0.1),
        brightness=Quantiles(90, 120, 150),
        contrast=Quantiles(40, 50, 60),
        channels=(120.0, 120.0, 120.0),
        grey_images=0,
    )


def plan_for(fingerprint=None, hardware=CPU, **options):
    options = {"problem_type": "binary", "num_classes": 2} | options
    return decide(fingerprint or facts(), hardware, **options)
