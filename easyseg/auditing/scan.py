"""Decode every image and mask once before training: facts where all is well, else all problems."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from easyseg.auditing.intensities import Intensities, intensities
from easyseg.auditing.shapes import Shapes, mask_shapes
from easyseg.data.io import ImageSource, describe, image_mode, is_turned, read_image, read_mask
from easyseg.data.label_map import IGNORE, LabelMap
from easyseg.data.label_rules import some
from easyseg.data.table import Samples
from easyseg.errors import DataError

__all__ = ["ImageFacts", "check_values", "mask_values", "scan"]

_MAX_VALUES = IGNORE + 1  # 255 classes and one ignored value


@dataclass(frozen=True)
class ImageFacts:
    """What one sample is.

    Args:
        size: Height and width of the upright image in pixels.
        mask_counts: Pixels of each raw mask value; None without a mask.
        mask_dtype: ``"bool"``, ``"uint8"``, ``"uint16"`` or ``"int32"``; None without a mask.
        mode: The image's PIL mode (``"RGB;16"`` for 16-bit colour), or the array's dtype.
        lean: Mean brightness of the upper half less that of the lower half, in 0..255 grey levels.
        upper_shares: Of the pixels of each raw mask value, the share in the upper half; None
            without a mask.
        shapes: The regions of each raw mask value; None without a mask.
        intensities: How bright and colourful the image is; None if it was not measured.
    """

    size: tuple[int, int]
    mask_counts: dict[int, int] | None
    mask_dtype: str | None
    mode: str
    lean: float
    upper_shares: dict[int, float] | None
    shapes: dict[int, Shapes] | None = None
    intensities: Intensities | None = None


def scan(
    samples: Samples,
    *,
    progress: Callable[[int], None] | None = None,
    workers: int | None = None,
) -> tuple[ImageFacts, ...]:
    """Read every image and mask to the end, in threads.

    Args:
        samples: The samples, with or without masks.
        progress: Called in this thread with the number of samples done so far.
        workers: Number of threads; default: the usable cores, at most 8.

    Returns:
        The facts, one a sample, in order.

    Raises:
        DataError: All problems at once: what cannot be read, masks coded in colours or with too
            many values, sizes that differ.
    """
    if workers is None:
        affinity = getattr(os, "sched_getaffinity", None)
        workers = min(8, len(affinity(0)) if affinity else os.cpu_count() or 1)
    facts: list[ImageFacts] = []
    problems: list[str] = []
    pool = ThreadPoolExecutor(max_workers=max(1, workers), thread_name_prefix="easyseg-scan")
    try:
        masks: Sequence[ImageSource | None] = samples.labels or [None] * len(samples)
        for done, (fact, found) in enumerate(pool.map(_look, samples.images, masks), start=1):
            problems += [f"{samples.row(done - 1)}: {line}" for line in found]
            if fact is not None:
                facts.append(fact)
            if progress is not None:
                progress(done)
    finally:
        pool.shutdown(cancel_futures=True)
    if problems:
        raise DataError(problems)
    return tuple(facts)


def mask_values(samples: Samples, facts: Sequence[ImageFacts]) -> tuple[tuple[int, ...], str]:
    """Return all raw values of the masks and the type that holds them, for `infer_label_map`.

    Args:
        samples: The samples, for the message.
        facts: What `scan` found.

    Returns:
        Values in ascending order and the widest of the masks' types.

    Raises:
        DataError: 1-bit masks, in which the object is 1, are mixed with masks that hold more than
            0 and 1, so that the same object has two values; or there are no masks.
    """
    dtypes = sorted({fact.mask_dtype for fact in facts if fact.mask_dtype is not None})
    if not dtypes:
        raise DataError("there are no masks")
    values = sorted({value for fact in facts for value in fact.mask_counts or ()})
    if "bool" in dtypes and len(dtypes) > 1 and values[-1] > 1:
        rows = [i for i, fact in enumerate(facts) if fact.mask_dtype == "bool"]
        first = ", ".join(_label_name(samples, i) for i in rows[:3])
        raise DataError(
            f"{len(rows)} of {len(facts)} masks have 1 bit, such as {first}; all together hold"
            f" {some(values)}: a foreground of 1 bit reads as 1, of 8 bits mostly as 255. Save all"
            " masks in one format"
        )
    return tuple(values), str(np.result_type(*dtypes))


def check_values(samples: Samples, facts: Sequence[ImageFacts], label_map: LabelMap) -> None:
    """Refuse masks (of tuning or test data) with values that the label map does not know.

    Args:
        samples: The samples, for the messages.
        facts: What `scan` found.
        label_map: The map of the training masks.

    Raises:
        DataError: Lists every such mask.
    """
    known = {*label_map.values, label_map.ignore}
    problems = []
    for i, fact in enumerate(facts):
        unknown = sorted(set(fact.mask_counts or ()) - known)
        if unknown:
            line = label_map.unknown(unknown, _label_name(samples, i))
            problems.append(f"{samples.row(i)}: {line}")
    if problems:
        raise DataError(problems)


def _label_name(samples: Samples, position: int) -> str:
    return describe((samples.labels or samples.images)[position])


def _look(image: ImageSource, mask: ImageSource | None) -> tuple[ImageFacts | None, list[str]]:
    """Return the facts of one sample, or None and its problems."""
    problems: list[str] = []
    size, mode, lean, measured = (0, 0), "", 0.0, None
    try:
        pixels = read_image(image)
        size, mode = (pixels.shape[0], pixels.shape[1]), image_mode(image)
        upper, lower = _halves(pixels)
        lean, measured = float(upper.mean() - lower.mean()), intensities(pixels)
    except DataError as error:
        problems += error.problems
    if mask is None:
        fact = ImageFacts(size, None, None, mode, lean, None, intensities=measured)
        return (None if problems else fact), problems
    try:
        raw = read_mask(mask)
    except DataError as error:
        return None, problems + list(error.problems)
    counts = _count(raw)
    if len(counts) > _MAX_VALUES:
        problems.append(
            f"{describe(mask)}: the mask holds {len(counts)} different values, expected class ids"
            f" (at most {_MAX_VALUES})"
        )
    if mode and raw.shape != size:
        problems.append(_sizes_differ(image, size, mask, raw.shape))
    if problems:
        return None, problems
    shapes = mask_shapes(raw)
    dtype, upper_shares = str(raw.dtype), _upper_shares(raw)
    return ImageFacts(size, counts, dtype, mode, lean, upper_shares, shapes, measured), []


def _halves(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the upper and the lower half; both hold the middle row of an odd height."""
    half = -(-len(pixels) // 2)
    return pixels[:half], pixels[-half:]


def _upper_shares(raw: np.ndarray) -> dict[int, float]:
    upper, lower = map(_count, _halves(raw))
    return {
        value: upper.get(value, 0) / (upper.get(value, 0) + lower.get(value, 0))
        for value in sorted(upper.keys() | lower.keys())
    }


def _count(raw: np.ndarray) -> dict[int, int]:
    if raw.dtype.itemsize <= 2:
        counts = np.bincount(raw.ravel())
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, found = np.unique(raw, return_counts=True)
    return dict(zip(values.tolist(), found.tolist(), strict=True))


def _sizes_differ(
    image: ImageSource,
    size: tuple[int, int],
    mask: ImageSource,
    mask_size: tuple[int, ...],
) -> str:
    hint = "the mask must have the size of its image: check that the row pairs the right files"
    if mask_size == size[::-1]:
        hint = "height and width are swapped: turn one of the two"
        if is_turned(image):
            hint = (
                "the image's EXIF orientation turns it and the mask was drawn on the unturned"
                " pixels: turn the mask, or remove the orientation"
            )
        elif is_turned(mask):
            hint = "the mask carries an EXIF orientation that its image has not: remove it"
    return (
        f"{describe(mask)}: the mask is {mask_size[0]}x{mask_size[1]} (height x width), its image"
        f" {describe(image)} is {size[0]}x{size[1]}; {hint}"
    )
