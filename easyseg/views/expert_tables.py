"""What a count of chosen experts says: by block, by size of the object, and whether size matters.

Blocks have windows of different sizes, so that sums over all of them would show which block has
which objects. Sizes are compared within a block only. Of several models, which a column ``seed``
tells apart, each is summed up by itself, and the mean of these is returned: expert 1 of one model
is not expert 1 of another, and what both do may cancel out in a sum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from easyseg.views.expert_use import SIZES, BlockChoices

__all__ = [
    "QUESTIONS",
    "ExpertUse",
    "Question",
    "beside_chance",
    "count_use",
    "dependence",
    "mean_scales",
    "shares",
    "window_counts",
]

Question = Literal["size", "object"]
QUESTIONS: tuple[Question, ...] = ("size", "object")


@dataclass(frozen=True)
class ExpertUse:
    """How often each expert was chosen, and how much that would depend on the objects by chance.

    Attributes:
        counts: A row for each block, size and expert: ``block`` (from 0, of those with attention),
            ``size`` (one of ``SIZES``), ``expert`` (from 0), ``scale``, and ``windows``: how often
            it was chosen. Of several models with a column ``seed``.
        chance: What :func:`dependence` is on average if images exchange their objects at random
            (some keep their own), by question; NaN where that is not known.
    """

    counts: pd.DataFrame
    chance: Mapping[Question, float]


def count_use(choices: Sequence[BlockChoices], permutations: int = 200) -> ExpertUse:
    """Count the choices of a model, and what chance makes of them.

    Windows of one image are alike: one object fills many of them, and the gate treats them alike.
    So the dependence is well above 0 among a few images even where the gate knows nothing of
    objects. What chance gives is therefore the mean over random exchanges of whole images: each
    window keeps its expert, and gets the object that is at its place in another image.

    Args:
        choices: As from ``expert_choices``.
        permutations: Number of random exchanges.
    """
    tables = [_table(each, each.sizes) for each in choices]
    counts = pd.DataFrame(
        {
            "block": each.block,
            "size": SIZES[size],
            "expert": expert,
            "scale": each.scales[expert],
            "windows": int(table[size, expert]),
        }
        for each, table in zip(choices, tables, strict=True)
        for size, expert in np.ndindex(table.shape)
    )
    return ExpertUse(counts, _by_chance(choices, permutations))


def _table(choices: BlockChoices, sizes: np.ndarray) -> np.ndarray:
    """Return how often each expert met each size ``[sizes, experts]``."""
    shape = (len(SIZES), len(choices.scales))
    cells = sizes.ravel() * shape[1] + choices.experts.ravel()
    return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)


def _by_chance(choices: Sequence[BlockChoices], permutations: int) -> dict[Question, float]:
    images = len(choices[0].sizes)
    if images < 2:
        return dict.fromkeys(QUESTIONS, math.nan)
    rng = np.random.default_rng(0)
    sums = dict.fromkeys(QUESTIONS, 0.0)
    for _ in range(permutations):
        order = rng.permutation(images)
        for each in choices:
            table = _table(each, each.sizes[order])
            for of in QUESTIONS:
                sums[of] += _cramers_v(_asked(table, of))
    return {of: total / (permutations * len(choices)) for of, total in sums.items()}


def shares(use: pd.DataFrame) -> pd.DataFrame:
    """Return which share of the windows of each block each expert got.

    Args:
        use: As from ``count_use``; of several models with a column ``seed``.

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
        use: As from ``count_use``; of several models with a column ``seed``.

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
        use: As from ``count_use``; of several models with a column ``seed``.

    Returns:
        Whole numbers on the sizes.
    """
    return use.groupby("size")["windows"].sum()


def dependence(use: pd.DataFrame, of: Question = "size") -> float:
    """Return how much the choice depends on the object: Cramér's V of each block, their mean.

    That of several models is the mean of theirs. The bias of small samples is taken out (Bergsma,
    2013), but for windows that are chosen for each by itself: those of one image are alike, and
    what chance gives is above 0 (:func:`count_use`). Blocks with one size or one chosen expert
    count 0: nothing depends there.

    Args:
        use: As from ``count_use``; of several models with a column ``seed``.
        of: ``"size"``: on the size, among the windows with an object; ``"object"``: on whether
            there is one.
    """
    found = []
    for _, block in _by_seed(use).groupby(["seed", "block"]):
        table = block.pivot_table(index="size", columns="scale", values="windows", aggfunc="sum")
        table = table.reindex(SIZES, fill_value=0).fillna(0)
        found.append(_cramers_v(_asked(table.to_numpy(), of)))
    return float(np.mean(found))


def beside_chance(use: ExpertUse, of: Question) -> str:
    """Return the dependence, and in brackets what chance would give, a dash if not known.

    Example:
        >>> counts = {"block": 0, "size": ["small", "large"], "scale": [1, 2], "windows": [50, 50]}
        >>> beside_chance(ExpertUse(pd.DataFrame(counts), {"size": 0.25}), "size")
        '1.00 (0.25)'
    """
    chance = use.chance[of]
    text = "–" if math.isnan(chance) else f"{chance:.2f}"
    return f"{dependence(use.counts, of):.2f} ({text})"


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
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / count
    chi2 = ((table - expected) ** 2 / expected).sum()
    phi2 = max(0.0, chi2 / count - (rows - 1) * (columns - 1) / (count - 1))
    sides = (side - (side - 1) ** 2 / (count - 1) for side in (rows, columns))
    most = min(sides) - 1
    return math.sqrt(phi2 / most) if most > 0 else 0.0
