"""What belongs together, as the file names tell: patients, films, places."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from easyseg.auditing.findings import Finding, Severity
from easyseg.auditing.tables import Audited
from easyseg.data.groups import guess_groups


def check_groups(audited: Audited) -> Iterator[Finding]:
    """Yield a note on groups in the names, and a warning if two tables share some of them."""
    everyone = list(audited)
    guess = guess_groups([seen.table.samples.names[seen.position] for seen in everyone])
    if guess is None:
        return
    tables: dict[str, set[str]] = {}
    for seen, group in zip(everyone, guess.labels, strict=True):
        tables.setdefault(group, set()).add(seen.table.name)
    yield Finding(
        Severity.NOTE,
        "groups-in-names",
        f"the file names tell {guess.count} groups in {len(everyone)} images, such as patients or"
        f" films: {guess.pattern}",
        "if images of one group are alike, split by it: fit(..., groups=...)",
    )
    files: dict[str, list[str]] = {}
    for seen, group in zip(everyone, guess.labels, strict=True):
        name = PurePath(seen.table.samples.names[seen.position])
        files.setdefault(group, []).append(name.stem.lower())
    # Names that only number the images start anew in each table: one there, the same one here.
    numbered = {
        group
        for group, names in files.items()
        if len(set(names)) == 1 and len(names) == len(tables[group])
    }
    split = {group for group, names in tables.items() if len(names) > 1} - numbered
    if split:
        yield Finding(
            Severity.WARNING,
            "split-groups",
            f"{len(split)} of {len(tables)} groups in the file names are in two tables, such as"
            f" {', '.join(sorted(split)[:3])}: likely leakage",
            "put all images of a group into one table",
            tuple(
                seen.evidence("image", detail=f"{seen.image}: of the group {group}")
                for seen, group in zip(everyone, guess.labels, strict=True)
                if group in split
            ),
        )
