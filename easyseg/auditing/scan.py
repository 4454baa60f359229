"""Decode every image and mask once before training: facts where all is well, else all problems."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from easyseg.auditing.encoding import told_by_colour
from easyseg.data.io import ImageSource, describe, image_mode, is_turned, load_mask, read_image
from easyseg.data.label_map import IGNORE, LabelMap
from easyseg.data.table import Samples
from easyseg.errors import DataError

__all__ = ["ImageFacts", "check_values", "scan"]

_MAX_VALUES = IGNORE + 1  # 255 classes and one ignored value


@dataclass(frozen=True)
class ImageFacts:
    """What one sample is.

    Args:
        size: Height and width of the upright image in pixels.
        mask_counts: Pixels of each raw mask value; None without a mask.
        mask_dtype: ``"bool"``, ``"uint8"``, ``"uint16"``, ``"int32"``, or ``"rgb"`` for colours
            (`easyseg.data.colours`); None without a mask.
        mode: The image's PIL mode (``"RGB;16"`` for 16-bit colour), or the array's dtype.
        lean: Mean brightness of the upper half less that of the lower half, in 0..255 grey levels.
        upper_shares: Of the pixels of each raw mask value, the share in the upper half; None
            without a mask.
        palette: Red, green and blue of each raw value, if they are indices of a palette.
        lossy: Whether the mask is a JPEG.
    """

    size: tuple[int, int]
    mask_counts: dict[int, int] | None
    mask_dtype: str | None
    mode: str
    lean: float
    upper_shares: dict[int, float] | None
    palette: bytes | None = None
    lossy: bool = False


def scan(
    samples: Samples,
    *,
    colour: bool | None = None,
    progress: Callable[[int], None] | None = None,
    workers: int | None = None,
) -> tuple[ImageFacts, ...]:
    """Read every image and mask to the end, in threads.

    Args:
        samples: The samples, with or without masks.
        colour: Whether the masks are coded in colours; None: they tell, all together.
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
        looks = pool.map(partial(_look, colour=bool(colour)), samples.images, masks)
        for done, (fact, found) in enumerate(looks, start=1):
            problems += [f"{samples.row(done - 1)}: {line}" for line in found]
            if fact is not None:
                facts.append(fact)
            if progress is not None:
                progress(done)
    finally:
        pool.shutdown(cancel_futures=True)
    if problems:
        raise DataError(problems)
    grey = [i for i, fact in enumerate(facts) if fact.mask_dtype not in (None, "rgb")]
    if grey and colour is None and told_by_colour(facts):
        again = scan(samples.take(grey), colour=True, workers=workers)
        for position, fact in zip(grey, again, strict=True):
            facts[position] = fact
    return tuple(facts)


def check_values(samples: Samples, facts: Sequence[ImageFacts], label_map: LabelMap) -> None:
    """Refuse masks (of tuning or test data) that are not coded as the label map says.

    Args:
        samples: The samples, for the messages.
        facts: What `scan` found.
        label_map: The map of the training masks.

    Raises:
        DataError: Lists every such mask.
    """
    problems = []
    for i, fact in enumerate(facts):
        values, dtype = fact.mask_counts or (), fact.mask_dtype or label_map.dtype
        line = label_map.misfit(values, dtype, fact.palette, _label_name(samples, i))
        if line is not None:
            problems.append(f"{samples.row(i)}: {line}")
    if problems:
        raise DataError(problems)


def _label_name(samples: Samples, position: int) -> str:
    return describe((samples.labels or samples.images)[position])


def _look(
    image: ImageSource, mask: ImageSource | None, *, colour: bool = False
) -> tuple[ImageFacts | None, list[str]]:
    """Return the facts of one sample, or None and its problems."""
    problems: list[str] = []
    size, mode, lean = (0, 0), "", 0.0
    try:
        pixels = read_image(image)
        size, mode = (pixels.shape[0], pixels.shape[1]), image_mode(image)
        upper, lower = _halves(pixels)
        lean = float(upper.mean() - lower.mean())
    except DataError as error:
        problems += error.problems
    if mask is None:
        return (None if problems else ImageFacts(size, None, None, mode, lean, None)), problems
    try:
        loaded = load_mask(mask, colour=colour)
    except DataError as error:
        return None, problems + list(error.problems)
    raw = loaded.values
    counts = _count(raw)
    if len(counts) > _MAX_VALUES:
        problems.append(
            f"{describe(mask)}: the mask holds {len(counts)} different values, expected class ids"
            f" (at most {_MAX_VALUES})"
            + ("; a JPEG smears them: save masks as PNG" if loaded.lossy else "")
        )
    if mode and raw.shape != size:
        problems.append(_sizes_differ(image, size, mask, raw.shape))
    if problems:
        return None, problems
    shares = _upper_shares(raw)
    fact = ImageFacts(size, counts, loaded.dtype, mode, lean, shares, loaded.palette, loaded.lossy)
    return fact, []


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
