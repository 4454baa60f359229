"""The folder that a fit writes to: one of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from easyseg.errors import OptionError
from easyseg.files import new_folder

__all__ = ["run_folder_of"]

_RUNS = Path("easyseg-runs")


@contextmanager
def run_folder_of(path: str | os.PathLike[str] | None, *, first: bool) -> Iterator[Path]:
    """Give a fit its run folder, new or empty, as the first process finds or makes it.

    A folder that was made here is removed again if the fit fails before it writes anything. Other
    processes get a name only: they take the folder from the first one.
    """
    if path is not None:
        folder = Path(path).expanduser()
        if first and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OptionError(
                f"path: {folder} exists and is not an empty folder; choose a new one, or remove it"
            )
        yield folder
        return
    if not first:
        yield _RUNS
        return
    # Made at once: a fit that starts in the same second gets another one.
    folder = new_folder(_RUNS)
    try:
        yield folder
    except BaseException:
        with suppress(OSError):  # There are files in it.
            folder.rmdir()
        raise
