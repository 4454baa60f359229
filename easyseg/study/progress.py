"""How far a study is, read from its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from easyseg.errors import OptionError, nearest
from easyseg.study.cells import Cell, Place, cell_of, pick_values, places, tuning_cells
from easyseg.study.results import Result, read_results
from easyseg.study.spec import Study

__all__ = ["Progress", "progress_of"]


@dataclass(frozen=True)
class Progress:
    """How far a study is.

    Attributes:
        tuning: Label (``tuning/set/method/value``) and cell of each value that is tried.
        cells: Each place with its cell, or ``None`` while its method waits for its picked value.
        picked: The picked value of each method that has one.
        results: All results there are, by key of the cell.
    """

    tuning: Sequence[tuple[str, Cell]]
    cells: Sequence[tuple[Place, Cell | None]]
    picked: Mapping[str, Any]
    results: Mapping[str, Result]

    def labelled(self) -> list[tuple[str, Cell]]:
        """Return the label and the cell of all that can be run by now; a cell may come twice."""
        known = [(place.label, cell) for place, cell in self.cells if cell is not None]
        return [*self.tuning, *known]

    def result(self, cell: Cell | None) -> Result | None:
        """Return the result of a cell that came to its end."""
        found = None if cell is None else self.results.get(cell.key)
        return found if found is not None and found.done else None

    def status(self, cell: Cell | None) -> str:
        """Return ``"done"``, ``"failed"``, ``"open"``, or ``"waits"`` for a picked value."""
        if cell is None:
            return "waits"
        if cell.key not in self.results:
            return "open"
        return "done" if self.results[cell.key].done else "failed"


def progress_of(study: Study, results: Path, only: str | None = None) -> Progress:
    """Read how far a study is.

    Args:
        study: The study.
        results: Its folder.
        only: Pattern of the labels of the places that are asked for; ``None``: all.

    Raises:
        OptionError: If no place fits, or a file there is no result.
    """
    found = read_results(results)
    goodness = {key: result.goodness for key, result in found.items() if result.done}
    picked = pick_values(study, goodness)
    chosen = _matching(places(study), only)
    methods = {place.row.method.name for place in chosen}
    tuning = [
        (f"tuning/{cell.set}/{name}/{value}", cell)
        for name, cells in tuning_cells(study).items()
        for value, cell in zip(study.tuning.values if study.tuning else (), cells, strict=True)
        if name in methods
    ]
    return Progress(tuning, [(p, cell_of(study, p, picked)) for p in chosen], picked, found)


def _matching(all_places: Sequence[Place], only: str | None) -> list[Place]:
    """Return the places whose label fits; a pattern without ``*`` or ``?`` may stand anywhere."""
    if only is None:
        return list(all_places)
    pattern = only if set(only) & set("*?[") else f"*{only}*"
    chosen = [place for place in all_places if fnmatch(place.label, pattern)]
    if not chosen:
        raise OptionError(
            f"only={only!r} fits no cell; labels are part/set/row/seed. "
            f"{nearest(only, (place.label for place in all_places))}"
        )
    return chosen
