"""Small files that are whole or not there, and folders of one's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

__all__ = ["cache_folder", "new_folder", "whole_file", "write_text"]


def cache_folder() -> Path:
    """Return the folder for what was downloaded: ``EASYSEG_CACHE``, else ``~/.cache/easyseg``."""
    if variable := os.environ.get("EASYSEG_CACHE"):
        return Path(variable).expanduser()
    return Path.home() / ".cache" / "easyseg"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path beside a file to write to, which is then moved to its place: whole or not there.

    Args:
        path: The file; its folder exists.
    """
    beside = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file that is whole or not there.

    Args:
        path: The file; its folder exists.
        text: Its content, written as UTF-8; what of a file name is none is written as its number.
    """
    with whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")


def new_folder(parent: Path) -> Path:
    """Create a folder named after the UTC time, with a number if another one has that name.

    Args:
        parent: Where to create it; made if it is not there.
    """
    stem = datetime.now(timezone.utc).strftime("%Y-%m-%d_%H-%M-%S")
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = parent / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder
