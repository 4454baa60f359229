"""A foreground that looks like a background, as a question: in all masks, or in some of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from easyseg.auditing.findings import Finding, Severity, counted
from easyseg.auditing.tables import Audited
from easyseg.data.label_rules import written

# A background fills most of a picture and most of its border. Two thirds is well beyond a half, so
# that sets with large objects, which cover a half of their pictures, raise no question.
_MOST = 2 / 3
# Of the border, where one mask is held against others: nearly all, and hardly any.
_NEARLY_ALL, _HARDLY_ANY = 0.95, 0.05
# So many of the training masks must keep off the border for another one to be strange.
_USUAL_SHARE = 0.25


def check_inverted(audited: Audited) -> Iterator[Finding]:
    """Yield a warning if the class with id 1 fills most of the pictures and of their borders."""
    label_map = audited.label_map
    if label_map is None or not label_map.binary or audited.by_value:
        return
    masks = audited.train_masks()
    pixels = sum((counts for _, counts in masks), Counter[int]())
    border = sum((audited.by_class(seen.fact.border_counts) for seen, _ in masks), Counter[int]())
    inside, frame = _foreground(pixels), _foreground(border)
    if inside > _MOST and frame > _MOST:
        filled = [seen for seen, counts in masks if counts[1] > _MOST * counts.total()]
        foreground, background = (written(label_map.values[i], label_map.dtype) for i in (1, 0))
        yield Finding(
            Severity.WARNING,
            "inverted-foreground",
            "is the foreground the other way round? The value"
            f" {label_map.shown(label_map.values[1])} is the foreground; it fills {inside:.0%} of"
            f" the pixels and {frame:.0%} of the images' borders, as backgrounds do",
            f"if it is the background, say so: classes={{{foreground}: 'background',"
            f" {background}: 'foreground'}}",
            tuple(seen.evidence("label") for seen in filled),
        )


def check_inverted_masks(audited: Audited) -> Iterator[Finding]:
    """Yield a warning for masks of any table that are to the usual training masks as negatives.

    Their foreground fills the border, that of others keeps off it; and what it leaves free is as
    large as the foreground of others.
    """
    label_map = audited.label_map
    if label_map is None or not label_map.binary:
        return
    shares = []
    for seen in audited.masks():
        inside = _foreground(audited.by_class(seen.fact.mask_counts))
        frame = _foreground(audited.by_class(seen.fact.border_counts))
        shares.append((seen, inside, frame))
    usual = [
        inside
        for seen, inside, frame in shares
        if seen.table is audited.train and frame <= _HARDLY_ANY and 0 < inside < 1 - _MOST
    ]
    if not usual or len(usual) < _USUAL_SHARE * len(list(audited.masks(audited.train))):
        return
    found = [
        seen
        for seen, inside, frame in shares
        if frame >= _NEARLY_ALL and min(usual) <= 1 - inside <= max(usual)
    ]
    if found:
        tables = Counter(seen.table.name for seen in found)
        yield Finding(
            Severity.WARNING,
            "inverted-masks",
            f"are {counted(len(found), 'mask')} the other way round"
            f" ({', '.join(f'{name}: {number}' for name, number in tables.items())})? Their"
            f" foreground fills the image's border, while that of {len(usual)} training masks"
            " keeps off it",
            "look at them, and save them inverted if so; nothing, if their objects fill the image",
            tuple(seen.evidence("label") for seen in found),
        )


def _foreground(pixels: Mapping[int, int]) -> float:
    """Return the share of the class with id 1, ignored pixels left out."""
    return pixels[1] / max(1, pixels[0] + pixels[1])
