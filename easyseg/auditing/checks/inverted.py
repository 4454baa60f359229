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
    masks = audited.train_masks()
    pixels = sum((counts for _, counts in masks), Counter[int]())
    border = sum((audited.by_class(seen.fact.border_counts) for seen, _ in masks), Counter[int]())
    inside, frame = (counts[1] / max(1, counts[0] + counts[1]) for counts in (pixels, border))
    if inside > _MOST and frame > _MOST:
        filled = [seen for seen, counts in masks if counts[1] > _MOST * counts.total()]
        foreground, background = (label_map.shown(label_map.values[i]) for i in (1, 0))
        yield Finding(
            Severity.WARNING,
            "inverted-foreground",
            f"is the foreground the other way round? The value {foreground} is the foreground; it"
            f" fills {inside:.0%} of the pixels and {frame:.0%} of the images' borders, as"
            " backgrounds do",
            f"if it is the background, say so: classes={{{foreground}: 'background',"
            f" {background}: 'foreground'}}",
            tuple(seen.evidence("label") for seen in filled),
        )
