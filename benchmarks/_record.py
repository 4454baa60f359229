"""What every benchmark writes down about itself: machine, versions, commit."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"


def provenance(accelerator: str = "cpu") -> dict[str, Any]:
    """Return machine, versions and commit of a measurement that begins now.

    Args:
        accelerator: Where it computes, ``"cpu"`` or ``"cuda"``.

    Raises:
        SystemExit: If another copy of easyseg is imported than the one that the commit is of.
    """
    import easyseg
    from easyseg.plan.hardware import detect_hardware

    root = Path(__file__).resolve().parents[1]
    if not Path(easyseg.__file__).resolve().is_relative_to(root):
        sys.exit(f"easyseg comes from {easyseg.__file__}: set PYTHONPATH={root}")

    hardware = detect_hardware(accelerator)
    return {
        "machine": hardware.describe(),
        "native_bf16": hardware.native_bf16,
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "commit": _commit(),
    }


def _commit() -> str:
    """Return the commit, marked as dirty if what is measured, or measures, was changed since."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        root = Path(__file__).parents[1]
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)

    commit = git("rev-parse", "--short", "HEAD").stdout.strip()
    if not commit:
        return "unknown"
    code = git("diff", "--quiet", "HEAD", "--", "easyseg", "presets", "benchmarks/*.py")
    return f"{commit}-dirty" if code.returncode else commit


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a result, whole or not at all; a list of whole numbers stays on one line."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    text = re.sub(r"\[\s+([\d\s,]+?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    beside.write_text(text + "\n", encoding="utf-8")
    beside.replace(path)


def put_between(page: str, text: str, name: str) -> str:
    """Return the page with a text between the comments ``<!-- name -->`` and ``<!-- /name -->``."""
    before, start, rest = page.partition(f"<!-- {name} -->")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    if not start or not end:
        raise ValueError(f"the page has no place marked <!-- {name} --> ... <!-- /{name} -->")
    return f"{before}{start}\n\n{text}\n\n{end}{after}"


def source(result: Mapping[str, Any]) -> str:
    """Return machine and commit of a result, and what ran beside it, if it says so."""
    beside = f", beside {result['beside']}" if "beside" in result else ""
    return f"{result['machine']}, commit {result['commit']}{beside}"


def publish(text: str, results: Sequence[Mapping[str, Any]], name: str) -> None:
    """Print a table and put it at its place in benchmarks/README.md, with where it comes from.

    Args:
        text: The table.
        results: What it was made of, with their provenance.
        name: Name of the place.
    """
    sources = " / ".join(sorted({source(result) for result in results}))
    text = f"{text}\n\n{sources}."
    put_into_page(Path(__file__).with_name("README.md"), text, name)
    print(text)


def put_into_page(file: Path, text: str, name: str) -> None:
    """Put a table at its place in a page."""
    page = file.read_text(encoding="utf-8")
    file.write_text(put_between(page, text, name), encoding="utf-8")
