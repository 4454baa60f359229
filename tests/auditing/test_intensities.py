from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from easyseg.auditing.intensities import intensities

pixels = arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3)))


@given(pixels)
def test_means_and_deviation_are_those_of_all_pixels(image):
    found = intensities(image)
    assert found.channels == pytest.approx(image.reshape(-1, 3).mean(axis=0))
    assert found.deviation == pytest.approx(image.mean(axis=2).std(), abs=1e-9)


def test_large_images_are_measured_in_a_copy():
    image = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    image[..., 0] //= 4
    found = intensities(image)
    assert found.channels == pytest.approx(image.reshape(-1, 3).mean(axis=0), rel=0.01)
    assert found.deviation == pytest.approx(image.mean(axis=2).std(), rel=0.01)
