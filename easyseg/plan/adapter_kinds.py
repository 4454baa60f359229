"""What a plan has to know of each way to adapt an encoder; ``models/adapters/`` holds the ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["KINDS", "AdapterKind"]


@dataclass(frozen=True)
class AdapterKind:
    """A value of ``adapter.kind``.

    Attributes:
        about: What is trained of the encoder or added to it.
        uses: The keys of a plan's ``adapter`` section, beside ``kind``, that say more.
        cached: What a prefix cache can keep: the features before the first adapted ``"block"``,
            the ``"embedding"`` (nothing of the encoder is trained), the features of all blocks
            (``"ladder"``), or ``"nothing"``.
        families: The families of backbones that it fits.
        why_not: Why it fits no other.
    """

    about: str
    uses: tuple[str, ...] = ()
    cached: Literal["block", "embedding", "ladder", "nothing"] = "block"
    families: tuple[str, ...] = ("sam_vit", "tiny_vit")
    why_not: str = ""


_LOW_RANK = ("rank", "alpha", "targets", "lora_targets", "blocks")

KINDS: Mapping[str, AdapterKind] = {
    "conv_lora": AdapterKind(
        "Conv-LoRA (Zhong et al. 2024): LoRA with convolution experts of several scales",
        (*_LOW_RANK, "num_experts", "scales", "gate", "routing", "identity"),
    ),
    "lora": AdapterKind("LoRA (Hu et al. 2022): low-rank terms beside linear layers", _LOW_RANK),
    "none": AdapterKind("nothing: the decoder alone is trained", cached="embedding"),
    "bitfit": AdapterKind("BitFit (Ben Zaken et al. 2022): the bias terms", ("blocks",)),
    "adapter": AdapterKind(
        "adapters (Houlsby et al. 2019): bottlenecks behind attention and MLP", ("rank", "blocks")
    ),
    "vpt": AdapterKind(
        "VPT-Deep (Jia et al. 2022): tokens that the blocks attend to",
        ("rank", "num_prompts", "blocks"),
    ),
    "ssf": AdapterKind(
        "SSF (Lian et al. 2022): a scale and a shift of what each layer puts out", ("blocks",)
    ),
    "full": AdapterKind("full fine-tuning: all of the encoder", ("blocks",)),
    "lst": AdapterKind(
        "LST (Sung et al. 2022): a narrow side network that reads from the frozen blocks",
        ("reduction", "blocks"),
        cached="ladder",
        families=("sam_vit",),
        why_not="its side blocks repeat blocks of one width and one grid, and a TinyViT's change",
    ),
    "sam_adapter": AdapterKind(
        "SAM-Adapter (Chen et al. 2023): prompts made of the image's high frequencies",
        ("reduction", "blocks"),
        cached="nothing",
        families=("sam_vit",),
        why_not="its prompts are made once, for blocks of one width and one grid, and a TinyViT's "
        "change",
    ),
}
"""All of them by name, the default first."""
