"""Fetch one file from the network: whole and with the known hash, or not at all."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pooch
import requests

from easyseg.console import LOGGER, Reporter
from easyseg.errors import DownloadError

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["answers", "download"]

# Seconds without a byte after which a server counts as stalled; a slow one may take its time.
_TIMEOUT = 30.0
# A live download writes at least every `_TIMEOUT` seconds: a part this old has lost its process.
_ABANDONED_AFTER = 3600.0
_CHUNK = 1 << 18
_KEPT = "what came is kept, and the next try goes on from there"
_PAGE = "the server sent an HTML page instead of the file (a sign-in or error page?)"
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


def download(url: str, file: Path, sha256: str | None = None) -> None:
    """Download a file; it gets its name only when it is whole and has the known hash.

    Each call writes a part of its own beside the file and moves it there in one step, so several
    processes may download the same file: the last one replaces it by an equal one. What came before
    the connection was cut off, or before Ctrl-C, is kept beside the file, and the next call goes on
    from there if the server still has the same version (told by the hash, else by its ``ETag`` or
    ``Last-Modified``). Any other failure leaves nothing; what a killed process left is removed
    later.

    Args:
        url: Where the file is.
        file: Where it shall be; missing folders are made.
        sha256: The hash it must have, as hexadecimal digits; ``None`` if it is not known: then only
            its length is checked.

    Raises:
        DownloadError: If the file cannot be had; the message says what came instead.
    """
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex}.part")
    LOGGER.info("downloading %s to %s", url, file)
    beginning = _Beginning(url, part, sha256)
    keep = False
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned_parts(file)
        beginning.take(file)
        try:
            _transfer(beginning, file.name)
        except _OtherVersionError:
            part.unlink()
            _transfer(beginning, file.name)
        if wrong := _wrong_content(part, sha256):
            raise DownloadError(_failure(url, file, wrong))
        _move(part, file, sha256)
        _remove_kept(file)
    except KeyboardInterrupt:
        keep = True
        raise
    # requests' errors are OSErrors; pooch reads the headers and may raise a ValueError.
    except (OSError, ValueError) as error:
        keep = isinstance(error, requests.RequestException)
        hint = f"; {_KEPT}" if keep and beginning.can_be_kept() else ""
        raise DownloadError(_failure(url, file, _reason(error)) + hint) from error
    finally:
        with suppress(OSError):
            if keep and beginning.can_be_kept():
                part.replace(_kept(file, beginning.version))
            part.unlink(missing_ok=True)


class _OtherVersionError(Exception):
    """The server does not go on with the file whose beginning is kept."""


class _Beginning:
    """The part of a file that is here already, and how a request goes on from its end.

    Attributes:
        version: Tells this version of the file from others; ``None`` if nothing does.
    """

    def __init__(self, url: str, part: Path, sha256: str | None) -> None:
        self.url = url
        self.part = part
        self.version: str | None = None
        self.length: int | None = None  # of the whole file, as far as the server tells
        self._sha256 = sha256

    @property
    def size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def take(self, file: Path) -> None:
        """Make what an earlier call kept our own; of several processes one gets it."""
        for kept in file.parent.glob(f".{glob.escape(file.name)}.*.kept"):
            with suppress(OSError):
                kept.replace(self.part)
                self.version = kept.name.split(".")[-2]
                return

    def can_be_kept(self) -> bool:
        return self.version is not None and self.size > 0

    def check(self, response: requests.Response, stream: IO[bytes]) -> None:
        """Look at the server's answer before its content is written at the end of the part."""
        if response.is_redirect:
            return
        size, before = stream.tell(), self.version
        resumed = response.status_code == requests.codes.partial_content
        if response.ok:
            self.version = self._version(response)
            rest = response.headers.get("Content-Length")
            self.length = None if rest is None else int(rest) + (size if resumed else 0)
        if not size:
            return
        if response.status_code == requests.codes.ok:  # the whole file
            stream.seek(0)
            stream.truncate()
        elif response.status_code == requests.codes.requested_range_not_satisfiable or (
            resumed
            and (
                self.version != before
                or not response.headers.get("Content-Range", "").startswith(f"bytes {size}-")
            )
        ):
            raise _OtherVersionError

    def _version(self, response: requests.Response) -> str | None:
        told = self._sha256
        if told is None:
            told = response.headers.get("ETag", "")
            if not told or told.startswith("W/"):  # weak: equal content, not equal bytes
                told = response.headers.get("Last-Modified")
        return hashlib.sha256(f"{self.url} {told}".encode()).hexdigest()[:16] if told else None


