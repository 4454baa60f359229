"""Masks that number the objects of each image, which are no classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from easyseg.auditing.findings import Finding, Severity
from easyseg.auditing.tables import Audited

# Of the masks that hold objects; and of the values of all of them, those that are one region each.
_NUMBERED = 0.8
_ONE_REGION = 0.9
# Classes are the same in all images, or in most; of objects there are now more, now fewer. What is
# counted from one end, such as layers or vertebrae, varies little.
_DIFFERENT_COUNTS = 4
_MOST_LESS_FEWEST = 4
_OF_ONE_COUNT = 0.5


def check_instances(audited: Audited) -> Iterator[Finding]:
    """Yield an error if the training masks hold 1, 2, ... for the objects of their image.

    Then a value means another object in each mask. Classes hold gaps where an image lacks one, and
    come in several regions.
    """
    label_map = audited.label_map
    if label_map is None or label_map.coloured or label_map.binary or audited.named:
        return
    numbered, regions = [], []
    counts: Counter[int] = Counter()
    masks = []
    for seen in audited.masks(audited.train):
        ids = sorted((seen.fact.mask_counts or {}).keys() - {0, label_map.ignore})
        if not ids:
            continue
        masks.append(seen)
        shapes = seen.fact.shapes or {}
        regions += [shapes[i].components for i in ids if i in shapes]
        if ids == [*range(1, len(ids) + 1)]:
            numbered.append(seen)
            counts[len(ids)] += 1
    single = sum(number == 1 for number in regions)
    if (
        len(counts) < _DIFFERENT_COUNTS
        or max(counts) - min(counts) < _MOST_LESS_FEWEST
        or max(counts.values()) > _OF_ONE_COUNT * len(numbered)
        or len(numbered) < _NUMBERED * len(masks)
        or single < _ONE_REGION * len(regions)
    ):
        return
    yield Finding(
        Severity.ERROR,
        "numbered-objects",
        f"{len(numbered)} of {len(masks)} masks hold 1, 2, ... up to {min(counts)} to"
        f" {max(counts)}, each value one region ({single} of {len(regions)}): they seem to number"
        " the objects of each image, and a number is no class",
        "save mask > 0, as 0 and 255, to find the objects; if the values are classes, name them"
        " with classes={value: name, ...}",
        tuple(seen.evidence("label") for seen in numbered),
    )
