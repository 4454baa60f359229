"""Download a data set: all archives whole, unpacked beside its place, then moved there at once."""

from __future__ import annotations

import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path

from easyseg.console import LOGGER
from easyseg.datasets.spec import Archive, DatasetSpec
from easyseg.datasets.unpack import unpack
from easyseg.download import answers, download
from easyseg.errors import DataError, DownloadError

__all__ = ["fetch"]

# A process that was killed while it unpacked leaves its folder; none unpacks for a day.
_ABANDONED_AFTER = 86400.0


def fetch(spec: DatasetSpec, folder: Path, other_ways: str) -> None:
    """Download a data set from the first of its sources that answers.

    Archives are kept in ``.downloads/<name>`` beside the folder until the set is in its place: a
    call after an interrupted one goes on where that ended.

    Args:
        spec: The data set; it has sources.
        folder: Where it shall lie; not there yet, or empty.
        other_ways: How to get the set without a download, for the message.

    Raises:
        DownloadError: If an archive cannot be had, or is another one than the known.
        DataError: If an archive is damaged or unsafe; it is removed.
        OSError: If the disk cannot hold it.
    """
    LOGGER.info("%s · licence: %s · cite: %s", spec.name, spec.licence, spec.citation)
    store = folder.parent / ".downloads" / spec.name
    archives = _source(spec)
    try:
        files = [_get(archive, store) for archive in archives]
    except DownloadError as error:
        raise DownloadError(f"{error}\nOr without easyseg: {other_ways}") from error
    _remove_abandoned(folder, spec.name)
    beside = folder.with_name(f".{spec.name}.{uuid.uuid4().hex}.unpacking")
    try:
        beside.mkdir(parents=True)
        for file, archive in zip(files, archives, strict=True):
            _unpack(file, archive, beside)
        with suppress(OSError):  # Windows replaces no folder, not even an empty one.
            folder.rmdir()
        beside.replace(folder)
    except OSError:
        # Another process may have put the same set in its place, and removed the archives.
        if not (folder.is_dir() and any(folder.iterdir())):
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    _tidy(files, store)


def _source(spec: DatasetSpec) -> tuple[Archive, ...]:
    """Return the first source that answers; if none does, the first one, which then says why."""
    if len(spec.sources) > 1:
        for archives in spec.sources:
            if all(answers(archive.url) for archive in archives):
                return archives
    return spec.sources[0]


def _get(archive: Archive, store: Path) -> Path:
    file = store / archive.filename
    if not file.is_file():  # It has its name only when it came whole and with the right hash.
        download(archive.url, file, archive.sha256)
    return file


def _unpack(file: Path, archive: Archive, folder: Path) -> None:
    try:
        unpack(file, folder)
    except DataError as error:
        file.unlink(missing_ok=True)  # or the next call would meet it again
        raise DataError(f"{error}\nIt came from {archive.url} and is removed") from error


def _remove_abandoned(folder: Path, name: str) -> None:
    for left in folder.parent.glob(f".{name}.*.unpacking"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_AFTER:
                shutil.rmtree(left, ignore_errors=True)


def _tidy(files: list[Path], store: Path) -> None:
    for file in files:
        with suppress(OSError):
            file.unlink(missing_ok=True)
    for folder in (store, store.parent):
        with suppress(OSError):  # not empty: another set is on its way
            folder.rmdir()
