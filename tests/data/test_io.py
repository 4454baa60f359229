"""The one reader: every kind of file and array, and the errors."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from easyseg.data.io import (
    image_size,
    load_image,
    load_mask,
    num_pages,
    orientation,
    read_image,
    read_mask,
    turns,
)
from easyseg.errors import DataError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = RGB[..., 0]
DEEP = RNG.integers(300, 4000, (6, 9, 3), dtype=np.uint16)


def stretched(values):
    values = values.astype(np.float64)
    return np.rint((values - values.min()) / np.ptp(values) * 255).astype(np.uint8)


def deep_png(path: Path, pixels: np.ndarray, colour_type: int) -> Path:
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(signature + b"".join(chunk(*part) for part in parts))
    return path


def deep_tiff(
    path: Path, pixels: np.ndarray, order: str, orientation: int = 1, planar: int = 1
) -> Path:
    height, width = pixels.shape[:2]
    body = (pixels if planar == 1 else np.moveaxis(pixels, 2, 0)).astype(f"{order}u2").tobytes()
    after = 8 + 2 + 11 * 12 + 4
    plane = len(body) // (1 if planar == 1 else 3)
    starts = struct.pack(f"{order}3I", *(after + 30 + i * plane for i in range(3)))
    counts = struct.pack(f"{order}3I", plane, plane, plane)
    many = planar == 2
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, after),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 3 if many else 1, after + 6 if many else after + 30),
        (274, 3, 1, orientation),
        (277, 3, 1, 3),
        (278, 4, 1, height),
        (279, 4, 3 if many else 1, after + 18 if many else plane),
        (284, 3, 1, planar),
    ]

    def entry(tag: int, kind: int, count: int, value: int) -> bytes:
        short = kind == 3 and count == 1
        packed = struct.pack(
            f"{order}HH" if short else f"{order}I", *((value, 0) if short else (value,))
        )
        return struct.pack(f"{order}HHI", tag, kind, count) + packed

    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    directory = struct.pack(f"{order}H", len(tags)) + b"".join(entry(*tag) for tag in tags)
    bits = struct.pack(f"{order}3H", 16, 16, 16)
    path.write_bytes(head + directory + struct.pack(f"{order}I", 0) + bits + starts + counts + body)
    return path


def test_rgb_is_read_as_it_is(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert read.dtype == np.uint8
    assert read.flags.writeable
    np.testing.assert_array_equal(read, RGB)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_alpha_is_dropped(tmp_path, suffix):
    alpha = np.full((6, 9, 1), 255, np.uint8)
    alpha[:3] = 7
    path = tmp_path / f"a.{suffix}"
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    Image.fromarray(np.concatenate([RGB, alpha], axis=2)).save(path, **options)
    np.testing.assert_array_equal(read_image(path), RGB)


def test_grey_alpha_grey_and_one_bit_are_repeated(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "l.png")
    Image.fromarray(np.stack([GREY, 255 - GREY], 2)).save(tmp_path / "la.png")
    Image.fromarray(GREY > 99).save(tmp_path / "1.png")
    expected = np.repeat(GREY[..., None], 3, 2)
    np.testing.assert_array_equal(read_image(tmp_path / "l.png"), expected)
    np.testing.assert_array_equal(read_image(tmp_path / "la.png"), expected)
    np.testing.assert_array_equal(read_image(tmp_path / "1.png"), np.where(expected > 99, 255, 0))


def test_palette_is_looked_up_in_images_and_kept_as_indices_in_masks(tmp_path):
    image = Image.new("P", (9, 6))
    image.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 200])
    image.putdata((GREY % 3).ravel().tolist())
    image.save(tmp_path / "p.png")
    colours = np.array([[10, 20, 30], [200, 0, 0], [0, 0, 200]], np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), colours[GREY % 3])
    mask = read_mask(tmp_path / "p.png")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, GREY % 3)


def test_cmyk_becomes_the_colours_it_shows(tmp_path):
    flat = np.zeros((16, 16, 3), np.uint8)
    flat[:] = (220, 30, 60)
    Image.fromarray(flat).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    assert load_image(tmp_path / "a.jpg").mode == "CMYK"
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - flat).max() <= 4


def test_sixteen_bit_grey_is_stretched_and_not_clipped(tmp_path):
    Image.fromarray(DEEP[..., 0]).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png").mode.startswith("I")
    read = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(read, np.repeat(stretched(DEEP[..., :1]), 3, 2))
    assert (read.min(), read.max()) == (0, 255)


@pytest.mark.parametrize("alpha", [False, True])
def test_sixteen_bit_colour_png_keeps_its_low_byte(tmp_path, alpha):
    pixels = np.concatenate([DEEP, 9 * DEEP[..., :1]], 2) if alpha else DEEP
    path = deep_png(tmp_path / "a.png", pixels, 6 if alpha else 2)
    assert load_image(path).mode == "RGB;16"
    np.testing.assert_array_equal(read_image(path), stretched(DEEP))


def test_sixteen_bit_grey_with_alpha_keeps_its_low_byte(tmp_path):
    path = deep_png(tmp_path / "a.png", DEEP[..., :2], 4)
    np.testing.assert_array_equal(read_image(path)[..., 1], stretched(DEEP[..., 0]))
    np.testing.assert_array_equal(read_mask(path), DEEP[..., 0])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_sixteen_bit_colour_tiff(tmp_path, order, orientation):
    path = deep_tiff(tmp_path / "a.tif", DEEP, order, orientation)
    expected = np.rot90(stretched(DEEP), -1) if orientation == 6 else stretched(DEEP)
    np.testing.assert_array_equal(read_image(path), expected)
    assert image_size(path) == expected.shape[:2]


def test_sixteen_bit_planar_tiff_is_refused_because_pil_misreads_it(tmp_path):
    path = deep_tiff(tmp_path / "a.tif", DEEP, "<", planar=2)
    with pytest.raises(DataError, match=r"a\.tif.*plane by plane"):
        read_image(path)


def test_float_and_wide_integers_are_stretched(tmp_path):
    values = RNG.normal(size=(6, 9)).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "f.tif")
    Image.fromarray(values).save(tmp_path / "f.tiff")
    assert load_image(tmp_path / "f.tif").mode == "F"
    expected = np.repeat(stretched(values)[..., None], 3, 2)
    assert np.abs(read_image(tmp_path / "f.tif").astype(int) - expected).max() <= 1
    wide = DEEP[..., 0].astype(np.int32) * 70000
    Image.fromarray(wide).save(tmp_path / "i.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "i.tif")[..., 2], stretched(wide))
    np.testing.assert_array_equal(read_mask(tmp_path / "i.tif"), wide)


def test_constant_wide_image_becomes_black():
    assert not read_image(np.full((4, 5), 777, np.uint16)).any()


def test_nan_and_infinity_go_to_the_ends():
    read = read_image(np.array([[np.nan, 0.0, 1.0, 2.0, np.inf, -np.inf]]))
    assert read[0, :, 0].tolist() == [0, 0, 128, 255, 255, 0]
    with pytest.raises(DataError, match="no finite value"):
        read_image(np.full((2, 2), np.nan))


@settings(deadline=None)
@given(
    hnp.arrays(
        st.sampled_from(["u1", "u2", "i4", "i8", "f2", "f4", "f8", "?"]),
        st.sampled_from([(3, 4), (3, 4, 1), (3, 4, 3), (3, 4, 4), (1, 1)]),
    )
)
def test_any_array_becomes_eight_bit_rgb(pixels):
    try:
        read = read_image(pixels)
    except DataError:
        assert not np.isfinite(pixels[..., :3] if pixels.ndim == 3 else pixels).any()
        return
    assert read.dtype == np.uint8
    assert read.shape == (*pixels.shape[:2], 3)
    assert not np.shares_memory(read, pixels)


@pytest.mark.parametrize(
    "shape", [(3, 8, 8), (8,), (2, 8, 8, 3), (8, 8, 2), (0, 8, 3), (8, 0)], ids=str
)
def test_other_shapes_are_errors(shape):
    with pytest.raises(DataError, match="array uint8"):
        read_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("exif_orientation", range(1, 9))
def test_exif_orientation_turns_image_mask_and_size(tmp_path, suffix, exif_orientation):
    corner = np.zeros((16, 32), np.uint8)
    corner[:8, :8] = 255
    image = Image.fromarray(corner)
    exif = Image.Exif()
    exif[0x0112] = exif_orientation
    path = tmp_path / f"a.{suffix}"
    image.save(path, exif=exif)
    turn = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).T,
        8: np.rot90,
    }[exif_orientation]
    expected = turn(corner) > 127
    np.testing.assert_array_equal(read_image(path)[..., 0] > 127, expected)
    np.testing.assert_array_equal(read_mask(path) > 127, expected)
    assert image_size(path) == expected.shape
    assert orientation(path) == exif_orientation
    assert load_image(path).orientation == load_mask(path).orientation == exif_orientation
    assert turns(exif_orientation) == (exif_orientation >= 5)
    opened = Image.open(io.BytesIO(path.read_bytes()))
    assert image_size(opened) == expected.shape
    np.testing.assert_array_equal(read_image(opened)[..., 0] > 127, expected)


def test_sizes_of_arrays_and_pil_images():
    assert image_size(RGB) == image_size(Image.fromarray(RGB)) == (6, 9)
    assert orientation(RGB) == 1


@pytest.mark.parametrize(
    ("values", "dtype"),
    [(GREY > 9, "bool"), (GREY, "uint8"), (DEEP[..., 0], "uint16")],
)
def test_masks_keep_values_and_dtype_through_a_png(tmp_path, values, dtype):
    Image.fromarray(values).save(tmp_path / "m.png")
    mask = read_mask(tmp_path / "m.png")
    assert mask.dtype == dtype
    np.testing.assert_array_equal(mask, values)


@pytest.mark.parametrize(
    ("given_dtype", "read_dtype"),
    [("?", "bool"), ("u1", "uint8"), ("u2", "uint16"), (">u2", "uint16"), ("i1", "int32")]
    + [(kind, "int32") for kind in ("i2", "i4", "u4", "i8", "u8", "f4", "f8")],
)
def test_array_masks(given_dtype, read_dtype):
    values = (GREY % 2).astype(given_dtype)
    for mask in (read_mask(values), read_mask(values[..., None])):
        assert mask.dtype == read_dtype
        assert mask.dtype.isnative
        np.testing.assert_array_equal(mask, GREY % 2)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_grey_in_disguise_is_a_mask(tmp_path, mode):
    Image.fromarray(GREY).convert(mode).save(tmp_path / "m.png")
    mask = read_mask(tmp_path / "m.png")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, GREY)


def test_sixteen_bit_grey_in_disguise_keeps_its_ids(tmp_path):
    path = deep_png(tmp_path / "m.png", np.repeat(DEEP[..., :1], 3, 2), 2)
    mask = read_mask(path)
    assert mask.dtype == np.uint16
    np.testing.assert_array_equal(mask, DEEP[..., 0])


def test_sixteen_bit_colours_that_differ_in_the_low_byte_are_no_mask(tmp_path):
    pixels = np.full((4, 4, 3), 512, np.uint16)
    pixels[0, 0, 1] = 513
    with pytest.raises(DataError, match="coded in colours"):
        read_mask(deep_png(tmp_path / "m.png", pixels, 2))


def packed(colours: np.ndarray) -> np.ndarray:
    """Pack colours the slow and obvious way."""
    rows = colours[..., :3].tolist()
    return np.array([[(r * 256 + g) * 256 + b for r, g, b in row] for row in rows])


@pytest.mark.parametrize("kind", ["png", "tif", "bmp", "rgba", "pil", "u1", "i8", "f8"])
def test_colours_become_whole_numbers(tmp_path, kind):
    source: object = RGB
    if kind in ("png", "tif", "bmp"):
        source = tmp_path / f"m.{kind}"
        Image.fromarray(RGB).save(source)
    elif kind == "rgba":
        source = np.concatenate([RGB, GREY[..., None]], axis=2)
    elif kind == "pil":
        source = Image.fromarray(RGB)
    else:
        source = RGB.astype(kind)
    mask = load_mask(source)
    assert (mask.dtype, mask.values.dtype, mask.palette) == ("rgb", np.int32, None)
    np.testing.assert_array_equal(mask.values, packed(RGB))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P"])
def test_a_grey_mask_of_a_set_coded_in_colours_is_read_as_the_colours_it_shows(mode):
    levels = GREY // 128 * 255 if mode == "1" else GREY
    image = Image.fromarray(levels).convert(mode)
    shown = np.asarray(image.convert("RGB"))
    assert load_mask(image).dtype != "rgb"
    mask = load_mask(image, colour=True)
    assert (mask.dtype, mask.values.dtype) == ("rgb", np.int32)
    np.testing.assert_array_equal(mask.values, packed(shown))


def test_palette_indices_are_looked_up_where_colours_count(tmp_path):
    image = Image.fromarray(GREY % 4)
    image.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 200])
    image.save(tmp_path / "p.png")
    mask = load_mask(tmp_path / "p.png")
    assert (mask.dtype, mask.lossy) == ("uint8", False)
    assert mask.palette == bytes([10, 20, 30, 200, 0, 0, 0, 0, 200])
    np.testing.assert_array_equal(mask.values, GREY % 4)
    colours = np.array([[10, 20, 30], [200, 0, 0], [0, 0, 200], [0, 0, 0]])[GREY % 4]
    np.testing.assert_array_equal(read_mask(tmp_path / "p.png", colour=True), packed(colours))


def test_only_a_jpeg_is_lossy(tmp_path):
    for suffix in ("png", "jpg", "tif", "bmp"):
        Image.fromarray(GREY).save(tmp_path / f"m.{suffix}")
        assert load_mask(tmp_path / f"m.{suffix}").lossy == (suffix == "jpg")
    assert load_mask(Image.open(tmp_path / "m.jpg")).lossy
    assert not load_mask(GREY).lossy


def test_ids_that_are_no_colours_are_errors_among_colours(tmp_path):
    with pytest.raises(DataError, match="the value 300, which is no colour"):
        read_mask(np.array([[0, 300]], np.uint16), colour=True)
    assert not read_mask(np.zeros((2, 2), np.int64), colour=True).any()


def test_colours_that_are_not_red_green_blue_are_errors():
    with pytest.raises(DataError, match="colours of the mode CMYK"):
        read_mask(Image.fromarray(RGB).convert("CMYK"))


@settings(deadline=None)
@given(
    hnp.arrays(
        st.sampled_from(["?", "u1", "u2", "i4", "i8"]),
        st.sampled_from([(3, 4), (3, 4, 1), (3, 4, 2), (3, 4, 3)]),
        elements=st.booleans(),
    ),
    st.booleans(),
)
def test_the_reader_never_shares_memory_with_its_source(pixels, colour):
    if pixels.ndim == 3 and pixels.shape[2] == 2:
        pixels[..., 1] = 1  # alpha
    mask = read_mask(pixels, colour=colour)
    assert not np.shares_memory(mask, pixels)
    assert mask.shape == (3, 4)


def test_mask_in_the_alpha_channel_is_an_error():
    pixels = np.full((4, 4, 4), 255, np.uint8)
    pixels[:2, :, 3] = 0
    with pytest.raises(DataError, match="alpha channel"):
        read_mask(Image.fromarray(pixels))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0, -1]]), "negative value -1"),
        (np.array([[0.0, 0.5]]), "fractions"),
        (np.array([[0.0, np.nan]]), "fractions"),
        (np.array([[0.0, np.inf]]), "exceeds"),
        (np.array([[0, 2**40]]), "exceeds"),
        (np.zeros((2, 3, 4, 5)), "shape"),
        (np.zeros((0, 3)), "no pixels"),
        (np.array([["a"]]), "whole numbers"),
    ],
)
def test_masks_that_are_no_ids(values, message):
    with pytest.raises(DataError, match=message):
        read_mask(values)


@pytest.mark.parametrize("read", [read_image, read_mask, image_size])
def test_missing_and_foreign_files_are_named(tmp_path, read):
    with pytest.raises(DataError, match=r"gone\.png: there is no such file"):
        read(tmp_path / "gone.png")
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(DataError, match=r"text\.png: cannot be read"):
        read(tmp_path / "text.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_truncated_files_are_errors(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RNG.integers(0, 256, (64, 64), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match=rf"a\.{suffix}: cannot be read"):
            read(path)


def test_decompression_bombs_are_errors(tmp_path, monkeypatch):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match="MAX_IMAGE_PIXELS"):
        read_image(tmp_path / "a.png")


@settings(deadline=None)
@given(position=st.integers(0, 200), value=st.integers(0, 255))
def test_a_damaged_byte_gives_pixels_or_a_data_error(tmp_path_factory, position, value):
    path = tmp_path_factory.getbasetemp() / "damaged.png"
    Image.fromarray(RGB).save(path)
    raw = bytearray(path.read_bytes())
    raw[position % len(raw)] = value
    path.write_bytes(raw)
    try:
        read = read_image(path)
    except DataError:
        with pytest.raises(DataError, match=r"damaged\.png"):
            read_image(path)
        return
    assert read.ndim == 3
    assert read.dtype == np.uint8


def test_a_mask_in_the_alpha_of_a_lossy_webp_is_refused(tmp_path):
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[8:20, 8:20, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "alpha.webp", quality=90, exact=True)
    with pytest.raises(DataError, match="alpha channel"):
        read_mask(tmp_path / "alpha.webp")
    grey = np.full((32, 32, 4), 255, np.uint8)
    grey[8:20, 8:20, :3] = 0
    Image.fromarray(grey).save(tmp_path / "grey.webp", quality=90)
    mask = load_mask(tmp_path / "grey.webp")
    assert (mask.dtype, mask.lossy) == ("uint8", True)


def test_pages_are_counted_in_files_only(tmp_path):
    page = Image.fromarray(np.zeros((8, 8), np.uint8))
    page.save(tmp_path / "two.tif", save_all=True, append_images=[page])
    page.save(tmp_path / "one.tif")
    assert [num_pages(tmp_path / name) for name in ("two.tif", "one.tif")] == [2, 1]
    with Image.open(tmp_path / "two.tif") as chosen:
        chosen.seek(1)
        assert num_pages(chosen) == 1
        assert chosen.tell() == 1


@pytest.mark.filterwarnings("ignore::UserWarning")  # of PIL
def test_a_damaged_list_of_pages_is_an_error_of_ours(tmp_path):
    page = Image.fromarray(np.zeros((8, 8), np.uint8))
    page.save(tmp_path / "two.tif", save_all=True, append_images=[page])
    whole = (tmp_path / "two.tif").read_bytes()
    start = int.from_bytes(whole[4:8], "little")
    end = start + 2 + 12 * int.from_bytes(whole[start : start + 2], "little")
    beyond = (len(whole) + 999).to_bytes(4, "little")
    (tmp_path / "damaged.tif").write_bytes(whole[:end] + beyond + whole[end + 4 :])
    assert read_mask(tmp_path / "damaged.tif").shape == (8, 8)
    with pytest.raises(DataError, match=r"damaged\.tif: cannot be read"):
        num_pages(tmp_path / "damaged.tif")


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_damaged_exif_does_not_make_an_image_unreadable(tmp_path, suffix):
    path = tmp_path / f"camera.{suffix}"
    Image.fromarray(RGB).save(path, exif=b"Exif\0\0no header of TIFF", lossless=True)
    assert (load_image(path).pixels == RGB).all()
    assert image_size(path) == RGB.shape[:2]
    assert orientation(path) == 1


def test_damaged_exif_does_not_make_deep_colours_unreadable(tmp_path):
    path = deep_png(tmp_path / "camera.png", DEEP, 2)
    content, exif = path.read_bytes(), b"no header of TIFF"
    body = (
        struct.pack(">I", len(exif))
        + b"eXIf"
        + exif
        + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    )
    end_of_header = 8 + 25
    path.write_bytes(content[:end_of_header] + body + content[end_of_header:])
    assert (load_image(path).pixels == stretched(DEEP)).all()


def test_damaged_pixels_are_no_pixels(tmp_path):
    """The orientation of a PNG may stand behind its pixels: whoever asks for it decodes them."""
    path = tmp_path / "mask.png"
    Image.fromarray(RNG.integers(0, 256, (64, 64), dtype=np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    start = content.index(b"IDAT") + 4
    content[start + 1000 : start + 1400] = b"\xff" * 400
    path.write_bytes(content)
    for read in (load_image, load_mask, image_size):
        with pytest.raises(DataError, match=r"mask\.png: cannot be read"):
            read(path)


def test_a_palette_with_transparency_warns_of_nothing(tmp_path, recwarn):
    image = Image.fromarray(GREY % 4)
    image.putpalette([0, 0, 0, 128, 64, 128, 0, 255, 0, 9, 9, 9])
    image.save(tmp_path / "a.png", transparency=bytes([0, 255, 128, 255]))
    expected = image.convert("RGB")
    assert (read_image(tmp_path / "a.png") == np.array(expected)).all()
    assert not recwarn.list


def test_files_of_numpy_are_to_be_read_by_the_user(tmp_path):
    np.save(tmp_path / "mask.npy", GREY)
    with pytest.raises(DataError, match=r"put the array itself into the cell, as numpy\.load"):
        read_mask(tmp_path / "mask.npy")


def test_infinity_is_no_class():
    with pytest.raises(DataError, match="the negative value -inf"):
        read_mask(np.array([[0.0, -np.inf]]))
