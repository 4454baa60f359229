"""A few images with what is predicted for them: the numbers behind the pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from easyseg.auditing.reading import with_smears
from easyseg.auditing.scan import scan
from easyseg.auditing.tables import AuditTable
from easyseg.data.io import read_image
from easyseg.data.label_map import IGNORE
from easyseg.data.table import has_column, read_samples
from easyseg.errors import OptionError
from easyseg.inference.predict import predict_stream
from easyseg.metrics.catalogue import known_metrics
from easyseg.metrics.evaluate import new_scores, take_in
from easyseg.views.colours import background_of, class_colours
from easyseg.visualize import shrink_mask

if TYPE_CHECKING:
    from easyseg.segmentor import SemanticSegmentor

__all__ = ["ERRORS", "Example", "Examples", "error_map", "find_examples"]

ERRORS = ("false positive", "false negative", "wrong class")
"""What is wrong with a pixel: a class on the background, the background on a class, another one."""

_LONGEST = 512  # pixels of the longer side of a picture


@dataclass(frozen=True, eq=False)
class Example:
    """One image, small enough to show.

    Attributes:
        name: What the table calls it.
        image: uint8 ``[h, w, 3]``.
        prediction: Class ids uint8 ``[h, w]``.
        truth: Class ids uint8 ``[h, w]``, 255 where they are ignored; None without labels.
        score: Of the whole image at its own size; NaN without labels, or if there is nothing to
            score.
    """

    name: str
    image: np.ndarray
    prediction: np.ndarray
    truth: np.ndarray | None
    score: float = float("nan")


@dataclass(frozen=True, eq=False)
class Examples:
    """A few images of a table.

    Attributes:
        items: The images, in the order of the table.
        metric: Key of their scores.
        names: Class names in the order of their ids.
        colours: The colour of each class, ``"#rrggbb"``.
        background: The class that is not tinted; None if each one is.
    """

    items: tuple[Example, ...]
    metric: str
    names: tuple[str, ...]
    colours: tuple[str, ...]
    background: int | None


def find_examples(segmentor: SemanticSegmentor, data: Any, num_images: int, seed: int) -> Examples:
    """Choose images by chance, predict them, and score those that have labels.

    Args:
        segmentor: A fitted model.
        data: As for ``predict``; with a column of labels the predictions are scored.
        num_images: How many; all of them if there are fewer.
        seed: Which ones.

    Raises:
        DataError: If files are missing, or those of the chosen images cannot be read.
        OptionError: If ``num_images`` is below 1.
        NotFittedError: Before ``fit`` or ``load``.
    """
    model = segmentor._fitted()
    whole = isinstance(num_images, Integral) and not isinstance(num_images, bool)
    if not whole or num_images < 1:
        raise OptionError(f"num_images is {num_images!r}, expected a whole number of at least 1")
    image, label, root = segmentor.image, segmentor.label, segmentor.data_root
    labelled = has_column(data, label)
    every = read_samples(data, image=image, label=label if labelled else None, data_root=root)
    samples = every.take(_choose(len(every), num_images, seed))
    if labelled:
        facts = scan(samples, colour=model.label_map.coloured)
        table = AuditTable("data", samples, facts, (), tuple(range(len(samples))))
        model = replace(model, label_map=with_smears(model.label_map, [table]))
    names, problem = model.label_map.names, model.plan.problem_type
    metric = model.plan.metric
    if not known_metrics(problem == "binary", names)[metric].of_image:
        metric = "iou@image"
    scores = new_scores(names, problem, metric)
    items = []
    for found in predict_stream(
        model, samples, batch_size=segmentor._batch_size("auto"), with_targets=labelled
    ):
        ids = model.network.head.decide(found.logits, None).cpu().numpy()
        prediction, position = shrink_mask(ids, _LONGEST), found.position
        truth = None if found.target is None else shrink_mask(found.target, _LONGEST)
        picture = _shrink_image(read_image(samples.images[position]), prediction.shape)
        items.append(Example(samples.names[position], picture, prediction, truth))
        if labelled:
            take_in(scores, model.network.head, found)
    if labelled:
        rows = zip(items, scores.per_image(), strict=True)
        items = [replace(item, score=row[metric]) for item, row in rows]
    return Examples(
        tuple(items),
        metric,
        names,
        class_colours(model.label_map),
        background_of(model.label_map, problem),
    )


def error_map(prediction: np.ndarray, truth: np.ndarray, background: int | None) -> np.ndarray:
    """Tell what is wrong with each pixel.

    Args:
        prediction: Class ids ``[h, w]``.
        truth: Class ids ``[h, w]``; ignored pixels are not wrong.
        background: The class that is no object; None: each wrong pixel is of another class.

    Returns:
        uint8 ``[h, w]``: 0 if it is right, else 1 + the index into :data:`ERRORS`.

    Example:
        >>> error_map(np.array([[1, 0, 2, 1, 0]]), np.array([[0, 1, 1, 1, 255]]), 0).tolist()
        [[1, 2, 3, 0, 0]]
    """
    wrong = (prediction != truth) & (truth != IGNORE)
    found = np.where(wrong, 3, 0).astype(np.uint8)
    if background is not None:
        found[wrong & (truth == background)] = 1
        found[wrong & (prediction == background)] = 2
    return found


def _choose(count: int, wanted: int, seed: int) -> np.ndarray:
    """Return positions by chance, in ascending order."""
    chosen = np.random.default_rng(seed).permutation(count)[:wanted]
    return np.sort(chosen)


def _shrink_image(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return an image ``[H, W, 3]`` at the size of a smaller mask, by means of its pixels."""
    height, width = shape
    picture = Image.fromarray(image).resize((width, height), Image.Resampling.BOX)
    return np.asarray(picture)
