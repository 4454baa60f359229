"""Binary masks whose two values were smeared, by a JPEG or an interpolation."""

from __future__ import annotations

from collections.abc import Iterator

from easyseg.auditing.findings import Finding, Severity
from easyseg.auditing.tables import Audited


def check_smeared(audited: Audited) -> Iterator[Finding]:
    """Yield a warning that names the masks which hold more than the two values."""
    label_map = audited.label_map
    if label_map is None or not label_map.smeared:
        return
    low, high = sorted(label_map.values)
    masks = list(audited.masks())
    smeared = [seen for seen in masks if set(seen.fact.mask_counts or ()) - {low, high}]
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


def check_palettes(audited: Audited) -> Iterator[Finding]:
    """Yield a warning if masks with palettes have to be read as colours."""
    label_map = audited.label_map
    if label_map is None or not label_map.coloured:
        return
    found = tuple(
        seen.evidence("label") for seen in audited.masks() if seen.fact.palette is not None
    )
    if found:
        yield Finding(
            Severity.WARNING,
            "mixed-palettes",
            f"the palettes of {len(found)} masks differ, or are mixed with masks coded in colours:"
            " the same index is not the same class",
            "nothing: classes are told by colour, and predictions are RGB; better, save all masks"
            " in one way",
            found,
        )
