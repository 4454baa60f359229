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

__all__ = ["Fingerprint", "Percentiles", "Quantiles", "fingerprint"]

# Regions that cover less of an image, 4 of 65,536 pixels, are mostly slips of the pen.
SPECK = 6e-5


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
class Percentiles:
    """Tenth, fiftieth and ninetieth percentile: what a few strange values do not move."""

    p10: float
    p50: float
    p90: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Percentiles:
        """Return the percentiles of at least one value, between two of them by linear steps.

        Args:
            values: The numbers.

        Returns:
            Their percentiles.

        Example:
            >>> Percentiles.of([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
            Percentiles(p10=1.0, p50=5.0, p90=9.0)
        """
        p10, p50, p90 = np.percentile(values, (10, 50, 90)).tolist()
        return cls(p10, p50, p90)


@dataclass(frozen=True)
class Fingerprint:
    """What the training data is; everything but `num_tuning` is about the training part.

    Args:
        num_images: Number of training images.
        num_tuning: Number of images of the validation part.
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
        components: Regions an image, of all classes but id 0, in the images that hold any; None if
            none does.
        object_sizes: Areas of these regions as shares of their image, without specks of under
            `SPECK` unless there is nothing else; None without regions.
        thickness: Class name -> median over the images that hold it of its thickness (see
            `easyseg.auditing.shapes.Shapes`) as a share of the image's long side; all classes but
            id 0. Cracks and vessels have 0.01 and less.
        brightness: Mean grey levels of the images, 0..255; None if they were not measured.
        contrast: Standard deviations of the grey levels within an image.
        channels: Means of red, green and blue over all images, 0..255.
        grey_images: Number of images whose three channels are equal.
        duplicates: Number of images of the training table that are identical to another one, but
            for those of one colour.
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
    components: Quantiles | None
    object_sizes: Percentiles | None
    thickness: dict[str, float]
    brightness: Quantiles | None
    contrast: Quantiles | None
    channels: tuple[float, float, float] | None
    grey_images: int
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
            record: What `to_dict` returned, also after a way through JSON; the ``hardware`` that a
                run folder's file holds beside it is left out.

        Returns:
            The equal fingerprint.
        """
        values = {key: value for key, value in record.items() if key != "hardware"}
        for name in ("height", "width", "components", "brightness", "contrast"):
            values[name] = None if record[name] is None else Quantiles(**record[name])
        if record["object_sizes"] is not None:
            values["object_sizes"] = Percentiles(**record["object_sizes"])
        if record["channels"] is not None:
            values["channels"] = tuple(record["channels"])
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
    if label_map.smeared:
        train_facts = [fact.as_smeared() for fact in train_facts]
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
        **_shapes(train_facts, label_map),
        **_intensities(train_facts),
    )


def _shapes(facts: Sequence[ImageFacts], label_map: LabelMap) -> dict[str, Any]:
    """Sum up the regions of all classes but id 0."""
    classes = dict(zip(label_map.values[1:], label_map.names[1:], strict=True))
    images = [
        {value: shape for value, shape in (fact.shapes or {}).items() if value in classes}
        for fact in facts
    ]
    areas = [area for held in images for shape in held.values() for area in shape.areas]
    regions = [sum(shape.components for shape in held.values()) for held in images if held]
    widths = {v: [held[v].thickness for held in images if v in held] for v in classes}
    thickness = {name: float(np.median(widths[v])) for v, name in classes.items() if widths[v]}
    objects = [area for area in areas if area >= SPECK] or areas
    return {
        "components": Quantiles.of(regions) if regions else None,
        "object_sizes": Percentiles.of(objects) if objects else None,
        "thickness": thickness,
    }


def _intensities(facts: Sequence[ImageFacts]) -> dict[str, Any]:
    """Sum up the intensities of the images."""
    measured = [fact for fact in facts if fact.intensities is not None]
    found = [fact.intensities for fact in facts if fact.intensities is not None]
    if not found:
        return {"brightness": None, "contrast": None, "channels": None, "grey_images": 0}
    red, green, blue = np.mean([each.channels for each in found], axis=0).tolist()
    return {
        "brightness": Quantiles.of([fact.brightness for fact in measured]),
        "contrast": Quantiles.of([each.deviation for each in found]),
        "channels": (red, green, blue),
        "grey_images": sum(fact.grey for fact in measured),
    }


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
