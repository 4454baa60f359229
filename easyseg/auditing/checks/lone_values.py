"""Values that a single mask holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from easyseg.auditing.findings import Finding, Severity, counted
from easyseg.auditing.tables import Audited
from easyseg.data.label_rules import shown

# In fewer masks than these, a class that one of them holds is no surprise.
_FEW_MASKS = 5
# Beyond, values that make no classes are grey levels, which other checks report.
_MANY_VALUES = 64
# More lone values have one cause, and are one finding.
_MOST_FINDINGS = 5


def check_lone_values(audited: Audited) -> Iterator[Finding]:
    """Yield a warning for each value that a single training mask holds."""
    if audited.label_map is not None and audited.label_map.smeared:
        return
    masks = list(audited.masks(audited.train))
    files = Counter(value for seen in masks for value in seen.fact.mask_counts or ())
    if len(masks) < _FEW_MASKS or (audited.label_map is None and len(files) > _MANY_VALUES):
        return
    lone = [value for value, count in sorted(files.items()) if count == 1]
    if len(lone) > _MOST_FINDINGS:
        values = set(lone)
        holding = [seen for seen in masks if not values.isdisjoint(seen.fact.mask_counts or ())]
        yield Finding(
            Severity.WARNING,
            "lone-value",
            f"{len(lone)} of {len(files)} values are each held by one mask of {len(masks)} alone",
            "look whether the masks hold classes, rather than numbers of objects or grey levels",
            tuple(seen.evidence("label") for seen in holding),
        )
        return
    for value in lone:
        seen = next(seen for seen in masks if value in (seen.fact.mask_counts or ()))
        pixels = counted((seen.fact.mask_counts or {})[value], "pixel")
        name = shown(value, seen.fact.mask_dtype or "")
        yield Finding(
            Severity.WARNING,
            "lone-value",
            f"one mask of {len(masks)} alone holds the value {name}, in {pixels}",
            "look whether it is a slip; if it is a class, it needs more images",
            (seen.evidence("label", detail=f"{seen.label}: {pixels} of value {name}"),),
        )
