"""The automatic plan against grids of two input sizes and two learning rates: 60 s on 2 cores.

    pip install -e '.[benchmarks]'
    python benchmarks/plan_grid.py --data ../shared/data

A cell is one setting on one set with one seed, as in eight_sets.py: a fresh process of two threads,
whose 60 seconds run from the call of fit to its return. The settings are the plan as it decides by
itself, and those of two grids, which have input size and learning rate set for all sets and the
rest automatic. The sizes are the one that lite_medsam was trained at and half of it. The rates are
the two of the Conv-LoRA paper in one grid, and in the other the higher of them and that of the
plan, which somebody who knows the plan would try. A grid that held the plan's own setting would
compare the plan with itself.

Of the four settings of a grid the one with the best mean test score is chosen on one half of the
sets and applied to the other half, and the other way round: what somebody would have found who
tuned on four problems and kept the setting for the next one. The halves take turns in the list of
sets, so that both hold binary and multi-class ones. Further seeds of the plan and of what was
chosen alone (--settings automatic 128px-1e-3 --seeds 2 3) are compared in a table of their own.

Finished cells are kept as JSON below benchmarks/results/plan_grid/ and not run again (--again
does). The table goes to standard output, to benchmarks/results/plan_grid.md and into
benchmarks/README.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import _cells
from _plan_grid_table import table, whole

AUTOMATIC = "automatic"
SIZES = (128, 256)
RATES = {
    "the rates of the paper": ("1e-4", "3e-4"),
    "the higher rate of the paper and that of the plan": ("3e-4", "1e-3"),
}
GRIDS = {
    about: {
        f"{size}px-{rate}": {"data.size": size, "optim.lr": float(rate)}
        for size in SIZES
        for rate in rates
    }
    for about, rates in RATES.items()
}
SETTINGS: dict[str, dict[str, Any]] = {AUTOMATIC: {}} | {
    name: values for grid in GRIDS.values() for name, values in grid.items()
}
HALVES = (_cells.SETS[::2], _cells.SETS[1::2])
SEEDS = (0, 1)
BUDGET = 60.0


class Cell(NamedTuple):
    """One setting on one set with one seed."""

    name: str
    setting: str
    seed: int

    def file(self, results: Path) -> Path:
        """Return where its result is kept."""
        return results / "plan_grid" / f"{self.name}-{self.setting}-{self.seed}.json"


def plan_cells(sets: Sequence[str], settings: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """Return the cells in the order in which they are run: the first seed of everything first.

    Args:
        sets: Names of the sets.
        settings: Names of the settings.
        seeds: The seeds.
    """
    return [Cell(name, setting, seed) for seed in seeds for name in sets for setting in settings]


def read_cells(results: Path, budget: float) -> dict[Cell, dict[str, Any]]:
    """Return the finished cells of a budget, in the order of sets, settings and seeds."""
    found = {
        Cell(content["set"], content["setting"], content["seed"]): content
        for content in _cells.read_results(results / "plan_grid")
        if content["budget_seconds"] == budget
    }
    settings = list(SETTINGS)
    order = sorted(
        found, key=lambda c: (_cells.SETS.index(c.name), settings.index(c.setting), c.seed)
    )
    return {cell: found[cell] for cell in order}


def tables(cells: Sequence[dict[str, Any]]) -> str:
    """Return the table of each grid that has cells, below a line that says which it is.

    Args:
        cells: Finished cells of one budget, in the order of their sets.
    """
    parts = []
    for about, grid in GRIDS.items():
        if not whole(cells, (AUTOMATIC, *grid)):
            continue
        headings = {name: name.replace("px-", " px, ") for name in grid}
        sizes = " and ".join(map(str, SIZES))
        parts += [
            f"**A grid of {sizes} px and {about}:**",
            table(cells, AUTOMATIC, headings, HALVES),
        ]
    return "\n\n".join(parts)


def run_cell(cell: Cell, data: Path, results: Path, budget: float, busy: bool) -> bool:
    """Run one cell in a fresh process; return whether it came to its end."""
    return _cells.run_worker(
        "_plan_grid_worker.py",
        (data / cell.name).resolve(),
        cell.setting,
        *("--hyperparameters", json.dumps(SETTINGS[cell.setting])),
        *("--seed", cell.seed, "--budget", budget, "--target", cell.file(results).resolve()),
        *(["--busy"] if busy else []),
    )


def main() -> None:
    """Run what is missing and write the table."""
    parser = _cells.parser(__doc__, seeds=" ".join(map(str, SEEDS)))
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds of a cell")
    options = parser.parse_args()
    cells = plan_cells(options.sets, options.settings, options.seeds or SEEDS)
    done = set() if options.again else set(read_cells(options.results, options.budget))
    failed = _cells.run_cells(
        [] if options.table else [cell for cell in cells if cell not in done],
        lambda c: run_cell(c, options.data, options.results, options.budget, options.busy),
    )
    finished = list(read_cells(options.results, options.budget).values())
    if finished:
        _cells.write_table(tables(finished), options.results, "plan_grid", _cells.PAGE)
    _cells.exit_if(failed)


if __name__ == "__main__":
    main()
