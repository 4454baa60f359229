"""The course of a fit: training loss, validation score with the saved epoch, learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from easyseg.metrics.catalogue import gain
from easyseg.views.figures import new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_history", "saved_row"]

_LOSS, _SCORE, _BEST, _RATE = "#555555", "#0072B2", "#D55E00", "#009E73"
_WIDTH, _TALL, _SHORT = 6.4, 2.1, 1.3  # inches


def saved_row(history: pd.DataFrame, metric: str) -> int:
    """Return the position of the validation whose model is kept: the first with the best score.

    If that is no number, nan, the last one without a score (`easyseg.metrics.catalogue.gain`).

    Args:
        history: One row a validation, at least one.
        metric: The validation metric, a column; errors are best where they are lowest.

    Example:
        >>> saved_row(pd.DataFrame({"iou@image": [0.2, 0.7, None, 0.7]}), "iou@image")
        1
    """
    scores = history[metric].to_numpy(float)
    gains = np.array([gain(score, metric) for score in scores])
    best = np.flatnonzero(gains == gains.max())
    return int(best[-1 if np.isnan(scores[best[0]]) else 0])


def plot_history(history: pd.DataFrame, metric: str) -> Figure:
    """Draw loss, score and learning rate by epoch; the saved epoch is marked.

    Args:
        history: As in ``history_`` of a segmentor: the columns ``epoch``, ``step``, ``seconds``,
            ``train_loss``, the metric, and perhaps ``lr``.
        metric: The validation metric.

    Returns:
        Panels below each other: loss, score and, if it is recorded, the learning rate.

    Raises:
        OptionError: If matplotlib is not installed.
    """
    rated = "lr" in history.columns
    heights = [_TALL, _TALL, *([_SHORT] if rated else [])]
    figure = new_figure(_WIDTH, sum(heights))
    panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    saved = saved_row(history, metric)
    _line(panels[0], history, "train_loss", _LOSS)
    panels[0].set_title("training loss", loc="left", fontsize="medium")
    _line(panels[1], history, metric, _SCORE)
    _mark(panels[1], history.iloc[saved], metric)
    if rated:
        _line(panels[2], history, "lr", _RATE)
        panels[2].set_title("learning rate", loc="left", fontsize="medium")
        panels[2].set_ylim(bottom=0)
        panels[2].yaxis.set_major_formatter("{x:g}")
    for panel in panels:
        panel.axvline(history["epoch"].iloc[saved], color=_BEST, linestyle=":", zorder=1)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    _number_epochs(panels[-1], history["epoch"])
    return figure


def _line(panel: Axes, history: pd.DataFrame, column: str, colour: str) -> None:
    marker = "o" if len(history) <= 60 else ""
    panel.plot(
        history["epoch"], history[column], color=colour, marker=marker, markersize=4, zorder=2
    )


def _mark(panel: Axes, row: pd.Series, metric: str) -> None:
    """Mark the saved epoch, and say in the title what it reached and when."""
    panel.margins(y=0.15)
    panel.plot(row["epoch"], row[metric], "*", color=_BEST, markersize=14, zorder=3)
    panel.set_title(plain(f"validation {metric}", 60), loc="left", fontsize="medium")
    if not np.isnan(row[metric]):
        reached = (
            f"best {row[metric]:.3f}, epoch {row['epoch']:.0f} (step {row['step']:.0f}, "
            f"{row['seconds']:.0f} s)"
        )
        panel.set_title(reached, loc="right", fontsize="medium", color=_BEST)


def _number_epochs(panel: Axes, epochs: pd.Series) -> None:
    """Name the axis, and leave room where there is one epoch only."""
    from matplotlib.ticker import MaxNLocator

    panel.set_xlabel("epoch")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(epochs) == 1:
        panel.set_xlim(epochs.iloc[0] - 1, epochs.iloc[0] + 1)
