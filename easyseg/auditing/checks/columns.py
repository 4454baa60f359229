"""Image and label in each other's place, or the image itself as its label."""

from __future__ import annotations

from collections.abc import Iterator

from easyseg.auditing.findings import Finding, Severity, counted
from easyseg.auditing.tables import Audited


def check_swapped_columns(audited: Audited) -> Iterator[Finding]:
    """Yield an error for rows whose label looks like a picture and whose image like a mask."""
    swapped = [seen for seen in audited if seen.swapped]
    if not swapped:
        return
    total = sum(1 for seen in audited if not seen.fact.problems)
    where, remedy = "image and label are swapped", "swap the two cells of these rows"
    hint = "image and label seem to be swapped: swap the two cells"
    if len(swapped) == total:
        where = "the image and the label column are swapped"
        remedy = "swap the columns: image= names the pictures, label= the masks"
        hint = f"image and label seem to be swapped: {remedy}"
    yield Finding(
        Severity.ERROR,
        "swapped-columns",
        f"{where} in {len(swapped)} of {counted(total, 'row')}: the label holds many colours,"
        " the image few",
        remedy,
        tuple(
            seen.evidence(
                "image",
                "label",
                detail=f"{seen.label}: {seen.fact.num_values} different values in the label,"
                f" {seen.fact.colours} main colours in the image {seen.image}",
            )
            for seen in swapped
        ),
        repair="drop the row",
        hint=hint,
    )


def check_label_is_image(audited: Audited) -> Iterator[Finding]:
    """Yield an error for labels that hold the pixels of their image."""
    found = tuple(
        seen.evidence(
            "image", "label", detail=f"{seen.label}: the label holds the pixels of {seen.image}"
        )
        for seen in audited
        if seen.fact.identical
    )
    if found:
        yield Finding(
            Severity.ERROR,
            "label-is-image",
            f"{counted(len(found), 'label holds', 'labels hold')} the pixels of the image itself",
            "check the label column: it must name the masks",
            found,
            repair="drop the row",
            hint="the label must name the mask: correct the cell, or drop the row",
        )


def check_pictures(audited: Audited) -> Iterator[Finding]:
    """Yield an error for labels that are grey pictures, beside labels that are masks."""
    found = tuple(
        seen.evidence(
            "image",
            "label",
            detail=f"{seen.label}: {seen.fact.num_values} grey levels, most pixels far from 0 and"
            " 255, as in a picture; the other labels are masks",
        )
        for table in audited.tables
        for seen in audited.pictures(table)
    )
    if found:
        yield Finding(
            Severity.ERROR,
            "grey-picture",
            f"{counted(len(found), 'label looks', 'labels look')} like grey pictures rather than"
            " masks: many levels, most pixels far from 0 and 255",
            "check the label column: it must name the masks",
            found,
            repair="drop the row",
            hint="the label must name the mask: correct the cell, or drop the row",
        )
