"""Decoder only, LoRA, Conv-LoRA, a U-Net and a constant mask on eight real sets: 90 s on 2 cores.

    pip install -e '.[benchmarks]'
    python benchmarks/eight_sets.py --data ../shared/data

A cell is one method on one set with one seed, in a fresh process of two threads. Its 90 seconds run
from the call of fit to its return: reading, building, training, validation and loading the best
checkpoint are inside; importing the libraries and predicting the test images are not. A cell starts
when nothing else needs the cores (--busy: at once), and records what others took all the same.

Finished cells are kept as JSON below benchmarks/results/eight_sets/ and not run again (--again
does). The table goes to standard output, to benchmarks/results/eight_sets.md and into README.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import _cells
from _eight_sets_table import table
from _record import README

SETS = dict.fromkeys(_cells.SETS, (0,)) | {
    "skin_isic": (0, 1, 2),
    "leaf_disease": (0, 1, 2),
}
METHODS = {
    "constant": "constant mask",
    "unet": "U-Net",
    "decoder": "decoder only",
    "lora": "LoRA",
    "conv_lora": "Conv-LoRA",
}
BUDGET = 90.0


class Cell(NamedTuple):
    """One method on one set with one seed."""

    name: str
    method: str
    seed: int

    def file(self, results: Path) -> Path:
        """Return where its result is kept."""
        return results / "eight_sets" / f"{self.name}-{self.method}-{self.seed}.json"


def plan_cells(
    sets: Sequence[str], methods: Sequence[str], seeds: Sequence[int] | None = None
) -> list[Cell]:
    """Return the cells in the order in which they are run: the first seed of everything first.

    Args:
        sets: Names of the sets.
        methods: Names of the methods.
        seeds: For all sets; ``None``: those of each set. The constant mask needs no more than one.
    """
    cells = [
        Cell(name, method, seed)
        for name in sets
        for method in methods
        for seed in (seeds or SETS[name])[: 1 if method == "constant" else None]
    ]
    return sorted(cells, key=lambda cell: cell.seed)


def read_cells(results: Path, budget: float) -> dict[Cell, dict[str, Any]]:
    """Return the finished cells of a budget, in the order of sets, methods and seeds."""
    found = {}
    for content in _cells.read_results(results / "eight_sets"):
        if content["budget_seconds"] == budget:
            found[Cell(content["set"], content["method"], content["seed"])] = content
    sets, methods = list(SETS), list(METHODS)
    order = sorted(found, key=lambda c: (sets.index(c.name), methods.index(c.method), c.seed))
    return {cell: found[cell] for cell in order}


def run_cell(cell: Cell, data: Path, results: Path, budget: float, busy: bool) -> bool:
    """Run one cell in a fresh process; return whether it came to its end."""
    return _cells.run_worker(
        "_eight_sets_worker.py",
        (data / cell.name).resolve(),
        cell.method,
        *("--seed", cell.seed, "--budget", budget, "--target", cell.file(results).resolve()),
        *(["--busy"] if busy else []),
    )


def main() -> None:
    """Run what is missing and write the table."""
    parser = _cells.parser(__doc__, seeds="0, or 0 1 2, by set")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds of a cell")
    options = parser.parse_args()
    cells = plan_cells(options.sets, options.methods, options.seeds)
    done = set() if options.again else set(read_cells(options.results, options.budget))
    failed = _cells.run_cells(
        [] if options.table else [cell for cell in cells if cell not in done],
        lambda c: run_cell(c, options.data, options.results, options.budget, options.busy),
    )
    finished = list(read_cells(options.results, options.budget).values())
    if finished:
        _cells.write_table(table(finished, METHODS), options.results, "eight_sets", README)
    _cells.exit_if(failed)


if __name__ == "__main__":
    main()
