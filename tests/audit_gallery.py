"""A gallery of defects: small sets, what goes wrong with one row of them, and what must be said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from easyseg.auditing.audit import examine
from easyseg.data.io import read_image, read_mask
from easyseg.datasets.synthetic import synthetic_scene
from easyseg.errors import DataError
from easyseg.plan.hardware import Hardware
from easyseg.preparation import prepare

SIZE = (96, 128)
CPU = Hardware("cpu", 1, "a CPU", memory_gb=16.0, cpu_count=2, native_bf16=False)


def scenes(count: int, seed: int = 0, *, multiclass: bool = False):
    """Return pairs of image uint8 [H, W, 3] and ids uint8 [H, W] (0, 1, and 2 if multi-class)."""
    return [
        synthetic_scene(np.random.default_rng([seed, i]), SIZE, multiclass=multiclass)
        for i in range(count)
    ]


def write_set(folder: Path, pairs, encode=lambda ids: ids * np.uint8(255), suffix="png", **save):
    """Write pairs and return their table; `encode` makes of ids what PIL or numpy saves."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, (image, ids) in enumerate(pairs):
        files = folder / f"{chr(97 + i % 26)}{i * 7919 % 1000}.jpg", folder / f"mask_{i}.{suffix}"
        Image.fromarray(image).save(files[0], quality=95)
        coded = encode(ids)
        picture = coded if isinstance(coded, Image.Image) else Image.fromarray(coded)
        picture.save(files[1], **save)
        rows.append([str(files[0]), str(files[1])])
    return pd.DataFrame(rows, columns=["image", "label"])


def audit_of(train, tuning=None, test=None, **options):
    """Return the report without showing it."""
    tables = {"train": train, "tuning": tuning, "test": test}
    return examine(tables, image="image", label="label", **options).report()


def fit_prepares(train, tuning=None, **options):
    """Do all of a fit that comes before the training."""
    given = {"classes": None, "ignore_index": None, "problem_type": "auto"} | options
    return prepare(
        train,
        tuning,
        image="image",
        label="label",
        eval_metric=None,
        data_root=None,
        presets="fast",
        hyperparameters=None,
        time_limit=None,
        holdout_frac=0.25,
        hardware=CPU,
        seed=0,
        run_folder=Path("nowhere"),
        **given,
    )


def fit_refuses(train, tuning=None, **options) -> tuple[str, ...]:
    """Return why a fit refuses the tables; nothing if it takes them."""
    try:
        fit_prepares(train, tuning, **options)
    except DataError as error:
        return error.problems
    return ()


@dataclass(frozen=True)
class RowDefect:
    """What may go wrong with one row.

    Args:
        make: Changes cells of the row, as files in a folder: ``make(image, label, folder)`` returns
            the new cells.
        check: The finding that must name the row.
        severity: Of that finding.
        repair: What `--fix` must do about it.
        elongated: Whether it needs an image that is not square.
    """

    make: Callable[[str, str, Path], tuple[object, object]]
    check: str
    severity: str
    repair: str | None = None
    elongated: bool = False


def _missing(image, label, folder):
    return str(folder / "gone.jpg"), label


def _no_cell(image, label, folder):
    return image, None


def _empty_file(image, label, folder):
    (folder / "empty.png").write_bytes(b"")
    return image, str(folder / "empty.png")


