"""Files that are not there, empty, cut short, damaged, far too large, or no images at all."""

from __future__ import annotations

from collections.abc import Iterator

from easyseg.auditing.facts import ProblemKind
from easyseg.auditing.findings import Evidence, Finding, Repair, Severity, counted
from easyseg.auditing.tables import Audited
from easyseg.data.table import CellProblem

_KINDS: dict[ProblemKind, tuple[str, str, str]] = {
    "missing": ("missing-file", "not found", "put the file back or drop the row"),
    "empty": ("empty-file", "without any bytes", "replace the file or drop the row"),
    "truncated": ("truncated-file", "cut short", "copy it again or drop the row"),
    "unreadable": ("unreadable-file", "that cannot be read", "replace the file or drop the row"),
    "bomb": (
        "decompression-bomb",
        "of more pixels than Pillow opens",
        "cut it into tiles, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file",
    ),
    "values": (
        "unusable-values",
        "with values that an image or a mask cannot have",
        "save the image as 8 bit RGB, the mask as one whole class id a pixel",
    ),
}


def check_files(audited: Audited) -> Iterator[Finding]:
    """Yield one error for each kind of problem; each sample says what is wrong with it."""
    found: dict[ProblemKind, list[Evidence]] = {}
    for seen in audited:
        for problem in seen.fact.problems:
            item = seen.evidence(problem.part, detail=problem.text)
            found.setdefault(problem.kind, []).append(item)
    for kind, (check, words, remedy) in _KINDS.items():
        if evidence := found.get(kind):
            title = f"{counted(len(evidence), 'file')} {words}"
            yield Finding(
                Severity.ERROR, check, title, remedy, tuple(evidence), repair="drop the row"
            )


def check_cells(audited: Audited) -> Iterator[Finding]:
    """Yield errors for cells that name no file, for files that are not there, for no groups."""
    drop: Repair = "drop the row"
    for kind, check, words, remedy, repair in (
        ("file", "missing-file", "naming a file that is not there", _KINDS["missing"][2], drop),
        ("cell", "empty-cell", "without an image", "fill them in or drop the rows", drop),
        ("group", "missing-group", "without a group", "fill them in, or correct groups=", None),
    ):
        evidence = tuple(
            Evidence(
                table.name,
                cell.position,
                cell.row.item() if hasattr(cell.row, "item") else cell.row,
                (cell.name,) if cell.name else (),
                cell.text,
                cell.column,
            )
            for table in audited.tables
            for cell in table.cells
            if _what_is_missing(cell) == kind
        )
        if evidence:
            title = f"{counted(len(evidence), 'cell')} {words}"
            yield Finding(Severity.ERROR, check, title, remedy, evidence, repair=repair)


def _what_is_missing(cell: CellProblem) -> str:
    if cell.group:
        return "group"
    return "file" if cell.name else "cell"
