"""Benchmarks of many cells: the eight sets, a fresh process each, and only what is missing."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from _record import RESULTS, put_into_page

SETS = (
    "skin_isic",
    "leaf_disease",
    "polyp_cvc",
    "road_epfl",
    "glass_gdd",
    "camvid",
    "cwfid",
    "highway_cdnet",
)
THREADS = 2
PAGE = Path(__file__).with_name("README.md")

C = TypeVar("C", bound="tuple[Any, ...]")


def parser(docstring: str, seeds: str | None = None) -> argparse.ArgumentParser:
    """Return a parser of the options that these benchmarks have in common.

    Args:
        docstring: That of the script; its first line is shown.
        seeds: Which seeds are run by default, in words; None: there are none to choose.
    """
    options = argparse.ArgumentParser(description=docstring.splitlines()[0])
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    options.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    if seeds is not None:
        options.add_argument("--seeds", nargs="+", type=int, help=f"default: {seeds}")
    options.add_argument("--again", action="store_true", help="run finished cells again")
    options.add_argument("--busy", action="store_true", help="do not wait for idle cores")
    options.add_argument("--table", action="store_true", help="only write the table")
    options.add_argument("--results", type=Path, default=RESULTS, help="elsewhere: README stays")
    return options


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Return the JSON files of a folder, sorted by name; none if there is no folder."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]


def run_worker(script: str, *arguments: object) -> bool:
    """Run a script of this folder in a fresh process of two threads.

    Args:
        script: Its name.
        arguments: Its arguments.

    Returns:
        Whether it came to its end.
    """
    command = [sys.executable, Path(__file__).with_name(script), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
    return subprocess.run(list(map(str, command)), env=environment).returncode == 0


def run_cells(cells: Sequence[C], run: Callable[[C], bool]) -> list[C]:
    """Run cells one after the other; one that fails stops no other one.

    Args:
        cells: What to run.
        run: Runs a cell; returns whether it came to its end.

    Returns:
        The cells that failed.
    """
    failed = []
    for number, cell in enumerate(cells, start=1):
        print(f"{number} of {len(cells)}: {in_words(cell)}", flush=True)
        if not run(cell):
            failed.append(cell)
    return failed


def in_words(cell: tuple[Any, ...]) -> str:
    """Return a cell for people: ``camvid unet 0``."""
    return " ".join(map(str, cell))


def write_table(text: str, results: Path, name: str, page: Path) -> None:
    """Print a table and write it below the results and, if these are the ones kept, into a page.

    Args:
        text: The table.
        results: Folder of results.
        name: Name of the benchmark, and of its place in the page.
        page: The page.
    """
    (results / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    if results == RESULTS:
        put_into_page(page, text, name)
    print(text)


def exit_if(failed: Sequence[tuple[Any, ...]]) -> None:
    """End with an error that names the cells that failed, if there are any."""
    if failed:
        sys.exit(f"failed: {', '.join(map(in_words, failed))}")
