"""The report: what it counts, as text, as JSON, in colours, and as HTML with thumbnails."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from audit_gallery import ROW_DEFECTS, audit_of, scenes, spoil, write_set
from PIL import Image
from rich.console import Console

import easyseg
from easyseg.auditing.findings import AuditReport, Evidence, Finding, Severity, counted
from easyseg.errors import DataError

PAIRS = scenes(24)


class Outline(HTMLParser):
    """Gathers tags that are closed as they should be, text, and what is loaded."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.sources, self.text = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spoiled")
    table = write_set(folder, PAIRS)
    return spoil(table, dict(enumerate(ROW_DEFECTS)), folder)


@pytest.fixture(scope="module")
def report(spoiled):
    return audit_of(spoiled)


def finding(count=5, severity=Severity.ERROR, text="something"):
    items = tuple(
        Evidence("train", i, f"r{i}", (f"{i}.png",), f"{i}.png: bad") for i in range(count)
    )
    return Finding(severity, "check", text, "do this", items, "drop the row")


def test_findings_are_sorted_counted_and_found_by_name(report):
    severities = [found.severity for found in report.findings]
    assert severities == sorted(severities, reverse=True)
    assert report.findings == (*report.errors, *report.warnings, *report.notes)
    assert not report.ok
    assert report.num_samples == {"train": 24}
    words = f"24 train samples: {counted(len(report.errors), 'error')}, "
    assert report.summary().startswith(words)
    assert report.by_check("size-differs")[0].check == "size-differs"


def test_all_evidence_is_kept_and_little_is_shown():
    found = finding(7)
    assert len(found.to_dict()["evidence"]) == 7
    assert found.shown() == [
        "row 'r0': 0.png: bad",
        "row 'r1': 1.png: bad",
        "row 'r2': 2.png: bad",
        "... and 4 more",
    ]
    assert "6.png" not in str(found)


def test_evidence_says_table_row_and_column():
    item = Evidence("tuning", 0, 7, ("a.png",), "a.png: gone", "image")
    assert str(item) == "tuning row 7, column 'image': a.png: gone"
    assert str(Evidence("train", 0, 7, ("a.png", "b.png"))) == "row 7: a.png, b.png"


def test_json_holds_plain_types_of_everything(report):
    record = json.loads(report.to_json())
    assert record == report.to_dict()
    assert record["errors"] == len(report.errors)
    assert record["label_map"]["values"] == [0, 255]
    sizes = [len(found["evidence"]) for found in record["findings"]]
    assert sizes == [len(found.evidence) for found in report.findings]
    assert {found["severity"] for found in record["findings"]} == {"error", "warning", "note"}


def test_rows_of_any_index_become_json(tmp_path):
    table = write_set(tmp_path, PAIRS[:3])
    table.loc[1, "image"] = "gone.png"
    table.index = pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"])
    (item,) = json.loads(audit_of(table).to_json())["findings"][0]["evidence"]
    assert item["row"].startswith("2024-01-02")
    assert item["position"] == 1


def test_text_and_rich_say_the_same(report):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report)
    shown = re.sub(r"[\s│]+", " ", console.export_text())
    for found in report.findings:
        assert found.check in shown
        assert found.check in str(report)
        assert found.remedy[:40] in str(report)
    assert report.summary() in shown
    assert report.summary() in str(report)
    assert str(report.label_map) in str(report)


def test_rich_takes_names_for_names(capsys):
    odd = Finding(Severity.NOTE, "check", "[bold]x[/oops] found", "do [red]this")
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(AuditReport((odd,), {"train": 1}, None))
    assert "[bold]x[/oops] found" in console.export_text()


def test_the_page_is_one_well_formed_file_with_thumbnails(report, tmp_path):
    target = report.write_html(tmp_path / "new" / "report.html")
    text = target.read_text(encoding="utf-8")
    outline = Outline(text)
    assert outline.open == []
    assert "script" not in outline.tags
    assert outline.sources
    assert all(source.startswith("data:image/") for source in outline.sources)
    sizes = set()
    for source in outline.sources:
        with Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) as picture:
            picture.load()
            sizes.add(max(picture.size))
    assert max(sizes) <= 144
    assert "cannot be shown" in text
    for found in report.findings:
        assert found.check in text
    assert "A fit refuses these data." in text
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


def test_what_files_are_called_cannot_break_the_page(tmp_path):
    folder = tmp_path / "<b>&amp;'\""
    table = write_set(folder, PAIRS[:3])
    table.loc[0, "image"] = str(folder / "<script>alert(1)</script>.png")
    text = audit_of(table).write_html(tmp_path / "r.html").read_text(encoding="utf-8")
    outline = Outline(text)
    assert outline.open == []
    assert "script" not in outline.tags
    assert "alert(1)" in "".join(outline.text)


def test_thumbnails_of_arrays_of_all_kinds(tmp_path):
    image, ids = PAIRS[0]
    masks = [ids, ids > 0, ids.astype(np.uint16) * 300, np.dstack([ids * 128, ids * 64, ids])]
    table = pd.DataFrame({"image": [image] * 4, "label": masks})
    report = audit_of(table)
    assert len(Outline(report.write_html(tmp_path / "r.html").read_text("utf-8")).sources) >= 8


def test_a_notebook_gets_a_piece_of_html_without_thumbnails(report):
    text = report._repr_html_()
    outline = Outline(text)
    assert outline.open == []
    assert outline.sources == []
    assert "<html" not in text
    assert report.findings[0].check in text


def test_audit_shows_the_report_on_standard_error(tmp_path, capsys):
    table = write_set(tmp_path, PAIRS[:3])
    report = easyseg.audit(table)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert report.summary() in shown.err
    easyseg.audit(table, verbosity=0)
    assert capsys.readouterr().err == ""


def test_audit_reports_progress_of_all_samples(tmp_path, monkeypatch):
    from contextlib import contextmanager

    from easyseg.console import Reporter

    seen = []

    @contextmanager
    def progress(self, text, total):
        seen.append(total)
        yield seen.append

    monkeypatch.setattr(Reporter, "progress", progress)
    table = write_set(tmp_path, PAIRS[:6])
    easyseg.audit(table[:4], table[4:], verbosity=0)
    assert seen == [6, *[1] * 6]


def test_what_is_no_finding_is_raised(tmp_path):
    table = write_set(tmp_path, PAIRS[:2])
    with pytest.raises(DataError, match=r"column 'mask' is missing"):
        easyseg.audit(table, label="mask", verbosity=0)
    with pytest.raises(DataError, match=r"test data: column 'label' is missing"):
        easyseg.audit(table, test_data=table.drop(columns="label"), verbosity=0)
    with pytest.raises(DataError, match="no rows"):
        easyseg.audit(table[:0], verbosity=0)


def test_a_warning_is_logged_by_a_fit(tmp_path, caplog):
    from audit_gallery import fit_prepares

    table = spoil(write_set(tmp_path, PAIRS[:8]), {3: "few pixels"}, tmp_path)
    with caplog.at_level("WARNING", logger="easyseg"):
        fit_prepares(table)
    (message,) = [r.getMessage() for r in caplog.records if "size-off" in r.getMessage()]
    assert "1 mask off by a few pixels" in message
