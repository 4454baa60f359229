"""Files of several pages, of which one is read."""

from __future__ import annotations

from collections.abc import Iterator

from easyseg.auditing.facts import Part
from easyseg.auditing.findings import Finding, Severity, counted
from easyseg.auditing.tables import Audited


def check_pages(audited: Audited) -> Iterator[Finding]:
    """Yield a note on images, and a warning on masks, of which only the first page is read."""
    parts: tuple[tuple[Part, Severity, str], ...] = (
        ("image", Severity.NOTE, "image"),
        ("label", Severity.WARNING, "mask"),
    )
    for part, severity, words in parts:
        found = [seen for seen in audited if seen.fact.pages[part == "label"] > 1]
        if found:
            yield Finding(
                severity,
                "several-pages",
                f"{counted(len(found), words)} with several pages or frames: the first one is read",
                "nothing, if the others do not matter; otherwise save them as bands or class ids of"
                " one page",
                tuple(seen.evidence(part) for seen in found),
            )