def _transfer(beginning: _Beginning, name: str) -> None:
    """Write to the part what it lacks of the file."""
    size = beginning.size
    headers = {"Accept-Encoding": "identity"}  # A range counts the bytes that are sent.
    if size:
        headers["Range"] = f"bytes={size}-"
        LOGGER.info("going on after %.1f MB that came before", size / 1e6)
    with _progress_bar(name, beginning) as bar, beginning.part.open("ab") as stream:
        fetch = pooch.HTTPDownloader(
            progressbar=bar,
            chunk_size=_CHUNK,
            timeout=_TIMEOUT,
            headers=headers,
            hooks={"response": lambda response, **_: beginning.check(response, stream)},
        )
        fetch(beginning.url, stream, None)
    if beginning.length is not None and beginning.size < beginning.length:
        raise requests.ConnectionError(f"{beginning.size} of {beginning.length} bytes came")


def _wrong_content(part: Path, sha256: str | None) -> str | None:
    """Say what came instead of the file, or ``None``."""
    if sha256 is None:
        return _PAGE if _is_page(part) else None
    if (found := pooch.file_hash(str(part))) == sha256:
        return None
    return _PAGE if _is_page(part) else f"the sha256 of what came is {found}, expected {sha256}"


def _is_page(part: Path) -> bool:
    with part.open("rb") as stream:
        return stream.read(512).lstrip().lower().startswith((b"<!doctype html", b"<html"))


def _kept(file: Path, version: str | None) -> Path:
    return file.with_name(f".{file.name}.{version}.kept")


def _remove_kept(file: Path) -> None:
    for kept in file.parent.glob(f".{glob.escape(file.name)}.*.kept"):
        with suppress(OSError):
            kept.unlink()


def _move(part: Path, file: Path, sha256: str | None) -> None:
    """Give a whole part its name; on Windows another process may hold an equal file open."""
    with part.open("rb+") as stream:
        os.fsync(stream.fileno())  # A power cut must not leave an empty file under the name.
    try:
        part.replace(file)
    except PermissionError:
        expected = sha256 or pooch.file_hash(str(part))
        if not file.is_file() or pooch.file_hash(str(file)) != expected:
            raise


def _remove_abandoned_parts(file: Path) -> None:
    for part in file.parent.glob(f".{glob.escape(file.name)}.*.part"):
        # Another process may remove the same one.
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > _ABANDONED_AFTER:
                part.unlink()


def _failure(url: str, file: Path, reason: str) -> str:
    return f"downloading {url} to {file} failed: {reason}"


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
    """A rich progress bar with the interface that pooch asks for.

    pooch counts what it fetches itself; the bar shows it as a share of the whole file.
    """

    def __init__(self, progress: Progress, text: str, beginning: _Beginning) -> None:
        self.total = 0  # set by pooch
        self._progress = progress
        self._beginning = beginning
        self._task = progress.add_task(text, total=None)

    def update(self, count: int) -> None:
        self._progress.update(
            self._task, total=self._beginning.length, completed=self._beginning.size
        )

    def reset(self) -> None:
        """Nothing is counted here that would have to be reset."""

    def close(self) -> None:
        """Leave it to the ``with`` block of the bar, which also ends after a failure."""


@contextmanager
def _progress_bar(text: str, beginning: _Beginning) -> Iterator[_Bar | None]:
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
        yield _Bar(progress, text, beginning)
