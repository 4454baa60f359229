"""Pixels that are ignored, and values that look as if they should be."""

from __future__ import annotations

from collections.abc import Iterator

from easyseg.auditing.findings import Finding, Severity
from easyseg.auditing.tables import Audited, Seen
from easyseg.data.label_rules import written

# Values that data sets use for "unlabelled": the largest of 8 and of 16 bits, white, and the cream
# colour that PASCAL VOC draws around its objects.
_VOID = {
    "uint8": (255,),
    "uint16": (255, 65535),
    "int32": (255, 65535),
    "rgb": (0xFFFFFF, 0xE0E0C0),
}
# A value so far above all others is a mark rather than the next class.
_FAR_ABOVE = 10


def check_ignored(audited: Audited) -> Iterator[Finding]:
    """Yield a note on what is ignored, or on a class that looks as if it should be."""
    label_map = audited.label_map
    if label_map is None:
        return
    masks = list(audited.masks(audited.train))
    if label_map.ignore is None and not label_map.binary and not audited.told:
        top = label_map.values[-1]
        far = label_map.dtype != "rgb" and top - label_map.values[-2] > _FAR_ABOVE
        candidates = {v for v in label_map.values if v in _VOID.get(label_map.dtype, ())}
        for value in sorted(candidates | ({top} if far else set())):
            share, holding = _share(masks, value)
            yield Finding(
                Severity.NOTE,
                "ignore-candidate",
                f"is the value {label_map.shown(value)} a class? It may stand for unlabelled"
                f" pixels: {share:.2%} of the pixels, in {len(holding)} of {len(masks)} masks",
                f"if it does, ignore it: ignore_index={written(value, label_map.dtype)}",
                tuple(seen.evidence("label") for seen in holding),
            )
    elif label_map.ignore is not None:
        share, holding = _share(masks, label_map.ignore)
        if not holding:
            yield Finding(
                Severity.NOTE,
                "ignored-pixels",
                f"no training mask holds the ignored value {label_map.shown(label_map.ignore)}",
                "nothing, if masks to come may hold it; else correct ignore_index, or leave it out",
            )
        else:
            yield Finding(
                Severity.NOTE,
                "ignored-pixels",
                f"the value {label_map.shown(label_map.ignore)} is ignored (void): {share:.2%} of"
                f" the pixels, in {len(holding)} of {len(masks)} masks",
                "nothing, if it stands for unlabelled pixels; if it is a class,"
                " list it in classes={value: name, ...}",
                tuple(seen.evidence("label") for seen in holding),
            )


def _share(masks: list[Seen], value: int) -> tuple[float, list[Seen]]:
    """Return the share of a value among all pixels, and the masks that hold it."""
    holding = [seen for seen in masks if value in (seen.fact.mask_counts or {})]
    pixels = sum((seen.fact.mask_counts or {})[value] for seen in holding)
    return pixels / max(1, sum(sum((s.fact.mask_counts or {}).values()) for s in masks)), holding


def check_ignored_foreground(audited: Audited) -> Iterator[Finding]:
    """Yield a warning where a model ignores what may be the foreground of the masks to score on."""
    label_map = audited.label_map
    if label_map is None or label_map.ignore is None or not label_map.binary:
        return
    for table in audited.tables:
        masks = list(audited.masks(table))
        share, holding = _share(masks, label_map.ignore)
        if table.name != "data" or not holding:
            continue
        if not any(audited.by_class(seen.fact.mask_counts)[1] for seen in masks):
            foreground, ignored = (
                label_map.shown(value) for value in (label_map.values[1], label_map.ignore)
            )
            yield Finding(
                Severity.WARNING,
                "ignored-foreground",
                f"no mask holds the foreground ({foreground}), {len(holding)} of {len(masks)} hold"
                f" {ignored}, which this model ignores: {share:.2%} of the pixels do not count",
                f"if {ignored} is the foreground here, write {foreground} for it; nothing, if there"
                " is none",
                tuple(seen.evidence("label") for seen in holding),
            )