def _truncated_image(image, label, folder):
    data = Path(image).read_bytes()
    (folder / "cut.jpg").write_bytes(data[: len(data) * 2 // 3])
    return str(folder / "cut.jpg"), label


def _truncated_mask(image, label, folder):
    Image.fromarray(read_image(Path(image))[..., 0]).save(folder / "whole.png")
    data = (folder / "whole.png").read_bytes()
    (folder / "cut.png").write_bytes(data[: len(data) // 2])
    return image, str(folder / "cut.png")


def _text(image, label, folder):
    (folder / "text.jpg").write_text("this is no picture")
    return str(folder / "text.jpg"), label


def _swapped(image, label, folder):
    return label, image


def _label_is_image(image, label, folder):
    return image, image


def _label_copies_image(image, label, folder):
    Image.fromarray(read_image(Path(image))).save(folder / "copy.png")
    return image, str(folder / "copy.png")


def _few_pixels(image, label, folder):
    Image.fromarray(read_mask(Path(label))[1:]).save(folder / "short.png")
    return image, str(folder / "short.png")


def _other_size(image, label, folder):
    mask = Image.fromarray(read_mask(Path(label)))
    half = mask.resize((mask.width // 2, mask.height // 2), Image.Resampling.NEAREST)
    half.save(folder / "half.png")
    return image, str(folder / "half.png")


def _turned_by_exif(image, label, folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(image) as picture:
        picture.convert("RGB").save(folder / "turned.jpg", exif=exif)
    return str(folder / "turned.jpg"), label


def _turned_mask(image, label, folder):
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(read_mask(Path(label))).save(folder / "turned_mask.png", exif=exif)
    return image, str(folder / "turned_mask.png")


def _gradient(image, label, folder):
    height, width = read_mask(Path(label)).shape
    many = np.arange(height * width, dtype=np.uint16).reshape(height, width) % 5000
    Image.fromarray(many).save(folder / "many.png")
    return image, str(folder / "many.png")


def _fractions(image, label, folder):
    return image, read_mask(Path(label)) / 510.0 + 0.25


def _constant(image, label, folder):
    Image.new("RGB", Image.open(image).size, (90, 30, 60)).save(folder / "constant.png")
    return str(folder / "constant.png"), label


def _dark(image, label, folder):
    Image.fromarray(read_image(Path(image)) // 30).save(folder / "dark.png")
    return str(folder / "dark.png"), label


def _deep(image, label, folder):
    grey = read_image(Path(image))[..., 0].astype(np.uint16) * 200
    Image.fromarray(grey).save(folder / "deep.png")
    return str(folder / "deep.png"), label


def _alpha(image, label, folder):
    Image.fromarray(read_image(Path(image))).convert("RGBA").save(folder / "alpha.png")
    return str(folder / "alpha.png"), label


def _grey(image, label, folder):
    ImageOps.grayscale(Image.open(image)).save(folder / "grey.jpg")
    return str(folder / "grey.jpg"), label


ROW_DEFECTS = {
    "missing": RowDefect(_missing, "missing-file", "error", "drop the row"),
    "no cell": RowDefect(_no_cell, "empty-cell", "error", "drop the row"),
    "empty file": RowDefect(_empty_file, "empty-file", "error", "drop the row"),
    "truncated image": RowDefect(_truncated_image, "truncated-file", "error", "drop the row"),
    "truncated mask": RowDefect(_truncated_mask, "truncated-file", "error", "drop the row"),
    "text": RowDefect(_text, "unreadable-file", "error", "drop the row"),
    "swapped": RowDefect(_swapped, "swapped-columns", "error", "drop the row"),
    "label is image": RowDefect(_label_is_image, "label-is-image", "error", "drop the row"),
    "label copies image": RowDefect(_label_copies_image, "label-is-image", "error", "drop the row"),
    "few pixels": RowDefect(_few_pixels, "size-off-by-pixels", "warning", "resize the mask"),
    "other size": RowDefect(_other_size, "size-differs", "error", "drop the row"),
    "turned by exif": RowDefect(
        _turned_by_exif, "size-turned-by-exif", "warning", "turn the mask", elongated=True
    ),
    "turned mask": RowDefect(
        _turned_mask, "size-turned-by-exif", "warning", "turn the mask", elongated=True
    ),
    "gradient": RowDefect(_gradient, "too-many-values", "error", "drop the row"),
    "fractions": RowDefect(_fractions, "unusable-values", "error", "drop the row"),
    "constant": RowDefect(_constant, "constant-image", "warning"),
    "dark": RowDefect(_dark, "narrow-range", "warning"),
    "deep": RowDefect(_deep, "unusual-mode", "note"),
    "alpha": RowDefect(_alpha, "unusual-mode", "note"),
    "grey": RowDefect(_grey, "mixed-colours", "note"),
}


def spoil(table: pd.DataFrame, defects: dict[int, str], folder: Path) -> pd.DataFrame:
    """Return a table in which each of some rows has a defect, by name."""
    columns = {name: list(table[name]) for name in ("image", "label")}
    for row, name in defects.items():
        place = folder / f"{row}-{name.replace(' ', '-')}"
        place.mkdir(parents=True, exist_ok=True)
        cells = ROW_DEFECTS[name].make(columns["image"][row], columns["label"][row], place)
        columns["image"][row], columns["label"][row] = cells
    return pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in columns.items()})
