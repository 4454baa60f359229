"""Parts of the README and of the benchmarks' page, so that no figure is copied by hand."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_LINK = re.compile(r"(!?)\[([^\]]+)\]\(([^)\s]+)\)")
_COMMENT = re.compile(r"^<!-- /?\w+ -->\n", re.MULTILINE)
_FENCE = re.compile(r"^ *```")

# Pages of the documentation that hold what links of those files lead to, as seen from docs/ itself.
_FILES = {"benchmarks/README.md": "benchmarks.md", "tutorials/README.md": "tutorials.md"}
_PAGES = {
    "../README.md#how-good-it-is": "results.md",
    "../README.md#what-happens-in-a-fit": "guides/troubleshooting.md#it-runs-out-of-memory",
    "#limits": "limits.md",
    "presets": "reference/presets.md",
}


def marked(place: str) -> str:
    """Return what a script has written between its marks, ``README.md memory``.

    Raises:
        LookupError: If the file has no such marks.
    """
    file, name = place.split()
    text = (ROOT / file).read_text(encoding="utf-8")
    found = re.search(rf"<!-- {name} -->\n(.+)<!-- /{name} -->", text, re.DOTALL)
    if found is None:
        raise LookupError(f"{file} has no marks <!-- {name} -->, which a page of docs/ shows")
    return _adapted(found[1])


def excerpt(place: str) -> str:
    """Return a section without its heading, ``README.md#how-good-it-is``.

    Raises:
        LookupError: If the file has no such heading.
    """
    file, _, anchor = place.partition("#")
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    level, kept, fenced = 0, [], False
    for line in lines:
        fenced ^= bool(_FENCE.match(line))
        heading = None if fenced else re.match(r"(#+) (.+)", line)
        if heading and level and len(heading[1]) <= level:
            break
        if level:
            kept.append(line)
        elif heading and _anchor(heading[2]) == anchor:
            level = len(heading[1])
    if not level:
        raise LookupError(f"{file} has no heading #{anchor}, which a page of docs/ shows")
    return _adapted("\n".join(kept))


def whole(file: str) -> str:
    """Return a file without its title."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return _adapted(text.partition("\n")[2])


def _adapted(text: str) -> str:
    """Drop marks of scripts and pictures; lead links to pages of the documentation or drop them."""

    def link(match: re.Match[str]) -> str:
        picture, words, target = match.groups()
        if target.startswith("https://"):
            return match[0]
        if picture:
            return ""
        file, sign, anchor = target.partition("#")
        page = f"{_FILES[file]}{sign}{anchor}" if file in _FILES else _PAGES.get(target)
        return words if page is None else f"[{words}]({page})"

    return _LINK.sub(link, _COMMENT.sub("", text)).strip()


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
