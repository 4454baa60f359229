"""The report as one HTML file: no script, nothing loaded from elsewhere, thumbnails inside."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from easyseg.auditing.findings import AuditReport, Evidence, Finding
from easyseg.data.colours import unpack_colours
from easyseg.data.io import ImageSource, Mask, load_mask, read_image
from easyseg.errors import DataError
from easyseg.visualize import PALETTE, shrink_mask

__all__ = ["fragment", "page"]

_SIDE = 144  # pixels of a thumbnail's longer side
_PICTURED = 4  # samples of a finding with thumbnails
_LISTED = 50  # samples of a finding that are named

_STYLE = """
.easyseg-audit { --ink: #1d2433; --soft: #5b6577; --line: #e2e6ee; --paper: #ffffff;
  --error: #b3261e; --warning: #8a5a00; --note: #1f5f99; --do: #17663a;
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif;
  color: var(--ink); background: var(--paper); max-width: 62rem; }
.easyseg-audit h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
.easyseg-audit p { margin: .25rem 0; }
.easyseg-audit .counts span { display: inline-block; margin: .5rem .5rem .5rem 0;
  padding: .1rem .7rem; border-radius: 1rem; border: 1px solid currentColor; font-weight: 600; }
.easyseg-audit .error { color: var(--error); } .easyseg-audit .warning { color: var(--warning); }
.easyseg-audit .note { color: var(--note); }
.easyseg-audit section { border: 1px solid var(--line); border-left: .35rem solid;
  border-radius: .4rem; padding: .6rem 1rem; margin: .8rem 0; }
.easyseg-audit section > * { color: var(--ink); }
.easyseg-audit section h2 { font-size: 1rem; margin: 0; color: inherit; }
.easyseg-audit h2 code { font-weight: 400; color: var(--soft); }
.easyseg-audit section .do { color: var(--do); }
.easyseg-audit .soft, .easyseg-audit summary { color: var(--soft); font-size: .87rem; }
.easyseg-audit summary { cursor: pointer; }
.easyseg-audit ul { margin: .3rem 0; padding-left: 1.2rem; font-size: .87rem;
  overflow-wrap: anywhere; }
.easyseg-audit .pictures { display: flex; flex-wrap: wrap; gap: .8rem; margin: .6rem 0; }
.easyseg-audit figure { margin: 0; max-width: 20rem; }
.easyseg-audit figure img { max-height: 9rem; border-radius: .2rem; margin-right: .25rem;
  vertical-align: top; border: 1px solid var(--line); }
.easyseg-audit figcaption { font-size: .78rem; color: var(--soft); overflow-wrap: anywhere; }
.easyseg-audit .broken { display: inline-block; width: 6rem; height: 6rem; padding: .4rem;
  box-sizing: border-box; border: 1px dashed var(--soft); color: var(--soft); font-size: .78rem; }
