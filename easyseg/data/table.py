"""The user's table, folder, path, array or list, as samples; all its problems in one report."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from easyseg.data.columns import check_columns, column_of, has_name
from easyseg.data.csv_file import is_csv, read_csv
from easyseg.data.io import ImageSource
from easyseg.errors import DataError, OptionError

__all__ = [
    "IMAGE_SUFFIXES",
    "CellProblem",
    "Groups",
    "Samples",
    "files_of_column",
    "has_column",
    "read_samples",
]

Groups = str | Callable[[pd.Series], Hashable]
"""Name of a column, or a function from a row of the table to the row's group."""

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tif", ".tiff", ".webp"}
)
_EXPECTED = "a DataFrame, a CSV file, a folder, an image path, an array, a PIL image, or a list"


@dataclass(frozen=True)
class CellProblem:
    """A cell of the table from which no image, or no group, can be read.

    Args:
        position: Its row, from 0.
        row: The row's label in the table's index.
        column: Its column.
        name: The file as the table names it; empty if the cell names none.
        text: The file, what was found, and what to do.
        group: Whether it is the group that is missing.
    """

    position: int
    row: Any
    column: str
    name: str
    text: str
    group: bool = False

    def __str__(self) -> str:
        return f"{_row(self.row)}, column {self.column!r}: {self.text}"


@dataclass(frozen=True, eq=False)
class Samples:
    """Images, and their masks where there are some, in the order and on the index of the table.

    Args:
        index: The row labels that every output carries: any index, kept as it is.
        images: Where each image comes from.
        labels: Where each mask comes from; None if only images were asked for.
        names: What a sample is called in messages and output files: the path as the user wrote
            it (with forward slashes), or ``image_00003`` for the fourth image in memory.
        groups: The group of each sample, as the user gave them; None if none were asked for.
    """

    index: pd.Index
    images: tuple[ImageSource, ...]
    labels: tuple[ImageSource, ...] | None
    names: tuple[str, ...]
    groups: tuple[Hashable, ...] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def row(self, position: int) -> str:
        """Return what the table calls a sample, for messages: ``row 7``, ``row 'a'``.

        Args:
            position: Its position from 0.
        """
        return _row(self.index[position])

    def take(self, positions: Sequence[int] | np.ndarray) -> Samples:
        """Return the samples at these positions, in that order.

        Args:
            positions: Positions from 0; repeats are allowed.

        Returns:
            New samples with the same names.
        """
        chosen = [int(position) for position in positions]
        return Samples(
            index=self.index.take(chosen),
            images=tuple(self.images[i] for i in chosen),
            labels=None if self.labels is None else tuple(self.labels[i] for i in chosen),
            names=tuple(self.names[i] for i in chosen),
            groups=None if self.groups is None else tuple(self.groups[i] for i in chosen),
        )


def read_samples(
    data: Any,
    *,
    image: str = "image",
    label: str | None = "label",
    data_root: str | os.PathLike[str] | None = None,
    groups: Groups | None = None,
    problems: list[CellProblem] | None = None,
) -> Samples:
    """Take whatever the user has and return samples whose files are there.

    Args:
        data: A DataFrame (its index is kept) or Series of images, the path of a CSV file, of a
            folder (all images below it, sorted, hidden ones left out) or of one image, an array
            ``[H, W]`` or ``[H, W, C]``, a PIL image, or a list of paths, arrays and PIL images.
        image: Name of the column of images. A cell is a path, an array or a PIL image.
        label: Name of the column of masks; None reads the images only.
        data_root: Where relative paths in the data start. Default: the CSV's folder, else the
            working folder.
        groups: Name of the column of groups, or a function that is called with each row (a pandas
            Series) and returns its group; None: no groups are read.
        problems: Problems of rows are appended here and their rows left out, instead of raising:
            for a caller that gathers those of other checks as well.

    Returns:
        The samples. A DataFrame or Series keeps its index, a folder gets the names of its files,
        everything else a RangeIndex.

    Raises:
        DataError: All problems at once: missing columns, empty cells, files that are not there,
            rows without a group.
        OptionError: ``data`` is of a kind that easyseg does not take.

    Example:
        >>> read_samples([np.zeros((4, 6), np.uint8)] * 2, label=None).names
        ('image_00000', 'image_00001')
    """
    if label is not None and str(image) == str(label):
        raise OptionError(f"image={image!r} and label={label!r} name the same column")
    if data_root is not None and not Path(data_root).expanduser().is_dir():
        raise DataError(f"data_root: {data_root} is not a folder")
    root = None if data_root is None else Path(data_root).expanduser()
    named = None if callable(groups) else groups
    text = [str(name) for name in (image, label, named) if name is not None]
    frame, start, names = _as_frame(data, image, label, root, text)
    roles = {"image": image} if label is None else {"image": image, "label": label}
    wanted = [*roles.values()]
    check_columns(frame, roles if named is None else roles | {"groups": named})
    found: list[CellProblem] = []
    columns = [_read_column(frame[column_of(frame, name)], start, found) for name in wanted]
    members = None if groups is None else _read_groups(frame, groups, found)
    if found and problems is None:
        raise DataError([str(problem) for problem in found])
    images, called = columns[0]
    samples = Samples(
        index=frame.index,
        images=tuple(images),
        labels=tuple(columns[1][0]) if label is not None else None,
        names=tuple(names or called),
        groups=members,
    )
    if found and problems is not None:
        problems.extend(found)
        bad = {problem.position for problem in found}
        samples = samples.take([i for i in range(len(samples)) if i not in bad])
    return samples


