"""Two backbones of milliseconds; light to import, for scripts that tests start."""

from __future__ import annotations

from easyseg.models import registry

TINY_SAM = registry.BackboneSpec(
    name="tiny_sam",
    family="sam_vit",
    arch={
        "embed_dim": 32,
        "depth": 3,
        "num_heads": 2,
        "global_blocks": (1,),
        "out_chans": 32,
    },
    stride=16,
    size_multiple=16,
    whole_windows=224,
    default_size=128,
    prompt="none",
    normalization="sam",
    num_blocks=3,
    decoder_dim=32,
)
TINY_VIT = registry.BackboneSpec(
    name="tiny_vit",
    family="tiny_vit",
    arch={
        "embed_dims": (8, 16, 16, 32),
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 1, 2, 2),
        "window_sizes": (7, 7, 14, 7),
        "stem_kernel": 1,
        "stem_stride": 1,
        "out_chans": 32,
    },
    stride=4,
    size_multiple=4,
    whole_windows=56,
    default_size=128,
    prompt="box",
    normalization="minmax",
    num_blocks=3,
    decoder_dim=32,
)
