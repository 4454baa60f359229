"""The label map: every rule, every error, and the way there and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyseg.data.label_map import IGNORE, LabelMap, infer_label_map
from easyseg.errors import DataError, OptionError

MOST = {"bool": 1, "uint8": 255, "uint16": 65535, "int32": 2**31 - 1}


@st.composite
def label_maps(draw):
    dtype = draw(st.sampled_from(sorted(MOST)))
    size = draw(st.integers(2, 2 if dtype == "bool" else 12))
    values = draw(st.lists(st.integers(0, MOST[dtype]), min_size=size, max_size=size, unique=True))
    ignore = values.pop() if size > 2 and draw(st.booleans()) else None
    return LabelMap(tuple(values), tuple(f"name {v}" for v in values), ignore, dtype)


@settings(deadline=None)
@given(label_maps(), st.data())
def test_encode_then_decode_is_the_identity(label_map, data):
    known = [*label_map.values] + ([] if label_map.ignore is None else [label_map.ignore])
    cells = data.draw(st.lists(st.sampled_from(known), min_size=6, max_size=6))
    raw = np.array(cells).astype(label_map.dtype).reshape(2, 3)
    ids = label_map.encode(raw)
    assert ids.dtype == np.uint8
    expected = [IGNORE if v == label_map.ignore else label_map.values.index(v) for v in cells]
    assert ids.ravel().tolist() == expected
    back = label_map.decode(ids)
    assert back.dtype == label_map.dtype
    np.testing.assert_array_equal(back, raw)


@settings(deadline=None)
@given(label_maps())
def test_dict_survives_json(label_map):
    assert LabelMap.from_dict(json.loads(json.dumps(label_map.to_dict()))) == label_map


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
        with pytest.raises(DataError, match=f"gives {len(names)} names"):
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
        ([0, 1], {"classes": {0: "a", 70000: "b", 1: "c"}}, "70000 does not fit uint16"),
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
