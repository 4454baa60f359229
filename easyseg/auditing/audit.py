"""The audit: everything that is wrong with, or worth knowing about, the user's tables."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from easyseg.auditing.checks import READING_CHECKS, run_checks
from easyseg.auditing.findings import AuditReport, Evidence, Finding, Severity, how_to_repair
from easyseg.auditing.reading import read_tables, understand, with_facts, with_smears
from easyseg.auditing.tables import Audited, AuditTable
from easyseg.data.label_map import LabelMap
from easyseg.data.label_rules import Classes, RawValue
from easyseg.data.table import Groups
from easyseg.errors import DataError

__all__ = ["READING", "Examined", "audit", "examine", "examine_labelled"]

log = logging.getLogger("easyseg")

READING = "reading the images and masks"
"""What the progress bar of an audit says."""

Watch = Callable[[int], AbstractContextManager[Callable[[int], None]]]
"""From a number of samples to a context that gives a function to call after each of them."""


@dataclass(frozen=True)
class Examined:
    """Tables with their facts, and all that the checks found.

    Attributes:
        audited: The tables, and how their masks are read.
        findings: The findings, the worst ones first.
    """

    audited: Audited
    findings: tuple[Finding, ...]

    @property
    def label_map(self) -> LabelMap:
        """The label map; there is one if there is no error."""
        assert self.audited.label_map is not None
        return self.audited.label_map

    def report(self) -> AuditReport:
        """Return what users see."""
        return AuditReport(self.findings, self._counts(), self.audited.label_map)

    def advice(self) -> str | None:
        """Return how to mend the errors that can be mended, in a sentence; None if none can."""
        errors = _errors(self.findings)
        if self.audited.train.name != "train":  # alone, it does not show how others are coded
            errors = [finding for finding in errors if finding.check != "unknown-values"]
        return how_to_repair(errors, self._counts())

    def _counts(self) -> dict[str, int]:
        return {table.name: table.rows for table in self.audited.tables}

    def refuse_errors(self) -> None:
        """Raise all errors at once, and log the warnings.

        Raises:
            DataError: Lists the errors, in the order of the tables' rows.
        """
        if problems := _error_lines(self.findings):
            raise DataError(problems, advice=self.advice())
        for finding in self.findings:
            if finding.severity == Severity.WARNING:
                log.warning("%s: %s (%s)", finding.check, finding.found, finding.remedy)


def audit(
    train_data: Any,
    tuning_data: Any = None,
    test_data: Any = None,
    *,
    image: str = "image",
    label: str = "label",
    classes: Classes | None = None,
    ignore_index: RawValue | None = None,
    data_root: str | os.PathLike[str] | None = None,
    verbosity: int = 1,
) -> AuditReport:
    """Look at every image and mask, and report everything that a training would suffer from.

    What stops a fit is an error, what costs quality a warning, what is good to know a note. The
    files are read once each and never changed.

    Args:
        train_data: DataFrame or CSV with an image and a label column.
        tuning_data: The same, of the data that choose the best epoch.
        test_data: The same, of the data that the model is scored on.
        image: Name of the column of images.
        label: Name of the column of masks.
        classes: Names of the raw mask values, ``{0: "background", 255: "lesion"}``, or names in the
            ascending order of the values; ``None``: found from the masks.
        ignore_index: Raw mask value of pixels that neither train nor score.
        data_root: Folder that relative paths start from; ``None``: the CSV's folder, else the
            working folder.
        verbosity: 0 is silent, 1 shows a progress bar and the report.

    Returns:
        The report: shown by ``print`` and in a notebook, ``to_dict`` for programs, ``write_html``
        for people.

    Raises:
        DataError: There is no such table or column, or it has no rows.
        OptionError: ``classes`` or ``ignore_index`` makes no sense.

    Example:
        >>> import numpy as np, pandas as pd, easyseg
        >>> rng = np.random.default_rng(0)
        >>> images = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(2)]
        >>> masks = [np.pad(np.ones((9, 9), np.uint8), ((9, 30), (9, 46))) for _ in range(2)]
        >>> table = pd.DataFrame({"image": images, "label": [masks[0], masks[1][:40]]})
        >>> report = easyseg.audit(table, verbosity=0)
        >>> [finding.check for finding in report.errors]
        ['size-differs']
    """
    from easyseg.console import reporting

    with reporting(verbosity) as reporter:
        examined = examine(
            {"train": train_data, "tuning": tuning_data, "test": test_data},
            image=image,
            label=label,
            classes=classes,
            ignore_index=ignore_index,
            data_root=data_root,
            watch=partial(reporter.progress, READING),
        )
        report = examined.report()
        reporter.show(report)
    return report


def examine(
    tables: Mapping[str, Any],
    *,
    image: str,
    label: str,
    classes: Classes | None = None,
    ignore_index: RawValue | None = None,
    problem_type: str = "auto",
    data_root: str | os.PathLike[str] | None = None,
    groups: Groups | None = None,
    watch: Watch = lambda total: nullcontext(lambda count: None),
) -> Examined:
    """Read tables and all their files, find out how the masks are read, and run all checks.

    Args:
        tables: Tables by name: ``"train"``, ``"tuning"``, ``"test"``; those that are None are left
            out.
        image: Name of the image column.
        label: Name of the label column.
        classes: As for `audit`.
        ignore_index: As for `audit`.
        problem_type: ``"auto"``, ``"binary"`` or ``"multiclass"``.
        data_root: Folder that relative paths start from.
        groups: The groups of the samples, as for :func:`easyseg.data.table.read_samples`.
        watch: Shows the progress.

    Raises:
        DataError: A table cannot be read at all; lists the errors in the others, too.
        OptionError: ``problem_type``, ``classes`` or ``ignore_index`` makes no sense.
    """
    first = next(iter(tables))
    if tables[first] is None:
        raise DataError(f"{first} data are None: expected a DataFrame or a CSV file")
    unread: list[str] = []
    read = read_tables(
        tables, image=image, label=label, data_root=data_root, problems=unread, groups=groups
    )
    with watch(sum(len(table.samples) for table in read)) as advance:
        found: list[AuditTable] = []
        for table in read:
            colour = found[0].coloured if found else None
            found.append(with_facts(table, advance, colour=colour))
    if not found:
        raise DataError(unread)
    audited = understand(
        found, problem_type=problem_type, classes=classes, ignore_index=ignore_index
    )
    findings = run_checks(audited)
    if unread:
        advice = Examined(audited, findings).advice()
        raise DataError([*unread, *_error_lines(findings)], advice=advice)
    return Examined(audited, findings)


def examine_labelled(
    data: Any,
    label_map: LabelMap,
    *,
    image: str,
    label: str,
    data_root: str | os.PathLike[str] | None,
    groups: Groups | None = None,
) -> Examined:
    """Read one table whose masks must fit a label map that is already there.

    Args:
        data: What :func:`easyseg.data.table.read_samples` takes, with labels.
        label_map: The label map of a trained model.
        image: Name of the image column.
        label: Name of the label column.
        data_root: Folder that relative paths start from.
        groups: The groups of the samples, as for :func:`easyseg.data.table.read_samples`.

    Raises:
        DataError: The table cannot be read at all.
    """
    unread: list[str] = []
    read = read_tables(
        {"data": data},
        image=image,
        label=label,
        data_root=data_root,
        problems=unread,
        groups=groups,
    )
    if unread:
        raise DataError(unread)
    table = with_facts(read[0], lambda count: None, colour=label_map.coloured)
    audited = Audited(
        (table,), with_smears(label_map, [table]), (), named=True, told=True, by_value=True
    )
    return Examined(audited, run_checks(audited, READING_CHECKS))


def _error_lines(findings: Sequence[Finding]) -> list[str]:
    """Return the errors, those about the whole set first, then those of samples, row by row."""
    whole: list[str] = []
    rows: list[tuple[tuple[int, int], str]] = []
    order = ("train", "data", "tuning", "test")
    for finding in _errors(findings):
        if finding.evidence and all(item.detail for item in finding.evidence):
            rows += [(_place(item, order), finding.line_of(item)) for item in finding.evidence]
        else:
            whole.append(finding.line())
    return [*whole, *(line for _, line in sorted(rows, key=lambda row: row[0]))]


def _errors(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity == Severity.ERROR]


def _place(item: Evidence, order: Sequence[str]) -> tuple[int, int]:
    return order.index(item.table), item.position
