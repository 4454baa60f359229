"""What the command line tells about data sets: names and values, as lines."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from easyseg.datasets.catalog import get_spec, list_datasets
from easyseg.datasets.loading import Dataset, find, places
from easyseg.errors import DataError

if TYPE_CHECKING:
    from easyseg.data.label_rules import Classes

__all__ = ["facts", "fit_command", "overview"]


def overview(root: str | Path | None = None) -> list[tuple[str, str]]:
    """Return a line for each data set: its name, whether it is here, what it shows.

    Args:
        root: Where to look, as for `easyseg.datasets.load`.

    Raises:
        DataError: If ``EASYSEG_DATA`` names no folder.
    """
    places(root)
    states = {name: _state(name, root)[0] for name in list_datasets()}
    width = max(map(len, states.values()))
    return [(name, f"{state:<{width}}  {get_spec(name).about}") for name, state in states.items()]


def facts(name: str, root: str | Path | None = None) -> list[tuple[str, str]]:
    """Return what is known of one data set, and where it is.

    Args:
        name: Its name.
        root: Where to look, as for `easyseg.datasets.load`.

    Raises:
        OptionError: If no set has this name.
    """
    spec = get_spec(name)
    rows = [
        ("about", spec.about),
        ("where", ": ".join(_state(name, root))),
        ("problem", spec.problem_type),
        ("classes", ", ".join(_class_words(spec.classes))),
        ("ignored", "none" if spec.ignore_index is None else str(spec.ignore_index)),
        ("metric", spec.metric),
        ("domain", spec.domain or "none"),
        ("licence", spec.licence),
        ("cite", spec.citation),
        ("homepage", spec.homepage),
    ]
    for layout in spec.layouts:
        rows.append(("layout", layout.about))
        rows += [("", line) for line in layout.lines()]
        rows.append(("", f"split: {layout.split}"))
    return rows


def fit_command(dataset: Dataset, folder: Path) -> str:
    """Return the command that fits the tables of a data set.

    Args:
        dataset: The data set.
        folder: Where its tables were written.
    """
    words = ["easyseg", "fit", str(folder / "train.csv")]
    if dataset.val is not None:
        words += ["--tuning-data", str(folder / "val.csv")]
    words += ["--classes", ",".join(_class_words(dataset.classes))]
    if dataset.ignore_index is not None:
        words += ["--ignore-index", str(dataset.ignore_index)]
    if dataset.domain is not None:
        words += ["--presets", dataset.domain]
    return shlex.join(words)


def _state(name: str, root: str | Path | None) -> tuple[str, str]:
    """Say in a word whether a set is here, and where, or what to do."""
    spec = get_spec(name)
    try:
        folder = find(name, root)
    except DataError as error:
        return "incomplete", str(error)
    if folder is not None:
        return "here", str(folder)
    if spec.sources:
        return "to download", f"easyseg downloads it from {spec.sources[0][0].url}"
    return "by hand", spec.by_hand


def _class_words(classes: Classes) -> list[str]:
    if isinstance(classes, Mapping):
        return [f"{value}={name}" for value, name in classes.items()]
    return list(classes)
