from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import cdist

from easyseg.data.label_map import IGNORE
from easyseg.errors import DataError
from easyseg.metrics.boundary import boundary_counts, boundary_iou, hausdorff95


@st.composite
def blob_pairs(draw, num_classes=2, ignored=(0.0,), largest=40):
    """Draw two masks of blobs that are much alike."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = tuple(rng.integers(2, largest, 2))
    grown = ndimage.gaussian_filter(rng.random((num_classes, *size)), (0, 2, 2))
    target = grown.argmax(axis=0).astype(np.uint8)
    prediction = np.roll(target, rng.integers(-3, 4, 2), axis=(0, 1))
    if draw(st.integers(0, 5)) == 0:
        prediction = np.zeros_like(target)
    target = target.copy()
    target[rng.random(size) < draw(st.sampled_from(ignored))] = IGNORE
    return prediction, target


def official_band(mask, ratio):
    """Return the band along the outline as the authors of boundary IoU take it, by OpenCV."""
    cv2 = pytest.importorskip("cv2")
    width = max(1, round(ratio * math.hypot(*mask.shape)))
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)
    return mask - eroded[1:-1, 1:-1]


@settings(max_examples=25)
@given(blob_pairs(num_classes=3), st.sampled_from([0.02, 0.1]))
def test_boundary_iou_is_that_of_the_bands_of_its_authors(pair, ratio):
    counts = boundary_counts(*pair, 3, band=ratio)
    for index, value in enumerate(boundary_iou(counts)):
        predicted, true = (official_band((m == index).astype(np.uint8), ratio) for m in pair)
        union = (predicted | true).sum()
        if union == 0:
            assert math.isnan(value)
        else:
            assert value == pytest.approx((predicted & true).sum() / union)


def slow_hausdorff95(prediction, target):
    """Return the distance of two outlines, point by point."""
    points = [np.argwhere(mask & ~ndimage.binary_erosion(mask)) for mask in (prediction, target)]
    distances = cdist(*points)
    return max(np.percentile(distances.min(axis=axis), 95) for axis in (0, 1))


@settings(max_examples=25)
@given(blob_pairs(num_classes=3))
def test_hausdorff_is_that_of_all_pairs_of_points(pair):
    for index, value in enumerate(hausdorff95(*pair, 3)):
        masks = [m == index for m in pair]
        if not any(mask.any() for mask in masks):
            assert math.isnan(value)
        elif not all(mask.any() for mask in masks):
            assert value == pytest.approx(math.hypot(*pair[0].shape))
        else:
            assert value == pytest.approx(slow_hausdorff95(*masks))


def slow_outline(mask):
    """Return the pixels of a mask with a side to what is not of it; outside of the image is not."""
    rows, columns = mask.shape
    outline = np.zeros_like(mask)
    for row, column in np.argwhere(mask):
        sides = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        outline[row, column] = not all(
            0 <= r < rows and 0 <= c < columns and mask[r, c] for r, c in sides
        )
    return outline


@settings(max_examples=25)
@given(blob_pairs(largest=20))
def test_hausdorff_is_that_of_monai_step_by_step(pair):
    """Its steps: crop to both masks, outlines, a distance transform of each, percentiles, larger.

    As in monai/metrics/hausdorff_distance.py and utils.py, read at 003f71c and 0118983.
    """
    masks = [mask == 1 for mask in pair]
    if not all(mask.any() for mask in masks):
        return  # MONAI has no finite distance here
    box = ndimage.find_objects((masks[0] | masks[1]).astype(int))[0]
    predicted, true = (slow_outline(mask[box]) for mask in masks)
    there = ndimage.distance_transform_edt(~true)[predicted]
    back = ndimage.distance_transform_edt(~predicted)[true]
    expected = max(np.percentile(there, 95), np.percentile(back, 95))
    assert hausdorff95(*pair, 2)[1] == pytest.approx(expected)


def test_hausdorff_of_a_shift_is_the_shift():
    masks = np.zeros((2, 30, 40), np.uint8)
    masks[0, 5:15, 5:15] = 1
    masks[1, 5:15, 12:22] = 1
    assert hausdorff95(*masks, 2)[1] == 7
    assert hausdorff95(masks[0], masks[0], 2)[1] == 0


def test_torchmetrics_agrees_where_the_worst_point_counts():
    """With few outline pixels the 95th percentile lies next to the maximum."""
    from torchmetrics.segmentation import HausdorffDistance

    torch = pytest.importorskip("torch")
    masks = np.zeros((2, 20, 20), np.uint8)
    masks[0, 4, 4] = masks[1, 9, 16] = 1
    onehot = [torch.from_numpy(np.stack([m == 0, m == 1])[None].astype(int)) for m in masks]
    expected = HausdorffDistance(num_classes=2, include_background=False)(*onehot)
    assert hausdorff95(*masks, 2)[1] == pytest.approx(float(expected)) == 13


@settings(max_examples=25)
@given(blob_pairs(num_classes=3, ignored=(0.0, 0.2, 1.0)), st.data())
def test_ignored_pixels_are_absent_pixels(pair, data):
    prediction, target = pair
    garbage = np.where(target == IGNORE, 2 - prediction, prediction)
    frame = [data.draw(st.tuples(st.integers(0, 5), st.integers(0, 5))) for _ in range(2)]
    framed = (
        np.pad(prediction, frame, constant_values=1),
        np.pad(target, frame, constant_values=IGNORE),
    )
    for score in (lambda *m: boundary_counts(*m, 3), lambda *m: hausdorff95(*m, 3)):
        np.testing.assert_array_equal(score(garbage, target), score(prediction, target))
        np.testing.assert_array_equal(score(*framed), score(prediction, target))


@pytest.mark.parametrize("score", [boundary_counts, hausdorff95])
def test_other_sizes_are_refused(score):
    with pytest.raises(DataError, match=r"\(2, 3\).*\(3, 2\)"):
        score(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), 2)
