"""Classes that a table lacks, and classes of few pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from easyseg.auditing.findings import Finding, Severity, counted
from easyseg.auditing.tables import Audited

# Shares of the pixels that are not ignored: below the first, most steps of a training see hardly
# any pixel of a class; below the second, it needs class weights or more images.
_RARE = 0.005
_SCARCE = 0.02


def check_missing_classes(audited: Audited) -> Iterator[Finding]:
    """Yield a warning for each table that lacks classes."""
    label_map = audited.label_map
    if label_map is None:
        return
    strange = {seen.table.name for seen, _ in audited.misfits()}
    for table in audited.tables:
        if table.name in strange:
            continue  # in masks of another coding the classes may be there
        held = {i for seen in audited.masks(table) for i in audited.by_class(seen.fact.mask_counts)}
        missing = [
            f"{name} ({label_map.shown(value)})"
            for i, (name, value) in enumerate(zip(label_map.names, label_map.values, strict=True))
            if i not in held
        ]
        if held and missing:
            remedy = (
                "add images that hold them: they cannot be learned"
                if table is audited.train
                else "split anew, stratified by class: they are not scored here"
            )
            yield Finding(
                Severity.WARNING,
                "missing-class",
                f"no mask of the {table.name} table holds {', '.join(missing)}",
                remedy,
            )


def check_rare_classes(audited: Audited) -> Iterator[Finding]:
    """Yield a warning or a note for each class of few pixels in the training masks."""
    label_map = audited.label_map
    if label_map is None:
        return
    masks = audited.train_masks()
    pixels = sum((counts for _, counts in masks), Counter[int]())
    total = sum(pixels[i] for i in range(label_map.num_classes))
    for i, name in enumerate(label_map.names):
        share = pixels[i] / max(1, total)
        if 0 < share < _SCARCE:
            holding = [seen for seen, counts in masks if counts[i]]
            rare = share < _RARE
            yield Finding(
                Severity.WARNING if rare else Severity.NOTE,
                "rare-class",
                f"the class {name} ({label_map.shown(label_map.values[i])}) has {share:.2%} of the"
                f" pixels, in {len(holding)} of {counted(len(masks), 'image')}",
                "add images that hold it, or larger views of it; its score will be uncertain"
                if rare
                else "nothing needed; its score is less certain than those of other classes",
                tuple(seen.evidence("label") for seen in holding),
            )
