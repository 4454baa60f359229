"""Which experts are used: heat maps by block and by object size, and the course of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from easyseg.errors import OptionError
from easyseg.views.expert_tables import (
    ExpertUse,
    beside_chance,
    count_use,
    mean_scales,
    shares,
    window_counts,
)
from easyseg.views.figures import new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from easyseg.segmentor import SemanticSegmentor

__all__ = ["plot_training_use", "plot_use", "show_training_use", "show_use"]

_WIDTH, _HEIGHT = 9.6, 3.0  # inches
_MOST_TICKS = 16
_SHARES, _SCALES = "viridis", "cividis"


def show_use(segmentor: SemanticSegmentor, data: Any) -> Figure:
    """Draw the use of experts over the images of a table.

    Args:
        segmentor: A fitted model with Conv-LoRA adapters that choose between experts.
        data: DataFrame or CSV with images and labels.
    """
    from easyseg.views.expert_use import expert_choices

    adapter = segmentor.plan_.adapter
    title = f"gate: {adapter.gate}, a choice for each {adapter.routing}"
    return plot_use({title: count_use(expert_choices(segmentor, data))}, unit=adapter.routing)


def show_training_use(segmentor: SemanticSegmentor) -> Figure:
    """Draw the use of experts in training, as the run folder tells it.

    Args:
        segmentor: A fitted model with Conv-LoRA adapters that choose between experts.
    """
    from easyseg.views.expert_log import read_training_use
    from easyseg.views.history import saved_row

    use, history = read_training_use(segmentor), segmentor.history_
    saved = int(history["epoch"].iloc[saved_row(history, segmentor.plan_.metric)])
    return plot_training_use(use, saved, unit=segmentor.plan_.adapter.routing)


def plot_use(uses: Mapping[str, ExpertUse], unit: str = "window") -> Figure:
    """Draw which experts are used, a row a model: by block, and by block and size of the object.

    Args:
        uses: The use of experts by title.
        unit: What a gate chooses for, ``"window"`` or ``"image"``.

    Raises:
        OptionError: If matplotlib is not installed, or there is nothing to draw.
    """
    if not uses:
        raise OptionError("no use of experts to draw; expected at least one model with experts")
    figure = new_figure(_WIDTH, _HEIGHT * len(uses))
    by_block = {title: shares(use.counts) for title, use in uses.items()}
    most = max(float(table.to_numpy().max()) for table in by_block.values())
    low = min(use.counts["scale"].min() for use in uses.values())
    high = max(use.counts["scale"].max() for use in uses.values())
    rows = figure.subfigures(len(uses), 1, squeeze=False)[:, 0]
    for row, (title, use) in zip(rows, uses.items(), strict=True):
        row.suptitle(plain(title, 80), fontsize="large")
        left, right = row.subplots(1, 2)
        _heat(left, by_block[title].T, _SHARES, (0, most), f"share of {unit}s")
        left.set(xlabel="block", ylabel="scale of the expert")
        left.set_title("which experts each block uses", loc="left", fontsize="medium")
        by_size, counts = mean_scales(use.counts), window_counts(use.counts)
        _heat(right, by_size, _SCALES, (low, high), "mean scale")
        right.set(xlabel="block", ylabel=f"object in the {unit}")
        right.set_yticks(
            range(len(by_size)), [f"{size}\nn = {counts[size]:,}" for size in by_size.index]
        )
        right.set_title(
            f"Cramér's V (by chance): size {beside_chance(use, 'size')},\n"
            f"object or none {beside_chance(use, 'object')}",
            loc="left",
            fontsize="medium",
        )
    return figure


def plot_training_use(use: pd.DataFrame, saved: int, unit: str = "window") -> Figure:
    """Draw which experts were used in training: by block in the saved epoch, and over the epochs.

    Args:
        use: As from ``read_training_use``.
        saved: The epoch whose model was kept.
        unit: What a gate chooses for, ``"window"`` or ``"image"``.

    Raises:
        OptionError: If matplotlib is not installed.
    """
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(_WIDTH, _HEIGHT)
    left, right = figure.subplots(1, 2)
    of_saved = use[use["epoch"] == saved].pivot_table("share", "scale", "block")
    most = float(of_saved.to_numpy().max())
    _heat(left, of_saved, _SHARES, (0, most), f"share of {unit}s")
    left.set(xlabel="block", ylabel="scale of the expert")
    left.set_title(f"training, epoch {saved} (saved)", loc="left", fontsize="medium")
    over_time = use.pivot_table("share", "epoch", "scale")
    colours = colormaps[_SCALES](
        [index / max(1, over_time.shape[1] - 1) for index in range(over_time.shape[1])]
    )
    for (scale, line), colour in zip(over_time.items(), colours, strict=True):
        right.plot(line.index, line, "o-", markersize=3, color=colour, label=str(scale))
    right.axvline(saved, color="#D55E00", linestyle=":", zorder=1)
    right.set(xlabel="epoch", ylabel="share, mean of the blocks")
    right.set_ylim(bottom=0)
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.grid(alpha=0.3)
    right.spines[["top", "right"]].set_visible(False)
    right.set_title("each expert over the epochs", loc="left", fontsize="medium")
    figure.legend(title="scale", loc="outside right center", frameon=False)
    return figure


def _heat(
    axis: Axes, table: pd.DataFrame, colours: str, limits: tuple[float, float], label: str
) -> None:
    """Draw a table as colours, with its rows and columns named; of many columns every fourth."""
    drawn = axis.imshow(table, aspect="auto", cmap=colours, vmin=limits[0], vmax=limits[1])
    axis.figure.colorbar(drawn, ax=axis, label=label)
    step = 1 if table.shape[1] <= _MOST_TICKS else 4
    axis.set_xticks(range(0, table.shape[1], step), [str(name) for name in table.columns[::step]])
    axis.set_yticks(range(len(table)), [str(name) for name in table.index])
    axis.set_facecolor("#BBBBBB")  # Where a block has no window of a size.
