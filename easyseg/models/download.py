"""Fetch one file from the network: whole and with the known hash, or not at all."""

from __future__ import annotations

import glob
import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pooch
import requests

from easyseg.console import LOGGER, Reporter
from easyseg.errors import WeightsError

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["answers", "download"]

# Seconds without a byte after which a server counts as stalled; a slow one may take its time.
_TIMEOUT = 30.0
# A live download writes at least every `_TIMEOUT` seconds: a part this old has lost its process.
_ABANDONED_AFTER = 3600.0
_CHUNK = 1 << 18
# Seconds to wait for a server that is only asked whether it has a file.
_ANSWER_TIMEOUT = 3.0


def answers(url: str) -> bool:
    """Return whether a server offers the file at an address now; asks for no byte of it.

    An HTML page is not the file: a network that wants a sign-in first answers everything with one.
    """
    try:
        answer = requests.head(url, allow_redirects=True, timeout=_ANSWER_TIMEOUT)
        return answer.ok and "text/html" not in answer.headers.get("Content-Type", "")
    except (OSError, ValueError):
        return False


def download(url: str, file: Path, sha256: str) -> None:
    """Download a file; it gets its name only when it is whole and has the known hash.

    Each call writes a part of its own beside the file and moves it there in one step, so several
    processes may download the same file: the last one replaces it by an equal one. Whatever goes
    wrong, Ctrl-C included, the part is removed; what a killed process left is removed later.

    Args:
        url: Where the file is.
        file: Where it shall be; missing folders are made.
        sha256: The hash it must have, as hexadecimal digits.

    Raises:
        WeightsError: If the file cannot be had; the message says what came instead.
    """
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex}.part")
    LOGGER.info("downloading %s to %s", url, file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned_parts(file)
        with _progress_bar(file.name) as bar:
            fetch = pooch.HTTPDownloader(progressbar=bar, chunk_size=_CHUNK, timeout=_TIMEOUT)
            fetch(url, str(part), None)
        if (found := pooch.file_hash(str(part))) != sha256:
            raise WeightsError(_failure(url, file, _what_came(part, found, sha256)))
        _move(part, file, sha256)
    # requests' errors are OSErrors; pooch reads the headers and may raise a ValueError.
    except (OSError, ValueError) as error:
        raise WeightsError(_failure(url, file, _reason(error))) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _move(part: Path, file: Path, sha256: str) -> None:
    """Give a whole part its name; on Windows another process may hold an equal file open."""
    with part.open("rb+") as stream:
        os.fsync(stream.fileno())  # A power cut must not leave an empty file under the name.
    try:
        part.replace(file)
    except PermissionError:
        if not file.is_file() or pooch.file_hash(str(file)) != sha256:
            raise


def _remove_abandoned_parts(file: Path) -> None:
    for part in file.parent.glob(f".{glob.escape(file.name)}.*.part"):
        # Another process may remove the same one.
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > _ABANDONED_AFTER:
                part.unlink()


def _failure(url: str, file: Path, reason: str) -> str:
    return f"downloading {url} to {file} failed: {reason}"


def _what_came(part: Path, found: str, expected: str) -> str:
    with part.open("rb") as stream:
        beginning = stream.read(512).lstrip().lower()
    if beginning.startswith((b"<!doctype html", b"<html")):
        return "the server sent an HTML page instead of the file (a sign-in or error page?)"
    return f"the sha256 of what came is {found}, expected {expected}"


def _reason(error: OSError | ValueError) -> str:
    if not isinstance(error, OSError):
        return f"the server's answer makes no sense: {error}"
    if not isinstance(error, requests.RequestException):
        return f"the file could not be written: {error}"
    if isinstance(error, requests.HTTPError):
        return f"the server answered {error}"
    # A stall in the middle of the file is a ConnectionError that only its text tells apart.
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return f"timed out, the server sent nothing for {_TIMEOUT:g} seconds"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"the connection was cut off: {_innermost(error)}"
    if isinstance(error, requests.ConnectionError):
        return f"the connection failed: {_innermost(error)}"
    return str(_innermost(error))


def _innermost(error: Exception) -> Exception:
    """Return the plain error that requests and urllib3 wrapped into others."""
    inner = getattr(error, "reason", None) or (error.args[-1] if error.args else None)
    return _innermost(inner) if isinstance(inner, Exception) else error


class _Bar:
    """A rich progress bar with the interface that pooch asks for."""

    def __init__(self, progress: Progress, text: str) -> None:
        self.total = 0
        self._progress = progress
        self._task = progress.add_task(text, total=None)

    def update(self, count: int) -> None:
        self._progress.update(self._task, total=self.total or None, advance=count)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None:
        """Leave it to the ``with`` block of the bar, which also ends after a failure."""


@contextmanager
def _progress_bar(text: str) -> Iterator[_Bar | None]:
    """Show a bar if easyseg's messages are shown, on a console that can draw one."""
    reporter = Reporter(int(LOGGER.isEnabledFor(logging.INFO)))
    if not reporter.live:
        yield None
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=reporter.console, transient=True) as progress:
        yield _Bar(progress, text)
