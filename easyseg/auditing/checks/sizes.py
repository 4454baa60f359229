"""Masks of another size than their images, and images of extreme sizes."""

from __future__ import annotations

from collections.abc import Iterator

from easyseg.auditing.findings import Finding, Repair, Severity, counted
from easyseg.auditing.tables import Audited, Seen

# Below it SAM's smallest patches (16 pixels) leave a grid of one or two cells.
_TINY = 32
# Pillow warns of a decompression bomb from 89 million pixels; at 25 million (5000x5000) a decoded
# image takes 75 MB, and objects of a few dozen pixels vanish at any input size.
_HUGE = 25_000_000
# A longer side of more than this times the shorter one leaves most of a square input to padding.
_ELONGATED = 4


def check_mask_sizes(audited: Audited) -> Iterator[Finding]:
    """Yield warnings for sizes that are repaired while reading, an error for all others."""
    differ = [seen for seen in audited if not seen.swapped and seen.match != "equal"]
    near = [seen for seen in differ if seen.match == "near"]
    turned = [seen for seen in differ if seen.match in ("image turned", "mask turned")]
    other = [seen for seen in differ if seen.match == "other"]
    if near:
        yield _finding(
            Severity.WARNING,
            "size-off-by-pixels",
            near,
            "off by a few pixels (at most 8 and 2 %)",
            "nothing, if the pairs are right: the masks are resized to their images while reading"
            " (nearest neighbour)",
            "resize the mask",
        )
    if turned:
        yield _finding(
            Severity.WARNING,
            "size-turned-by-exif",
            turned,
            "with height and width swapped by an EXIF orientation that the other file has not",
            "nothing, if the pairs are right: the masks are turned while reading, so that they lie"
            " on their images",
            "turn the mask",
        )
    if other:
        yield _finding(
            Severity.ERROR,
            "size-differs",
            other,
            "of another size than the image",
            "check that each row pairs the right files",
            "drop the row",
        )


def _finding(
    severity: Severity, check: str, found: list[Seen], words: str, remedy: str, repair: Repair
) -> Finding:
    evidence = tuple(seen.evidence("image", "label", detail=_differ(seen)) for seen in found)
    title = f"{counted(len(found), 'mask')} {words}"
    return Finding(severity, check, title, remedy, evidence, repair)


def _differ(seen: Seen) -> str:
    size, mask_size = seen.fact.size, seen.fact.mask_size or (0, 0)
    hint = "the mask must have the size of its image: check that the row pairs the right files"
    if seen.match == "near":
        hint = "resized while reading"
    elif seen.match == "image turned":
        hint = (
            "the image's EXIF orientation turns it and the mask was drawn on the unturned pixels:"
            " turned while reading"
        )
    elif seen.match == "mask turned":
        hint = "the mask carries an EXIF orientation that its image has not: undone while reading"
    elif mask_size == size[::-1]:
        hint = "height and width are swapped: turn one of the two"
    return (
        f"{seen.label}: the mask is {mask_size[0]}x{mask_size[1]} (height x width), its image"
        f" {seen.image} is {size[0]}x{size[1]}; {hint}"
    )


def check_extreme_sizes(audited: Audited) -> Iterator[Finding]:
    """Yield warnings for tiny and huge images, a note for elongated ones."""
    readable = [seen for seen in audited if seen.fact.size != (0, 0)]
    tiny = [seen for seen in readable if min(seen.fact.size) < _TINY]
    huge = [seen for seen in readable if seen.fact.size[0] * seen.fact.size[1] > _HUGE]
    long = [seen for seen in readable if max(seen.fact.size) > _ELONGATED * min(seen.fact.size)]
    for severity, check, found, words, remedy in (
        (
            Severity.WARNING,
            "tiny-image",
            tiny,
            f"with a side of less than {_TINY} pixels",
            "look whether they are thumbnails or crops by mistake",
        ),
        (
            Severity.WARNING,
            "huge-image",
            huge,
            f"of more than {_HUGE / 1e6:.0f} million pixels",
            "cut them into tiles, or set data.geometry=tile, if the objects are small",
        ),
        (
            Severity.NOTE,
            "elongated-image",
            long,
            f"more than {_ELONGATED} times as long as wide",
            "cut them into pieces, or set data.geometry=tile",
        ),
    ):
        if found:
            evidence = tuple(
                seen.evidence("image", detail=f"{seen.image}: {_size(seen)}") for seen in found
            )
            title = f"{len(found)} of {counted(len(readable), 'image')} {words}"
            yield Finding(severity, check, title, remedy, evidence)


def _size(seen: Seen) -> str:
    return f"{seen.fact.size[0]}x{seen.fact.size[1]} (height x width)"
