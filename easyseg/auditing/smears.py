"""Binary masks of 0 and 255 that a JPEG or an interpolation smeared: how a set of them is known.

All masks of a set are judged together. They are smeared if

* two ends hold nearly all pixels: `ENDS_HOLD` of them lie within `NEAR_END` levels of 0 or of 255;
* two levels hold most of them: `LEVELS_HOLD`, the commonest of either half; dark pictures have
  many dark levels;
* there are several levels, `LEAST_LEVELS`, or one more than two if a mask is a JPEG;
* no third level has insides, as a class has: in less than `INSIDES` of a level's pixels are all
  neighbours equal (the two are the levels of either half that have most of them, since JPEG may
  make 253 of 255);
* and a smear was seen: a JPEG, or pixels between the ends of which `LEADING` lead from one to the
  other (they are strictly between the darkest and the brightest of their neighbours), or the four
  levels beside 0 and the four beside 255, which all occur.

Ids without a gap, ids with gaps, and grey levels fail one of them, saved as JPEG or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage

from easyseg.data.io import ImageSource, read_mask
from easyseg.data.label_rules import NEAR_END

if TYPE_CHECKING:
    from easyseg.auditing.scan import ImageFacts

__all__ = ["look_smeared"]

ENDS_HOLD = 0.9
LEVELS_HOLD = 0.6
LEAST_LEVELS = 5
INSIDES = 0.3
LEADING = 0.5
_BESIDE = (*range(1, 5), *range(251, 255))
_FEW_INSIDES = 16  # pixels; less are chance
_MOST_MASKS, _MOST_PIXELS = 32, 2**25  # read again, those with the most levels first


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
    if np.count_nonzero(counts) < (3 if lossy else LEAST_LEVELS):
        return False
    low, high = int(counts[: NEAR_END + 1].sum()), int(counts[255 - NEAR_END :].sum())
    if not (low and high and low + high >= ENDS_HOLD * counts.sum()):
        return False
    if counts[:128].max() + counts[128:].max() < LEVELS_HOLD * counts.sum():
        return False
    order = sorted(range(len(facts)), key=lambda i: -len(facts[i].mask_counts or ()))
    looks: list[_Look] = []
    pixels = np.zeros(256, dtype=np.int64)
    for position in order[:_MOST_MASKS]:
        looks.append(_look(read_mask(masks[position])))
        pixels += looks[-1].pixels
        if pixels.sum() > _MOST_PIXELS:
            break
    insides = np.sum([look.insides for look in looks], axis=0)
    third = (insides >= _FEW_INSIDES) & (insides >= INSIDES * pixels)
    third[[insides[:128].argmax(), 128 + insides[128:].argmax()]] = False
    if third.any():
        return False
    between = sum(look.between for look in looks)
    leading = sum(look.leading for look in looks)
    seen = between > 0 and leading >= LEADING * between
    return lossy or seen or bool(counts[[*_BESIDE]].all())


class _Look(NamedTuple):
    """What one mask shows: pixels and insides by level, pixels between the ends, leading ones."""

    pixels: np.ndarray
    insides: np.ndarray
    between: int
    leading: int


def _look(mask: np.ndarray) -> _Look:
    dark, bright = ndimage.minimum_filter(mask, 3), ndimage.maximum_filter(mask, 3)
    between = (mask > NEAR_END) & (mask < 255 - NEAR_END)
    return _Look(
        np.bincount(mask.ravel(), minlength=256),
        np.bincount(mask[dark == bright], minlength=256),
        int(between.sum()),
        int((between & (dark < mask) & (mask < bright)).sum()),
    )
