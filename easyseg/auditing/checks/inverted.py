"""A foreground that looks like a background, as a question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from easyseg.auditing.findings import Finding, Severity
from easyseg.auditing.tables import Audited

# A background fills most of a picture and most of its border. Two thirds is well beyond a half, so
# that sets with large objects, which cover a half of their pictures, raise no question.
_MOST = 2 / 3


def check_inverted(audited: Audited) -> Iterator[Finding]:
    """Yield a warning if the class with id 1 fills most of the pictures and of their borders."""
    label_map = audited.label_map
    if label_map is None or not label_map.binary or audited.told:
        return
    pixels: Counter[int] = Counter()
    border: Counter[int] = Counter()
    masks = [seen for seen in audited.train if seen.is_mask]
    for seen in masks:
        pixels.update(seen.fact.mask_counts or {})
        border.update(seen.fact.border_counts or {})
    foreground = label_map.values[1]
    inside, frame = (
        counts[foreground] / max(1, sum(counts[value] for value in label_map.values))
        for counts in (pixels, border)
    )
    if inside > _MOST and frame > _MOST:
        filled = [
            seen
            for seen in masks
            if (seen.fact.mask_counts or {}).get(foreground, 0)
            > _MOST * sum((seen.fact.mask_counts or {}).values())
        ]
        yield Finding(
            Severity.WARNING,
            "inverted-foreground",
            f"is the foreground the other way round? The value {foreground} is the foreground; it"
            f" fills {inside:.0%} of the pixels and {frame:.0%} of the images' borders, as"
            " backgrounds do",
            f"if it is the background, say so: classes={{{foreground}: 'background',"
            f" {label_map.values[0]}: 'foreground'}}, and scores are about the other class",
            tuple(seen.evidence("label") for seen in filled),
        )
