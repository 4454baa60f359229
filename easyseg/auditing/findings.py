"""What an audit says: findings with their evidence, and the report of all of them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from easyseg.data.io import ImageSource
from easyseg.data.label_map import LabelMap

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["AuditReport", "Evidence", "Finding", "Repair", "Severity", "counted", "how_to_repair"]

Repair = Literal[
    "drop the row",
    "resize the mask",
    "turn the mask",
    "threshold the mask",
    "write 255 for 1",
    "write 1 for 255",
]

SHOWN = 3
"""Samples of a finding that a console shows; the report keeps all of them."""

_COLOURS = {"note": "cyan", "warning": "yellow", "error": "red"}


def counted(count: int, one: str, several: str = "") -> str:
    """Return a number and what it counts.

    Args:
        count: The number.
        one: The words for one.
        several: The words for several; default: with an ``s``.

    Example:
        >>> counted(1, "mask is", "masks are"), counted(3, "error")
        ('1 mask is', '3 errors')
    """
    return f"{count} {one if count == 1 else several or one + 's'}"


class Severity(IntEnum):
    """How bad a finding is: errors stop a fit, warnings cost quality, notes are good to know.

    Example:
        >>> Severity.ERROR > Severity.WARNING, str(Severity.NOTE)
        (True, 'note')
    """

    NOTE = 1
    WARNING = 2
    ERROR = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Evidence:
    """A sample that shows what was found.

    Args:
        table: ``"train"``, ``"tuning"``, ``"test"``, or ``"data"`` where there is one table only.
        position: The sample's position in that table, from 0.
        row: Its label in the table's index.
        files: The files that show it, as the table names them.
        detail: What was found in this sample, with figures; may be empty.
        column: The column of the table, if the cell itself is at fault.
        sources: Where its image and mask come from, for pictures.
    """

    table: str
    position: int
    row: Any
    files: tuple[str, ...]
    detail: str = ""
    column: str = ""
    sources: tuple[ImageSource, ...] = field(default=(), repr=False, compare=False)

    def __str__(self) -> str:
        table = f"{self.table} " if self.table in ("tuning", "test") else ""
        column = f", column {self.column!r}" if self.column else ""
        return f"{table}row {self.row!r}{column}: {self.detail or ', '.join(self.files)}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        row = self.row if isinstance(self.row, (str, int, float, bool)) else str(self.row)
        return {
            "table": self.table,
            "position": self.position,
            "row": row,
            "files": list(self.files),
            "detail": self.detail,
            "column": self.column,
        }


@dataclass(frozen=True)
class Finding:
    """One thing that an audit found.

    Args:
        severity: How bad it is.
        check: The name of the check, such as ``"truncated-file"``.
        found: What was found, with figures.
        remedy: What to do.
        evidence: The samples that show it, all of them; empty if it is about the whole set.
        repair: What ``easyseg audit --fix`` does about it; None if it can do nothing.
        hint: What the details leave to `found` and `remedy`, for lines about one sample alone: what
            is wrong with it, and what to do; empty if they say so themselves.
    """

    severity: Severity
    check: str
    found: str
    remedy: str
    evidence: tuple[Evidence, ...] = ()
    repair: Repair | None = None
    hint: str = field(default="", repr=False)

    def __str__(self) -> str:
        lines = [f"{self.severity} · {self.check} · {self.found}", f"  do: {self.remedy}"]
        lines += [f"  - {line}" for line in self.shown()]
        return "\n".join(lines)

    def shown(self, most: int = SHOWN) -> list[str]:
        """Return the first samples in words, and how many there are beyond.

        Args:
            most: How many.
        """
        lines = [str(item) for item in self.evidence[:most]]
        if len(self.evidence) > most:
            lines.append(f"... and {len(self.evidence) - most} more")
        return lines

    def line(self) -> str:
        """Return the finding in one line, without its evidence."""
        return f"{self.found}: {self.remedy}"

    def line_of(self, item: Evidence) -> str:
        """Return what is wrong with one sample, and what to do, in one line.

        Args:
            item: The sample, one of `evidence`.
        """
        return f"{item}; {self.hint}" if self.hint else str(item)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "severity": str(self.severity),
            "check": self.check,
            "found": self.found,
            "remedy": self.remedy,
            "repair": self.repair,
            "evidence": [item.to_dict() for item in self.evidence],
        }


def how_to_repair(findings: Iterable[Finding], num_samples: Mapping[str, int]) -> str | None:
    """Return how to mend what can be mended, in a sentence.

    Args:
        findings: What was found.
        num_samples: Number of samples of each table.

    Returns:
        ``None`` if nothing can be mended, if a table would lose all rows, or if it is in memory.

    Example:
        >>> how_to_repair([Finding(Severity.ERROR, "leakage", "1 image twice", "drop one")], {})
    """
    mended = [finding for finding in findings if finding.repair is not None]
    evidence = [item for finding in mended for item in finding.evidence]
    in_memory = any(not isinstance(source, Path) for item in evidence for source in item.sources)
    dropped = Counter(
        table
        for table, _ in {
            (item.table, item.position)
            for finding in mended
            if finding.repair == "drop the row"
            for item in finding.evidence
        }
    )
    emptied = any(dropped[table] == count for table, count in num_samples.items() if count)
    if not mended or in_memory or emptied:
        return None
    repairs = sorted({str(finding.repair) for finding in mended})
    return (
        f"`easyseg audit TABLE --fix FOLDER` (in Python: easyseg.repair) can {', '.join(repairs)}:"
        " it writes a new table and leaves your files as they are"
    )


@dataclass(frozen=True)
class AuditReport:
    """All findings about the tables, the worst ones first.

    Shown as text by ``print``, in colours by rich, as HTML by a notebook.

    Args:
        findings: The findings, sorted by severity.
        num_samples: Number of samples of each table, ``{"train": 80, "test": 20}``.
        label_map: How the masks are read; None if that cannot be told.

    Example:
        >>> report = AuditReport((), {"train": 80}, None)
        >>> report.ok, len(report.errors)
        (True, 0)
        >>> print(report)
        80 train samples: 0 errors, 0 warnings, 0 notes
    """

    findings: tuple[Finding, ...]
    num_samples: Mapping[str, int]
    label_map: LabelMap | None

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop a fit."""
        return self._of(Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that cost quality."""
        return self._of(Severity.WARNING)

    @property
    def notes(self) -> tuple[Finding, ...]:
        """The findings that are good to know."""
        return self._of(Severity.NOTE)

    @property
    def ok(self) -> bool:
        """Whether a fit takes the tables: there is no error."""
        return not self.errors

    def by_check(self, check: str) -> tuple[Finding, ...]:
        """Return the findings of one check.

        Args:
            check: Its name, such as ``"leakage"``.
        """
        return tuple(finding for finding in self.findings if finding.check == check)

    def summary(self) -> str:
        """Return the counts in one line."""
        samples = ", ".join(f"{count} {name}" for name, count in self.num_samples.items())
        kinds = sorted(Severity, reverse=True)
        return f"{samples} samples: {', '.join(counted(len(self._of(k)), str(k)) for k in kinds)}"

    def how_to_repair(self) -> str | None:
        """Return how to mend what can be mended, in a sentence; None if nothing can."""
        return how_to_repair(self.findings, self.num_samples)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "num_samples": dict(self.num_samples),
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "notes": len(self.notes),
            "label_map": None if self.label_map is None else self.label_map.to_dict(),
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def to_json(self) -> str:
        """Return `to_dict` as indented JSON."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False)
        return text.encode("utf-8", "backslashreplace").decode("utf-8")  # odd bytes of file names

    def write_html(self, path: str | os.PathLike[str]) -> Path:
        """Write the report as one HTML file with thumbnails of the evidence.

        Args:
            path: The file; its folder is made, an existing file is replaced.

        Returns:
            The file's path.
        """
        from easyseg.auditing.html import page
        from easyseg.files import write_text

        target = Path(path).expanduser()
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, page(self))
        return target

    def __str__(self) -> str:
        labels = [f"classes: {self.label_map}"] if self.label_map is not None else []
        return "\n".join([self.summary(), *labels, *map(str, self.findings)])

    def __rich__(self) -> RenderableType:
        """Return the report as a table for rich."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(title="Audit", title_justify="left", show_lines=True, expand=False)
        for name in ("severity", "check", "found and what to do"):
            table.add_column(name, no_wrap=name != "found and what to do")
        for finding in self.findings:
            text = Text(finding.found)
            text.append(f"\n→ {finding.remedy}", style="green")
            if finding.repair:
                text.append(f" (--fix can {finding.repair})", style="green")
            for line in finding.shown():
                text.append(f"\n· {line}", style="dim")
            severity = str(finding.severity)
            table.add_row(Text(severity, style=f"bold {_COLOURS[severity]}"), finding.check, text)
        labels = [Text(f"classes: {self.label_map}")] if self.label_map is not None else []
        shown: list[RenderableType] = [table] if self.findings else []
        return Group(*shown, *labels, Text(self.summary(), style="bold"))

    def _repr_html_(self) -> str:
        from easyseg.auditing.html import fragment

        return fragment(self)

    def _of(self, severity: Severity) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == severity)
