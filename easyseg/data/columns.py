"""The columns of the user's table: found by name, or said to be missing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import pandas as pd

from easyseg.errors import DataError, closest

__all__ = ["check_columns", "column_of", "has_name"]


def column_of(frame: pd.DataFrame, name: object) -> Hashable:
    """Return the key of a column, which need not be text: without a header, pandas numbers them.

    Args:
        frame: A table that `check_columns` has seen.
        name: The column as the user names it, ``0`` or ``"0"``.

    Example:
        >>> column_of(pd.DataFrame([["a.png", "b.png"]]), "1")
        1
    """
    key: Hashable = next(column for column in frame.columns if str(column) == str(name))
    return key


def has_name(frame: pd.DataFrame, name: object) -> bool:
    """Return whether a table has a column of this name.

    Args:
        frame: The table.
        name: The column as the user names it.
    """
    return str(name) in map(str, frame.columns)


def check_columns(frame: pd.DataFrame, wanted: Mapping[str, object]) -> None:
    """Refuse a table without rows, or without one of the columns.

    Args:
        frame: The table.
        wanted: The columns as the user names them, by what they hold.

    Raises:
        DataError: All that is missing at once.
    """
    problems = []
    known = [str(column) for column in frame.columns]
    for role, name in ((role, str(name)) for role, name in wanted.items()):
        count = known.count(name)
        if count == 0:
            close = closest(name, known)
            hint = "" if close is None else f" Did you mean {close!r}?"
            if len(known) == 1 and any(mark in known[0] for mark in ";\t|"):
                hint = " Separate the columns with commas."
            problems.append(
                f"column {name!r} is missing; columns of the table: {', '.join(known) or 'none'}."
                f"{hint} Say which one it is: {role}=NAME (on the command line --{role} NAME)"
            )
        elif count > 1:
            problems.append(f"column {name!r} is there {count} times; keep one of them")
    if not len(frame):
        problems.append("the table has no rows")
    if problems:
        raise DataError(problems)
