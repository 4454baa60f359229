"""How much of a fit's work on frozen blocks comes again: what a prefix cache can save."""

from __future__ import annotations

import math
from collections.abc import Sequence

from easyseg.models.registry import BackboneSpec
from easyseg.plan.adapter_kinds import KINDS

__all__ = ["VARIANTS", "frozen_share", "seen_again"]

# How many images an augmentation can make of one; those that are not here make endlessly many.
# Flips and quarter turns together make 8.
VARIANTS = {"hflip": 2, "vflip": 2, "rot90": 4}
_MOST_VARIANTS = 8


def frozen_share(spec: BackboneSpec, kind: str, blocks: str | int) -> float:
    """Return the share of the attention blocks whose work a prefix cache saves, 0..1.

    Args:
        spec: The backbone.
        kind: How it is adapted: a key of :data:`easyseg.plan.adapter_kinds.KINDS`.
        blocks: The last blocks that are adapted, or ``"all"``.
    """
    cached = KINDS[kind].cached
    if cached in ("embedding", "ladder"):
        return 1.0
    if cached == "nothing":
        return 0.0
    return 0.0 if blocks == "all" else 1 - int(blocks) / spec.num_blocks


def seen_again(augment: Sequence[str], times: float, processes: int) -> float:
    """Return the share of a fit's inputs that the process they go to has seen before, on average.

    An input is one of the variants of its image and goes to one of the processes, by chance.

    Args:
        augment: Keys of :data:`VARIANTS`.
        times: How often each image is seen.
        processes: Training processes in all.

    Example:
        >>> seen_again([], times=4, processes=1)
        0.75
    """
    times = max(1.0, times)
    kinds = min(_MOST_VARIANTS, math.prod(VARIANTS[name] for name in augment)) * processes
    different = kinds * (1 - (1 - 1 / kinds) ** times)
    return 1 - different / times
