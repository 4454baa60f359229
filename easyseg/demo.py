"""The demonstration: fit, score, draw, on a generated set or on a folder of the user's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from rich.markup import escape

from easyseg.console import Reporter
from easyseg.data.io import read_image
from easyseg.datasets.folder import FolderDataset, read_folder
from easyseg.datasets.synthetic import make_synthetic
from easyseg.errors import DataError
from easyseg.files import new_folder, write_text
from easyseg.segmentor import SemanticSegmentor
from easyseg.views.colours import raw_background
from easyseg.visualize import overlay, write_overlays

__all__ = ["DemoResult", "contact_sheet", "run_demo"]

# The synthetic set, and how it is fitted: on two cores about two minutes, to an IoU over 0.85.
_TRAIN, _VAL, _TEST = 60, 10, 20
_SIZE = (192, 256)
_PRESETS = "fast"
_SHEET_ROWS = 6
_CELL = (192, 256)  # height, width
_GAP, _TITLE = 8, 22


@dataclass(frozen=True)
class DemoResult:
    """What a demonstration made, and where it is.

    Attributes:
        name: What the data are called.
        num_test: Number of scored images.
        scores: Scores on the test images, as ``SemanticSegmentor.evaluate`` gives them.
        data: The data set.
        run: Run folder of the fit, with ``plan.json`` and ``metrics.csv``.
        model: The saved model.
        masks: Folder of the predicted masks.
        overlays: Folder of the predicted masks drawn over their images.
        sheet: One picture of a few test images: image, truth, prediction.
        report: The scores as JSON.
    """

    name: str
    num_test: int
    scores: Mapping[str, float]
    data: Path
    run: Path
    model: Path
    masks: Path
    overlays: Path
    sheet: Path
    report: Path

    def places(self) -> dict[str, Path]:
        """Return where everything is, by what it is called."""
        return {
            "data": self.data,
            "run folder": self.run,
            "model": self.model,
            "predicted masks": self.masks,
            "overlays": self.overlays,
            "contact sheet": self.sheet,
            "scores": self.report,
        }


def run_demo(
    data: str | Path | None = None,
    *,
    output_dir: str | Path = "easyseg-demo",
    seed: int = 0,
    presets: str | Sequence[str] | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    time_limit: float | None = None,
    accelerator: str = "auto",
    verbosity: int = 1,
) -> DemoResult:
    """Fit on the training part, score and draw the test part, on one device.

    Args:
        data: Folder with ``train.csv`` and ``test.csv``, and if wanted ``val.csv`` and
            ``classes.txt`` (see :func:`easyseg.datasets.folder.read_folder`); ``None``: a synthetic
            set is generated.
        output_dir: Everything is written to a new folder in this one, named after the UTC time.
        seed: Seed of the generated set and of the fit.
        presets: As for ``SemanticSegmentor.fit``; ``None``: ``"fast"``, with a few
            overrides, for the synthetic set, ``"auto"`` for a folder.
        hyperparameters: As for ``SemanticSegmentor.fit``.
        time_limit: Seconds that the fit may take.
        accelerator: As for ``SemanticSegmentor.fit``.
        verbosity: 0 is silent, 1 shows plan, progress and messages, 2 also debugging messages.

    Returns:
        The scores, and where everything is.

    Raises:
        DataError: If the folder cannot be used as it is.
        OptionError: Unknown presets or overrides.
    """
    reporter = Reporter(verbosity)
    dataset, name = _dataset(data), "the synthetic set" if data is None else str(data)
    folder = new_folder(Path(output_dir).expanduser())
    if dataset is None:
        dataset = make_synthetic(
            folder / "data", num_train=_TRAIN, num_val=_VAL, num_test=_TEST, size=_SIZE, seed=seed
        )
        if presets is None:
            presets = _PRESETS
    test = dataset.test
    assert test is not None
    reporter.show(escape(f"{name}: {len(dataset.train)} images to train on, {len(test)} to score"))

    segmentor = SemanticSegmentor(
        classes=dataset.classes,
        ignore_index=dataset.ignore,
        path=folder / "run",
        verbosity=verbosity,
    ).fit(
        dataset.train,
        dataset.val,
        presets=presets or "auto",
        hyperparameters=hyperparameters,
        time_limit=time_limit,
        accelerator=accelerator,
        devices=1,
        seed=seed,
    )
    labels = segmentor.label_map_
    scores = segmentor.evaluate(test)
    assert isinstance(scores, dict)
    plain = {key: None if np.isnan(value) else value for key, value in scores.items()}
    write_text(folder / "scores.json", json.dumps(plain, indent=2, ensure_ascii=False) + "\n")

    masks = segmentor.predict(test, output_dir=folder / "masks")
    drawing: dict[str, Any] = {
        "background": raw_background(labels, segmentor.plan_.problem_type),
        "ignore": labels.ignore,
        "coloured": labels.coloured,
    }
    write_overlays(
        test["image"],
        masks,
        masks_in=folder / "masks",
        folder=folder / "overlays",
        **drawing,
    )
    sheet = contact_sheet(test.assign(mask=masks), **drawing)
    sheet.save(folder / "contact_sheet.png")
    return DemoResult(
        name=name,
        num_test=len(test),
        scores=scores,
        data=folder / "data" if data is None else Path(data),
        run=folder / "run",
        model=folder / "run" / "model",
        masks=folder / "masks",
        overlays=folder / "overlays",
        sheet=folder / "contact_sheet.png",
        report=folder / "scores.json",
    )


def contact_sheet(
    table: pd.DataFrame,
    *,
    background: int = 0,
    ignore: int | None = None,
    coloured: bool = False,
    rows: int = _SHEET_ROWS,
) -> Image.Image:
    """Draw a few images beside their true and their predicted masks.

    Args:
        table: Columns ``image``, ``label``, ``mask``: paths.
        background: Raw mask value of the background, which is not drawn.
        ignore: Raw mask value that is not drawn either.
        coloured: The masks are coded in colours.
        rows: At most this many, evenly spread over the table.

    Returns:
        An RGB picture: one row an image, the columns image, truth, prediction.
    """
    chosen = np.unique(np.linspace(0, len(table) - 1, min(rows, len(table))).round().astype(int))
    height, width = _CELL[0] + _GAP, _CELL[1] + _GAP
    size = (3 * width + _GAP, len(chosen) * height + _TITLE + _GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(("image", "truth", "prediction")):
        draw.text((column * width + _GAP, _GAP), title, fill="black")
    for row, position in enumerate(chosen):
        entry = table.iloc[position]
        image = Image.fromarray(read_image(Path(entry["image"])))
        drawn = [
            overlay(
                entry["image"],
                entry[name],
                background=background,
                ignore=ignore,
                coloured=coloured,
            )
            for name in ("label", "mask")
        ]
        _paste_row(sheet, [image, *drawn], (_GAP, row * height + _TITLE + _GAP))
    return sheet


def _paste_row(
    sheet: Image.Image, pictures: Sequence[Image.Image], corner: tuple[int, int]
) -> None:
    """Paste pictures beside each other from a corner (x, y), each shrunk into a cell."""
    for column, picture in enumerate(pictures):
        scale = min(_CELL[0] / picture.height, _CELL[1] / picture.width)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        sheet.paste(picture.resize(size), (corner[0] + column * (_CELL[1] + _GAP), corner[1]))


def _dataset(data: str | Path | None) -> FolderDataset | None:
    """Read the user's folder, if there is one; nothing is written before it is known to be good."""
    if data is None:
        return None
    dataset = read_folder(data)
    if dataset.test is None:
        raise DataError(
            f"{dataset.root / 'test.csv'}: missing; the demonstration scores on it: expected a CSV "
            "with the columns image,label and paths relative to the folder."
        )
    return dataset
