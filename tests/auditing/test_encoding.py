"""How a set of masks is coded: colours, palettes, and the mixtures of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from easyseg.auditing.encoding import MaskEncoding, mask_encoding, told_by_colour
from easyseg.auditing.scan import scan
from easyseg.data.io import read_mask
from easyseg.data.table import read_samples
from easyseg.errors import DataError

IMAGE = np.zeros((4, 6, 3), np.uint8)
BLACK, WHITE, ROAD, GREY = 0, 0xFFFFFF, 0x804080, 0x808080
IDS = np.array([[0, 0, 1, 1, 2, 2]] * 4, np.uint8)
PALETTE = [0, 0, 0, 128, 64, 128, 0, 255, 0]


def flat(colour: int, mode: str = "RGB") -> Image.Image:
    triple = (colour >> 16, colour >> 8 & 255, colour & 255)
    return Image.new("RGB", (6, 4), triple).convert(mode)


def half(first: int, second: int) -> Image.Image:
    image = flat(first)
    image.paste(flat(second), (3, 0))
    return image


def indexed(ids: np.ndarray, palette: list[int]) -> Image.Image:
    image = Image.fromarray(ids)
    image.putpalette(palette)
    return image


def samples_of(masks):
    return read_samples(pd.DataFrame({"image": [IMAGE] * len(masks), "label": list(masks)}))


def encoding_of(*masks) -> MaskEncoding:
    samples = samples_of(masks)
    return mask_encoding(samples.labels, scan(samples))


def misfits(samples, label_map) -> list[str | None]:
    facts = scan(samples, colour=label_map.coloured or None)
    return [
        label_map.misfit(fact.mask_counts, fact.mask_dtype, fact.palette, f"mask {position}")
        for position, fact in enumerate(facts)
    ]


def test_one_mask_in_colours_makes_colours_of_all():
    masks = [flat(BLACK), flat(WHITE), half(BLACK, ROAD), flat(GREY, "L"), flat(WHITE, "1")]
    samples = samples_of(masks)
    facts = scan(samples)
    assert [fact.mask_counts for fact in facts] == [
        {BLACK: 24},
        {WHITE: 24},
        {BLACK: 12, ROAD: 12},
        {GREY: 24},
        {WHITE: 24},
    ]
    assert [fact.upper_shares for fact in facts[:2]] == [{BLACK: 0.5}, {WHITE: 0.5}]
    found = mask_encoding(samples.labels, facts)
    assert found == MaskEncoding((BLACK, ROAD, GREY, WHITE), "rgb", regions=True)
    # The same files without the one in colours are grey in disguise.
    assert encoding_of(flat(BLACK), flat(WHITE)) == MaskEncoding((0, 255), "uint8")


def test_colours_are_read_alike_in_a_table_that_holds_only_grey_ones():
    train = samples_of([half(BLACK, ROAD), half(GREY, ROAD)])
    label_map = mask_encoding(train.labels, scan(train)).label_map()
    tuning = samples_of([flat(BLACK), flat(GREY)])
    assert misfits(tuning, label_map) == [None, None]
    ids = [label_map.encode(read_mask(mask, colour=True)) for mask in tuning.labels]
    assert [np.unique(found).tolist() for found in ids] == [[0], [2]]
    other = samples_of([flat(WHITE, "L")])
    (line,) = misfits(other, label_map)
    assert "holds the value #FFFFFF, expected only the values #000" in line


def test_a_palette_is_kept():
    found = encoding_of(indexed(IDS, PALETTE), indexed(IDS, PALETTE), IDS)
    assert found == MaskEncoding((0, 1, 2), "uint8", bytes(PALETTE), regions=True)
    assert found.label_map().palette == tuple(PALETTE)
    assert encoding_of(indexed(IDS, PALETTE), IDS.astype(np.uint16)).palette is None


def test_palettes_may_differ_where_nothing_is_shown():
    short, longer = PALETTE[:6], [0, 0, 0, 9, 9, 9, 0, 255, 0, 7, 7, 7]
    masks = [indexed(np.minimum(IDS, 1), short), indexed(IDS // 2 * 2, longer)]
    assert not told_by_colour(scan(samples_of(masks)))
    assert encoding_of(*masks).palette == bytes([*PALETTE, 7, 7, 7])


def test_black_and_white_palettes_among_masks_of_0_and_255_are_an_error():
    """Read as ids, {0, 1, 255} would mean that 255 is ignored."""
    two = IDS // 2
    black_and_white = indexed(two, [0, 0, 0, 255, 255, 255])
    with pytest.raises(DataError, match=r"^1 of 2 masks have 1 bit.* the values 0, 1, 255"):
        encoding_of(black_and_white, two * 255)
    assert encoding_of(black_and_white, two > 0, two).values == (0, 1)
    third = indexed(IDS, [0, 0, 0, 255, 255, 255, 9, 9, 9])
    assert encoding_of(black_and_white, third).values == (0, 1, 2)


def test_other_masks_have_the_palette_of_the_fit():
    train = samples_of([indexed(IDS, PALETTE)])
    label_map = mask_encoding(train.labels, scan(train)).label_map()
    same = samples_of([indexed(IDS, [*PALETTE, 1, 2, 3]), IDS, indexed(IDS // 2, PALETTE[:6])])
    assert misfits(same, label_map) == [None, None, None]
    other = samples_of([IDS, indexed(IDS // 2, [0, 0, 0, 0, 255, 0])])
    first, second = misfits(other, label_map)
    assert first is None
    start = "mask 1: the palette shows the value 1 in #00FF00, that of the fit in #804080;"
    assert second.startswith(start)
    colours = samples_of([half(BLACK, ROAD)])
    (line,) = misfits(colours, label_map)
    assert line.startswith(
        "mask 0: the mask is coded in colours, the values #000000, #804080, those"
    )
    assert "hold the values 0, 1, 2;" in line


def test_palettes_that_disagree_are_told_by_colour():
    """Programs that make PNGs smaller order the palette of each file by itself."""
    other = [0, 255, 0, 0, 0, 0, 128, 64, 128]
    masks = [indexed(IDS, PALETTE), indexed((IDS + 1) % 3, other)]
    shown = [np.asarray(mask.convert("RGB")) for mask in masks]
    np.testing.assert_array_equal(*shown)
    samples = samples_of(masks)
    facts = scan(samples)
    assert facts[0].mask_counts == facts[1].mask_counts == {BLACK: 8, 0x00FF00: 8, ROAD: 8}
    assert mask_encoding(samples.labels, facts).dtype == "rgb"


def test_a_palette_mask_among_colours_shows_its_colours():
    found = encoding_of(indexed(IDS, PALETTE), half(BLACK, ROAD))
    assert found == MaskEncoding((BLACK, 0x00FF00, ROAD), "rgb", regions=True)


def test_camvid_in_colours_means_the_same(shared_data, tmp_path):
    samples = read_samples(shared_data / "camvid" / "test.csv")
    samples = samples.take(range(0, len(samples), len(samples) // 12))
    plain = mask_encoding(samples.labels, scan(samples)).label_map()
    colours = np.random.default_rng(0).permutation(256**3)[:256]
    table = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], -1).astype(np.uint8)
    masks = [tmp_path / f"{n}.png" for n in range(len(samples))]
    for source, target in zip(samples.labels, masks, strict=True):
        Image.fromarray(table[read_mask(source)]).save(target)
    recoded = read_samples(pd.DataFrame({"image": samples.images, "label": masks}))
    facts = scan(recoded)
    named = {tuple(table[value].tolist()): name for value, name in plain.classes.items()}
    label_map = mask_encoding(masks, facts).label_map(
        classes=named, ignore_index=tuple(table[plain.ignore].tolist())
    )
    assert label_map.values == tuple(colours[list(plain.values)].tolist())
    for source, target, fact in zip(samples.labels, masks, facts, strict=True):
        raw = read_mask(Path(target), colour=label_map.coloured)
        ids = plain.encode(read_mask(source))
        np.testing.assert_array_equal(label_map.encode(raw), ids)
        known = np.where(ids == 255, 0, ids)
        np.testing.assert_array_equal(label_map.decode(known), table[plain.decode(known)])
        assert sum(fact.mask_counts.values()) == raw.size
