"""How much memory a training step takes, as an estimate."""

from __future__ import annotations

from easyseg.models.registry import get_spec
from easyseg.plan.hardware import Hardware

__all__ = ["ENCODER_PARAMETERS", "KEPT", "images_that_fit"]

# GB an image at the backbone's own size, as (float32, 16 bit). It grows with the area of the input.
# lite_medsam: what autograd keeps of the frozen encoder and the decoder was 1.85 and 1.10, plus a
# third for Conv-LoRA of rank 4, and 40 % of all that for rank 16 and LoRA in the other layers
# (counted; a plan with less is expected to take as much). vit_b: a step peaked at 3.8 in bf16;
# float32 is an estimate.
# The others are estimates, not peaks that were seen: mobile_sam has the tokens and the decoder of
# lite_medsam; vit_l and vit_h are vit_b times what autograd keeps of their blocks (2.5 and 3.8
# times as much, adapters included).
GB_PER_IMAGE = {
    "lite_medsam": (3.5, 2.1),
    "mobile_sam": (3.5, 2.1),
    "vit_b": (6.0, 4.0),
    "vit_l": (15.0, 10.0),
    "vit_h": (23.0, 15.0),
}
GB_PER_IMAGE_ELSE = (6.0, 4.0)
# On an H100 a step in bf16 took 1.6 GB an image of vit_b and 0.6 of lite_medsam
# (benchmarks/throughput.py --device cuda): less than half of the above. GPUs without bf16, which
# have other attention kernels, were not measured.
ON_CUDA_WITH_BF16 = 0.5
GB_FIXED = 1.5
# Weights that a backbone has beyond vit_b's lie there in float32, and beside them in 16 bits where
# a step computes in these.
GB_PER_WEIGHT = (4 / 1e9, 6 / 1e9)
# GB a pixel of the input and a class: the loss keeps some six maps in float32.
GB_PER_CLASS_PIXEL = 6 * 4 / 1e9
# What autograd keeps in a step, as a share of what Conv-LoRA in all blocks (in a TinyViT of rank
# 16, with LoRA in the other layers) makes it keep: counted for vit_b and lite_medsam at their own
# sizes. What is not here is near 1 or below it; the decoder alone keeps far less, but the frozen
# encoder is still computed. It is the trained convolutions of the first, finest stage that make a
# TinyViT keep so much more.
KEPT = {
    "sam_vit": {"ssf": 1.3, "full": 1.25},
    "tiny_vit": {"bitfit": 1.15, "ssf": 1.87, "full": 1.38},
}
# A trained parameter has a gradient, two averages of the optimizer and one of the weights, all in
# float32. Those of adapters are few; those of the encoders, at their own sizes:
GB_PER_TRAINED_PARAMETER = 4 * 4 / 1e9
ENCODER_PARAMETERS = {
    "lite_medsam": 5_726_740,
    "mobile_sam": 5_743_892,
    "vit_b": 89_670_912,
    "vit_l": 308_278_272,
    "vit_h": 637_026_048,
}
USABLE_MEMORY = {"cpu": 0.6, "cuda": 0.85, "mps": 0.5}


def images_that_fit(
    hardware: Hardware,
    backbone: str,
    size: float,
    *,
    mixed: bool,
    num_masks: int,
    kind: str = "conv_lora",
) -> float:
    """Estimate how many images a device can take through one training step at once.

    Args:
        hardware: The machine.
        backbone: Name of the backbone.
        size: Side of the square input in pixels.
        mixed: Whether the step computes in 16 bits where it can.
        num_masks: Channels of the logits; the figures of the backbones are for one.
        kind: How the encoder is adapted: a key of :data:`easyseg.plan.adapter_kinds.KINDS`.
    """
    spec = get_spec(backbone)
    trained = ENCODER_PARAMETERS.get(backbone, 0) if kind == "full" else 0
    cost = GB_PER_IMAGE.get(backbone, GB_PER_IMAGE_ELSE)[mixed]
    cost *= (size / spec.default_size) ** 2 * KEPT[spec.family].get(kind, 1.0)
    if mixed and hardware.accelerator == "cuda" and hardware.native_bf16:
        cost *= ON_CUDA_WITH_BF16
    cost += (num_masks - 1) * size**2 * GB_PER_CLASS_PIXEL
    sharers = hardware.devices if hardware.accelerator == "cpu" else 1
    usable = hardware.memory_gb * USABLE_MEMORY[hardware.accelerator] / sharers
    weights = max(0, ENCODER_PARAMETERS.get(backbone, 0) - ENCODER_PARAMETERS["vit_b"])
    usable -= GB_FIXED + weights * GB_PER_WEIGHT[mixed] + trained * GB_PER_TRAINED_PARAMETER
    return max(0.0, usable) / cost
