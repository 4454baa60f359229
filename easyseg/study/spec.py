"""What a study compares: values that a file describes, checked, and nothing else.

``easyseg/study/reading.py`` makes them of a YAML file; ``easyseg/study/cells.py`` says what has to
be run for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["BUDGETS", "Budget", "Method", "Part", "Row", "Settings", "Study", "StudySet", "Tuning"]

Settings = Mapping[str, Any]
BudgetKind = Literal["samples", "epochs", "seconds"]

BUDGETS: tuple[BudgetKind, ...] = ("samples", "epochs", "seconds")


@dataclass(frozen=True)
class Budget:
    """What each cell may spend.

    Attributes:
        kind: ``"samples"``: training images seen, to the last one unless the settings have a
            ``train.patience``; ``"epochs"``: passes over the training images; ``"seconds"``: the
            ``time_limit`` of ``fit``.
        amount: How many, above 0.
    """

    kind: BudgetKind
    amount: float


@dataclass(frozen=True)
class Method:
    """A way to train.

    Attributes:
        name: Its key.
        title: What tables call it.
        settings: Values of the plan by dotted key.
    """

    name: str
    title: str
    settings: Settings


@dataclass(frozen=True)
class StudySet:
    """A data set of a study.

    Attributes:
        name: By which it is found.
        title: What tables call it.
        settings: Values of the plan for this set.
        eval_metric: Metric that chooses the epoch; ``None``: the one of the problem.
        metrics: Test scores that tables show.
        budget: What a cell on this set may spend.
    """

    name: str
    title: str
    settings: Settings
    eval_metric: str | None
    metrics: tuple[str, ...]
    budget: Budget


@dataclass(frozen=True)
class Tuning:
    """A value of each method that is picked once, by the validation score on one set.

    Attributes:
        key: Key of the plan, such as ``"optim.lr"``. A method that sets it is left as it is.
        values: The values tried, the same for all methods; of equally good ones the first wins.
        set: Name of the set.
        seed: The seed.
    """

    key: str
    values: tuple[Any, ...]
    set: str
    seed: int


@dataclass(frozen=True)
class Row:
    """A row of the table of a part: a method, perhaps with a change.

    Attributes:
        name: Its key in the part.
        title: What the table calls it.
        method: The method whose settings, and whose tuned value, it has.
        settings: What it changes.
    """

    name: str
    title: str
    method: Method
    settings: Settings


@dataclass(frozen=True)
class Part:
    """One comparison, one table.

    Attributes:
        name: Its key.
        title: Its heading.
        rows: What is compared.
        seeds: Seeds by name of set.
        baseline: Name of the row that the others are compared with, or ``None``.
        experts: Whether it is counted, and the report shows, which experts are used. Cells that
            were finished before it was asked for have no count.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    seeds: Mapping[str, tuple[int, ...]]
    baseline: str | None
    experts: bool = False


@dataclass(frozen=True)
class Study:
    """A whole study.

    Attributes:
        name: Stem of its file.
        about: What it is.
        presets: Presets of all fits.
        settings: Values of the plan of all fits.
        sets: The data sets by name.
        methods: The methods by name.
        tuning: What is picked beforehand, or ``None``.
        parts: The comparisons.
    """

    name: str
    about: str
    presets: tuple[str, ...]
    settings: Settings
    sets: Mapping[str, StudySet]
    methods: Mapping[str, Method]
    tuning: Tuning | None
    parts: tuple[Part, ...]
