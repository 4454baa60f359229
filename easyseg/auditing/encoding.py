"""How a set of masks is coded: decided for all of them together, since one mask cannot tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from easyseg.auditing.smears import look_smeared
from easyseg.data.colours import palette_colours
from easyseg.data.infer_labels import infer_label_map
from easyseg.data.io import ImageSource, describe
from easyseg.data.label_map import LabelMap
from easyseg.data.label_rules import MOST_IDS_WITH_GAPS, Classes, RawValue, some
from easyseg.errors import DataError

if TYPE_CHECKING:
    from easyseg.auditing.scan import ImageFacts

__all__ = ["MaskEncoding", "black_and_white", "mask_encoding", "told_by_colour"]

# A region fills so much of some mask; levels that smears leave along edges do not.
_REGION = 0.01


@dataclass(frozen=True)
class MaskEncoding:
    """What all masks of a set have in common.

    Attributes:
        values: All raw values, in ascending order.
        dtype: The narrowest type that holds them, see `LabelMap`.
        palette: Red, green and blue of each value, if the masks are palette images.
        smeared: Whether they look like masks of 0 and 255 that were smeared, by a JPEG or an
            interpolation.
        regions: Whether the values fill regions in several masks, few of them in each, as ids do;
            smears and numbers of objects do not.
    """

    values: tuple[int, ...]
    dtype: str
    palette: bytes | None = None
    smeared: bool = False
    regions: bool = False

    def label_map(
        self,
        *,
        problem_type: str = "auto",
        classes: Classes | None = None,
        ignore_index: RawValue | None = None,
    ) -> LabelMap:
        """Find the label map of the set: `infer_label_map` with what is known about it.

        Args:
            problem_type: As there.
            classes: As there.
            ignore_index: As there.
        """
        return infer_label_map(
            self.values,
            self.dtype,
            palette=self.palette,
            smeared=self.smeared,
            regions=self.regions,
            problem_type=problem_type,
            classes=classes,
            ignore_index=ignore_index,
        )


def told_by_colour(facts: Sequence[ImageFacts]) -> bool:
    """Return whether the masks of a set have to be read as colours, all of them.

    So it is if one of them is coded in colours: an RGB mask that is all black is black, then, and
    not 0. And if they have palettes that disagree on the colour of an index in use: programs that
    make files smaller give each its own palette, and the index alone means nothing.

    Args:
        facts: What `scan` found.
    """
    if any(fact.mask_dtype == "rgb" for fact in facts):
        return True
    colours: dict[int, int] = {}
    if len({fact.palette for fact in facts} - {None}) > 1:
        for fact in facts:
            if fact.palette is None:
                continue
            shades = palette_colours(fact.palette)
            for value in fact.mask_counts or ():
                if colours.setdefault(value, int(shades[value])) != shades[value]:
                    return True
    return False


def mask_encoding(masks: Sequence[ImageSource], facts: Sequence[ImageFacts]) -> MaskEncoding:
    """Find out how the masks of a set are coded.

    Args:
        masks: Where each of them comes from.
        facts: What `scan` found about each of them; those without a mask are passed over.

    Returns:
        The encoding.

    Raises:
        DataError: 1-bit masks, in which the object is 1, are mixed with masks that hold more than
            0 and 1, so that the same object has two values (a palette of black and white makes a
            mask like one of 1 bit); or there are no masks.
    """
    dtypes = sorted({fact.mask_dtype for fact in facts if fact.mask_dtype is not None})
    if not dtypes:
        raise DataError("there are no masks")
    values = tuple(sorted({value for fact in facts for value in fact.mask_counts or ()}))
    regions = _fill_regions(values, facts)
    if "rgb" in dtypes:
        return MaskEncoding(values, "rgb", regions=regions)
    pairs = [pair for pair in zip(masks, facts, strict=True) if black_and_white(pair[1])]
    bits = [describe(mask) for mask, _ in pairs]
    grey = {value for fact in facts if fact.palette is None for value in fact.mask_counts or ()}
    of_one_bit = any(fact.mask_dtype == "bool" for _, fact in pairs)
    if bits and max(values if of_one_bit else grey, default=0) > 1:
        raise DataError(
            f"{len(bits)} of {len(facts)} masks have 1 bit, or a palette of black and white, such"
            f" as {', '.join(bits[:3])}; all together hold {some(values)}: their foreground reads"
            " as 1, that of 8 bits mostly as 255",
            advice="save all masks in one format",
        )
    # A few masks in another format do not hide what the others are.
    plain = [i for i, f in enumerate(facts) if f.mask_dtype == "uint8" and f.palette is None]
    if 2 * len(plain) > len(facts) and look_smeared(
        [masks[i] for i in plain], [facts[i] for i in plain]
    ):
        levels = sorted({value for i in plain for value in facts[i].mask_counts or ()})
        return MaskEncoding(tuple(levels), "uint8", smeared=True, regions=regions)
    dtype = str(np.result_type(*dtypes))
    palette = _common_palette(facts) if dtype == "uint8" else None
    return MaskEncoding(values, dtype, palette, regions=regions)


def _fill_regions(values: Sequence[int], facts: Sequence[ImageFacts]) -> bool:
    """Return whether each mask holds few values, and half of all fill a part of several masks.

    Numbers of objects, or colours of them, are in one mask each.
    """
    if any(fact.lossy or fact.num_values > MOST_IDS_WITH_GAPS for fact in facts):
        return False
    filled: Counter[int] = Counter()
    for fact in facts:
        counts = fact.mask_counts or {}
        enough = _REGION * sum(counts.values())
        filled.update(value for value, number in counts.items() if number >= enough)
    return 2 * sum(masks > 1 for masks in filled.values()) >= len(values)


def black_and_white(fact: ImageFacts) -> bool:
    """Return whether a mask holds 0 and 1, or 1 alone, and 1 is white.

    One that holds 0 alone is black in any format.

    Args:
        fact: What `scan` found about the mask.
    """
    if 1 not in (fact.mask_counts or ()):
        return False
    if fact.palette is None or fact.mask_dtype == "rgb":
        return fact.mask_dtype == "bool"
    white = bytes([0, 0, 0, 255, 255, 255])
    return fact.palette.startswith(white) and set(fact.mask_counts or ()) <= {0, 1}


def _common_palette(facts: Sequence[ImageFacts]) -> bytes | None:
    """Return the longest palette, with the colours of the values in use from where they are.

    None if masks with palettes are all black, and there are others.
    """
    used = [(fact.palette, fact.mask_counts or ()) for fact in facts if fact.palette is not None]
    if len(used) < len(facts) and not any(any(values) for _, values in used):
        return None
    palettes = {palette for palette, _ in used}
    if len(palettes) < 2:
        return next(iter(palettes), None)
    merged = bytearray(max(palettes, key=lambda palette: (len(palette), palette)))
    for palette, values in used:
        for value in values:
            part = slice(3 * value, 3 * value + 3)
            merged[part] = palette[part] or merged[part]
    return bytes(merged)
