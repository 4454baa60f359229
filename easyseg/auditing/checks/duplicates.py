"""The same picture twice: within a table, and in two tables (leakage)."""

from __future__ import annotations

from collections.abc import Iterator

from easyseg.auditing.duplicates import clusters, near_duplicates
from easyseg.auditing.findings import Evidence, Finding, Severity, counted
from easyseg.auditing.tables import Audited, Seen


def check_duplicates(audited: Audited) -> Iterator[Finding]:
    """Yield an error for images that two tables share, a warning for copies in one table.

    Images of one colour are no evidence: blank slices and tiles are equal by nature.
    """
    by_digest: dict[str, list[Seen]] = {}
    for seen in audited:
        if seen.fact.digest and not seen.fact.constant:
            by_digest.setdefault(seen.fact.digest, []).append(seen)
    groups = [group for group in by_digest.values() if len(group) > 1]
    shared = [group for group in groups if _tables(group) > 1]
    if shared:
        yield Finding(
            Severity.ERROR,
            "leakage",
            f"{counted(len(shared), 'image is', 'images are')} in two tables: scores on tuning"
            " or test data would be about images that were trained on",
            "remove them from one of the tables",
            _evidence(shared),
            hint="leakage: the same image in two tables; remove it from one of them",
        )
    within = [group for group in groups if _tables(group) == 1]
    if within:
        differ = sum(len({seen.fact.mask_digest for seen in group}) > 1 for group in within)
        more = f"; different masks for {differ} of them" if differ else ""
        yield Finding(
            Severity.WARNING,
            "duplicate-images",
            f"{counted(len(within), 'image is', 'images are')} in one table more than once{more}",
            "keep one row of each"
            + (", the one whose mask is right" if differ else "")
            + ": copies in the validation part make scores too good",
            _evidence(within),
        )


def check_shared_masks(audited: Audited) -> Iterator[Finding]:
    """Yield a warning for different images that have the same mask, unless it is of one value."""
    by_digest: dict[str, list[Seen]] = {}
    for seen in audited.masks():
        if seen.fact.num_values > 1 and seen.fact.digest:
            by_digest.setdefault(seen.fact.mask_digest, []).append(seen)
    shared = [
        group for group in by_digest.values() if len({seen.fact.digest for seen in group}) > 1
    ]
    if shared:
        yield Finding(
            Severity.WARNING,
            "shared-mask",
            f"{counted(len(shared), 'mask belongs', 'masks belong')} to several different images",
            "look whether the rows pair the right files",
            tuple(
                seen.evidence("label", detail=f"{seen.label}: the mask of {seen.image}, too")
                for group in shared
                for seen in group
            ),
        )


def check_near_duplicates(audited: Audited) -> Iterator[Finding]:
    """Yield warnings for images that look the same, within a table and across tables."""
    looks = [seen for seen in audited if seen.fact.perceptual_hash]
    pairs = near_duplicates(
        [seen.fact.perceptual_hash or 0 for seen in looks],
        thumbnails=[seen.fact.thumbnail for seen in looks],
    )
    pairs = [(i, j) for i, j in pairs if looks[i].fact.digest != looks[j].fact.digest]
    across = [(i, j) for i, j in pairs if looks[i].table is not looks[j].table]
    within = [(i, j) for i, j in pairs if looks[i].table is looks[j].table]
    for found, check, words, remedy in (
        (
            across,
            "near-leakage",
            "of two tables look nearly the same: likely leakage",
            "split by patient, place or film, so that what belongs together is in one table",
        ),
        (
            within,
            "near-duplicates",
            "look nearly the same as another one of their table",
            "keep what belongs together in one part: fit(..., groups=...)",
        ),
    ):
        groups = _clustered(looks, found)
        if groups:
            images = sum(map(len, groups))
            yield Finding(
                Severity.WARNING,
                check,
                f"{images} images {words} ({counted(len(groups), 'group')},"
                f" {counted(len(found), 'pair')})",
                remedy,
                _evidence(groups),
            )


def _clustered(looks: list[Seen], pairs: list[tuple[int, int]]) -> list[list[Seen]]:
    """Return the images that pairs tie together."""
    groups: dict[int, list[Seen]] = {}
    for position, cluster in enumerate(clusters(len(looks), pairs)):
        groups.setdefault(cluster, []).append(looks[position])
    return [group for group in groups.values() if len(group) > 1]


def _tables(group: list[Seen]) -> int:
    return len({seen.table.name for seen in group})


def _evidence(groups: list[list[Seen]]) -> tuple[Evidence, ...]:
    """Return the samples of all groups, each with the name of one that is like it."""
    return tuple(
        seen.evidence("image", detail=_like(seen, group)) for group in groups for seen in group
    )


def _like(seen: Seen, group: list[Seen]) -> str:
    """Say which image is like it: one of another table if there is one, else of its own."""
    others = [item for item in group if item is not seen]
    other = next((item for item in others if item.table is not seen.table), others[-1])
    more = f" and {len(group) - 2} more" if len(group) > 2 else ""
    masks = ""
    if seen.fact.digest == other.fact.digest and seen.fact.mask_digest != other.fact.mask_digest:
        masks = ", with another mask"
    return (
        f"{seen.image}: like {other.image} ({other.table.name},"
        f" {other.table.samples.row(other.position)}{masks}){more}"
    )