def has_column(data: Any, name: str) -> bool:
    """Return whether data is a table, in memory or as a CSV file, with a column of this name.

    Args:
        data: As for :func:`read_samples`.
        name: The column.

    Raises:
        DataError: The CSV file cannot be read.

    Example:
        >>> has_column(pd.DataFrame({"image": ["a.png"]}), "label"), has_column("folder/", "label")
        (False, False)
    """
    if isinstance(data, (str, Path)):
        path = Path(data).expanduser()
        return is_csv(path) and has_name(read_csv(path, [str(name)]), name)
    return isinstance(data, pd.DataFrame) and has_name(data, name)


def files_of_column(
    data: Any, name: str, *, data_root: str | os.PathLike[str] | None = None
) -> tuple[Path, ...]:
    """Return the files that a column of a table names, whether they are there or not.

    Args:
        data: As for :func:`read_samples`; what is no table, or has no such column, names none.
        name: The column.
        data_root: As for :func:`read_samples`.

    Raises:
        DataError: The CSV file cannot be read.

    Example:
        >>> table = pd.DataFrame({"image": ["a.jpg", "b.jpg"], "label": ["a.png", None]})
        >>> [path.name for path in files_of_column(table, "label")]
        ['a.png']
    """
    if not has_column(data, name):
        return ()
    root = None if data_root is None else Path(data_root).expanduser()
    frame, start, _ = _as_frame(data, name, None, root, [str(name)])
    cells = frame[column_of(frame, name)].to_numpy().ravel()  # several columns of one name
    named = [cell for cell in cells if isinstance(cell, (str, Path)) and str(cell).strip()]
    return tuple(start / _with_home(Path(cell)) for cell in named)


def _as_frame(
    data: Any, image: str, label: str | None, root: Path | None, text: Sequence[str]
) -> tuple[pd.DataFrame, Path, list[str] | None]:
    """Return a table, the folder where its relative paths start, and names if not the cells'.

    The columns ``text`` of a CSV are read as text.
    """
    start = root or Path()
    if isinstance(data, pd.DataFrame):
        return data, start, None
    if isinstance(data, (str, Path)) and str(data).strip():
        path = Path(data).expanduser()
        if is_csv(path):
            return read_csv(path, text), root or path.parent, None
    else:
        path = None
    if label is not None:
        raise DataError(
            f"masks are needed here: give a DataFrame or a CSV file with the columns {image!r} and"
            f" {label!r}, not {_kind(data)}"
        )
    if path is not None:
        here = path if root is None or path.exists() else root / path
        if here.is_dir():
            files = _images_below(here)
            frame = _column([here / name for name in files], image).set_axis(files)
            return frame, Path(), files
        return _column([here], image), Path(), [Path(data).as_posix()]
    if isinstance(data, pd.Series):
        return data.to_frame(name=image), start, None
    if isinstance(data, Image.Image) or (
        isinstance(data, np.ndarray) and data.dtype.kind in "buif"
    ):
        return _column([data], image), start, None
    if isinstance(data, (list, tuple, np.ndarray, pd.Index, pd.api.extensions.ExtensionArray)):
        return _column(list(data), image), start, None
    raise OptionError(f"data: found {_kind(data)}, expected {_EXPECTED} of those")


