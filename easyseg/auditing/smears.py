"""Binary masks of 0 and 255 that a JPEG or an interpolation smeared: how a set of them is known.

All masks of a set are judged together. They are smeared if

* two modes hold nearly all pixels: `ENDS_HOLD` of them lie within `NEAR` levels of 0 or of 255, and
  the second most frequent level of either end holds at most `SECOND_HOLDS` of that end;
* there are several levels, `LEAST_LEVELS`, or one more than two if a mask is a JPEG;
* what lies between the ends has no inside, as classes of their own have: at most `FLAT_HOLD` of all
  pixels are between and within `FLAT` levels of all their neighbours;
* and a smear was seen: a JPEG, or pixels between the ends of which `LEADING` lead from one to the
  other (they are strictly between the darkest and the brightest of their neighbours), or the four
  levels beside 0 and the four beside 255, which all occur.

Ids without a gap, ids with gaps, and grey levels without two modes fail one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from easyseg.data.io import ImageSource, read_mask

if TYPE_CHECKING:
    from easyseg.auditing.scan import ImageFacts

__all__ = ["look_smeared"]

NEAR = 32
ENDS_HOLD = 0.9
SECOND_HOLDS = 0.5
LEAST_LEVELS = 5
FLAT = 16
FLAT_HOLD = 0.005
LEADING = 0.5
_BESIDE = (*range(1, 5), *range(251, 255))
_LOOKED_AT = 32  # masks that are read again, of those with pixels between the ends


def look_smeared(masks: Sequence[ImageSource], facts: Sequence[ImageFacts]) -> bool:
    """Return whether a set of masks is binary, 0 and 255, but smeared.

    Args:
        masks: Where each mask comes from; a few are read again.
        facts: What `scan` found about each of them.
    """
    counts = np.zeros(256, dtype=np.int64)
    for fact in facts:
        for value, number in (fact.mask_counts or {}).items():
            if value > 255:
                return False
            counts[value] += number
    lossy = any(fact.lossy for fact in facts)
    if np.count_nonzero(counts) < (3 if lossy else LEAST_LEVELS) or not _two_modes(counts):
        return False
    between = [any(NEAR < value < 255 - NEAR for value in fact.mask_counts or ()) for fact in facts]
    positions = np.flatnonzero(between)
    pixels = seen = flat = leading = 0
    chosen = np.linspace(0, len(positions) - 1, min(_LOOKED_AT, len(positions))).round()
    for position in positions[chosen.astype(int)]:
        mask = read_mask(masks[position])
        dark, bright = ndimage.minimum_filter(mask, 3), ndimage.maximum_filter(mask, 3)
        middle = (mask > NEAR) & (mask < 255 - NEAR)
        pixels += mask.size
        seen += int(middle.sum())
        flat += int((middle & (bright - dark <= FLAT)).sum())
        leading += int((middle & (dark < mask) & (mask < bright)).sum())
    if flat > FLAT_HOLD * pixels:
        return False
    return lossy or (seen > 0 and leading >= LEADING * seen) or bool(counts[[*_BESIDE]].all())


def _two_modes(counts: np.ndarray) -> bool:
    """Return whether nearly all pixels are near 0 or 255, each with one level above the others."""
    ends = counts[: NEAR + 1], counts[255 - NEAR :]
    if sum(int(end.sum()) for end in ends) < ENDS_HOLD * counts.sum():
        return False
    return all(end.sum() > 0 and np.sort(end)[-2] <= SECOND_HOLDS * end.sum() for end in ends)
