"""Classes that a table lacks, and classes of few pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from easyseg.auditing.findings import Finding, Severity
from easyseg.auditing.tables import Audited, AuditTable

# Shares of the pixels that are not ignored: below the first, most steps of a training see hardly
# any pixel of a class; below the second, it needs class weights or more images.
_RARE = 0.005
_SCARCE = 0.02


def check_missing_classes(audited: Audited) -> Iterator[Finding]:
    """Yield a warning for each table that lacks classes."""
    label_map = audited.label_map
    if label_map is None:
        return
    for table in audited.tables:
        counts, masks = _pixels(table)
        missing = [
            f"{name} ({value})"
            for name, value in zip(label_map.names, label_map.values, strict=True)
            if not counts[value]
        ]
        if masks and missing:
            remedy = (
                "add images that hold them: they cannot be learned"
                if table is audited.train
                else "split anew, stratified by class: they are not scored here"
            )
            yield Finding(
                Severity.WARNING,
                "missing-class",
                f"no mask of {table.name} holds {', '.join(missing)}",
                remedy,
            )


def check_rare_classes(audited: Audited) -> Iterator[Finding]:
    """Yield a warning or a note for each class of few pixels in the training masks."""
    label_map = audited.label_map
    if label_map is None:
        return
    counts, _ = _pixels(audited.train)
    total = sum(counts[value] for value in label_map.values)
    for name, value in zip(label_map.names, label_map.values, strict=True):
        share = counts[value] / max(1, total)
        if 0 < share < _SCARCE:
            holding = [
                seen
                for seen in audited.train
                if seen.is_mask and value in (seen.fact.mask_counts or {})
            ]
            rare = share < _RARE
            yield Finding(
                Severity.WARNING if rare else Severity.NOTE,
                "rare-class",
                f"the class {name} ({value}) has {share:.2%} of the pixels, in {len(holding)} of"
                f" {len(audited.train.facts)} images",
                "add images that hold it, or larger views of it; its score will be uncertain"
                if rare
                else "nothing needed: rare classes get a larger weight in the loss",
                tuple(seen.evidence("label") for seen in holding),
            )


def _pixels(table: AuditTable) -> tuple[Counter[int], int]:
    """Return the pixels of each value in a table, and how many masks hold them."""
    counts: Counter[int] = Counter()
    masks = [seen for seen in table if seen.is_mask]
    for seen in masks:
        counts.update(seen.fact.mask_counts or {})
    return counts, len(masks)
