"""What has to be run for a study: cells, each known by its content. Nothing is run or read here.

Two places of a study with equal settings are one cell, whatever they are called: a part that asks
for what another part has costs nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from easyseg.plan.domains import parse
from easyseg.study.spec import Budget, Method, Part, Row, Settings, Study, StudySet

__all__ = [
    "Cell",
    "Place",
    "budget_settings",
    "cell_of",
    "cells_with_experts",
    "pick_values",
    "places",
    "settings_of",
    "tuning_cells",
    "unique",
]

_KEY_DIGITS = 12


@dataclass(frozen=True)
class Cell:
    """One fit and its test: everything that decides its outcome, but for the code and the data.

    Attributes:
        set: Name of the data set.
        seed: Seed of the fit.
        presets: Presets of the plan.
        settings: Values of the plan by dotted key.
        eval_metric: Metric that chooses the epoch; ``None``: the one of the problem.
        budget: What it may spend.
    """

    set: str
    seed: int
    presets: tuple[str, ...]
    settings: Settings
    eval_metric: str | None
    budget: Budget

    @property
    def key(self) -> str:
        """Hash of the content: equal cells have equal keys on every machine.

        An ``eval_metric`` that is named is another content than ``None``, though it may be the one
        of the problem. The metrics that tables show are no content: one that is added later is
        missing in the cells that are finished, and the report says so.
        """
        text = json.dumps(self.to_dict(), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:_KEY_DIGITS]

    @property
    def stem(self) -> str:
        """Name of its files: for people the set and the seed, for the study the key."""
        return f"{self.set}-{self.seed}-{self.key}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, settings by sorted key."""
        return {
            "set": self.set,
            "seed": self.seed,
            "presets": list(self.presets),
            "settings": {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in sorted(self.settings.items())
            },
            "eval_metric": self.eval_metric,
            "budget": {self.budget.kind: self.budget.amount},
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Cell:
        """Rebuild a cell from :meth:`to_dict`; the exact inverse.

        Raises:
            OptionError: If a value of the plan is not possible.
            KeyError: If a key is missing.
        """
        ((kind, amount),) = content["budget"].items()
        return cls(
            content["set"],
            content["seed"],
            tuple(content["presets"]),
            {
                key: value if value == "auto" else parse(key, value, where="cell")
                for key, value in content["settings"].items()
            },
            content["eval_metric"],
            Budget(kind, amount),
        )


@dataclass(frozen=True)
class Place:
    """Where the score of a cell stands in a study.

    Attributes:
        part: The comparison.
        row: The row of its table.
        set: The data set.
        seed: The seed.
    """

    part: Part
    row: Row
    set: StudySet
    seed: int

    @property
    def label(self) -> str:
        """``part/set/row/seed``, which ``--only`` is compared with."""
        return f"{self.part.name}/{self.set.name}/{self.row.name}/{self.seed}"


def places(study: Study) -> list[Place]:
    """Return all places: the first seed of everything first, so that half a study says something.

    Args:
        study: The study.
    """
    found = [
        (turn, Place(part, row, study.sets[name], seed))
        for part in study.parts
        for name, seeds in part.seeds.items()
        for row in part.rows
        for turn, seed in enumerate(seeds)
    ]
    return [place for _, place in sorted(found, key=lambda pair: pair[0])]


def settings_of(study: Study, place: Place, picked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a place: the study's, the set's, what was picked, method's and row's.

    Args:
        study: The study.
        place: The place.
        picked: Picked value by name of method.
    """
    tuned = {}
    if study.tuning is not None and place.row.method.name in picked:
        tuned[study.tuning.key] = picked[place.row.method.name]
    return _in_full(
        {
            **study.settings,
            **place.set.settings,
            **tuned,
            **place.row.method.settings,
            **place.row.settings,
        }
    )


def _in_full(settings: Settings) -> dict[str, Any]:
    """Say what follows anyway, so that settings that mean the same are equal.

    The scales of n experts are 1 to n unless they are given, and the experts as many as the scales.
    """
    full = dict(settings)
    experts, scales = (full.get(f"adapter.{name}", "auto") for name in ("num_experts", "scales"))
    if isinstance(scales, tuple):
        if experts == "auto":
            full["adapter.num_experts"] = len(scales)
    elif isinstance(experts, int):
        full["adapter.scales"] = tuple(range(1, experts + 1))
    return full


def cell_of(study: Study, place: Place, picked: Mapping[str, Any]) -> Cell | None:
    """Return the cell of a place, or ``None`` while its method waits for its picked value.

    Args:
        study: The study.
        place: The place.
        picked: Picked value by name of method.
    """
    if _waits(study, place.row.method) and place.row.method.name not in picked:
        return None
    return _cell(study, place, settings_of(study, place, picked))


def cells_with_experts(study: Study) -> frozenset[str]:
    """Return the keys of the cells whose use of experts is shown, whichever values are picked.

    A value that is tried may be the one that is picked, and its cell that of a place: so all count.

    Args:
        study: The study.
    """
    values = () if study.tuning is None else study.tuning.values
    shown = [place for place in places(study) if place.part.experts]
    cells = [
        cell_of(study, place, picked)
        for place in shown
        for picked in ({}, *({place.row.method.name: value} for value in values))
    ]
    return frozenset(cell.key for cell in cells if cell is not None)


def tuning_cells(study: Study) -> dict[str, tuple[Cell, ...]]:
    """Return the cells of each method that is tuned, in the order of the values.

    They train as a cell of the study on that set does, so the one that is picked is one.

    Args:
        study: The study.
    """
    if study.tuning is None:
        return {}
    used = {row.method.name for part in study.parts for row in part.rows}
    return {
        name: tuple(_tuning_cell(study, method, value) for value in study.tuning.values)
        for name, method in study.methods.items()
        if name in used and _waits(study, method)
    }


def _waits(study: Study, method: Method) -> bool:
    return study.tuning is not None and study.tuning.key not in method.settings


def _tuning_cell(study: Study, method: Method, value: Any) -> Cell:
    tuning = study.tuning
    assert tuning is not None
    row = Row(method.name, method.title, method, {})
    part = Part("tuning", "", (row,), {}, None)
    place = Place(part, row, study.sets[tuning.set], tuning.seed)
    return _cell(study, place, settings_of(study, place, {method.name: value}))


def _cell(study: Study, place: Place, settings: Settings) -> Cell:
    found = place.set
    return Cell(found.name, place.seed, study.presets, settings, found.eval_metric, found.budget)


def pick_values(study: Study, goodness: Mapping[str, float]) -> dict[str, Any]:
    """Return the value of each method whose cells are all finished: the best by validation score.

    Args:
        study: The study.
        goodness: Validation score of each finished cell by key, so that higher is better; NaN is
            worse than any other.

    Returns:
        Values by name of method. Of equally good ones the first of the study is taken.
    """
    picked = {}
    for name, cells in tuning_cells(study).items():
        scores = [goodness.get(cell.key) for cell in cells]
        known = [-math.inf if math.isnan(score) else score for score in scores if score is not None]
        if len(known) == len(cells):
            assert study.tuning is not None
            picked[name] = study.tuning.values[known.index(max(known))]
    return picked


def budget_settings(budget: Budget, settings: Settings, num_train: int) -> dict[str, Any]:
    """Return the values of the plan that a budget stands for.

    Args:
        budget: What may be spent.
        settings: The settings of the cell; a budget of samples needs their ``train.batch_size``.
        num_train: Number of training images.

    Example:
        >>> budget_settings(Budget("samples", 200), {"train.batch_size": 4}, 64)
        {'train.max_steps': 50, 'train.epochs': 4, 'train.patience': 4}
        >>> budget_settings(Budget("epochs", 30), {}, 64)
        {'train.epochs': 30}
        >>> budget_settings(Budget("seconds", 90), {}, 64)
        {'train.validation_images': -1}
    """
    if budget.kind == "seconds":
        # All cells are compared on the same images, however long they take to validate.
        return {"train.validation_images": settings.get("train.validation_images", -1)}
    if budget.kind == "epochs":
        return {"train.epochs": int(budget.amount)}
    batch = settings["train.batch_size"]
    steps = max(1, round(budget.amount / batch))
    epochs = math.ceil(steps / math.ceil(num_train / batch))
    return {
        "train.max_steps": steps,
        "train.epochs": epochs,
        "train.patience": settings.get("train.patience", epochs),
    }


def unique(cells: Sequence[Cell]) -> list[Cell]:
    """Return each cell once, in the order of their first places."""
    return list({cell.key: cell for cell in cells}.values())
