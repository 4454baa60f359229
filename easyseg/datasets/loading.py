"""Load a public data set by name: found on this machine, or downloaded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from easyseg.datasets.catalog import get_spec, whose_folder
from easyseg.datasets.layouts import (
    Layout,
    describe_layouts,
    missing_places,
    possible_layouts,
    read_parts,
)
from easyseg.datasets.spec import DatasetSpec
from easyseg.errors import DataError
from easyseg.files import cache_folder

if TYPE_CHECKING:
    import pandas as pd

    from easyseg.data.label_rules import Classes

__all__ = ["Dataset", "find", "load", "places"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A public data set on this machine, ready for ``SemanticSegmentor``.

    Tables have the columns ``image`` and ``label`` with absolute paths.

    Attributes:
        name: Its name in the catalog.
        root: Its folder.
        train: Images to train on.
        val: Images that choose the best epoch; ``None`` if the split has none, ``fit`` then holds
            out a part of ``train``.
        tests: Images to score on, by the name of the test part: studies report each on its own.
        classes: Names by raw mask value, or in the ascending order of the values, as
            ``SemanticSegmentor(classes=...)`` takes them.
        ignore_index: Raw mask value of pixels that neither train nor score; ``None`` if none.
        problem_type: ``"binary"`` or ``"multiclass"``.
        metric: The score that studies of the set report first, ``metric@averaging``.
        domain: The preset of its domain for ``fit(presets=...)``; ``None`` if there is none.
        split: Where the split comes from.
        licence: The terms of use, as far as they are known; not checked at the original site.
        citation: What to cite.
        homepage: Where it comes from.
    """

    name: str
    root: Path
    train: pd.DataFrame = field(repr=False)
    val: pd.DataFrame | None = field(repr=False)
    tests: Mapping[str, pd.DataFrame] = field(repr=False)
    classes: Classes
    ignore_index: int | None
    problem_type: str
    metric: str
    domain: str | None
    split: str
    licence: str
    citation: str
    homepage: str

    @property
    def test(self) -> pd.DataFrame:
        """All test images: those of all test parts, one after the other."""
        import pandas as pd

        return pd.concat(list(self.tests.values()), ignore_index=True)


def load(
    name: str,
    root: str | Path | None = None,
    *,
    download: bool = True,
    verbosity: int = 1,
) -> Dataset:
    """Load a public data set by name.

    It is looked for in ``root``, if that is given; else in the folder that the environment variable
    ``EASYSEG_DATA`` names, then in the cache (``datasets/`` in the folder that ``EASYSEG_CACHE``
    names, or in ``~/.cache/easyseg``). In each of them it lies in a folder of its name, or of a
    name that its authors gave it; ``root`` may also be that folder itself. A set that is nowhere is
    downloaded to the first of these places, if it can be. (No address could be tried where this
    was written: a set whose address has changed is an error that says how to get it by hand.)

    Args:
        name: Such as ``"isic2017"``; see `list_datasets`.
        root: The folder of the set, or one that holds a folder of it.
        download: Whether to download a set that is not there.
        verbosity: 0 is silent, 1 shows the progress of a download.

    Returns:
        Its tables, classes and terms.

    Raises:
        OptionError: If no set has this name.
        DataError: If it is not there and cannot be downloaded: the message says what to get where
            and how to put it. Or if it is not as expected: a part is missing, an image has no mask,
            an archive is unsafe or damaged; all problems at once.
        DownloadError: If the download fails, or gives another file than the known one.
    """
    spec = get_spec(name)
    looked_in = places(root)
    found = _look(spec, looked_in)
    if found is None:
        if not (download and spec.sources):
            raise DataError(_by_hand(spec, looked_in))
        from easyseg.console import reporting
        from easyseg.datasets.fetch import fetch

        target = _target(spec, looked_in[0])
        with reporting(verbosity):
            fetch(spec, target, _by_hand(spec, looked_in))
        found = _look(spec, [_Place(target, holds_sets=False)])
        assert found is not None  # files in no known layout are an error of their own
    return _dataset(spec, *found)


def find(name: str, root: str | Path | None = None) -> Path | None:
    """Look for a data set on this machine only, where `load` looks for it.

    Args:
        name: Such as ``"isic2017"``.
        root: As for `load`.

    Returns:
        Its folder; ``None`` if it is nowhere.

    Raises:
        OptionError: If no set has this name.
        DataError: If there is a folder of it that lacks something.
    """
    found = _look(get_spec(name), places(root))
    return None if found is None else found[0]


