"""How much memory a training step takes, as an estimate."""

from __future__ import annotations

from easyseg.models.registry import get_spec
from easyseg.plan.hardware import Hardware

__all__ = ["images_that_fit"]

# GB an image at the backbone's own size, as (float32, 16 bit). It grows with the area of the input.
# lite_medsam: what autograd keeps of the frozen encoder and the decoder was 1.85 and 1.10, plus a
# third for the adapters. vit_b: a step peaked at 3.8 in bf16; float32 is an estimate.
# The others are estimates, not peaks that were seen: mobile_sam has the tokens and the decoder of
# lite_medsam; vit_l and vit_h are vit_b times what autograd keeps of their blocks (2.5 and 3.8
# times as much, adapters included), plus the weights they have beyond vit_b's.
GB_PER_IMAGE = {
    "lite_medsam": (2.5, 1.5),
    "mobile_sam": (2.5, 1.5),
    "vit_b": (6.0, 4.0),
    "vit_l": (16.0, 11.0),
    "vit_h": (25.0, 17.0),
}
GB_PER_IMAGE_ELSE = (6.0, 4.0)
GB_FIXED = 1.5
# GB a pixel of the input and a class: the loss keeps some six maps in float32.
GB_PER_CLASS_PIXEL = 6 * 4 / 1e9
USABLE_MEMORY = {"cpu": 0.6, "cuda": 0.85, "mps": 0.5}


def images_that_fit(
    hardware: Hardware, backbone: str, size: float, *, mixed: bool, num_masks: int
) -> float:
    """Estimate how many images a device can take through one training step at once.

    Args:
        hardware: The machine.
        backbone: Name of the backbone.
        size: Side of the square input in pixels.
        mixed: Whether the step computes in 16 bits where it can.
        num_masks: Channels of the logits; the figures of the backbones are for one.
    """
    cost = GB_PER_IMAGE.get(backbone, GB_PER_IMAGE_ELSE)[mixed]
    cost *= (size / get_spec(backbone).default_size) ** 2
    cost += (num_masks - 1) * size**2 * GB_PER_CLASS_PIXEL
    sharers = hardware.devices if hardware.accelerator == "cpu" else 1
    usable = hardware.memory_gb * USABLE_MEMORY[hardware.accelerator] / sharers - GB_FIXED
    return max(0.0, usable) / cost
