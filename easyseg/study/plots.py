"""Figures of a study; matplotlib draws them, and is loaded when one is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from easyseg.study.spec import Part
from easyseg.study.tables import Column, spread
from easyseg.views.expert_tables import ExpertUse
from easyseg.views.experts import plot_use
from easyseg.views.figures import new_figure, save_figure
from easyseg.visualize import PALETTE

__all__ = ["plot_experts", "plot_scores"]

_PANEL, _ROW, _MARGIN = 3.4, 0.34, 1.3  # inches


def plot_scores(part: Part, columns: list[Column], table: pd.DataFrame, file: Path) -> None:
    """Draw the scores of a part: a panel a column, a point a seed, the mean with its error.

    Args:
        part: The part.
        columns: What is drawn, see ``columns_of``.
        table: The tidy table.
        file: The PNG.

    Raises:
        OptionError: If matplotlib is not installed.
    """
    rows = list(part.rows)
    figure = new_figure(_PANEL * len(columns) + _MARGIN, _ROW * len(rows) + _MARGIN)
    axes = figure.subplots(1, len(columns), squeeze=False, sharey=True)
    own = table[table["part"] == part.name]
    for axis, column in zip(axes[0], columns, strict=True):
        chosen = own[
            (own["set"] == column.set)
            & (own["test"] == column.test)
            & (own["metric"] == column.metric)
        ].dropna(subset="score")
        for height, row in enumerate(rows):
            values = chosen.loc[chosen["row"] == row.name, "score"].tolist()
            if not values:
                continue
            mean, error = spread(values)
            axis.plot(values, [height] * len(values), ".", color="#999999", zorder=1)
            axis.errorbar(mean, height, xerr=error, fmt="o", color=PALETTE[6], capsize=3, zorder=2)
        axis.set_title(column.heading.replace("`", ""), fontsize="medium")
        axis.grid(axis="x", alpha=0.3)
    axes[0][0].set_yticks(range(len(rows)), [row.title for row in rows])
    axes[0][0].set_ylim(len(rows) - 0.5, -0.5)
    figure.suptitle(f"{part.title}: mean ± standard error over seeds", fontsize="medium")
    save_figure(figure, file)


def plot_experts(uses: Mapping[str, ExpertUse], file: Path) -> None:
    """Draw which experts are used, a row a model: by block, and by block and size of the object.

    Args:
        uses: The use of experts by title.
        file: The PNG.

    Raises:
        OptionError: If matplotlib is not installed, or there is nothing to draw.
    """
    save_figure(plot_use(uses), file)
