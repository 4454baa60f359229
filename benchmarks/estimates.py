"""Seconds and memory that the plan expects beside what the fit takes, on eight real sets.

    pip install -e '.[benchmarks]'
    python benchmarks/estimates.py --data ../shared/data

A cell is a set with a case. Of the two backbones: a plan of so many steps in a fresh process, and a
fit by it in another one; the steps are chosen so that the plan expects about 50 s, by a plan before
if need be. The third case is a fit by the defaults with time_limit=120, beside the estimate that it
made for itself. The seconds run from the call of fit to its return, imports of libraries included,
as a user waits for them; the memory is the largest resident size of the process by then. Weights
that are not on this machine are random: they take as long, and their scores mean nothing. A process
starts when nothing else needs the cores (--busy: at once), and records what others took all the
same.

Finished cells are kept as JSON below benchmarks/results/estimates/ and not run again (--again
does). The table goes to standard output, to benchmarks/results/estimates.md and into
benchmarks/README.md.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import _cells
from _estimates_table import table
from _record import provenance, write_json

BACKBONES = ("lite_medsam", "mobile_sam")
LIMITED = "time_limit"
# How long a fit is to take.
ASKED = dict.fromkeys(BACKBONES, 50.0) | {LIMITED: 120.0}
FIRST_STEPS = 60
# A plan is good enough if it expects the fit to take what was asked, give or take this share of it.
NEAR = 0.2
# Epochs without a better score: more than there are.
NO_EARLY_STOP = 10_000


class Cell(NamedTuple):
    """A set with a backbone, or with a time limit."""

    name: str
    case: str

    def file(self, results: Path) -> Path:
        """Return where its result is kept."""
        return results / "estimates" / f"{self.name}-{self.case}.json"


def plan_cells(sets: Sequence[str], cases: Sequence[str]) -> list[Cell]:
    """Return the cells in the order in which they are run: one case after the other.

    Args:
        sets: Names of the sets.
        cases: Names of the cases.
    """
    return [Cell(name, case) for case in cases for name in sets]


def read_cells(results: Path) -> dict[Cell, dict[str, Any]]:
    """Return the finished cells, in the order of sets and cases."""
    found = {
        Cell(content["set"], content["case"]): content
        for content in _cells.read_results(results / "estimates")
    }
    cases = list(ASKED)
    order = sorted(found, key=lambda cell: (_cells.SETS.index(cell.name), cases.index(cell.case)))
    return {cell: found[cell] for cell in order}


def steps_for(steps: int, expected: float, asked: float) -> int:
    """Return how many steps to plan when so many are expected to take so long.

    What does not depend on the steps makes this fall short of what was asked, never go beyond it.

    Args:
        steps: The steps of a plan.
        expected: Seconds that it expects the fit to take.
        asked: Seconds that a fit is to take.

    Returns:
        The same number if the plan is near enough, else the steps in proportion.
    """
    near = abs(expected - asked) <= NEAR * asked
    return steps if near else max(1, round(steps * asked / expected))


def run_cell(cell: Cell, data: Path, results: Path, asked: float, busy: bool) -> bool:
    """Run one cell in fresh processes and write it down; return whether it came to its end."""
    folder = (data / cell.name).resolve()
    measured = provenance() | {"threads": _cells.THREADS}
    with tempfile.TemporaryDirectory() as scratch:
        planned, fitted = Path(scratch) / "plan.json", Path(scratch) / "fit.json"
        limited = cell.case == LIMITED
        backbone = BACKBONES[0] if limited else cell.case
        weights = weights_of(backbone)
        wait = ["--busy"] if busy else []
        if limited:
            how = ["--time-limit", asked]
        else:
            how = ["--plan", planned]
            if not make_plan(folder, backbone, weights, planned, asked, wait):
                return False
        target = ["--target", fitted]
        if not _cells.run_worker("_estimates_worker.py", "fit", folder, *how, *target, *wait):
            return False
        found = json.loads(fitted.read_text(encoding="utf-8"))
        own = found["plan"].pop("estimate", None)
        estimate = own if limited else read_estimate(planned)
    write_json(
        cell.file(results),
        {
            "set": cell.name,
            "case": cell.case,
            "backbone": found["plan"]["backbone"]["name"],
            "weights": weights,
            "asked_seconds": asked,
            "limit": asked if limited else None,
            "estimate": estimate,
            **found,
            **measured,
        },
    )
    return True


def make_plan(
    folder: Path, backbone: str, weights: str, target: Path, asked: float, wait: Sequence[str]
) -> bool:
    """Save a plan whose fit is expected to take about so long; return whether that came to its end.

    Args:
        folder: Of the set.
        backbone: Its name.
        weights: ``"pretrained"`` or ``"random"``.
        target: Where to save the plan.
        asked: Seconds.
        wait: The worker's option whether to wait for idle cores.
    """
    steps = FIRST_STEPS
    for _ in range(2):
        values = {
            "backbone.name": backbone,
            "backbone.weights": weights,
            "train.max_steps": steps,
            "train.patience": NO_EARLY_STOP,
        }
        what = ["--hyperparameters", json.dumps(values), "--target", target]
        if not _cells.run_worker("_estimates_worker.py", "plan", folder, *what, *wait):
            return False
        estimate = read_estimate(target)
        if estimate is None:
            return True
        better = steps_for(steps, estimate["seconds"], asked)
        if better == steps:
            return True
        steps = better
    return True


def read_estimate(plan: Path) -> dict[str, Any] | None:
    """Return the estimate of a saved plan."""
    return json.loads(plan.read_text(encoding="utf-8")).get("estimate")


def weights_of(backbone: str) -> str:
    """Return ``"pretrained"`` if the weights are on this machine, else ``"random"``."""
    from easyseg.models.registry import get_spec
    from easyseg.models.weights import locate_weights

    return "random" if locate_weights(get_spec(backbone)) is None else "pretrained"


def main() -> None:
    """Run what is missing and write the table."""
    parser = _cells.parser(__doc__)
    parser.add_argument("--cases", nargs="+", choices=ASKED, default=list(ASKED))
    parser.add_argument("--seconds", type=float, help="of every fit; default: 50, and 120 limited")
    options = parser.parse_args()
    cells = plan_cells(options.sets, options.cases)
    done = set() if options.again else set(read_cells(options.results))
    failed = _cells.run_cells(
        [] if options.table else [cell for cell in cells if cell not in done],
        lambda cell: run_cell(
            cell,
            options.data,
            options.results,
            options.seconds or ASKED[cell.case],
            options.busy,
        ),
    )
    finished = list(read_cells(options.results).values())
    if finished:
        _cells.write_table(table(finished), options.results, "estimates", _cells.PAGE)
    _cells.exit_if(failed)


if __name__ == "__main__":
    main()
