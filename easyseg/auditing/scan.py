"""Decode every image and mask once: the facts of each sample, broken ones included."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from easyseg.auditing.duplicates import content_digest, look_at
from easyseg.auditing.encoding import told_by_colour
from easyseg.auditing.facts import ImageFacts, Part, Problem, ProblemKind, Thresholded
from easyseg.auditing.intensities import intensities
from easyseg.auditing.shapes import MOST_VALUES as MOST_SHAPES
from easyseg.auditing.shapes import mask_shapes
from easyseg.data.colours import pack_colours, unpack_colours
from easyseg.data.io import (
    ImageSource,
    Mask,
    Picture,
    describe,
    load_image,
    load_mask,
    num_pages,
)
from easyseg.data.label_rules import IGNORE, SMEARED_VALUES
from easyseg.data.table import Samples
from easyseg.errors import DataError
from easyseg.threads import MOST_THREADS, usable_cores

__all__ = ["MOST_VALUES", "ImageFacts", "check_readable", "scan"]

MOST_VALUES = IGNORE + 1
"""Of a mask: 255 classes and one ignored value."""


_MIDDLE = 128  # of 0 and 255: from here on the nearer one is 255
_GRID = 64  # points a side of the grid on which colours are counted
_COVERED = 0.95  # of them, or of a mask: JPEG gives two values a few per cent of other ones


def scan(
    samples: Samples,
    *,
    colour: bool | None = None,
    progress: Callable[[int], None] | None = None,
    workers: int | None = None,
) -> tuple[ImageFacts, ...]:
    """Read every image and mask to the end, in threads; one sample a thread is in memory.

    Threads, because decoders and numpy let other threads run, and because a script without
    ``if __name__ == "__main__"`` must not start itself again, as new processes on Windows and macOS
    would make it do.

    Args:
        samples: The samples. Without masks only size, mode, lean and problems are looked for.
        colour: Whether the masks are coded in colours; None: they tell, all together.
        progress: Called in this thread with the number of samples done so far.
        workers: Number of threads; default: the usable cores, at most 8.

    Returns:
        The facts, one a sample, in order. What is wrong with files is in their ``problems``.
    """
    if workers is None:
        workers = min(MOST_THREADS, usable_cores())
    facts: list[ImageFacts] = []
    pool = ThreadPoolExecutor(max_workers=max(1, workers), thread_name_prefix="easyseg-scan")
    try:
        masks: Sequence[ImageSource | None] = samples.labels or [None] * len(samples)
        looks = pool.map(partial(_look, colour=bool(colour)), samples.images, masks)
        for done, fact in enumerate(looks, start=1):
            facts.append(fact)
            if progress is not None:
                progress(done)
        # Photos among the masks, which have more values than there are classes, tell nothing.
        masks_of_classes = [fact for fact in facts if 0 < fact.num_values <= MOST_VALUES]
        if samples.labels and colour is None and told_by_colour(masks_of_classes):
            plain = [i for i, f in enumerate(facts) if f.mask_dtype not in (None, "rgb")]
            sources = [samples.labels[i] for i in plain]
            again = pool.map(_in_colours, [facts[i] for i in plain], sources)
            for position, fact in zip(plain, again, strict=True):
                facts[position] = fact
    finally:
        pool.shutdown(cancel_futures=True)
    return tuple(facts)


def check_readable(samples: Samples, facts: Sequence[ImageFacts]) -> None:
    """Refuse samples that cannot be read.

    Args:
        samples: The samples, for the messages.
        facts: What `scan` found.

    Raises:
        DataError: All their problems at once.
    """
    problems = [
        f"{samples.row(position)}: {problem.text}"
        for position, fact in enumerate(facts)
        for problem in fact.problems
    ]
    if problems:
        raise DataError(problems)


def _look(image: ImageSource, mask: ImageSource | None, *, colour: bool = False) -> ImageFacts:
    """Return the facts of one sample."""
    fact = ImageFacts((0, 0), None, None, "", 0.0, None)
    pixels: np.ndarray | None = None
    try:
        picture = load_image(image)
        pixels = picture.pixels
        fact = replace(_with_image(fact, picture), pages=(num_pages(image), 1))
    except DataError as error:
        fact = replace(fact, problems=(_problem("image", image, error),))
    if mask is None:
        return fact
    same_file = _are_one_file(image, mask)
    if pixels is not None:
        fact = _with_looks(fact, pixels)
    try:
        loaded = load_mask(mask, colour=colour)
        fact = _with_mask(fact, loaded)
        fact = replace(fact, pages=(fact.pages[0], num_pages(mask)))
    except DataError as error:
        if same_file and pixels is not None:
            return replace(fact, identical=True)  # that no mask can be read from it follows
        return replace(fact, problems=(*fact.problems, _problem("label", mask, error)))
    if pixels is None:
        return fact
    if fact.mask_size != fact.size:
        return fact
    # A black image with an empty mask is no mistake.
    same = same_file or (not fact.constant and _identical(pixels, loaded))
    return replace(fact, identical=same)


def _are_one_file(image: ImageSource, mask: ImageSource) -> bool:
    try:
        return isinstance(image, Path) and isinstance(mask, Path) and image.samefile(mask)
    except OSError:  # It went away since the table was read.
        return False


def _in_colours(fact: ImageFacts, mask: ImageSource) -> ImageFacts:
    """Return the facts of a sample whose mask, as the others show, is to be read as colours."""
    try:
        loaded = load_mask(mask, colour=True)
    except DataError as error:
        return replace(
            fact,
            problems=(*fact.problems, _problem("label", mask, error)),
            mask_counts=None,
            mask_dtype=None,
            upper_shares=None,
            mask_size=None,
            num_values=0,
            covering=0,
            border_counts=None,
            mask_digest="",
            identical=False,
            shapes=None,
            thresholded=None,
        )
    found = _with_mask(fact, loaded)
    if fact.palette is None:
        return found
    # As indices the mask could not be compared with the image.
    same = fact.digest == content_digest(unpack_colours(loaded.values))
    return replace(found, identical=same and not fact.constant)


def _with_image(fact: ImageFacts, picture: Picture) -> ImageFacts:
    pixels = picture.pixels
    # Sums of rows are whole numbers: exact, and faster than two means.
    rows = pixels.reshape(len(pixels), -1).sum(axis=1, dtype=np.int64)
    upper, lower = _halves(rows)
    values = len(upper) * pixels[0].size
    return replace(
        fact,
        size=(pixels.shape[0], pixels.shape[1]),
        mode=picture.mode,
        orientations=(picture.orientation, 1),
        lean=float(upper.sum() / values - lower.sum() / values),
        brightness=float(rows.sum() / pixels.size),
    )


def _with_looks(fact: ImageFacts, pixels: np.ndarray) -> ImageFacts:
    grid = _on_grid(pixels)
    grey = bool((grid == grid[..., :1]).all() and (pixels == pixels[..., :1]).all())
    counts = np.sort(np.unique(pack_colours(grid), return_counts=True)[1])[::-1]
    look = look_at(pixels)
    return replace(
        fact,
        grey=grey,
        constant=bool((grid == grid[0, 0]).all() and (pixels == pixels[0, 0]).all()),
        levels=(int(pixels.min()), int(pixels.max())),
        colours=int(np.searchsorted(np.cumsum(counts), _COVERED * counts.sum())) + 1,
        digest=content_digest(pixels),
        perceptual_hash=look.perceptual_hash,
        thumbnail=look.thumbnail,
        intensities=intensities(pixels),
    )


def _with_mask(fact: ImageFacts, mask: Mask) -> ImageFacts:
    raw = mask.values
    upper, lower = map(_count, _halves(raw))
    counts = dict(upper)
    for value, number in lower.items():
        counts[value] = counts.get(value, 0) + number
    if len(raw) % 2:  # the middle row is in both halves
        for value, number in _count(raw[len(raw) // 2]).items():
            counts[value] -= number
    most = np.sort(np.fromiter(counts.values(), np.int64, len(counts)))[::-1]
    fact = replace(
        fact,
        mask_counts={},
        mask_dtype=mask.dtype,
        upper_shares={},
        mask_size=(raw.shape[0], raw.shape[1]),
        mask_mode=mask.mode,
        orientations=(fact.orientations[0], mask.orientation),
        palette=mask.palette,
        lossy=mask.lossy,
        num_values=len(counts),
        covering=int(np.searchsorted(np.cumsum(most), _COVERED * raw.size)) + 1,
        border_counts={},
        mask_digest=content_digest(raw),
        shapes={},
        thresholded=None,
    )
    if len(counts) > MOST_VALUES:  # memory must not grow with the colours of photos
        return fact
    frame = np.concatenate([raw[0], raw[-1], raw[1:-1, 0], raw[1:-1, -1]])
    many_smears = mask.lossy and len(counts) > MOST_SHAPES
    values = sorted(counts)
    return replace(
        fact,
        mask_counts={value: counts[value] for value in values},
        upper_shares={value: _share(upper, lower, [value]) for value in values},
        border_counts=dict(sorted(_count(frame).items())),
        shapes={} if many_smears else mask_shapes(raw),
        thresholded=_thresholded(mask, upper, lower),
    )


def _share(upper: Mapping[int, int], lower: Mapping[int, int], values: Sequence[int]) -> float:
    """Return the share of the pixels of some values that is in the upper half."""
    above, below = (sum(half.get(value, 0) for value in values) for half in (upper, lower))
    return above / (above + below)


def _thresholded(
    mask: Mask, upper: Mapping[int, int], lower: Mapping[int, int]
) -> Thresholded | None:
    """Return what a mask is if its grey levels are smears of 0 and 255, None if they cannot be."""
    values = sorted({*upper, *lower})
    grey = mask.dtype == "uint8" and mask.palette is None
    if not grey or values[-1] < _MIDDLE or set(values) <= {*SMEARED_VALUES}:
        return None
    sides = {
        end: [value for value in values if (value >= _MIDDLE) == (end >= _MIDDLE)]
        for end in SMEARED_VALUES
    }
    shapes = mask_shapes(mask.values >= _MIDDLE)
    return Thresholded(
        {SMEARED_VALUES[value]: shape for value, shape in shapes.items()},
        {end: _share(upper, lower, side) for end, side in sides.items() if side},
    )


def _problem(part: Part, source: ImageSource, error: DataError) -> Problem:
    """Say of what kind a reader's error is."""
    text, cause = error.problems[0], error.__cause__
    kind: ProblemKind = "values" if cause is None else "unreadable"
    if isinstance(source, Path):
        try:
            if not source.stat().st_size:
                text = f"{describe(source)}: the file is empty (0 bytes): replace it"
                return Problem(part, "empty", text)
        except OSError:
            return Problem(part, "missing", text)
    if isinstance(cause, Image.DecompressionBombError):
        kind = "bomb"
    # Pillow names a file that it does not know at all, and a folder may be called so.
    elif not isinstance(cause, UnidentifiedImageError) and "truncated" in str(cause).lower():
        kind = "truncated"
    return Problem(part, kind, text)


def _halves(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the upper and the lower half; both hold the middle row of an odd height."""
    half = -(-len(rows) // 2)
    return rows[:half], rows[-half:]


def _on_grid(pixels: np.ndarray) -> np.ndarray:
    """Return points of an image, 64 a side or up to twice as many."""
    height, width = pixels.shape[:2]
    return pixels[:: max(1, height // _GRID), :: max(1, width // _GRID)]


def _count(raw: np.ndarray) -> dict[int, int]:
    if raw.dtype.itemsize <= 2:
        counts = np.bincount(raw.ravel())
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, found = np.unique(raw, return_counts=True)
    return dict(zip(values.tolist(), found.tolist(), strict=True))


def _identical(pixels: np.ndarray, label: Mask) -> bool:
    """Return whether a mask holds the pixels of its image."""
    if label.dtype == "rgb":
        return bool((pack_colours(pixels) == label.values).all())
    scale = 255 if label.dtype == "bool" else 1
    # The first row settles it for nearly all masks.
    return all(
        bool((pixels[rows] == label.values[rows, :, None] * np.int32(scale)).all())
        for rows in (slice(1), slice(None))
    )
