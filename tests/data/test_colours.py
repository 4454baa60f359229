"""Colours as whole numbers, against the slow and obvious way."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from easyseg.data.colours import (
    hex_colour,
    pack_colours,
    palette_colours,
    parse_colour,
    unpack_colours,
)

COLOURS = st.integers(0, 0xFFFFFF)


@given(hnp.arrays(np.uint8, st.sampled_from([(2, 3, 3), (2, 3, 4), (3,), (0, 3)])))
def test_packing_there_and_back(pixels):
    packed = pack_colours(pixels)
    assert (packed.dtype, packed.shape) == (np.int32, pixels.shape[:-1])
    expected = [
        r * 65536 + g * 256 + b for r, g, b, *_ in pixels.reshape(-1, pixels.shape[-1]).tolist()
    ]
    assert packed.ravel().tolist() == expected
    np.testing.assert_array_equal(unpack_colours(packed), pixels[..., :3])


@given(COLOURS)
def test_writing_there_and_back(value):
    written = hex_colour(value)
    assert parse_colour(written) == parse_colour(written.lower()) == value
    triple = unpack_colours(np.array(value))
    assert parse_colour(triple) == parse_colour(tuple(triple.tolist())) == value
    assert parse_colour(value) is None


@given(st.binary(max_size=768).filter(lambda palette: len(palette) % 3 == 0))
def test_palettes_end_in_black(palette):
    colours = palette_colours(palette)
    triples = [tuple(palette[i : i + 3]) for i in range(0, len(palette), 3)]
    assert colours.tolist() == [parse_colour(c) for c in triples] + [0] * (256 - len(triples))
    np.testing.assert_array_equal(palette_colours(list(palette)), colours)
