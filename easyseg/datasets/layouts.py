"""How a data set lies in its folder: which files make its training, validation and test part."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from easyseg.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from easyseg.data.label_rules import Classes

__all__ = [
    "Layout",
    "Pairs",
    "Parts",
    "Table",
    "describe_layouts",
    "missing_places",
    "read_parts",
]


@dataclass(frozen=True)
class Table:
    """A CSV file with the columns ``image,label`` and paths relative to its folder.

    Attributes:
        file: Its path below the set's folder.
    """

    file: str

    @property
    def places(self) -> tuple[str, ...]:
        """What must be there, as paths below the set's folder."""
        return (self.file,)


@dataclass(frozen=True)
class Pairs:
    """A folder of images and one of masks whose names belong together.

    Attributes:
        images: Glob pattern below the set's folder, such as ``"train/images/*.jpg"``.
        masks: The mask of an image, ``{stem}`` standing for its name without the ending:
            ``"train/masks/{stem}_mask.png"``.
        share: From where to where, in 0..1, the images are taken, in an order that depends on their
            names alone (sha256): for sets that come without a split.
    """

    images: str
    masks: str
    share: tuple[float, float] = (0.0, 1.0)

    @property
    def places(self) -> tuple[str, ...]:
        """What must be there, as paths below the set's folder."""
        return tuple(str(PurePosixPath(path).parent) for path in (self.images, self.masks))


@dataclass(frozen=True)
class Layout:
    """One way in which a data set lies in its folder.

    Attributes:
        about: Whose layout it is.
        train: What makes the training part.
        tests: What makes each test part, by its name.
        val: What makes the validation part; empty if the split has none.
        split: Where the split comes from, and what it is.
        classes: Names by raw mask value, or in the order of the values, where masks are not coded
            as the set's own ``classes`` say; ``None`` where they are.
    """

    about: str
    train: tuple[Table | Pairs, ...]
    tests: Mapping[str, tuple[Table | Pairs, ...]]
    val: tuple[Table | Pairs, ...] = ()
    split: str = ""
    classes: Classes | None = field(default=None, hash=False)

    def sources(self) -> Iterator[tuple[str, Table | Pairs]]:
        """Yield each source with the name of the part it belongs to."""
        tests = ((_test_name(name), parts) for name, parts in self.tests.items())
        for part, sources in (("train", self.train), ("val", self.val), *tests):
            for source in sources:
                yield part, source

    def lines(self) -> list[str]:
        """Return one line for each source: what a user has to put where."""
        return [
            f"{part}: {source.file} (columns image,label)"
            if isinstance(source, Table)
            else f"{part}: {source.images} with masks {source.masks}"
            for part, source in self.sources()
        ]


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of a data set: columns ``image`` and ``label``, absolute paths.

    Attributes:
        train: Images to train on.
        val: Images that choose the best epoch; ``None`` if the split has none.
        tests: Images to score on, by the name of the test part.
    """

    train: pd.DataFrame
    val: pd.DataFrame | None
    tests: Mapping[str, pd.DataFrame]


def describe_layouts(layouts: Sequence[Layout]) -> str:
    """Return what a user has to put where, for each of several layouts."""
    return "\n".join(
        line
        for layout in layouts
        for line in (f"  {layout.about}:", *(f"    {line}" for line in layout.lines()))
    )


def missing_places(folder: Path, layout: Layout) -> tuple[list[str], int]:
    """Look what of a layout is not in a folder.

    Args:
        folder: The folder of a data set.
        layout: The layout to look for.

    Returns:
        One line for each file or folder that is missing, and the number of those that are there.
    """
    places = dict.fromkeys(
        (place, part) for part, source in layout.sources() for place in source.places
    )
    missing = [
        f"{folder / place}: missing; it holds (a piece of) the {part} part"
        for place, part in places
        if not (folder / place).exists()
    ]
    return missing, len(places) - len(missing)


def read_parts(folder: Path, layout: Layout) -> Parts:
    """Read the tables of a data set, or make them from the names of its files.

    Args:
        folder: The folder of the data set, which has all places of the layout.
        layout: How it lies there.

    Returns:
        The parts; rows from names are in the order of the names.

    Raises:
        DataError: If a table cannot be understood, a listed file or the mask of an image does not
            exist, or a part is empty; all problems at once.
    """
    problems: list[str] = []
    train = _read(folder, layout.train, problems)
    val = _read(folder, layout.val, problems) if layout.val else None
    tests = {name: _read(folder, sources, problems) for name, sources in layout.tests.items()}
    if problems:
        raise DataError(problems, title=f"{len(problems)} problems in the data set {folder}:")
    return Parts(train, val, tests)


def _test_name(name: str) -> str:
    return "test" if name == "test" else f"test ({name})"


def _read(folder: Path, sources: Sequence[Table | Pairs], problems: list[str]) -> pd.DataFrame:
    import pandas as pd

    from easyseg.datasets.folder import read_table

    tables = [
        read_table(folder / source.file, problems)
        if isinstance(source, Table)
        else _read_pairs(folder, source, problems)
        for source in sources
    ]
    found = [table for table in tables if table is not None]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _read_pairs(folder: Path, pairs: Pairs, problems: list[str]) -> pd.DataFrame:
    import pandas as pd

    # Copies from macOS carry hidden files with the same endings.
    images = sorted(file for file in folder.glob(pairs.images) if not file.name.startswith("."))
    if not images:
        problems.append(f"{folder / pairs.images}: expected images, found none.")
    rows = []
    for image in _taken(images, pairs.share):
        mask = folder / pairs.masks.format(stem=image.stem)
        if not mask.is_file():
            problems.append(f"{image}: its mask {mask} is not there.")
        rows.append((str(image), str(mask)))
    return pd.DataFrame(rows, columns=["image", "label"])


def _taken(images: list[Path], share: tuple[float, float]) -> list[Path]:
    """Return a share of the images, in the order of their names; shares of 0..1 add up to all."""
    if share == (0.0, 1.0):
        return images
    shuffled = sorted(images, key=lambda file: hashlib.sha256(file.stem.encode()).digest())
    first, last = (round(end * len(images)) for end in share)
    return sorted(shuffled[first:last])
