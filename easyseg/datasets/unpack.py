"""Unpack an archive that came from elsewhere: only plain files, only inside the folder."""

from __future__ import annotations

import errno
import gzip
import logging
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from easyseg.console import LOGGER, Reporter
from easyseg.errors import DataError

__all__ = ["unpack"]

# Pictures are compressed already: what swells more than this, beyond the first GB, is no data set.
_MOST_SWELLING = 100
_ALWAYS_ALLOWED = 1 << 30
_MOST_ENTRIES = 1_000_000
_CHUNK = 1 << 20
_DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError),
    *(EOFError, ValueError, RuntimeError),  # also of what the libraries do not support
)
_JUNK = ("__MACOSX", ".DS_Store")  # what macOS adds to archives


@dataclass(frozen=True)
class _Entry:
    """One entry of an archive, as far as the checks look at it."""

    name: str
    kind: str  # "file", "folder", or what else it is, in words
    size: int
    source: Any  # of the archive's library


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar file into a folder, if all of its entries are harmless.

    All entries are looked at before the first is written. Files get the permissions of new files,
    whatever the archive says; metadata of macOS is left out.

    Args:
        archive: The file, a zip or a tar, the latter also compressed.
        folder: Where to; an existing folder.

    Raises:
        DataError: If it is no archive or damaged, if an entry lies outside of the folder or is no
            plain file or folder, or if it would swell to far more than pictures do. What was
            written before damage was met remains in the folder: it is the caller's to remove.
        OSError: If the disk cannot hold it, or a file cannot be written.
    """
    LOGGER.info("unpacking %s", archive)
    try:
        with _opened(archive) as opened:
            entries = [entry for entry in opened.entries() if not _is_junk(entry.name)]
            _check(archive, folder, entries)
            files = [entry for entry in entries if entry.kind == "file"]
            if not files:
                raise DataError(
                    f"{archive}: expected the files of a data set, found an empty archive"
                )
            reporter = Reporter(int(LOGGER.isEnabledFor(logging.INFO)))
            with reporter.progress("unpacking", len(files)) as advance:
                for entry in files:
                    _write(opened.open(entry), folder / entry.name, entry.size)
                    advance(1)
    except DataError:
        raise
    except FileExistsError as error:
        raise DataError(
            f"{archive}: two entries have the name {error.filename}, or names that differ in upper"
            " and lower case only; remove it and get it again"
        ) from error
    except _DAMAGED as error:
        raise DataError(
            f"{archive}: expected a whole zip or tar file, found a damaged or foreign one"
            f" ({type(error).__name__}: {error}); remove it and get it again"
        ) from error


def _check(archive: Path, folder: Path, entries: list[_Entry]) -> None:
    problems = [
        f"{archive}: the entry {entry.name!r} {wrong}; a data set holds plain files and folders,"
        " all inside of it"
        for entry in entries
        if (wrong := _wrong_name(entry.name) or _wrong_kind(entry.kind))
    ]
    if problems:
        raise DataError(problems, title=f"{archive} is refused; nothing of it was written:")
    size = sum(entry.size for entry in entries)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(
            errno.ENOSPC,
            f"{archive} needs {size / 1e9:.1f} GB unpacked, and there are {free / 1e9:.1f} GB left;"
            " nothing of it was written. Make room, or name a folder on another disk",
            str(folder),
        )


def _wrong_name(name: str) -> str | None:
    """Say what is wrong with a path, on any system: a name harmless here may not be elsewhere."""
    path = PureWindowsPath(name)  # takes / and \ for separators, and knows drives
    if not name.strip() or "\0" in name:
        return "has no usable name"
    if path.drive or path.root or ":" in name or PurePosixPath(name).is_absolute():
        return "names a place outside of the folder (an absolute path)"
    if ".." in path.parts:
        return "names a place outside of the folder ('..')"
    if "\\" in name:
        return "has a backslash in its name"
    return None


def _wrong_kind(kind: str) -> str | None:
    return None if kind in ("file", "folder") else f"is {kind}"


def _is_junk(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and (parts[0] == _JUNK[0] or parts[-1] in _JUNK)


def _write(source: IO[bytes], file: Path, size: int) -> None:
    """Write one file; the archive cannot make it longer than it said."""
    file.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with source, file.open("xb") as target:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > size:
                raise ValueError(f"{file.name} is longer than the archive says")
            target.write(chunk)
    if written < size:
        raise EOFError(f"{file.name} ends after {written} of {size} bytes")


@contextmanager
def _opened(archive: Path) -> Iterator[_Zip | _Tar]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield _Zip(archive, opened)
    else:
        with tarfile.open(archive) as opened_tar:
            yield _Tar(archive, opened_tar)


class _Zip:
    def __init__(self, archive: Path, opened: zipfile.ZipFile) -> None:
        self._archive, self._opened = archive, opened

    def entries(self) -> Iterator[_Entry]:
        budget = _Budget(self._archive)
        for info in self._opened.infolist():
            budget.spend(info.file_size)
            yield _Entry(info.orig_filename, self._kind(info), info.file_size, info)

    def open(self, entry: _Entry) -> IO[bytes]:
        return self._opened.open(entry.source)

    @staticmethod
    def _kind(info: zipfile.ZipInfo) -> str:
        mode = info.external_attr >> 16  # of Unix; 0 if another system made the archive
        if stat.S_ISLNK(mode):
            return "a symbolic link"
        if info.is_dir():
            return "folder"
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            return "a device or another special file"
        return "an encrypted file" if info.flag_bits & 1 else "file"


class _Tar:
    def __init__(self, archive: Path, opened: tarfile.TarFile) -> None:
        self._archive, self._opened = archive, opened

    def entries(self) -> Iterator[_Entry]:
        budget = _Budget(self._archive)
        for info in self._opened:  # headers are read one by one: a bomb is left before its end
            budget.spend(info.size)
            yield _Entry(info.name, self._kind(info), info.size, info)

    def open(self, entry: _Entry) -> IO[bytes]:
        opened = self._opened.extractfile(entry.source)
        assert opened is not None  # a plain file
        return opened

    @staticmethod
    def _kind(info: tarfile.TarInfo) -> str:
        if info.isdir():
            return "folder"
        if info.isreg():
            return "file"
        if info.issym() or info.islnk():
            return "a symbolic link" if info.issym() else "a hard link"
        return "a device or another special file"


class _Budget:
    """Counts what an archive says that it holds, and stops where that is too much."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._most = max(_ALWAYS_ALLOWED, _MOST_SWELLING * archive.stat().st_size)
        self._size = self._entries = 0

    def spend(self, size: int) -> None:
        self._size += size
        self._entries += 1
        if self._size > self._most or self._entries > _MOST_ENTRIES:
            raise DataError(
                f"{self._archive}: unpacked it holds over {self._size / 1e9:.1f} GB in"
                f" {self._entries} entries, from {self._archive.stat().st_size / 1e9:.3f} GB:"
                f" expected at most {_MOST_SWELLING} times its size, as of pictures, and"
                f" {_MOST_ENTRIES} entries. It is refused as a decompression bomb; nothing of it"
                " was written"
            )
