"""Figures of a study; matplotlib draws them, and is loaded when one is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from easyseg.errors import OptionError
from easyseg.study.spec import Part
from easyseg.study.tables import Column, spread
from easyseg.study.use import mean_scales, shares
from easyseg.visualize import PALETTE

__all__ = ["plot_experts", "plot_scores"]

_PANEL, _ROW, _HEAT, _MARGIN = 3.4, 0.34, 2.6, 1.3  # inches
_DPI = 150
_MOST_TICKS = 16


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
    figure = _figure(_PANEL * len(columns) + _MARGIN, _ROW * len(rows) + _MARGIN)
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
    _save(figure, file)


def plot_experts(uses: Mapping[str, pd.DataFrame], file: Path) -> None:
    """Draw which experts are used, a row a model: by block, and by block and size of the object.

    Args:
        uses: What ``expert_use`` returned, by title.
        file: The PNG.

    Raises:
        OptionError: If matplotlib is not installed, or there is nothing to draw.
    """
    if not uses:
        raise OptionError("no use of experts to draw; expected at least one model with experts")
    figure = _figure(2 * _PANEL + _MARGIN, _HEAT * len(uses))
    axes = figure.subplots(len(uses), 2, squeeze=False)
    for (left, right), (title, use) in zip(axes, uses.items(), strict=True):
        by_block, by_size = shares(use), mean_scales(use)
        drawn = left.imshow(by_block.T, aspect="auto", cmap="viridis", vmin=0, vmax=1)
        figure.colorbar(drawn, ax=left, label="share of windows")
        _ticks(left, by_block.index, by_block.columns)
        left.set(xlabel="block", ylabel="scale of the expert")
        left.set_title(title, fontsize="medium")
        low, high = use["scale"].min(), use["scale"].max()
        drawn = right.imshow(by_size, aspect="auto", cmap="cividis", vmin=low, vmax=high)
        figure.colorbar(drawn, ax=right, label="mean scale")
        _ticks(right, by_size.columns, by_size.index)
        right.set(xlabel="block", ylabel="object in the window")
    _save(figure, file)


def _ticks(axis: Any, across: pd.Index, down: pd.Index) -> None:
    """Name rows and columns of a picture of a table; of many columns every fourth."""
    step = 1 if len(across) <= _MOST_TICKS else 4
    axis.set_xticks(range(0, len(across), step), [str(name) for name in across[::step]])
    axis.set_yticks(range(len(down)), [str(name) for name in down])


def _figure(width: float, height: float) -> Any:
    """Return an empty figure; nothing of a user's own plots is touched."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OptionError(
            "the figures of a study need matplotlib, which is not installed: "
            "pip install 'easyseg[study]'"
        ) from error
    return Figure(figsize=(width, height), layout="tight")


def _save(figure: Any, file: Path) -> None:
    """Write a figure beside its place and move it there."""
    beside = file.with_name(f".{file.name}.tmp.png")
    try:
        figure.savefig(beside, dpi=_DPI)
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
