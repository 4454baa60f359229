"""Write what a study has found so far: a tidy table, tables for people, figures."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path

from easyseg.files import write_text
from easyseg.study.markdown import markdown
from easyseg.study.plots import plot_experts, plot_scores
from easyseg.study.progress import Progress
from easyseg.study.spec import Study
from easyseg.study.tables import columns_of, expert_uses, tidy

__all__ = ["write_report"]

log = logging.getLogger("easyseg")


def write_report(study: Study, progress: Progress, folder: Path) -> list[Path]:
    """Write ``scores.csv``, ``tables.md`` and, where matplotlib is installed, figures.

    The figures are ``scores-PART.png`` and, for parts with experts, ``experts-PART.png``.

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
    if find_spec("matplotlib") is None:
        log.info("no figures: they need matplotlib (pip install 'easyseg[study]')")
        return files
    for part in study.parts:
        columns = columns_of(part, study.sets, table)
        if columns:
            files.append(folder / f"scores-{part.name}.png")
            plot_scores(part, columns, table, files[-1])
        titles = {row.name: row.title for row in part.rows}
        uses = {
            f"{study.sets[name].title}: {titles[row]}": use
            for (name, row), use in expert_uses(part, progress).items()
        }
        if uses:
            files.append(folder / f"experts-{part.name}.png")
            plot_experts(uses, files[-1])
    return files
