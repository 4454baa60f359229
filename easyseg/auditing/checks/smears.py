"""Values that a lossy file or an interpolation has mixed at edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations

import numpy as np

from easyseg.auditing.findings import Finding, Severity
from easyseg.auditing.tables import Audited
from easyseg.data.colours import unpack_colours
from easyseg.data.label_rules import some

# Of all pixels, from which on a colour is one of the true ones; and how far from the line between
# two of them, of 255, a blend may lie; and how many blends are no chance.
_FREQUENT = 0.01
_ROUNDING = 2.0
_CERTAIN_BLENDS = 3


def check_smeared(audited: Audited) -> Iterator[Finding]:
    """Yield a warning that names the masks which hold more than the two values."""
    label_map = audited.label_map
    if label_map is None or not label_map.smeared:
        return
    low, high = sorted(label_map.values)
    strange = {(seen.table.name, seen.position) for seen, _ in audited.misfits()}
    masks = [seen for seen in audited.masks() if (seen.table.name, seen.position) not in strange]
    smeared = [seen for seen in masks if set(seen.fact.mask_counts or ()) - {low, high}]
    if not smeared:
        return
    levels = len({value for seen in masks for value in seen.fact.mask_counts or ()})
    lossy = sum(seen.fact.lossy for seen in smeared)
    yield Finding(
        Severity.WARNING,
        "smeared-masks",
        f"{len(smeared)} of {len(masks)} masks hold shades between {low} and {high} ({levels} grey"
        f" levels in all, nearly all close to one of the two; {lossy} masks are JPEGs): taken for"
        " masks of two classes, smeared by a JPEG or by interpolation",
        "nothing: each pixel counts as the nearer of the two; better, save masks as PNG, and resize"
        " them with nearest neighbour",
        tuple(
            seen.evidence("label", detail=f"{seen.label}: {seen.fact.num_values} different values")
            for seen in smeared
        ),
        repair="threshold the mask",
    )


def check_lossy(audited: Audited) -> Iterator[Finding]:
    """Yield a warning for class ids or colours in files that smear them."""
    label_map = audited.label_map
    if label_map is None or label_map.smeared:
        return
    masks = list(audited.masks())
    lossy = [seen for seen in masks if seen.fact.lossy and seen.fact.num_values > 1]
    if lossy:
        yield Finding(
            Severity.WARNING,
            "lossy-masks",
            f"{len(lossy)} of {len(masks)} masks are JPEGs or lossy WebPs, which mix the values on"
            " both sides of an edge into new ones: some of the classes may be none",
            "save the masks anew as PNG, from where they came; nothing, if the classes are right",
            tuple(seen.evidence("label") for seen in lossy),
        )


def check_blended_colours(audited: Audited) -> Iterator[Finding]:
    """Yield a warning for rare colours that lie between two frequent ones: edges that were smeared.

    A single one may be a class by chance; three are not.
    """
    label_map = audited.label_map
    if label_map is None or not label_map.coloured or audited.named:
        return
    masks = list(audited.masks(audited.train))
    pixels = sum((Counter(seen.fact.mask_counts) for seen in masks), Counter[int]())
    frequent = [value for value, n in pixels.items() if n >= _FREQUENT * pixels.total()]
    colours = unpack_colours(np.array(frequent, np.int32)).astype(float)
    blends = [
        value
        for value in sorted(pixels)
        if value not in frequent
        and any(
            _lies_between(unpack_colours(np.array([value], np.int32))[0], one, other)
            for one, other in combinations(colours, 2)
        )
    ]
    if len(blends) >= _CERTAIN_BLENDS:
        rare = set(blends)
        holding = [seen for seen in masks if not rare.isdisjoint(seen.fact.mask_counts or ())]
        yield Finding(
            Severity.WARNING,
            "blended-colours",
            f"{some(blends, label_map.dtype)} are rare and lie between two frequent colours: edges"
            " that interpolation or a lossy file has smeared, rather than classes",
            "save the masks anew as PNG, resized with nearest neighbour; or name the true colours"
            " with classes={colour: name, ...}",
            tuple(seen.evidence("label") for seen in holding),
        )


def _lies_between(colour: np.ndarray, one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether a colour lies on the line from one to another, but for rounding."""
    way = other - one
    share = float((colour - one) @ way / (way @ way))
    return 0 < share < 1 and bool(np.abs(one + share * way - colour).max() <= _ROUNDING)
