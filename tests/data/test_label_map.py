"""The label map: every rule, every error, and the way there and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from easyseg.data.infer_labels import infer_label_map
from easyseg.data.io import read_mask
from easyseg.data.label_map import IGNORE, LabelMap
from easyseg.errors import DataError, OptionError
from easyseg.inference.writers import write_mask

MOST = {"bool": 1, "uint8": 255, "uint16": 65535, "int32": 2**31 - 1, "rgb": 2**24 - 1}


@st.composite
def label_maps(draw):
    dtype = draw(st.sampled_from(sorted(MOST)))
    size = draw(st.integers(2, 2 if dtype == "bool" else 12))
    values = draw(st.lists(st.integers(0, MOST[dtype]), min_size=size, max_size=size, unique=True))
    ignore = values.pop() if size > 2 and draw(st.booleans()) else None
    palette, smeared = None, False
    if dtype == "uint8" and draw(st.booleans()):
        count = draw(st.integers(max(values) + 1, 256))
        palette = tuple(draw(st.binary(min_size=3 * count, max_size=3 * count)))
    if dtype == "uint8" and len(values) == 2 and ignore is None:
        smeared = draw(st.booleans())
    names = tuple(f"name {v}" for v in values)
    return LabelMap(tuple(values), names, ignore, dtype, palette, smeared)


@settings(deadline=None)
@given(label_maps(), st.data())
def test_encode_then_decode_is_the_identity(label_map, data):
    known = [*label_map.values] + ([] if label_map.ignore is None else [label_map.ignore])
    cells = data.draw(st.lists(st.sampled_from(known), min_size=6, max_size=6))
    raw = np.array(cells).astype("int32" if label_map.coloured else label_map.dtype).reshape(2, 3)
    ids = label_map.encode(raw)
    assert ids.dtype == np.uint8
    expected = [IGNORE if v == label_map.ignore else label_map.values.index(v) for v in cells]
    assert ids.ravel().tolist() == expected
    back = label_map.decode(ids)
    if label_map.coloured:
        assert (back.dtype, back.shape) == (np.uint8, (2, 3, 3))
        expected = [[value // 65536, value // 256 % 256, value % 256] for value in cells]
        assert back.reshape(6, 3).tolist() == expected
        np.testing.assert_array_equal(read_mask(back, colour=True), raw)
        return
    assert back.dtype == label_map.dtype
    np.testing.assert_array_equal(back, raw)


@settings(deadline=None)
@given(label_maps())
def test_dict_survives_json(label_map):
    assert LabelMap.from_dict(json.loads(json.dumps(label_map.to_dict()))) == label_map


def test_maps_saved_before_there_were_palettes_are_read():
    record = {"values": [0, 255], "names": ["a", "b"], "ignore": None, "dtype": "uint8"}
    assert LabelMap.from_dict(record) == LabelMap((0, 255), ("a", "b"), None, "uint8")


@settings(deadline=None)
@given(label_maps(), st.data())
def test_unknown_values_are_those_that_encode_refuses(label_map, data):
    values = data.draw(st.sets(st.integers(0, 300) | st.sampled_from(label_map.values), max_size=9))
    unknown = label_map.unknown_values(values)
    for value in values:
        raw = np.array([value])
        if value in unknown:
            with pytest.raises(DataError, match="the mask holds the value"):
                label_map.encode(raw)
        else:
            label_map.encode(raw)
    assert unknown == sorted(unknown)


@settings(deadline=None)
@given(st.lists(st.integers(0, 255), min_size=2, max_size=2, unique=True), st.integers(0, 255))
def test_a_smeared_value_counts_as_the_nearer_of_two(values, level):
    label_map = LabelMap(tuple(values), ("a", "b"), None, "uint8", smeared=True)
    apart = [abs(level - value) for value in values]
    expected = values.index(min(values)) if apart[0] == apart[1] else int(np.argmin(apart))
    for dtype in (np.uint8, np.int64):
        assert label_map.encode(np.array([[level]], dtype)).tolist() == [[expected]]
    with pytest.raises(DataError, match="the value 256"):
        label_map.encode(np.array([[256]]))


@settings(deadline=None)
@given(label_maps(), st.data())
def test_predictions_that_are_written_are_read_as_the_same_ids(tmp_path_factory, label_map, data):
    path = tmp_path_factory.getbasetemp() / "prediction.png"
    last = label_map.num_classes - 1
    ids = data.draw(hnp.arrays(np.uint8, (3, 5), elements=st.integers(0, last)))
    if label_map.dtype == "int32" and max(label_map.values) >= 2**16:
        return  # a PNG holds 16 bits
    write_mask(path, label_map.decode(ids), label_map.palette)
    np.testing.assert_array_equal(label_map.encode(read_mask(path, colour=label_map.coloured)), ids)


@settings(deadline=None)
@given(label_maps())
def test_classes_of_a_map_give_the_map_again(label_map):
    palette = None if label_map.palette is None else bytes(label_map.palette)
    again = infer_label_map(
        label_map.values,
        label_map.dtype,
        palette=palette,
        smeared=label_map.smeared,
        classes=label_map.classes,
        ignore_index=label_map.ignore,
    )
    assert (again.values, again.names) == (label_map.values, label_map.names)
    assert (again.ignore, again.dtype) == (label_map.ignore, label_map.dtype)


@settings(deadline=None)
@given(
    st.sets(st.integers(0, MOST["int32"]), min_size=2, max_size=20).filter(lambda s: 255 not in s)
)
def test_values_without_255_map_in_ascending_order(values):
    label_map = infer_label_map(values, "int32")
    assert label_map.values == tuple(sorted(values))
    assert label_map.ignore is None
    assert label_map.binary == (len(values) == 2)


@settings(deadline=None)
@given(st.integers(2, 200), st.integers(0, 1))
def test_ids_without_a_gap_and_255_are_ids_and_ignored(count, first):
    ids = [value for value in range(first, first + count) if value < 255]
    label_map = infer_label_map([*ids, 255], "uint8")
    assert label_map.values == tuple(ids)
    assert label_map.ignore == 255


@pytest.mark.parametrize(
    ("values", "dtype", "mapped", "ignore", "names"),
    [
        ([0, 255], "uint8", (0, 255), None, ("background", "foreground")),
        ([0, 1], "uint8", (0, 1), None, ("background", "foreground")),
        ([0, 1], "bool", (0, 1), None, ("background", "foreground")),
        ([0, 1, 255], "uint8", (0, 1), 255, ("background", "foreground")),
        ([2, 1, 0, 255], "uint8", (0, 1, 2), 255, ("class_0", "class_1", "class_2")),
        ([1, 2, 255], "uint8", (1, 2), 255, ("background", "foreground")),
        ([3, 7, 90], "uint8", (3, 7, 90), None, ("class_3", "class_7", "class_90")),
        ([0, 65535], "uint16", (0, 65535), None, ("background", "foreground")),
        ([0, 128], "uint8", (0, 128), None, ("background", "foreground")),
    ],
)
def test_rules_without_options(values, dtype, mapped, ignore, names):
    expected = LabelMap(mapped, names, ignore, dtype)
    assert infer_label_map(values, dtype) == expected


@pytest.mark.parametrize(
    "values", [(0, 128, 255), (0, 2, 255), (1, 255), (254, 255), (2, 3, 255), (0, 1, 255, 256)]
)
def test_other_sets_with_255_are_ambiguous_and_classes_or_ignore_index_settle_it(values):
    with pytest.raises(DataError, match=r"classes=.*ignore_index=255"):
        infer_label_map(values, "uint16")
    every = infer_label_map(values, "uint16", classes={value: f"n{value}" for value in values})
    assert (every.values, every.ignore) == (values, None)
    named = infer_label_map(values, "uint16", classes=[f"n{value}" for value in values])
    assert named == every
    rest = tuple(value for value in values if value != 255)
    if len(rest) > 1:
        ignored = infer_label_map(values, "uint16", ignore_index=255)
        assert (ignored.values, ignored.ignore) == (rest, 255)


def test_ignore_index_is_a_raw_value_and_wins():
    label_map = infer_label_map([0, 1, 2, 255], "uint8", ignore_index=0)
    assert (label_map.values, label_map.ignore) == ((1, 2, 255), 0)
    label_map = infer_label_map([0, 255, 7], "uint8", ignore_index=7)
    assert (label_map.values, label_map.ignore) == ((0, 255), 7)
    label_map = infer_label_map([0, 1], "uint8", ignore_index=255)
    assert (label_map.values, label_map.ignore) == ((0, 1), 255)


def test_ignore_index_255_on_0_and_255_is_an_error():
    with pytest.raises(DataError, match="255 is the foreground: leave ignore_index out"):
        infer_label_map([0, 255], "uint8", ignore_index=255)


def test_named_classes_need_not_occur_but_others_must_be_named():
    classes = {5: "weed", 0: "soil", 3: "crop"}
    label_map = infer_label_map([0, 5, 255], "uint8", classes=classes, ignore_index=255)
    assert label_map == LabelMap((5, 0, 3), ("weed", "soil", "crop"), 255, "uint8")
    with pytest.raises(DataError, match="the value 255, which classes="):
        infer_label_map([0, 5, 255], "uint8", classes=classes)


def test_a_list_names_the_values_that_occur():
    label_map = infer_label_map([0, 1, 255], "uint8", classes=["a", "b"])
    assert label_map == LabelMap((0, 1), ("a", "b"), 255, "uint8")
    every = infer_label_map([0, 1, 255], "uint8", classes=["a", "b", "c"])
    assert every == LabelMap((0, 1, 255), ("a", "b", "c"), None, "uint8")
    for names in (["a"], ["a", "b", "c", "d"]):
        with pytest.raises(DataError, match=f"gives {len(names)} names?, but"):
            infer_label_map([0, 1, 255], "uint8", classes=names)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([0], {}, "all masks hold the value 0 .*expected two classes"),
        ([0, 7], {"ignore_index": 7}, "all masks hold the value 0"),
        ([], {}, "no value that is not ignored"),
        ([0], {"classes": {0: "a", 1: "b"}}, "all masks hold the value 0"),
        ([0, 1, 2], {"problem_type": "binary"}, "problem_type='binary' needs two classes"),
        ([0, 1], {"problem_type": "binary", "classes": {0: "a", 1: "b", 2: "c"}}, "needs two"),
        (range(300), {"ignore_index": 255}, "at most 255 classes"),
        (
            [0, 1],
            {"classes": {0: "a", 70000: "b", 1: "c"}},
            "70000, which masks of uint16 cannot hold",
        ),
    ],
)
def test_masks_that_give_no_map(values, options, message):
    with pytest.raises(DataError, match=message):
        infer_label_map(values, "uint16", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"problem_type": "binarry"}, "Did you mean 'binary'"),
        ({"ignore_index": -1}, "ignore_index=-1"),
        ({"ignore_index": 2.5}, "ignore_index=2.5"),
        ({"classes": "lesion"}, "expected {value: name}"),
        ({"classes": ["a", "a"]}, "same name"),
        ({"classes": ["a", " "]}, "not empty"),
        ({"classes": {"0": "a", "1": "b"}}, "raw mask value"),
        ({"classes": {"#00": "a", "#000000": "b"}}, "raw mask value"),
        ({"classes": {(0, 0): "a", (1, 1, 1): "b"}}, "raw mask value"),
        ({"classes": {(0, 0, 0): "a", 0: "b"}}, "two keys mean the same"),
        ({"ignore_index": "black"}, "ignore_index='black'"),
        ({"ignore_index": (0, 0, 256)}, "ignore_index"),
        ({"classes": {0: "a", 1: "b"}, "ignore_index": 1}, "also listed"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(OptionError, match=message):
        infer_label_map([0, 1], "uint8", **options)


def test_multiclass_with_two_classes_keeps_class_names():
    label_map = infer_label_map([0, 4], "uint8", problem_type="multiclass")
    assert label_map.names == ("class_0", "class_4")
    assert label_map.num_classes == 2


def test_255_classes_and_an_ignored_one_fill_the_ids():
    names = [f"class {value}" for value in range(255)]
    label_map = infer_label_map(range(256), "uint8", classes=names, ignore_index=255)
    assert (label_map.num_classes, label_map.ignore) == (255, 255)
    raw = np.arange(256, dtype=np.uint8)[None]
    np.testing.assert_array_equal(label_map.encode(raw), raw)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "int64"])
def test_unknown_values_are_named_with_the_file(dtype):
    label_map = infer_label_map([0, 1, 255], "uint8")
    raw = np.array([[0, 1, 2], [255, 9, 9]], dtype=dtype)
    with pytest.raises(DataError, match=r"m\.png: the mask holds the values 2, 9, .* 0, 1, 255"):
        label_map.encode(raw, where="m.png")


def test_masks_of_another_dtype_are_encoded_by_value():
    label_map = infer_label_map([0, 1], "uint8")
    raw = np.eye(3, dtype=bool)
    np.testing.assert_array_equal(label_map.encode(raw), raw)
    np.testing.assert_array_equal(label_map.encode(raw[::-1].T.astype(np.int32)), raw[::-1].T)


def test_decode_refuses_ids_that_are_none():
    label_map = infer_label_map([0, 255], "uint8")
    with pytest.raises(DataError, match=r"class ids \[2, 255\]"):
        label_map.decode(np.array([[0, 2, 255]], np.uint8))
    with pytest.raises(TypeError, match="uint8, not int64"):
        label_map.decode(np.array([[0, 1]]))
    np.testing.assert_array_equal(label_map.decode(np.array([[False, True]])), [[0, 255]])
    beyond = infer_label_map([0, 1], "bool", ignore_index=255)
    with pytest.raises(DataError):
        beyond.decode(np.array([[255]], np.uint8))


@pytest.mark.parametrize(
    "fields",
    [
        ((0, 0), ("a", "b"), None, "uint8"),
        ((0, 1), ("a", "b"), 1, "uint8"),
        ((0, 1), ("a", "a"), None, "uint8"),
        ((0, 1), ("a",), None, "uint8"),
        ((0, -1), ("a", "b"), None, "int32"),
        ((0, 256), ("a", "b"), None, "uint8"),
        ((0, 1), ("a", "b"), None, "float32"),
        ((), (), None, "uint8"),
        ((0, 2**24), ("a", "b"), None, "rgb"),
        ((0, 1), ("a", "b"), None, "uint8", (0, 0, 0)),
        ((0, 1), ("a", "b"), None, "uint8", (0, 0, 0, 1, 1, 256)),
        ((0, 1), ("a", "b"), None, "uint16", (0, 0, 0, 1, 1, 1)),
        ((0, 1), ("a", "b"), 7, "uint8", None, True),
        ((0, 1, 2), ("a", "b", "c"), None, "uint8", None, True),
        ((0, 1), ("a", "b"), None, "bool", None, True),
    ],
)
def test_a_map_cannot_be_built_wrong(fields):
    with pytest.raises(DataError, match="label map"):
        LabelMap(*fields)


def test_description_shows_names_values_and_what_is_ignored():
    text = "0 background <- 0 · 1 foreground <- 1 · ignored: 255"
    assert str(infer_label_map([0, 1, 255], "uint8")) == text


@pytest.mark.parametrize("values", [range(256), range(0, 255, 3), [0, 7, *range(100, 140)]])
def test_grey_levels_are_not_taken_for_classes(values):
    with pytest.raises(DataError, match=r"grey levels|cannot be told"):
        infer_label_map(values, "uint8")
    named = {value: f"level {value}" for value in list(values)[:200]}
    assert infer_label_map(named, "uint8", classes=named).num_classes == len(named)


BLACK, ROAD, TREE = 0, 0x804080, 0x00FF00
COLOURS = [BLACK, TREE, ROAD]
PALETTE = bytes([0, 0, 0, 128, 64, 128, 0, 255, 0, 128, 64, 128])


def test_colours_ascend_and_are_written_as_colours():
    label_map = infer_label_map(COLOURS, "rgb")
    assert label_map.values == (BLACK, TREE, ROAD)
    assert str(label_map) == (
        "0 class_#000000 <- #000000 · 1 class_#00FF00 <- #00FF00 · 2 class_#804080 <- #804080"
        " · ignored: none"
    )
    blue = infer_label_map([0, 1, 255], "rgb")
    assert (blue.values, blue.ignore) == ((0, 1, 255), None)  # 255 is blue


def test_colours_are_named_by_numbers_texts_and_triples_in_the_order_of_the_ids():
    classes = {"#804080": "road", (0, 0, 0): "nothing", TREE: "tree"}
    label_map = infer_label_map(COLOURS, "rgb", classes=classes)
    assert label_map == LabelMap((ROAD, BLACK, TREE), ("road", "nothing", "tree"), None, "rgb")
    void = infer_label_map(COLOURS, "rgb", ignore_index="#000000")
    assert (void.values, void.ignore) == ((TREE, ROAD), BLACK)
    assert str(void).endswith("1 foreground <- #804080 · ignored: #000000")


def test_of_two_classes_the_background_comes_first():
    for names in ({255: "lesion", 0: "Background"}, {0: "Background", 255: "lesion"}):
        assert infer_label_map([0, 255], "uint8", classes=names).values == (0, 255)
    inverted = infer_label_map([0, 255], "uint8", classes={255: "skin", 0: "lesion"})
    assert (inverted.values, inverted.names) == ((255, 0), ("skin", "lesion"))
    several = {2: "a", 0: "background", 1: "c"}
    assert infer_label_map([0, 1, 2], "uint8", classes=several).values == (2, 0, 1)


def test_a_colour_names_the_index_of_a_palette():
    classes = {"#000000": "nothing", "#00FF00": "tree", "#804080": "road"}
    label_map = infer_label_map([0, 2, 3], "uint8", palette=PALETTE, classes=classes)
    assert (label_map.values, label_map.dtype) == ((0, 2, 3), "uint8")  # 3 occurs, 1 does not
    assert label_map.palette == tuple(PALETTE)
    assert "2 road <- 3 (#804080)" in str(label_map)
    absent = infer_label_map([0, 2], "uint8", palette=PALETTE, classes=classes)
    assert absent.values == (0, 2, 1)
    with pytest.raises(DataError, match=r"'#804080' names the colour.*1, 3 in that colour"):
        infer_label_map([0, 1, 2, 3], "uint8", palette=PALETTE, classes=classes)
    with pytest.raises(DataError, match=r"#123456.*a palette without it: #000000, #804080"):
        infer_label_map([0, 1], "uint8", palette=PALETTE, ignore_index="#123456")


@pytest.mark.parametrize(
    ("dtype", "values"), [("uint8", (0, 255)), ("bool", (0, 1)), ("uint16", (0, 255))]
)
def test_a_grey_colour_names_a_grey_level(dtype, values):
    classes = {"#000000": "background", (255, 255, 255): "lesion"}
    assert infer_label_map(values, dtype, classes=classes).values == values
    with pytest.raises(DataError, match=r"#804080; the masks hold the values 0, "):
        infer_label_map(values, dtype, classes={0: "a", "#804080": "b"})


def test_a_palette_grows_to_its_values():
    label_map = infer_label_map([0, 1, 5], "uint8", palette=PALETTE, ignore_index=7)
    assert label_map.palette == (*PALETTE, *[0] * 12)
    assert infer_label_map([0, 1], "uint8", palette=PALETTE, ignore_index=300).palette == tuple(
        PALETTE
    )


def test_smeared_values_become_two():
    levels = range(256)
    label_map = infer_label_map(levels, "uint8", smeared=True)
    assert label_map == LabelMap(
        (0, 255), ("background", "foreground"), None, "uint8", smeared=True
    )
    assert str(label_map).endswith("ignored: none · smeared: the nearer value counts")
    for classes in (
        {255: "lesion", 0: "skin"},
        ["skin", "lesion"],
        {"#000000": "a", "#FFFFFF": "b"},
    ):
        assert infer_label_map(levels, "uint8", smeared=True, classes=classes).smeared
    assert infer_label_map(levels, "uint8", smeared=True, problem_type="binary").binary


@pytest.mark.parametrize(
    "options",
    [
        {"classes": {0: "a", 128: "b", 255: "c"}},
        {"ignore_index": 255},
        {"classes": ["a", "b", "c"]},
    ],
)
def test_the_users_word_counts_more_than_the_smear(options):
    with pytest.raises(DataError):
        infer_label_map(range(256), "uint8", smeared=True, **options)


def test_many_shades_are_not_taken_for_classes():
    shades = [value * 1000 for value in range(40)]
    with pytest.raises(DataError, match=r"#000000, #0003E8, .*shades of few colours"):
        infer_label_map(shades, "rgb")
    assert infer_label_map(shades, "rgb", classes=[f"n{v}" for v in shades]).num_classes == 40


@pytest.mark.parametrize(
    ("known", "ignore", "values", "own"),
    [
        ((0, 255), None, [0, 1], 255),
        ((255, 0), None, [1], 255),
        ((0, 255), 7, [0, 1], 255),
        ((0, 1), None, [0, 255], 1),
        ((0, 255), 1, [0, 1], None),
        ((0, 1), 255, [0, 255], None),
        ((0, 255), None, [0, 1, 255], None),
        ((0, 255), None, [0, 2], None),
        ((0, 255), None, [0], None),
        ((0, 1, 2), None, [0, 255], None),
    ],
)
def test_a_foreground_that_is_coded_in_the_other_way(known, ignore, values, own):
    label_map = LabelMap(known, tuple(f"n{value}" for value in known), ignore, "uint8")
    assert label_map.other_foreground(values, "uint8") == own
    line = label_map.misfit(values, "uint8", where="m.png")
    if own is None:
        assert line is None or "coded in another way" not in line
        return
    assert line.startswith("m.png: the mask holds the value")
    assert "the foreground is coded in another way; save all masks in one coding" in line
    assert ("ignore_index=255" in line) == (own == 1)


def test_black_and_blue_are_no_codings_of_a_foreground():
    label_map = infer_label_map([0, 255], "rgb")
    assert label_map.other_foreground([0, 1], "rgb") is None
    assert "the value #000001, expected only" in label_map.misfit([0, 1], "rgb")


@pytest.mark.parametrize(
    ("values", "dtype", "dim", "fits"),
    [
        ([0], "uint8", True, True),
        ([1], "uint8", False, True),
        ([0, 255], "uint8", False, True),
        ([0, 3, 20, 251], "uint8", False, True),
        ([0, 12, 30], "uint8", False, True),
        ([0, 12, 30], "uint8", True, False),
        ([0, 1], "uint8", False, False),
        ([0, 1, 2, 3], "uint8", False, False),
        (range(33), "uint16", False, False),
        (range(40), "uint8", False, True),
        ([0], "bool", False, True),
        ([1], "bool", False, False),
    ],
)
def test_ids_do_not_fit_smeared_masks(values, dtype, dim, fits):
    label_map = infer_label_map(range(256), "uint8", smeared=True)
    line = label_map.misfit(values, dtype, where="m.png", dim=dim)
    assert (line is None) == fits
    assert fits or line.startswith("m.png: the mask holds the value")


@pytest.mark.parametrize(("dtype", "value"), [("bool", 2), ("uint8", 300)])
def test_a_listed_value_that_the_masks_cannot_hold_is_named(dtype, value):
    with pytest.raises(DataError, match=f"lists the value {value}, which masks of .* cannot hold"):
        infer_label_map([0, 1], dtype, classes={0: "ground", 1: "lesion", value: "pen"})
