"""What a notebook shows: numbers and reasons as they are, names as names, never as HTML."""

from __future__ import annotations

from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import easyseg
from easyseg import SemanticSegmentor
from easyseg.artifact import Description
from easyseg.auditing.findings import AuditReport, Evidence, Finding, Severity
from easyseg.data.label_map import LabelMap
from easyseg.views.notebook import model_html, parameters_html, plan_html

ODD = "<script>alert(1)</script>&amp;\"'><img src=x onerror=alert(1)>"
# What a browser shows of a text: no control characters, spaces as they come.
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(str.strip)


class Outline(HTMLParser):
    """Gathers tags, which must be closed as they should be, and the text outside of styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.text = [], set(), []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)
        assert {name for name, _ in attrs} <= {"class", "style"}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    def entries(self) -> set[str]:
        return {text.strip() for text in self.text}


ALLOWED = {
    *("style", "div", "h3", "p", "table", "thead", "tbody", "tr", "th", "td", "span"),
    *("details", "summary", "i"),
}


def test_a_plan_shows_each_decision_with_value_and_reason(tiny_plan):
    plan = tiny_plan()
    outline = Outline(plan._repr_html_())
    for row in plan.rows():
        assert {entry.strip() for entry in row if entry.strip()} <= outline.entries()
    assert outline.tags <= ALLOWED


def test_a_fitted_segmentor_shows_scores_classes_and_where_it_lies(binary):
    outline = Outline(binary._repr_html_())
    shown = outline.entries()
    assert {"SemanticSegmentor", str(binary.path_), "background", "foreground", "255"} <= shown
    assert binary.plan_.metric in shown
    assert f"{binary.best_score_:.4f}" in shown
    assert "binary, 2 classes · preset" in " ".join(shown)
    assert "empty@image" not in shown
    assert outline.tags <= ALLOWED


def test_a_segmentor_that_is_not_fitted_shows_what_it_was_given():
    text = SemanticSegmentor("binary", ignore_index=7)._repr_html_()
    outline = Outline(text)
    assert {"problem_type", "'binary'", "verbosity", "1"} <= outline.entries()
    assert '<span class="best">ignore_index</span>' in text
    assert '<span class="best">verbosity</span>' not in text
    assert "not fitted" in " ".join(outline.entries())


@settings(max_examples=40)
@given(names=st.lists(TEXT, min_size=2, max_size=3, unique=True), reason=TEXT, path=TEXT)
@example(names=["a", ODD], reason=ODD, path=ODD)
def test_names_never_come_through_as_html(tiny_plan, names, reason, path):
    label_map = LabelMap(tuple(range(len(names))), tuple(names), 9, "uint8")
    plan = tiny_plan(num_classes=len(names))
    plan = replace(plan, reasons={"adapter.rank": reason})
    scores = {plan.metric: 0.5, f"iou@dataset/{names[1]}": float("nan")}
    model = Description(plan=plan, label_map=label_map, seed=0, metrics=scores)
    shown = Outline(model_html("Segmentor", model, Path(path)))
    assert shown.tags <= ALLOWED
    for text in (*names, reason, f"iou@dataset/{names[1]}", "0.5000", "none"):
        assert text.strip() in shown.entries()
    assert reason.strip() in Outline(plan_html(plan)).entries()
    parameters = SemanticSegmentor(classes=names, path=path).get_params()
    given_ones = Outline(parameters_html("Segmentor", parameters, parameters))
    assert given_ones.tags <= ALLOWED
    assert repr(names).strip() in given_ones.entries()


@settings(max_examples=40)
@given(text=TEXT)
@example(text=ODD)
def test_findings_never_come_through_as_html(text):
    items = (Evidence("train", 0, text, (text,), text, text),)
    report = AuditReport((Finding(Severity.NOTE, text, text, text, items),), {"train": 1}, None)
    shown = Outline(report._repr_html_())
    assert "script" not in shown.tags
    assert "img" not in shown.tags
    assert text.strip() in shown.entries()


def test_an_audit_is_shown_by_a_notebook(binary_table):
    report = easyseg.audit(binary_table, verbosity=0)
    words = unescape(report._repr_html_())
    for finding in report.findings:
        assert finding.check in words
        assert finding.found in words
    assert "6 train samples" in words


def test_colours_of_classes_are_shown(binary):
    from easyseg.views.colours import class_colours

    text = binary._repr_html_()
    assert f'style="background: {class_colours(binary.label_map_)[1]}"' in text
    assert f'style="background: {class_colours(binary.label_map_)[0]}"' not in text


@pytest.mark.parametrize("kind", ["none", "lora"])
def test_the_headline_says_what_the_adapter_is(tiny_plan, kind):
    words = plan_html(tiny_plan({"adapter.kind": kind}))
    assert ("tiny_sam with lora, rank 3" in words) == (kind == "lora")
    assert ("tiny_sam with none" in words) == (kind == "none")
