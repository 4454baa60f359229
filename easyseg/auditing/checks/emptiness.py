"""Masks of the background alone, and masks that one class fills."""

from __future__ import annotations

from collections.abc import Iterator

from easyseg.auditing.findings import Finding, Severity
from easyseg.auditing.tables import Audited
from easyseg.data.label_rules import IGNORE

# Some images without an object teach where there is none; if they are the greater part, the masks
# may have gone missing, and most steps of a training see no object.
_MANY = 0.5


def check_empty_masks(audited: Audited) -> Iterator[Finding]:
    """Yield findings on masks without any object, and on masks filled by one class."""
    label_map = audited.label_map
    if label_map is None:
        return
    strange = {(seen.table.name, seen.position) for seen, _ in audited.misfits()}
    for table in audited.tables:
        found = (
            (seen, audited.by_class(seen.fact.mask_counts))
            for seen in audited.masks(table)
            if (table.name, seen.position) not in strange
        )
        masks = [(seen, counts) for seen, counts in found if counts]  # of others, others speak
        held = [(seen, {i for i in counts if i != IGNORE}) for seen, counts in masks]
        empty = [seen for seen, ids in held if ids <= {0}]
        full = [seen for seen, ids in held if len(ids) == 1 and 0 not in ids]
        if empty:
            many = len(empty) > _MANY * len(masks)
            yield Finding(
                Severity.WARNING if many else Severity.NOTE,
                "empty-masks",
                f"{len(empty)} of {len(masks)} {table.name} masks: no class but"
                f" {label_map.names[0]} ({label_map.shown(label_map.values[0])})",
                "look whether they were drawn at all; images without an object may stay",
                tuple(seen.evidence("label") for seen in empty),
            )
        if full:
            yield Finding(
                Severity.WARNING if label_map.binary else Severity.NOTE,
                "full-masks",
                f"{len(full)} of {len(masks)} {table.name} masks: filled by one class",
                "look whether the whole image is of that class",
                tuple(seen.evidence("label") for seen in full),
            )
