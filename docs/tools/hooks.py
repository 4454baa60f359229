"""What MkDocs calls before it reads a page: it fills in the generated parts.

A page says where a generated part goes by a line of its own, ``<!-- generated: presets -->``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# The checkout before an installed package, and the makers of fingerprints that the tests have.
for folder in (ROOT / "tests", ROOT, Path(__file__).parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from generated import PARTS  # noqa: E402 - found by the lines above

_MARK = re.compile(r"^<!-- generated: (.+?) -->$", re.MULTILINE)


def fill(markdown: str) -> str:
    """Replace the marks of a page by what they stand for."""

    def part(match: re.Match[str]) -> str:
        name, _, argument = match[1].partition(" ")
        return PARTS[name](argument) if argument else PARTS[name]()

    return _MARK.sub(part, markdown)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the generated parts."""
    return fill(markdown)
