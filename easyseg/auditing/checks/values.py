"""Mask values that cannot be classes, or of which it cannot be told which class they are."""

from __future__ import annotations

from collections.abc import Iterator

from easyseg.auditing.findings import Finding, Severity, counted
from easyseg.auditing.scan import MOST_VALUES
from easyseg.auditing.tables import Audited
from easyseg.data.label_map import IGNORE


def check_many_values(audited: Audited) -> Iterator[Finding]:
    """Yield an error for labels with more values than there can be classes."""
    found = tuple(
        seen.evidence(
            "label",
            detail=f"{seen.label}: the mask holds {seen.fact.num_values} different values,"
            f" expected class ids (at most {MOST_VALUES})"
            + ("; a JPEG smears them" if seen.fact.lossy else ""),
        )
        for seen in audited.masks()
        if seen.fact.num_values > MOST_VALUES
    )
    if found:
        yield Finding(
            Severity.ERROR,
            "too-many-values",
            f"{counted(len(found), 'mask holds', 'masks hold')} more than {MOST_VALUES} values",
            "save one class id a pixel, as PNG; a JPEG or a resized mask has smeared colours",
            found,
            repair="drop the row",
        )


def check_label_map(audited: Audited) -> Iterator[Finding]:
    """Yield an error for each reason why the training masks cannot be read as classes."""
    if audited.mixed_bits() or not any(seen.is_mask for seen in audited.train):
        return  # other findings say why
    for problem in audited.label_problems:
        yield Finding(
            Severity.ERROR,
            "label-values",
            problem,
            "say what the values mean, with classes={value: name, ...} or ignore_index=",
        )


def check_mixed_bits(audited: Audited) -> Iterator[Finding]:
    """Yield an error for masks of 1 bit, whose foreground is 1, among masks of 0 and 255."""
    bits = audited.mixed_bits()
    if bits:
        total = len(list(audited.masks(audited.train)))
        yield Finding(
            Severity.ERROR,
            "mixed-bits",
            f"{len(bits)} of {total} masks have 1 bit, the others hold 0 and 255: a foreground of"
            " 1 bit reads as 1, of 8 bits as 255",
            "save all masks in one format",
            tuple(
                seen.evidence(
                    "label",
                    detail=f"{seen.label}: has 1 bit, others hold 0 and 255; save all alike",
                )
                for seen in bits
            ),
            repair="write 255 for 1",
        )


def check_unknown_values(audited: Audited) -> Iterator[Finding]:
    """Yield an error for masks that are not coded as the training masks, or the model, say."""
    label_map = audited.label_map
    if label_map is None:
        return
    found = []
    for seen in audited.masks():
        fact = seen.fact
        if seen.table.name == "train" or fact.num_values > MOST_VALUES:
            continue
        values, dtype = fact.mask_counts or (), fact.mask_dtype or label_map.dtype
        line = label_map.misfit(values, dtype, fact.palette, seen.label)
        if line is not None:
            found.append(seen.evidence("label", detail=line))
    if found:
        yield Finding(
            Severity.ERROR,
            "unknown-values",
            f"{counted(len(found), 'mask is', 'masks are')} not coded like the training masks",
            "list a class in classes=, or ignore a value with ignore_index=",
            tuple(found),
            repair="drop the row",
        )


def check_mixed_encodings(audited: Audited) -> Iterator[Finding]:
    """Yield an error for sets in which some masks hold 0 and 1, others 0 and 255, and none both.

    255 after consecutive ids is read as ignored. Where no mask shows 1 beside 255, it is as likely
    that two people saved the foreground in two ways.
    """
    if audited.told or audited.label_map is None or audited.label_map.values != (0, 1):
        return
    ones, whites = [], []
    for seen in audited.masks():
        values = set(seen.fact.mask_counts or ())
        if {1, IGNORE} <= values:
            return
        if 1 in values:
            ones.append(seen)
        elif IGNORE in values:
            whites.append(seen)
    if ones and whites:
        fewer = min(ones, whites, key=len)
        yield Finding(
            Severity.ERROR,
            "mixed-encodings",
            f"masks of 0 and 1 ({len(ones)}) beside masks of 0 and {IGNORE} ({len(whites)}), none"
            " of both: the foreground seems to be coded in two ways",
            f"save all masks in one way; if {IGNORE} is ignored, say ignore_index={IGNORE}",
            tuple(
                seen.evidence(
                    "label",
                    detail=f"{seen.label}: holds {sorted(seen.fact.mask_counts or ())}",
                )
                for seen in fewer
            ),
        )