@media (prefers-color-scheme: dark) { .easyseg-audit { --ink: #e6e9f0; --soft: #a2abbd;
  --line: #343b4a; --paper: #14181f; --error: #ff8a80; --warning: #f0c060; --note: #8cc2ff;
  --do: #7fd6a2; } }
"""


def page(report: AuditReport) -> str:
    """Return a whole HTML document with thumbnails of the evidence.

    Args:
        report: The report. Files that its evidence names are read again, a few of each finding.
    """
    body = _body(report, pictures=True)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(report.summary())}</title>\n<style>{_STYLE}"
        "body { margin: 2rem auto; max-width: 64rem; padding: 0 1rem; background: Canvas; }"
        f"</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def fragment(report: AuditReport) -> str:
    """Return the report as a piece of HTML for a notebook, without thumbnails."""
    return f"<style>{_STYLE}</style>\n{_body(report, pictures=False)}"


def _body(report: AuditReport, *, pictures: bool) -> str:
    samples = ", ".join(f"{count} {name}" for name, count in report.num_samples.items())
    counts = "".join(
        f'<span class="{kind}">{len(found)} {kind if len(found) == 1 else kind + "s"}</span>'
        for kind, found in (
            ("error", report.errors),
            ("warning", report.warnings),
            ("note", report.notes),
        )
    )
    classes = ""
    if report.label_map is not None:
        classes = f'<p class="soft">classes: {escape(str(report.label_map))}</p>'
    verdict = "A fit takes these data." if report.ok else "A fit refuses these data."
    findings = "\n".join(_section(finding, pictures=pictures) for finding in report.findings)
    return (
        f'<div class="easyseg-audit">\n<h1>Audit of {escape(samples)} samples</h1>\n'
        f'<p>{verdict}</p>\n<div class="counts">{counts}</div>\n{classes}\n{findings}\n</div>'
    )


def _section(finding: Finding, *, pictures: bool) -> str:
    severity = str(finding.severity)
    repair = ""
    if finding.repair:
        repair = f" <code>easyseg audit --fix</code> can {escape(finding.repair)}."
    parts = [
        f'<section class="{severity}">',
        f"<h2>{severity} <code>{escape(finding.check)}</code></h2>",
        f"<p>{escape(finding.found)}</p>",
        f'<p class="do">→ {escape(finding.remedy)}.{repair}</p>',
    ]
    if pictures and finding.evidence:
        shown = "".join(_figure(item) for item in finding.evidence[:_PICTURED] if item.sources)
        parts.append(f'<div class="pictures">{shown}</div>' if shown else "")
    if finding.evidence:
        parts.append(_listing(finding.evidence))
    return "\n".join([*parts, "</section>"])


def _listing(evidence: tuple[Evidence, ...]) -> str:
    count = len(evidence)
    lines = "".join(f"<li>{escape(str(item))}</li>" for item in evidence[:_LISTED])
    more = f"<li>... and {count - _LISTED} more</li>" if count > _LISTED else ""
    return (
        f"<details><summary>{count} {'sample' if count == 1 else 'samples'}</summary>"
        f"<ul>{lines}{more}</ul></details>"
    )


def _figure(item: Evidence) -> str:
    image, label = item.sources
    pictures = [_shown(_thumbnail, image, "image"), _shown(_mask_thumbnail, label, "mask")]
    caption = f"{item.table} row {item.row!r} · {' · '.join(_names(item.sources))}"
    return f"<figure>{''.join(pictures)}<figcaption>{escape(caption)}</figcaption></figure>"


def _names(sources: Iterable[ImageSource]) -> list[str]:
    return [source.name if isinstance(source, Path) else "in memory" for source in sources]


def _shown(draw: Callable[[ImageSource], str], source: ImageSource, kind: str) -> str:
    try:
        data = draw(source)
    except (DataError, OSError):
        return f'<span class="broken">the {kind} cannot be shown</span>'
    return f'<img src="data:{data}" alt="{kind}">'


def _thumbnail(source: ImageSource) -> str:
    """Return an image as a small JPEG."""
    picture = Image.fromarray(read_image(source))
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    return _encoded(picture, "JPEG")


def _mask_thumbnail(source: ImageSource) -> str:
    """Return a mask as a small PNG: the colours it is coded in, or one for each value."""
    mask = load_mask(source)
    values = shrink_mask(mask.values, _SIDE)
    return _encoded(Image.fromarray(_colours(mask, values)), "PNG")


def _colours(mask: Mask, values: np.ndarray) -> np.ndarray:
    if mask.dtype == "rgb":
        return unpack_colours(values)
    held = np.unique(values)
    if len(held) > len(PALETTE):  # grey levels
        grey = values * (255 / max(1, int(held[-1])))
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)
    table = np.array([_rgb(value) for value in held.tolist()], np.uint8)
    return table[np.searchsorted(held, values)]


def _rgb(value: int) -> tuple[int, ...]:
    """Return black for 0, else the colour that `easyseg.overlay` gives a value."""
    colour = PALETTE[(value - 1) % len(PALETTE)]
    return tuple(bytes.fromhex(colour[1:])) if value else (0, 0, 0)


def _encoded(picture: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, quality=80)
    return f"image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