@dataclass(frozen=True)
class _Place:
    """A folder to look in.

    Attributes:
        folder: The folder.
        holds_sets: Whether it is meant to hold folders of sets, and never is one itself.
    """

    folder: Path
    holds_sets: bool = True


def places(root: str | Path | None) -> list[_Place]:
    """Return where data sets are looked for, in this order.

    Args:
        root: The folder that was named for a set; None: ``EASYSEG_DATA``, then the cache.

    Raises:
        DataError: If ``EASYSEG_DATA`` names no folder.
    """
    if root is not None:
        return [_Place(_absolute(root), holds_sets=False)]
    cache = _Place(_absolute(cache_folder() / "datasets"))
    if not (variable := os.environ.get("EASYSEG_DATA")):
        return [cache]
    named = _absolute(variable)
    if not named.is_dir():
        raise DataError(
            f"EASYSEG_DATA names {named}, which is no folder; expected one that holds folders of"
            " data sets: make it, or set the variable to another one, or unset it"
        )
    return [_Place(named), cache]


def _absolute(path: str | Path) -> Path:
    return Path(path).expanduser().absolute()


def _candidates(spec: DatasetSpec, place: _Place) -> Iterator[Path]:
    """Yield the folders that may be the set's; archives often unpack to a folder in a folder."""
    names = (spec.name, *spec.folders)
    # Many sets lie in the same way: the folder of one is not taken for that of another.
    if not place.holds_sets and whose_folder(place.folder.name) in (spec.name, None):
        yield place.folder
    for name in names:
        yield place.folder / name
        yield from (place.folder / name / inner for inner in names)


def _look(spec: DatasetSpec, places: list[_Place]) -> tuple[Path, Layout] | None:
    """Return the first folder that has all of a layout.

    Raises:
        DataError: If there is none, but a folder that has a part of one, or the set's name.
    """
    lacking: list[tuple[int, Path, list[str]]] = []
    for place in places:
        for folder in _candidates(spec, place):
            for layout in possible_layouts(folder, spec.layouts):
                missing, there = missing_places(folder, layout)
                if not missing:
                    return folder, layout
                if there:
                    lacking.append((len(missing), folder, missing))
    if lacking:
        _, folder, missing = min(lacking, key=lambda lack: lack[0])
        raise DataError(
            [*missing, f"expected is one of these layouts:\n{describe_layouts(spec.layouts)}"],
            title=f"{folder}: a part of {spec.name} is missing:",
        )
    for folder in (folder for place in places for folder in _own_folders(spec, place)):
        if folder.is_dir() and any(folder.iterdir()):
            raise DataError(
                f"{folder}: expected the data set {spec.name}, found other files. Move them away,"
                f" or name the right folder as root (the set comes from {spec.homepage}). These"
                f" layouts are known:\n{describe_layouts(spec.layouts)}"
            )
    return None


def _own_folders(spec: DatasetSpec, place: _Place) -> Iterator[Path]:
    """Yield the folders in which nothing but the set is expected."""
    names = (spec.name, *spec.folders)
    if not place.holds_sets and place.folder.name in names:
        yield place.folder
    yield from (place.folder / name for name in names)


def _target(spec: DatasetSpec, place: _Place) -> Path:
    """Return the folder that a download makes."""
    return next(_own_folders(spec, place))


def _dataset(spec: DatasetSpec, folder: Path, layout: Layout) -> Dataset:
    parts = read_parts(folder, layout)
    classes = spec.classes if layout.classes is None else layout.classes
    return Dataset(
        name=spec.name,
        root=folder,
        train=parts.train,
        val=parts.val,
        tests=parts.tests,
        classes=dict(classes) if isinstance(classes, Mapping) else tuple(classes),
        ignore_index=spec.ignore_index,
        problem_type=spec.problem_type,
        metric=spec.metric,
        domain=spec.domain,
        split=layout.split,
        licence=spec.licence,
        citation=spec.citation,
        homepage=spec.homepage,
    )


def _by_hand(spec: DatasetSpec, places: list[_Place]) -> str:
    """Return how a set is put where it is found, without a download by easyseg."""
    looked = ", ".join(str(place.folder) for place in places)
    return (
        f"the data set {spec.name} is not on this machine (looked in {looked}). Get it from"
        f" {spec.homepage}: {spec.by_hand}. Licence: {spec.licence}. Then unpack it to"
        f" {_target(spec, places[0])}, or name its folder as root, or the folder around it in"
        f" EASYSEG_DATA, so that one of these layouts is there:\n{describe_layouts(spec.layouts)}"
    )
