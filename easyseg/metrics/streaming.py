"""Scores gathered image by image: sums of counts, and one small row an image.

Only what the asked metrics need is computed and kept: a confusion matrix always, two histograms for
``auc@dataset``, a curve for ``e_measure_max@dataset``, and so on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from easyseg.errors import DataError, OptionError
from easyseg.metrics.catalogue import METRICS, Key, check_metrics, known_metrics, report_keys
from easyseg.metrics.curves import THRESHOLDS
from easyseg.metrics.functional import confusion_matrix, mean_defined
from easyseg.metrics.measure import (
    COUNTS,
    CURVES,
    View,
    count,
    image_scores,
    mean_curve,
    pooled_score,
)
from easyseg.metrics.pool import CountPool
from easyseg.metrics.reference import Squashed, reference_scores

__all__ = ["EMPTY_KEY", "SegmentationScores"]

EMPTY_KEY = "empty@image"
"""A count, not a score: images whose union is empty, left out of the means over images."""


class SegmentationScores:
    """Scores of a stream of masks; memory grows by a few numbers an image (its own scores).

    Binary problems score the foreground (id 1). Multi-class scores of one image are the mean over
    the classes that its truth or its prediction holds. An image without any (its union is empty)
    has no score: it is left out of the mean over images and counted in ``empty@image``. In the same
    way a share of nothing is left out: precision where nothing is predicted, recall where there is
    nothing to find.

    Args:
        names: Class names in the order of their ids.
        binary: True if only class 1 (the foreground) is scored; needs exactly two names.
        metrics: Keys that are wanted beside those of ``report_keys``.
        resampled: Also keep the counts of each image, for :meth:`resample`; memory grows by them.

    Raises:
        OptionError: If the names do not fit the problem, or a key is not known.

    Example:
        >>> import numpy as np
        >>> scores = SegmentationScores(["background", "lesion"], binary=True)
        >>> scores.update(np.array([[1, 1, 0]], np.uint8), np.array([[1, 0, 255]], np.uint8))
        >>> scores.compute(["iou@image", "accuracy@dataset"])
        {'iou@image': 0.5, 'accuracy@dataset': 0.5}
    """

    def __init__(
        self,
        names: Sequence[str],
        binary: bool,
        metrics: Sequence[str] | str = (),
        *,
        resampled: bool = False,
    ) -> None:
        self.names = tuple(names)
        self.binary = binary
        if len(set(self.names)) != len(self.names):
            raise OptionError(f"Class names must differ from each other, found {self.names}.")
        if binary and len(self.names) != 2:
            raise OptionError(
                f"A binary problem has two classes (background, foreground), found {self.names}."
            )
        if not self.names:
            raise OptionError("Scores need at least one class name, found none.")
        known = known_metrics(binary, self.names)
        asked = check_metrics(metrics, binary, self.names)
        self._keys = {key: known[key] for key in (*report_keys(binary, self.names), *asked)}
        self._row_keys = tuple(key for key, of in self._keys.items() if of.of_image)
        self._of_squashed = [k for k, of in self._keys.items() if of.averaging == "reference"]
        self._of_maps = [
            key
            for key, of in self._keys.items()
            if METRICS[of.metric].of_map and key not in self._of_squashed
        ]
        kinds = {"confusion", *(_counts_of(of) for of in self._keys.values() if not of.of_image)}
        self._pool = CountPool(kinds, each=resampled)
        self._resampled = resampled
        self._rows: list[tuple[float, ...]] = []

    @property
    def needs_probabilities(self) -> bool:
        """Whether ``update`` has to be given the map of probabilities."""
        return bool(self._of_maps)

    @property
    def needs_squashed(self) -> bool:
        """Whether ``update`` has to be given the image as the reference code sees it."""
        return bool(self._of_squashed)

    def __len__(self) -> int:
        """Return the number of images seen."""
        return len(self._rows)

    def update(
        self,
        prediction: np.ndarray,
        target: np.ndarray,
        probabilities: np.ndarray | None = None,
        squashed: Squashed | None = None,
    ) -> None:
        """Take in one image.

        Args:
            prediction: Predicted class ids ``[H, W]``.
            target: True class ids ``[H, W]``, 255 for ignored pixels.
            probabilities: Probability of the foreground ``[H, W]``, if they are needed.
            squashed: The image as the reference code sees it, if it is needed.

        Raises:
            DataError: If the sizes differ, an id is outside the classes, or what a metric needs is
                missing.
        """
        matrix = confusion_matrix(prediction, target, len(self.names))
        self._check_given(probabilities, squashed)
        view = View(prediction, target, matrix, self.binary, probabilities)
        row = self._row(view, squashed)
        counts = {kind: self._count(view, squashed, kind) for kind in self._pool.kinds}
        self._rows.append(row)
        self._pool.add(counts)

    def _check_given(self, probabilities: np.ndarray | None, squashed: Squashed | None) -> None:
        if self._of_maps and probabilities is None:
            raise DataError(f"{', '.join(self._of_maps)}: needs each image's probabilities.")
        if self._of_squashed and squashed is None:
            raise DataError(
                f"{', '.join(self._of_squashed)}: needs each image as the reference code sees it."
            )

    def _row(self, view: View, squashed: Squashed | None) -> tuple[float, ...]:
        keys = [self._keys[key] for key in self._row_keys]
        own = {"image": image_scores(view, [k.metric for k in keys if k.averaging == "image"])}
        if self.binary and squashed is not None:
            asked = [k.metric for k in keys if k.averaging == "reference"]
            own["reference"] = reference_scores(squashed, asked)
        return tuple(own[key.averaging][key.metric] for key in keys)

    def _count(self, view: View, squashed: Squashed | None, kind: str) -> np.ndarray:
        if kind != "reference":
            return count(view, kind)
        assert squashed is not None
        return confusion_matrix(squashed.prediction, squashed.target, len(self.names))

    def state(self) -> dict[str, Any]:
        """Return all that was gathered, as plain values that can be sent to another process.

        Returns:
            ``rows``: float64 ``[images, R]``, the scores of each image in update order; ``sums``:
            the pooled counts, int64, by their name (None without images); ``each``: those of each
            image as sparse matrices, if they are kept; and what they are of.
        """
        rows = np.array(self._rows, np.float64).reshape(-1, len(self._row_keys))
        return {"of": self._of(), "rows": rows, **self._pool.state()}

    def _of(self) -> tuple[Any, ...]:
        return self.names, self.binary, tuple(self._keys), self._resampled

    def merge(self, other: SegmentationScores | Mapping[str, Any]) -> SegmentationScores:
        """Add what another process gathered; its images follow the ones seen here.

        Args:
            other: Scores of the same classes and metrics, or their ``state()``.

        Returns:
            Itself.

        Raises:
            OptionError: If the other scores are of other classes or metrics.
        """
        state = other.state() if isinstance(other, SegmentationScores) else other
        for what, mine, theirs in zip(
            ("classes", "problem (binary)", "metrics", "resampled"),
            self._of(),
            state["of"],
            strict=True,
        ):
            if mine != theirs:
                raise OptionError(
                    f"Only scores of the same {what} can be merged, found {mine} and {theirs}."
                )
        self._rows.extend(tuple(row) for row in state["rows"].tolist())
        self._pool.merge(state)
        return self

    def take(self, positions: Sequence[int] | np.ndarray) -> SegmentationScores:
        """Return the scores of the same images in another order.

        Args:
            positions: Each position in update order once, in the order that is wanted.

        Raises:
            OptionError: If positions are missing or repeated.
        """
        order = np.asarray(positions, np.int64)
        if not np.array_equal(np.sort(order), np.arange(len(self))):
            raise OptionError(f"Expected each of the {len(self)} images once.")
        state = self.state()
        each = state["each"] and {kind: rows[order] for kind, rows in state["each"].items()}
        again = SegmentationScores(
            self.names, self.binary, tuple(self._keys), resampled=self._resampled
        )
        return again.merge({**state, "rows": state["rows"][order], "each": each})

    def compute(self, metrics: Sequence[str] | str | None = None) -> dict[str, float]:
        """Return the scores of all images seen.

        Args:
            metrics: Keys that were asked for or are in every report; None for all of them and
                ``empty@image``.

        Returns:
            Key -> value, NaN where nothing defines a score.

        Raises:
            OptionError: If a key is not known, or was not asked for.
        """
        keys = tuple(self._keys) if metrics is None else self._gathered(metrics)
        columns = dict(zip(self._row_keys, zip(*self._rows, strict=True), strict=False))
        scores = {
            key: mean_defined(columns.get(key, ()))
            if self._is_row(key)
            else self._pooled(self._keys[key], self._pool.total(_counts_of(self._keys[key])))
            for key in keys
        }
        if metrics is None:
            scores[EMPTY_KEY] = float(np.isnan(columns.get("iou@image", ())).sum())
        return scores

    def _gathered(self, metrics: Sequence[str] | str) -> tuple[str, ...]:
        asked = check_metrics(metrics, self.binary, self.names)
        missing = [key for key in asked if key not in self._keys]
        if missing:
            raise OptionError(
                f"{', '.join(missing)}: was not asked for before the images were scored; name it "
                "in metrics= of SegmentationScores."
            )
        return asked

    def _pooled(self, key: Key, counts: np.ndarray | None) -> float:
        if counts is None:
            return float("nan")
        return pooled_score(key.metric, key.averaging, counts, binary=self.binary, index=key.index)

    def curves(self) -> dict[str, np.ndarray]:
        """Return the mean over all images of each curve whose maximum was asked for.

        Returns:
            ``e_measure`` with ``e_measure_max@dataset``, ``f_measure`` with
            ``f_measure_max@dataset``: float64 ``[256]``, at the thresholds ``t / 255``; NaN without
            images.
        """
        sums = {kind: self._pool.total(kind) for kind in self._pool.kinds if kind in CURVES}
        return {
            kind: np.full(THRESHOLDS, np.nan) if counts is None else mean_curve(counts)
            for kind, counts in sums.items()
        }

    def per_image(self) -> list[dict[str, float]]:
        """Return the scores of each image, in update order; NaN where it has none."""
        return [dict(zip(self._row_keys, row, strict=True)) for row in self._rows]

    def resample(self, weights: np.ndarray, metrics: Sequence[str] | str) -> dict[str, np.ndarray]:
        """Return the scores that there would be if each image had come several times, or never.

        Args:
            weights: int64 ``[R, images]``: how often each image comes, in R resamples.
            metrics: Keys that were asked for or are in every report.

        Returns:
            Key -> float64 ``[R]``.

        Raises:
            OptionError: If the scores were not made with ``resampled=True``.
        """
        if not self._resampled:
            raise OptionError("Resampling needs the counts of each image: resampled=True.")
        asked = self._gathered(metrics)
        if not len(self):
            return {key: np.full(len(weights), np.nan) for key in asked}
        rows = self.state()["rows"]
        values: dict[str, Any] = {key: [] for key in asked}
        for kind in self._pool.kinds:
            keys = [k for k in asked if not self._is_row(k) and _counts_of(self._keys[k]) == kind]
            for counts in self._pool.resampled(kind, weights) if keys else ():
                for key in keys:
                    values[key].append(self._pooled(self._keys[key], counts))
        for key in filter(self._is_row, asked):
            values[key] = _weighted_mean(rows[:, self._row_keys.index(key)], weights)
        return {key: np.asarray(numbers) for key, numbers in values.items()}

    def _is_row(self, key: str) -> bool:
        return self._keys[key].of_image


def _counts_of(key: Key) -> str:
    return COUNTS.get((key.metric, key.averaging), "confusion")


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the means of the values that are defined; NaN where none has any weight."""
    defined = ~np.isnan(values)
    total = weights @ defined.astype(np.int64)
    sums = weights @ np.where(defined, values, 0.0)
    return np.where(total == 0, np.nan, sums / np.where(total == 0, 1, total))
