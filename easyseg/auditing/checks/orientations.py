"""EXIF orientations that no size tells, as a question."""

from __future__ import annotations

from collections.abc import Iterator

from easyseg.auditing.findings import Finding, Severity, counted
from easyseg.auditing.tables import Audited, Seen


def check_orientations(audited: Audited) -> Iterator[Finding]:
    """Yield a warning for EXIF orientations of one of two files that leave the size as it is.

    Those that change it tell how masks were drawn: if it was on upright images, nothing is said.
    """
    silent: list[Seen] = []
    for seen in audited.masks():
        one, other = seen.fact.orientations
        if seen.fact.problems or one == other or seen.match != "equal":
            continue
        height, width = seen.fact.size
        if any(seen.fact.turned) and height != width:
            return
        silent.append(seen)
    if silent:
        yield Finding(
            Severity.WARNING,
            "exif-orientation",
            f"{counted(len(silent), 'image')} or their masks, not both, have an EXIF orientation"
            " that leaves the size as it is (half a turn, a mirror, a turn of a square): whether"
            " the masks were drawn on the images as shown cannot be told",
            "look at one of them: nothing, if the mask lies on its object; otherwise save the"
            " images upright, without an orientation",
            tuple(
                seen.evidence(
                    "image",
                    "label",
                    detail=f"{seen.image}: orientation {seen.fact.orientations[0]}, of the mask"
                    f" {seen.fact.orientations[1]}",
                )
                for seen in silent
            ),
        )
