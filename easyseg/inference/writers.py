"""Where predicted masks go on disk: their names, and one atomic, lossless PNG each."""

from __future__ import annotations

import os
import re
import unicodedata
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, count, takewhile
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from easyseg.errors import DataError

__all__ = ["PNG_MAX", "find_conflict", "output_names", "write_mask"]

_DRIVE = re.compile(r"[A-Za-z]:[/\\]")
_NOT_PORTABLE = re.compile(r'[<>:"|?*\x00-\x1f]')
PNG_MAX = 2**16 - 1  # PNG holds at most 16 bits a channel
_NAMED = 3


def output_names(names: Sequence[str]) -> list[str]:
    """Choose a file for the mask of every sample: mirrors of the input names that never collide.

    ``photos/a.jpg`` becomes ``photos/a.png``. Only where two samples would share a file, also on
    systems that do not tell ``A`` from ``a``, does the full input name stay (``a.jpg.png`` and
    ``a.tif.png``), and samples with the very same name are numbered (``a.jpg_2.png``). Absolute
    names are taken relative to the folder they have in common, ``..`` is resolved and never
    leaves the output folder, and characters that Windows forbids become ``_``.

    The result depends on the list as a whole and on its order alone, so that processes that share
    a table agree on it without talking.

    Args:
        names: Input names, one a sample: paths as the user wrote them, or made-up names.

    Returns:
        Relative POSIX paths ending in ``.png``, one a sample.

    Example:
        >>> output_names(["a/x.jpg", "a/y.jpg", "b/x.jpg"])
        ['a/x.png', 'a/y.png', 'b/x.png']
        >>> output_names(["x.jpg", "X.tif", "x.jpg"])
        ['x.jpg.png', 'X.tif.png', 'x.jpg_2.png']
        >>> output_names(["/data/in/x.jpg", "/data/in/sub/y.jpg", "../z.jpg"])
        ['x.png', 'sub/y.png', 'z.png']
    """
    inputs = _relative_inputs(names)
    short = [path.with_name(f"{path.stem}.png") for path in inputs]
    folders = {_key(folder) for path in inputs for folder in path.parents}
    users = Counter(map(_key, short))
    unique = {key for key, used in users.items() if used == 1} - folders

    taken = folders | unique
    outputs = []
    for path, candidate in zip(inputs, short, strict=True):
        if _key(candidate) not in unique:
            suffixes = chain([".png"], (f"_{number}.png" for number in count(2)))
            candidate = next(
                full
                for suffix in suffixes
                if _key(full := path.with_name(path.name + suffix)) not in taken
            )
            taken.add(_key(candidate))
        outputs.append(candidate.as_posix())
    return outputs


def find_conflict(
    paths: Sequence[Path], inputs: Iterable[object], labels: Iterable[Path], *, overwrite: bool
) -> str | None:
    """Say which files the masks would replace although they must not; None if there are none.

    Args:
        paths: Where the masks would be written.
        inputs: What is predicted; of interest are the paths.
        labels: The labels that the table of the inputs names.
        overwrite: Whether files that are there may be replaced. Inputs and labels never are.
    """
    there = [path for path in paths if path.is_file()]
    if not there:
        return None
    images = [source for source in inputs if isinstance(source, Path)]
    for what, own in (("images they are made from", images), ("table's own labels", labels)):
        # Not by name: a link or another spelling leads to the same file.
        known = {_identity(path) for path in own if path.is_file()}
        if replaced := [path for path in there if _identity(path) in known]:
            return f"masks would replace the {what}: {_some(replaced)}"
    if overwrite:
        return None
    return f"masks would replace files that are already there: {_some(there)}"


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _some(paths: Sequence[Path]) -> str:
    named = ", ".join(str(path) for path in paths[:_NAMED])
    return named if len(paths) <= _NAMED else f"{named}, ... ({len(paths)} in all)"


def write_mask(path: str | Path, mask: np.ndarray, palette: Sequence[int] | None = None) -> None:
    """Write a mask as a PNG that holds its values unchanged, or leave no file at all.

    The PNG is written beside its place and then moved there, so that a reader never sees half a
    file. bool becomes a 1-bit PNG, uint8 an 8-bit one, uint16 and int32 a 16-bit one; uint8 with a
    palette becomes a palette PNG, and colours an RGB one.

    Args:
        path: The file to write; missing folders are made, an existing file is replaced.
        mask: Raw label values ``[H, W]``: bool, uint8, uint16, or int32 within 0..65535; or
            colours, uint8 ``[H, W, 3]``.
        palette: Red, green and blue, 0 to 255, of each value.

    Raises:
        DataError: If a PNG cannot hold the mask: its shape, its dtype or its values.
    """
    path = Path(path)
    image = Image.fromarray(_png_array(mask, path))
    if palette is not None:
        if image.mode != "L" or 3 * int(mask.max()) >= len(palette):
            raise DataError(
                f"{path}: a palette of {len(palette) // 3} colours shows values 0 to"
                f" {len(palette) // 3 - 1} of uint8 [H, W], found {mask.dtype} {list(mask.shape)}"
                f" with {mask.max()}."
            )
        image.putpalette(list(palette))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        image.save(beside, format="PNG")
        os.replace(beside, path)  # noqa: PTH105 - named for what it is: the atomic step
    finally:
        beside.unlink(missing_ok=True)


def _png_array(mask: np.ndarray, path: Path) -> np.ndarray:
    coloured = mask.ndim == 3 and mask.shape[2] == 3 and mask.dtype == np.uint8
    if not (mask.ndim == 2 or coloured) or mask.size == 0:
        raise DataError(
            f"{path}: a mask has the shape (height, width), or (height, width, 3) and the dtype"
            f" uint8 if it is coded in colours, found {mask.shape} of {mask.dtype}."
        )
    if mask.dtype == np.int32:
        low, high = int(mask.min()), int(mask.max())
        if low < 0 or high > PNG_MAX:
            raise DataError(
                f"{path}: a PNG holds values in 0..{PNG_MAX}, the mask has {low}..{high}; "
                "predict without an output folder and store the arrays in another format."
            )
        mask = mask.astype(np.uint16)
    if mask.dtype not in (np.dtype(bool), np.dtype(np.uint8), np.dtype(np.uint16)):
        raise DataError(
            f"{path}: a mask is bool, uint8, uint16 or int32, found {mask.dtype}; convert it first."
        )
    return np.ascontiguousarray(mask)


def _relative_inputs(names: Sequence[str]) -> list[PurePosixPath]:
    """Names as clean relative paths; absolute ones lose the folders they have in common."""
    parts = [_parts(name) for name in names]
    rooted = [_is_absolute(name) for name in names]
    parents = [split[:-1] for split, absolute in zip(parts, rooted, strict=True) if absolute]
    shared = len(_common_start(parents))
    return [
        PurePosixPath(*(split[shared:] if absolute else split))
        for split, absolute in zip(parts, rooted, strict=True)
    ]


def _is_absolute(name: str) -> bool:
    return name.startswith(("/", "\\")) or _DRIVE.match(name) is not None


def _parts(name: str) -> list[str]:
    parts: list[str] = []
    for part in re.split(r"[/\\]", name):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(_NOT_PORTABLE.sub("_", part))
    return parts or ["image"]


def _common_start(paths: Sequence[Sequence[str]]) -> list[str]:
    columns = zip(*paths, strict=False)
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]


def _key(path: PurePosixPath) -> str:
    """What two paths share when some file system takes them for the same file."""
    return unicodedata.normalize("NFC", path.as_posix()).casefold()
