"""What a count of chosen experts says: by block, by size of the object, and whether size matters.

Blocks have windows of different sizes, so that sums over all of them would show which block has
which objects. Sizes are compared within a block only. Of several models, which a column ``seed``
tells apart, each is summed up by itself, and the mean of these is returned: expert 1 of one model
is not expert 1 of another, and what both do may cancel out in a sum.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from easyseg.views.expert_use import SIZES

__all__ = ["dependence", "mean_scales", "shares", "window_counts"]

Question = Literal["size", "object"]


def shares(use: pd.DataFrame) -> pd.DataFrame:
    """Return which share of the windows of each block each expert got.

    Args:
        use: As from ``expert_use``; of several models with a column ``seed``.

    Returns:
        A row for each block, a column for each scale; rows sum to 1. Means over the models.
    """
    table = _by_seed(use).pivot_table(
        index=["seed", "block"], columns="scale", values="windows", aggfunc="sum"
    )
    return table.div(table.sum(axis=1), axis=0).groupby(level="block").mean()


def mean_scales(use: pd.DataFrame) -> pd.DataFrame:
    """Return the mean scale of the chosen experts by block and size, mean over the models.

    Args:
        use: As from ``expert_use``; of several models with a column ``seed``.

    Returns:
        A row for each size that there is, a column for each block; NaN where a block has no window
        of that size.
    """
    table = _by_seed(use).assign(weighted=use["scale"] * use["windows"])
    weighted, windows = (
        table.pivot_table(index=["seed", "size"], columns="block", values=name, aggfunc="sum")
        for name in ("weighted", "windows")
    )
    means = weighted.div(windows.where(windows > 0)).groupby(level="size").mean()
    return means.reindex([size for size in SIZES if size in means.index]).dropna(how="all")


def window_counts(use: pd.DataFrame) -> pd.Series:
    """Return how many windows there are of each size, over all blocks and models.

    Args:
        use: As from ``expert_use``; of several models with a column ``seed``.

    Returns:
        Whole numbers on the sizes.
    """
    return use.groupby("size")["windows"].sum()


def dependence(use: pd.DataFrame, of: Question = "size") -> float:
    """Return how much the choice depends on the object: Cramér's V of each block, their mean.

    That of several models is the mean of theirs. The bias of small samples is taken out (Bergsma,
    2013). Blocks with one size or one chosen expert count 0: nothing depends there.

    Args:
        use: As from ``expert_use``; of several models with a column ``seed``.
        of: ``"size"``: on the size, among the windows with an object; ``"object"``: on whether
            there is one.
    """
    found = []
    for _, block in _by_seed(use).groupby(["seed", "block"]):
        table = block.pivot_table(index="size", columns="scale", values="windows", aggfunc="sum")
        table = table.reindex(SIZES, fill_value=0).fillna(0)
        found.append(_cramers_v(_asked(table.to_numpy(), of)))
    return float(np.mean(found))


def _by_seed(use: pd.DataFrame) -> pd.DataFrame:
    """Return the table with a column that tells models apart; without one it is of one model."""
    return use if "seed" in use else use.assign(seed=0)


def _asked(table: np.ndarray, of: Question) -> np.ndarray:
    """Return the rows that a question is about, of counts ``[sizes, experts]``."""
    objects = table[1:]
    return objects if of == "size" else np.stack([table[0], objects.sum(axis=0)])


def _cramers_v(table: np.ndarray) -> float:
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    (rows, columns), count = table.shape, table.sum()
    if min(rows, columns) < 2 or count < 2:
        return 0.0
    chi2 = stats.chi2_contingency(table, correction=False).statistic
    phi2 = max(0.0, chi2 / count - (rows - 1) * (columns - 1) / (count - 1))
    sides = (side - (side - 1) ** 2 / (count - 1) for side in (rows, columns))
    most = min(sides) - 1
    return math.sqrt(phi2 / most) if most > 0 else 0.0
