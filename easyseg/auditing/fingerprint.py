"""The fingerprint: the few numbers about the data from which the plan is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from easyseg.auditing.scan import ImageFacts
from easyseg.data.label_map import IGNORE, LabelMap
from easyseg.errors import DataError

__all__ = ["Fingerprint", "Quantiles", "fingerprint"]


@dataclass(frozen=True)
class Quantiles:
    """Smallest, middle and largest value."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quantiles:
        """Return the quantiles of at least one value.

        Args:
            values: The numbers.

        Returns:
            Their quantiles.

        Example:
            >>> Quantiles.of([4, 1, 2, 3])
            Quantiles(min=1.0, median=2.5, max=4.0)
        """
        return cls(float(np.min(values)), float(np.median(values)), float(np.max(values)))


@dataclass(frozen=True)
class Fingerprint:
    """What the training data is; everything but `num_tuning` is about the training part.

    Args:
        num_images: Number of training images.
        num_tuning: Number of validation images.
        height: Heights of the upright images in pixels.
        width: Widths of the upright images in pixels.
        image_modes: Number of images of each PIL mode or array dtype.
        mask_dtype: The type of the masks, as in the label map.
        mask_values: Raw mask value -> share of all mask pixels.
        class_shares: Class name -> share of the pixels that are not ignored.
        images_with: Class name -> number of images that hold it.
        empty_masks: Number of images that hold no class but id 0.
        ignored_share: Share of all mask pixels that is ignored.
        uprightness: How systematically the upper halves differ from the lower ones: the largest
            effect size |mean| / deviation over the images, of the difference in brightness and of
            the share of each class. About 0 where up and down mean nothing (skin, cells, aerial
            views), 3 and more in street scenes; 0 for one image.
        duplicates: Number of images of the training table that are identical to another one.
        near_duplicates: Number of those that look nearly as another one does, or the same.
        split: What the automatic validation part kept together, and why; empty if the user gave
            tuning data.
    """

    num_images: int
    num_tuning: int
    height: Quantiles
    width: Quantiles
    image_modes: dict[str, int]
    mask_dtype: str
    mask_values: dict[int, float]
    class_shares: dict[str, float]
    images_with: dict[str, int]
    empty_masks: int
    ignored_share: float
    uprightness: float
    duplicates: int = 0
    near_duplicates: int = 0
    split: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types (keys are text), from which `from_dict` rebuilds the value."""
        record = asdict(self)
        record["mask_values"] = {str(value): share for value, share in self.mask_values.items()}
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Fingerprint:
        """Rebuild a fingerprint.

        Args:
            record: What `to_dict` returned, also after a way through JSON.

        Returns:
            The equal fingerprint.
        """
        values = dict(record)
        values["height"] = Quantiles(**record["height"])
        values["width"] = Quantiles(**record["width"])
        values["mask_values"] = {int(v): share for v, share in record["mask_values"].items()}
        return cls(**values)


def fingerprint(
    train_facts: Sequence[ImageFacts], tuning_facts: Sequence[ImageFacts], label_map: LabelMap
) -> Fingerprint:
    """Sum up what `scan` found.

    Args:
        train_facts: Facts of the training samples, with masks; at least one.
        tuning_facts: Facts of the validation samples; only counted.
        label_map: The map of their masks.

    Returns:
        The fingerprint.

    Raises:
        DataError: There is no training sample, or a mask value is not in the label map.
    """
    if not train_facts:
        raise DataError("there is no training sample")
    pixels: Counter[int] = Counter()
    class_pixels = np.zeros(label_map.num_classes, dtype=np.int64)
    images_with = np.zeros(label_map.num_classes, dtype=np.int64)
    empty = 0
    for fact in train_facts:
        counts = fact.mask_counts or {}
        pixels.update(counts)
        ids = label_map.encode(np.array(list(counts), dtype=np.int64))
        of_class = np.bincount(ids, weights=list(counts.values()), minlength=IGNORE + 1)
        of_class = of_class[: label_map.num_classes].astype(np.int64)
        class_pixels += of_class
        images_with += of_class > 0
        empty += int(not of_class[1:].any())
    total, kept = sum(pixels.values()), int(class_pixels.sum())
    names = label_map.names
    return Fingerprint(
        num_images=len(train_facts),
        num_tuning=len(tuning_facts),
        height=Quantiles.of([fact.size[0] for fact in train_facts]),
        width=Quantiles.of([fact.size[1] for fact in train_facts]),
        image_modes=dict(sorted(Counter(fact.mode for fact in train_facts).items())),
        mask_dtype=label_map.dtype,
        mask_values={value: pixels[value] / total for value in sorted(pixels)},
        class_shares={n: int(c) / max(kept, 1) for n, c in zip(names, class_pixels, strict=True)},
        images_with={n: int(c) for n, c in zip(names, images_with, strict=True)},
        empty_masks=empty,
        ignored_share=(total - kept) / total if total else 0.0,
        uprightness=_uprightness(train_facts, label_map),
    )


def _uprightness(facts: Sequence[ImageFacts], label_map: LabelMap) -> float:
    """Return the largest effect size of brightness and of the classes that half of images hold."""
    differences = [[fact.lean for fact in facts]]
    for value in label_map.values:
        shares = [(fact.upper_shares or {}).get(value) for fact in facts]
        held = [share - 0.5 for share in shares if share is not None]
        if 2 * len(held) >= len(facts):
            differences.append(held)
    return max(_effect_size(values) for values in differences)


def _effect_size(values: Sequence[float]) -> float:
    """Return |mean| / deviation, at most 99; 0 for fewer than two values."""
    if len(values) < 2:
        return 0.0
    mean, deviation = abs(float(np.mean(values))), float(np.std(values, ddof=1))
    return min(99.0, mean / deviation) if deviation > 0 else 99.0 * (mean > 0)
