"""The results of a study on disk: one JSON file a cell, whole or not there."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from easyseg.errors import OptionError
from easyseg.files import write_text
from easyseg.metrics.catalogue import higher_is_better
from easyseg.study.cells import Cell

__all__ = [
    "Result",
    "in_a_line",
    "read_result",
    "read_results",
    "result_file",
    "write_failure",
    "write_result",
]

FORMAT = 1
_FOLDER = "cells"


@dataclass(frozen=True)
class Result:
    """What is known of a cell.

    Attributes:
        key: Key of the cell.
        done: Whether it came to its end.
        error: Why it did not, else empty.
        content: All that its file holds.
    """

    key: str
    done: bool
    error: str
    content: Mapping[str, Any]

    @property
    def reason(self) -> str:
        """Why it failed, in a line."""
        return in_a_line(self.error)

    @property
    def validation(self) -> float:
        """Validation score of the saved epoch; NaN if it has none."""
        score = self.content["validation"]["score"]
        return math.nan if score is None else float(score)

    @property
    def goodness(self) -> float:
        """The validation score, turned so that higher is better."""
        up = higher_is_better(self.content["validation"]["metric"])
        return self.validation if up else -self.validation

    @property
    def errors(self) -> Mapping[str, str]:
        """Why something of a finished cell is missing, by what it is."""
        errors: Mapping[str, str] = self.content.get("errors", {})
        return errors

    @property
    def tests(self) -> Mapping[str, Mapping[str, float | None]]:
        """Scores by key, by name of the test table."""
        tests: Mapping[str, Mapping[str, float | None]] = self.content["tests"]
        return tests


def in_a_line(error: str) -> str:
    """Return an error message in a line that is not too long."""
    return shorten(error, 400, placeholder=" ...")


def result_file(folder: Path, cell: Cell) -> Path:
    """Return where the result of a cell is kept."""
    return folder / _FOLDER / f"{cell.stem}.json"


def write_result(file: Path, cell: Cell, measured: Mapping[str, Any]) -> None:
    """Write the result of a finished cell.

    Args:
        file: Its file, see :func:`result_file`.
        cell: The cell.
        measured: Plain JSON types; numbers that are none become null.
    """
    _write(file, {**_about(cell, "done"), **measured})


def write_failure(file: Path, cell: Cell, error: str) -> None:
    """Write down that a cell failed, and why."""
    _write(file, {**_about(cell, "failed"), "error": error})


def _about(cell: Cell, status: str) -> dict[str, Any]:
    return {"format": FORMAT, "key": cell.key, "status": status, "cell": cell.to_dict()}


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_without_nan(content), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(file, text + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _without_nan(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(each) for each in value]
    return value


def read_result(file: Path) -> Result:
    """Read one result.

    Raises:
        ValueError: If the file is none, or a KeyError or TypeError.
    """
    content = json.loads(file.read_text(encoding="utf-8"))
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']}, expected {FORMAT}")
    key = content["key"]
    if Cell.from_dict(content["cell"]).key != key:
        raise ValueError(f"its settings do not make the key {key}")
    done = content["status"] == "done"
    return Result(key, done, "" if done else content["error"], content)


def read_results(folder: Path) -> dict[str, Result]:
    """Read all results of a folder, by key; none if it is not there yet.

    Args:
        folder: Results of a study.

    Raises:
        OptionError: If a file is no result of a cell; all of them at once.
    """
    results: dict[str, Result] = {}
    problems = []
    for file in sorted((folder / _FOLDER).glob("*.json")):
        try:
            result = read_result(file)
        except (ValueError, KeyError, TypeError) as error:
            problems.append(f"{file}: {type(error).__name__}: {error}")
        else:
            results[result.key] = result
    if problems:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        raise OptionError(
            f"{len(problems)} files are no results of a study; remove them, and their cells are "
            f"run again:{lines}"
        )
    return results
