"""``easyseg study``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from easyseg.cli import options as opt
from easyseg.cli.app import app
from easyseg.cli.output import print_rows, say
from easyseg.cli.values import parse_devices

if TYPE_CHECKING:
    from easyseg.study.progress import Progress

__all__ = ["study"]


@app.command(
    epilog="Examples:\n\n"
    "easyseg study small --data sets --dry-run\n\n"
    "easyseg study small --data sets --results study\n\n"
    "easyseg study my-study.yaml --data sets --devices 0,1 --only 'methods/*'\n\n"
    "easyseg study small --results study --table\n\n"
    "A study is a YAML file of methods, data sets, seeds and a budget; presets/studies/small.yaml "
    "is one to start from. What is finished is never run again: stop it with Ctrl-C, and the same "
    "command goes on."
)
def study(
    spec: opt.Study,
    data: opt.StudyData = None,
    only: opt.Only = None,
    accelerator: opt.Accelerator = "auto",
    devices: opt.StudyDevices = "auto",
    results: opt.StudyFolder = None,
    table: opt.OnlyTables = False,
    dry_run: opt.DryRun = False,
    retry: opt.Retry = False,
    verbosity: opt.Verbosity = 1,
    quiet: opt.Quiet = False,
) -> None:
    """Compare methods on data sets: a cell for each method, set and seed, each with equal budget.

    A cell is one fit and its test, in a process of its own: if it fails, that is written down and
    the others go on. Writes one JSON file a cell, a tidy scores.csv, tables.md with means and
    standard errors, and figures (with matplotlib). Ends with exit code 1 if cells failed.
    """
    verbosity = 0 if quiet else verbosity
    workers = parse_devices(devices)
    say(verbosity, f"reading {spec} ...")
    from easyseg.console import reporting
    from easyseg.study.progress import progress_of
    from easyseg.study.reading import read_study

    found = read_study(spec)
    folder = results or Path("easyseg-studies") / found.name
    if dry_run:
        _print_cells(progress_of(found, folder, only))
        return
    from easyseg.study.report import write_report

    with reporting(verbosity) as reporter:
        if not table:
            from easyseg.study.runner import fleet_of, run_study

            run_study(
                found,
                data=data,
                results=folder,
                fleet=fleet_of(accelerator, workers),
                reporter=reporter,
                only=only,
                retry=retry,
            )
        progress = progress_of(found, folder)
        written = write_report(found, progress, folder)
    print_rows([(file.name, str(file)) for file in written])
    asked = progress_of(found, folder, only)
    states = {asked.status(cell) for _, cell in asked.cells}
    if not table and states != {"done"}:
        raise typer.Exit(1)


def _print_cells(progress: Progress) -> None:
    """Print each label of a study with the state of its cell, and how many cells there are."""
    labelled = progress.labelled()
    waiting = [place.label for place, cell in progress.cells if cell is None]
    print_rows(
        [
            *((label, progress.status(cell)) for label, cell in labelled),
            *((label, progress.status(None)) for label in waiting),
        ]
    )
    states = [progress.status(cell) for cell in {cell.key: cell for _, cell in labelled}.values()]
    counts = ", ".join(f"{states.count(name)} {name}" for name in ("done", "open", "failed"))
    typer.echo(f"{len(states)} different cells: {counts}")
    if waiting:
        typer.echo(f"{len(waiting)} places wait for the value that is picked for their method")