def _kind(data: Any) -> str:
    return repr(str(data)) if isinstance(data, (str, Path)) else type(data).__name__


def _column(cells: list[Any], name: str) -> pd.DataFrame:
    """Return a table of one column that holds the cells as they are, arrays included."""
    column = np.empty(len(cells), dtype=object)
    for position, cell in enumerate(cells):
        column[position] = cell
    return pd.DataFrame({name: pd.Series(column, dtype=object)})


def _images_below(folder: Path) -> list[str]:
    """Return the images below a folder, relative to it, sorted; hidden ones are left out."""
    found: list[str] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            (Path(parent) / name).relative_to(folder).as_posix()
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    if not found:
        raise DataError(
            f"{folder.as_posix()}: no image in this folder or below it; looked for"
            f" {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return sorted(found)


def _read_column(
    cells: pd.Series, start: Path, problems: list[CellProblem]
) -> tuple[list[ImageSource], list[str]]:
    """Return where the images of a column come from, and their names; problems are appended."""
    sources: list[ImageSource] = []
    names: list[str] = []
    for position, (row, cell) in enumerate(zip(cells.index, cells, strict=True)):
        name = f"image_{position:05d}"
        file = ""
        if isinstance(cell, (str, Path)) and str(cell).strip():
            name = file = Path(cell).as_posix()
            cell = start / _with_home(Path(cell))
            problem = _file_problem(cell, name)
        else:
            problem = _memory_problem(cell)
        if problem:
            problems.append(CellProblem(position, row, str(cells.name), file, problem))
        sources.append(cell)
        names.append(name)
    return sources, names


def _read_groups(
    frame: pd.DataFrame, groups: Groups, problems: list[CellProblem]
) -> tuple[Hashable, ...]:
    """Return the group of each row; problems are appended."""
    if callable(groups):
        column, found = "groups", [_call(groups, frame.iloc[i]) for i in range(len(frame))]
    else:
        column, found = str(groups), frame[column_of(frame, groups)].tolist()
    for position, group in enumerate(found):
        if problem := _group_problem(group):
            row = frame.index[position]
            problems.append(CellProblem(position, row, column, "", problem, group=True))
    return tuple(found)


def _call(groups: Callable[[pd.Series], Hashable], row: pd.Series) -> Any:
    """Return a row's group, or the error that asking for it raised."""
    try:
        return groups(row)
    except Exception as error:
        return error


def _group_problem(group: Any) -> str | None:
    if isinstance(group, Exception):
        return (
            f"the function given as groups= failed ({type(group).__name__}: {group}); it gets the"
            " row, a pandas Series, as in groups=lambda row: row['image'].split('_')[0]"
        )
    if isinstance(group, str):
        missing = not group.strip()
    else:
        missing = bool(pd.api.types.is_scalar(group) and pd.isna(group))
    if missing:
        return "there is no group; fill it in (a single image can have one of its own)"
    if not isinstance(group, Hashable):
        return f"found {type(group).__name__}, expected the name of a group: a text or a number"
    return None


def _with_home(path: Path) -> Path:
    """Replace a leading ``~``; a file may be called ``~backup.png``, which names no user's home."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def _row(label: Any) -> str:
    return f"row {label.item() if isinstance(label, np.generic) else label!r}"


def _file_problem(path: Path, name: str) -> str | None:
    try:
        if path.is_file():
            return None
        found = "is a folder, not a file" if path.is_dir() else "there is no such file"
    except (OSError, ValueError) as error:
        found = f"cannot be looked up ({error})"
    if Path(name) == path:
        return f"{name[:200]}: {found}"
    where = str(path.absolute())[:400]
    return f"{name[:200]}: {found} (looked for {where}; data_root= says where paths start)"


def _memory_problem(cell: Any) -> str | None:
    if isinstance(cell, np.ndarray):
        return None
    if isinstance(cell, Image.Image):
        try:
            cell.load()  # now: loader workers would share the open file
        except Exception as error:
            return f"the PIL image cannot be loaded ({error})"
        return None
    if (
        cell is None
        or isinstance(cell, (str, Path))
        or (pd.api.types.is_scalar(cell) and pd.isna(cell))
    ):
        return "is empty; expected a path, an array or a PIL image: fill it in or drop the row"
    return f"found {type(cell).__name__}, expected a path, an array or a PIL image"
