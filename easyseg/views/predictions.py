"""Predictions beside their images: one row an image, with the mask and what is wrong."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from easyseg.data.label_map import IGNORE
from easyseg.views.examples import ERRORS, Example, Examples, error_map
from easyseg.views.figures import new_figure, plain
from easyseg.visualize import overlay

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["panels", "plot_predictions"]

_COLUMN, _TITLE, _GAP = 2.6, 0.35, 0.15  # inches
_LINE, _PATCH, _LETTER = 0.23, 0.65, 0.085  # inches of a legend
_TALLEST = 1.5  # times as high as wide
_MOST_LETTERS = 26
_IGNORED = "#999999"
_ERROR_COLOURS = ("#D55E00", "#0072B2", "#1A1A1A")
_STRENGTH, _ERROR_STRENGTH = 0.45, 0.8


def plot_predictions(found: Examples) -> Figure:
    """Draw images, and beside them the masks, the predictions and the errors.

    Args:
        found: The images, all with labels or all without.

    Returns:
        A row for each image. Without labels there are the image and the prediction only.

    Raises:
        OptionError: If matplotlib is not installed.
    """
    rows = [panels(item, found) for item in found.items]
    shapes = [np.array(item.prediction.shape) for item in found.items]
    heights = [min(_TALLEST, height / width) * _COLUMN + _TITLE for height, width in shapes]
    width = _COLUMN * len(rows[0])
    named = _named_colours(found)
    longest = max((len(name) for name, _ in named), default=0)
    columns = max(1, min(len(named), int(width / (_PATCH + _LETTER * longest))))
    lines = math.ceil(len(named) / columns)
    figure = new_figure(width, sum(heights) + _GAP + _LINE * lines)
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False, height_ratios=heights)
    for line, row in zip(axes, rows, strict=True):
        for axis, (title, picture) in zip(line, row, strict=True):
            axis.imshow(picture)
            axis.set_title(title, fontsize="medium")
            axis.set_axis_off()
    if named:
        from matplotlib.patches import Patch

        patches = [Patch(color=colour, label=name) for name, colour in named]
        figure.legend(handles=patches, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def panels(item: Example, found: Examples) -> list[tuple[str, np.ndarray]]:
    """Return the pictures of a row with their titles, uint8 ``[h, w, 3]`` each.

    Args:
        item: The image.
        found: What its classes are called and how they are coloured.
    """
    file = item.name.rpartition("/")[2]
    pictures = [(plain(file, _MOST_LETTERS), item.image)]
    prediction = _tinted(item.image, item.prediction, found)
    if item.truth is None:
        return [*pictures, ("prediction", prediction)]
    title = "prediction, nothing to score"
    if not np.isnan(item.score):
        title = f"prediction, {found.metric.partition('@')[0]} {item.score:.3f}"
    return [
        *pictures,
        ("mask", _tinted(item.image, item.truth, found)),
        (title, prediction),
        ("errors", _errors(item, found.background)),
    ]


def _tinted(image: np.ndarray, ids: np.ndarray, found: Examples) -> np.ndarray:
    """Draw class ids over their image."""
    layer = ids.astype(np.int32) + 1
    if found.background is not None:
        layer[ids == found.background] = 0
    colours = dict(enumerate(found.colours, start=1))
    colours[IGNORE + 1] = _IGNORED
    return np.asarray(overlay(image, layer, alpha=_STRENGTH, colors=colours))


def _errors(item: Example, background: int | None) -> np.ndarray:
    """Draw what is wrong over the image in pale grey; ignored pixels are darker."""
    assert item.truth is not None
    grey = np.asarray(Image.fromarray(item.image).convert("L"), np.uint16)
    pale = np.repeat((128 + grey // 2).astype(np.uint8)[..., None], 3, axis=-1)
    layer = error_map(item.prediction, item.truth, background).astype(np.int32)
    layer[item.truth == IGNORE] = IGNORE
    colours = dict(enumerate(_ERROR_COLOURS, start=1))
    colours[IGNORE] = _IGNORED
    return np.asarray(overlay(pale, layer, alpha=_ERROR_STRENGTH, colors=colours))


def _named_colours(found: Examples) -> list[tuple[str, str]]:
    """Return what is to be seen: the classes, then what is wrong, then ignored pixels."""
    seen: set[int] = set()
    wrong: set[int] = set()
    for item in found.items:
        seen.update(np.unique(item.prediction).tolist())
        if item.truth is not None:
            seen.update(np.unique(item.truth).tolist())
            errors = error_map(item.prediction, item.truth, found.background)
            wrong.update(np.unique(errors).tolist())
    classes = sorted(seen - {found.background, IGNORE})
    return [
        *((plain(found.names[index], _MOST_LETTERS), found.colours[index]) for index in classes),
        *((ERRORS[code - 1], _ERROR_COLOURS[code - 1]) for code in sorted(wrong - {0})),
        *([("ignored", _IGNORED)] if IGNORE in seen else []),
    ]
