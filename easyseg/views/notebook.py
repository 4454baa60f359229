"""How a notebook shows a segmentor and a plan: small pieces of HTML without scripts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from easyseg.plan.adapter_kinds import KINDS

if TYPE_CHECKING:
    from pathlib import Path

    from easyseg.artifact import Description
    from easyseg.plan.plan import Plan

__all__ = ["model_html", "parameters_html", "plan_html"]

_STYLE = """
.easyseg-view { font: 14px/1.45 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif;
  max-width: 62rem; }
.easyseg-view h3 { font-size: 1.1rem; margin: 0 0 .25rem; }
.easyseg-view p { margin: .2rem 0; }
.easyseg-view .soft { opacity: .7; }
.easyseg-view .tables { display: flex; flex-wrap: wrap; gap: .5rem 2.5rem; align-items: start; }
.easyseg-view table { border-collapse: collapse; margin: .5rem 0; }
.easyseg-view th, .easyseg-view td { text-align: left; vertical-align: top;
  padding: .15rem .8rem .15rem 0; border: 0; border-bottom: 1px solid rgba(128, 128, 128, .3);
  background: none; white-space: normal; overflow-wrap: anywhere; }
.easyseg-view td:first-child { white-space: nowrap; }
.easyseg-view .best { font-weight: 700; }
.easyseg-view .swatch { display: inline-block; width: .8em; height: .8em; margin-right: .5em;
  border: 1px solid rgba(128, 128, 128, .6); border-radius: .15em; }
.easyseg-view summary { cursor: pointer; }
"""


def plan_html(plan: Plan) -> str:
    """Return every decision of a plan with its value and its reason.

    Args:
        plan: The plan.
    """
    return _view(_heading("Plan", plan), _soft(plan.expected()), _decisions(plan))


def model_html(name: str, model: Description, path: Path) -> str:
    """Return what a fitted segmentor is: headline, scores, classes, and its plan to unfold.

    Args:
        name: Name of the segmentor's class.
        model: Its model.
        path: Where it lies.
    """
    from easyseg.metrics.streaming import EMPTY_KEY
    from easyseg.views.colours import background_of, class_colours

    labels, plan = model.label_map, model.plan
    background = background_of(labels, plan.problem_type)
    classes = [
        (_swatch(None if i == background else colour) + escape(called), escape(labels.shown(value)))
        for i, (called, value, colour) in enumerate(
            zip(labels.names, labels.values, class_colours(labels), strict=True)
        )
    ]
    if labels.ignore is not None:
        classes.append((f"{_swatch(None)}<i>ignored</i>", escape(labels.shown(labels.ignore))))
    scores = [
        tuple(_marked(text, key == plan.metric) for text in (key, _score(value)))
        for key, value in model.metrics.items()
        if key != EMPTY_KEY
    ]
    return _view(
        _heading(name, plan),
        _soft(str(path)),
        '<div class="tables">',
        _table(("validation score", ""), scores) if scores else "",
        _table(("class", "mask value"), classes),
        "</div>",
        f"<details><summary>plan</summary>{_decisions(plan)}</details>",
    )


def parameters_html(name: str, parameters: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Return what an unfitted segmentor was given: its parameters, those that were set in bold.

    Args:
        name: Name of the segmentor's class.
        parameters: Its parameters.
        defaults: What they are if nothing is set.
    """
    rows = [
        tuple(_marked(text, repr(value) != repr(defaults[key])) for text in (key, repr(value)))
        for key, value in parameters.items()
    ]
    return _view(
        f"<h3>{escape(name)}</h3>",
        _soft("not fitted: fit(train_data), or load(path), makes it ready to predict"),
        _table(("parameter", "value"), rows),
    )


def _view(*parts: str) -> str:
    body = "\n".join(part for part in parts if part)
    return f'<style>{_STYLE}</style>\n<div class="easyseg-view">\n{body}\n</div>'


def _heading(name: str, plan: Plan) -> str:
    """Say in a line what a plan makes."""
    adapter = plan.adapter.kind
    if "rank" in KINDS[adapter].uses:
        adapter += f", rank {plan.adapter.rank}"
    words = (
        f"{plan.problem_type}, {plan.num_classes} classes",
        f"preset {plan.preset}",
        f"{plan.backbone.name} with {adapter}",
        f"{plan.data.size} px, {plan.data.geometry}",
    )
    return f"<h3>{escape(name)}</h3><p>{escape(' · '.join(words))}</p>"


def _decisions(plan: Plan) -> str:
    rows = [tuple(map(escape, row)) for row in plan.rows()]
    return _table(("decision", "value", "because"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the entries of its rows are HTML already."""
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    lines = "".join(f"<tr>{''.join(f'<td>{entry}</td>' for entry in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>"


def _soft(text: str) -> str:
    return f'<p class="soft">{escape(text)}</p>' if text else ""


def _marked(text: str, best: bool) -> str:
    return f'<span class="best">{escape(text)}</span>' if best else escape(text)


def _swatch(colour: str | None) -> str:
    background = "" if colour is None else f' style="background: {escape(colour)}"'
    return f'<span class="swatch"{background}></span>'


def _score(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.4f}"
