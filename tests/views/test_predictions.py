"""Pictures of predictions: colours lie where the classes and the errors are, names say which."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import ImageColor

from easyseg.data.label_map import IGNORE
from easyseg.views.examples import Example, Examples
from easyseg.views.predictions import panels, plot_predictions

pytest.importorskip("matplotlib", reason="figures need matplotlib: the extra 'plots'")

COLOURS = ("#E69F00", "#56B4E9", "#009E73")
SIZE = (24, 32)


def example(name="set/image_1.png", *, labelled=True, score=0.25) -> Example:
    """An image of one grey with a box of class 1, predicted a bit to the right, half of it as 2."""
    truth, prediction = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    truth[4:16, 4:16] = 1
    prediction[4:16, 8:20] = 1
    prediction[10:16, 8:20] = 2
    truth[20:, :] = IGNORE
    image = np.full((*SIZE, 3), 90, np.uint8)
    return Example(name, image, prediction, truth if labelled else None, score)


def examples(*items: Example, background=0, metric="iou@image") -> Examples:
    return Examples(items, metric, ("background", "crop", "weed"), COLOURS, background)


def tint(picture: np.ndarray, base: int, strength: float) -> np.ndarray:
    """Return the colour that was mixed into one grey, where it was."""
    return np.rint((picture - (1 - strength) * base) / strength)


def is_colour(picture, where, colour, base=90, strength=0.45) -> bool:
    """Whether pixels are tinted with a colour, or have it wholly, as outlines do."""
    rgb = np.array(ImageColor.getrgb(colour))
    pixels = picture[where].astype(float)
    mixed = np.abs(tint(pixels, base, strength) - rgb).max(-1) <= 2
    return bool((mixed | (pixels == rgb).all(-1)).all()) and bool(mixed.any())


def test_classes_are_tinted_where_they_are_and_the_background_is_not():
    item = example()
    (_, image), (_, mask), (_, prediction), _ = panels(item, examples(item))
    assert np.array_equal(image, item.image)
    assert is_colour(mask, item.truth == 1, COLOURS[1])
    assert is_colour(mask, item.truth == IGNORE, "#999999")
    assert (mask[item.truth == 0] == 90).all()
    assert is_colour(prediction, item.prediction == 1, COLOURS[1])
    assert is_colour(prediction, item.prediction == 2, COLOURS[2])
    assert (prediction[item.prediction == 0] == 90).all()


def test_without_a_background_each_class_is_tinted():
    item = example()
    prediction = panels(item, examples(item, background=None))[2][1]
    assert is_colour(prediction, item.prediction == 0, COLOURS[0])


def test_errors_have_the_colours_of_their_kinds():
    item = example()
    title, picture = panels(item, examples(item))[3]
    ignored = item.truth == IGNORE
    pale = 128 + 90 // 2
    kinds = {
        "#D55E00": (item.truth == 0) & (item.prediction > 0),
        "#0072B2": (item.truth == 1) & (item.prediction == 0),
        "#1A1A1A": (item.truth == 1) & (item.prediction == 2),
        "#999999": ignored,
    }
    assert title == "errors"
    for colour, where in kinds.items():
        assert is_colour(picture, where, colour, pale, 0.8), colour
    right = ~ignored & (item.truth == item.prediction)
    assert (picture[right] == pale).all()


def test_the_figure_has_a_row_an_image_and_says_what_is_what():
    items = [example(), example("b.png", score=float("nan"))]
    found = examples(*items, metric="dice@image")
    figure = plot_predictions(found)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [
        *("image_1.png", "mask", "prediction, dice 0.250", "errors"),
        *("b.png", "mask", "prediction, nothing to score", "errors"),
    ]
    for axis, (_, picture) in zip(figure.axes, panels(items[0], found), strict=False):
        assert np.array_equal(axis.images[0].get_array(), picture)
    (legend,) = figure.legends
    words = ["crop", "weed", "false positive", "false negative", "wrong class", "ignored"]
    assert [text.get_text() for text in legend.get_texts()] == words
    figure.draw_without_rendering()


def test_without_labels_there_are_image_and_prediction():
    figure = plot_predictions(examples(example(labelled=False)))
    assert [axis.get_title() for axis in figure.axes] == ["image_1.png", "prediction"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["crop", "weed"]


def test_nothing_predicted_needs_no_legend():
    item = Example("a.png", np.zeros((9, 60, 3), np.uint8), np.zeros((9, 60), np.uint8), None)
    figure = plot_predictions(examples(item))
    assert not figure.legends
    figure.draw_without_rendering()


def test_a_segmentor_shows_its_predictions(binary, binary_table):
    figure = binary.show_predictions(binary_table, num_images=2, seed=1)
    assert len(figure.axes) == 8
    rows = binary.evaluate(binary_table, "iou@image", per_image=True)["iou@image"]
    for first in (0, 4):
        (row,) = rows[[p.endswith(figure.axes[first].get_title()) for p in binary_table["image"]]]
        expected = "nothing to score" if pd.isna(row) else f"iou {row:.3f}"
        assert figure.axes[first + 2].get_title() == f"prediction, {expected}"
    assert len(binary.show_predictions(list(binary_table["image"])).axes) == 8
