"""Adapters: small trainable additions to frozen linear layers, and the place that injects them."""

from easyseg.models.adapters.conv_lora import ConvLoRALinear
from easyseg.models.adapters.inject import inject_adapters, project
from easyseg.models.adapters.lora import LoRALinear

__all__ = ["ConvLoRALinear", "LoRALinear", "inject_adapters", "project"]
