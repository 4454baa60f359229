"""Write what a study has found so far: a tidy table, tables for people, figures."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from easyseg.files import write_text
from easyseg.study.markdown import markdown
from easyseg.study.plots import plot_experts, plot_scores
from easyseg.study.progress import Progress
from easyseg.study.spec import Study
from easyseg.study.tables import columns_of, expert_uses, tidy, titled_uses

__all__ = ["write_report"]

log = logging.getLogger("easyseg")


def write_report(study: Study, progress: Progress, folder: Path) -> list[Path]:
    """Write ``scores.csv``, ``tables.md`` and, where matplotlib is installed, figures.

    The figures are ``scores-PART.png`` and, for parts that show the use of experts,
    ``experts-PART.png``; what these are drawn from is in ``experts-PART.csv``.

    Args:
        study: The study.
        progress: How far it is.
        folder: Where to write; made if it is not there.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = tidy(study, progress)
    files = [folder / "scores.csv", folder / "tables.md"]
    write_text(files[0], table.to_csv(index=False, lineterminator="\n"))
    write_text(files[1], markdown(study, progress))
    figures = find_spec("matplotlib") is not None
    if not figures:
        log.info("no figures: they need matplotlib (pip install matplotlib)")
    for part in study.parts:
        columns = columns_of(part, study.sets, table)
        if columns and figures:
            files.append(folder / f"scores-{part.name}.png")
            plot_scores(part, columns, table, files[-1])
        uses = expert_uses(part, progress)
        if not uses:
            continue
        files.append(folder / f"experts-{part.name}.csv")
        names = ["set", "test", "row"]
        named = pd.concat({key: use.counts for key, use in uses.items()}, names=names)
        named = named.reset_index(names)
        write_text(files[-1], named.to_csv(index=False, lineterminator="\n"))
        if figures:
            files.append(folder / f"experts-{part.name}.png")
            plot_experts(titled_uses(part, study.sets, uses), files[-1])
    return files
