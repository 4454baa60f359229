"""CSV files: known by their name, read as tables."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from easyseg.errors import DataError

__all__ = ["is_csv", "read_csv"]


def is_csv(path: Path) -> bool:
    """Return whether a path names a CSV file, which need not be there.

    Args:
        path: The path.
    """
    return path.suffix.lower() == ".csv" and not path.is_dir()


def read_csv(path: Path, text: Sequence[str]) -> pd.DataFrame:
    """Read a CSV file.

    Args:
        path: The file.
        text: The columns that are read as text, so that ``007`` stays what it is.

    Raises:
        DataError: The file is not there, is empty, or is no CSV in UTF-8.
    """
    if not path.is_file():
        raise DataError(f"{path.as_posix()}: there is no such CSV file (looked in {Path.cwd()})")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                path,
                dtype=dict.fromkeys(text, str),
                keep_default_na=False,
                na_values=[""],
                index_col=False,
                skipinitialspace=True,
                encoding="utf-8-sig",
            )
    except pd.errors.EmptyDataError:
        raise DataError(f"{path.as_posix()}: is empty; expected a header and rows") from None
    except (ValueError, pd.errors.ParserWarning, OSError) as error:
        raise DataError(
            f"{path.as_posix()}: cannot be read as CSV ({error}); expected UTF-8 text, commas"
            " between the columns, quotes around a path that holds a comma"
        ) from error
