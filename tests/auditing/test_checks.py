"""What is wrong with, or worth knowing about, a set as a whole: each check where it must speak."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from audit_gallery import SIZE, audit_of, fit_prepares, fit_refuses, scenes, spoil, write_set
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from easyseg.auditing.audit import examine_labelled
from easyseg.auditing.checks import run_checks
from easyseg.auditing.checks.classes import check_rare_classes
from easyseg.auditing.checks.inverted import check_inverted
from easyseg.auditing.facts import ImageFacts
from easyseg.auditing.repair import repair
from easyseg.auditing.tables import Audited, AuditTable, Seen
from easyseg.data.label_map import LabelMap
from easyseg.data.table import read_samples
from easyseg.errors import DataError, OptionError

PAIRS = scenes(8)
CLASSES = scenes(8, seed=1, multiclass=True)
PALETTE = [0, 0, 0, 128, 64, 128, 220, 20, 60]
COLOURS = np.array([[0, 0, 0], [128, 64, 128], [220, 20, 60]], np.uint8)


def only(report, check):
    (finding,) = report.by_check(check)
    return finding


def checks(report, *, but=("mask-encoding",)):
    return sorted({finding.check for finding in report.findings} - set(but))


def with_palette(ids):
    picture = Image.fromarray(ids, "P")
    picture.putpalette(PALETTE)
    return picture


# How masks are coded.


@pytest.mark.parametrize(
    ("encode", "options", "words"),
    [
        (lambda ids: ids, {}, "8 bit, the values 0, 1"),
        (lambda ids: ids * np.uint8(255), {}, "8 bit black and white, the values 0, 255"),
        (lambda ids: ids > 0, {}, "1 bit, the values 0, 1"),
        (lambda ids: ids.astype(np.uint16) * 1000, {}, "16 bit, the values 0, 1000"),
        (with_palette, {}, "indices of a palette, the values 0 (#000000), 1 (#804080)"),
        (lambda ids: COLOURS[ids], {}, "RGB colours, the colours #000000, #804080"),
    ],
)
def test_encodings_are_named_and_trained_on(encode, options, words, tmp_path):
    table = write_set(tmp_path, PAIRS, encode, **options)
    report = audit_of(table)
    assert checks(report) == []
    assert f"8 of 8 masks: {words}" in only(report, "mask-encoding").found
    prepared = fit_prepares(table)
    assert prepared.label_map == report.label_map


def test_jpeg_masks_are_smeared_masks(tmp_path):
    table = write_set(tmp_path, PAIRS, suffix="jpg", quality=75)
    report = audit_of(table)
    assert checks(report) == ["smeared-masks"]
    smeared = only(report, "smeared-masks")
    assert (str(smeared.severity), smeared.repair) == ("warning", "threshold the mask")
    assert "8 masks are JPEGs" in smeared.found
    assert fit_prepares(table).label_map.smeared


def test_anti_aliased_masks_are_smeared_masks(tmp_path):
    def soften(ids):
        return Image.fromarray(ids * np.uint8(255)).filter(ImageFilter.GaussianBlur(1))

    table = write_set(tmp_path, PAIRS, soften)
    assert checks(audit_of(table)) == ["smeared-masks"]
    assert fit_refuses(table) == ()


def test_several_ways_at_once_are_several_notes(tmp_path):
    first = write_set(tmp_path / "a", PAIRS[:4], lambda ids: ids)
    second = write_set(tmp_path / "b", PAIRS[4:], lambda ids: ids.astype(np.uint16))
    report = audit_of(pd.concat([first, second], ignore_index=True))
    notes = report.by_check("mask-encoding")
    assert ["4 of 8 masks: 8 bit, " in n.found for n in notes] == [True, False]
    assert [item.position for item in notes[1].evidence] == [4, 5, 6, 7]
    assert report.ok


def test_one_bit_masks_among_black_and_white_ones(tmp_path):
    first = write_set(tmp_path / "a", PAIRS[:3], lambda ids: ids > 0)
    second = write_set(tmp_path / "b", PAIRS[3:])
    table = pd.concat([first, second], ignore_index=True)
    report = audit_of(table)
    mixed = only(report, "mixed-bits")
    assert (report.errors, mixed.repair) == ((mixed,), "write 255 for 1")
    assert [item.position for item in mixed.evidence] == [0, 1, 2]
    assert "mask_0.png: has 1 bit, others hold 0 and 255" in fit_refuses(table)[0]


def test_zero_and_one_beside_zero_and_255(tmp_path):
    first = write_set(tmp_path / "a", PAIRS[:3], lambda ids: ids)
    second = write_set(tmp_path / "b", PAIRS[3:])
    table = pd.concat([first, second], ignore_index=True)
    report = audit_of(table)
    assert [finding.check for finding in report.errors] == ["mixed-encodings"]
    assert len(fit_refuses(table)) == 3
    assert audit_of(table, ignore_index=255).ok
    assert fit_refuses(table, ignore_index=255) == ()


def test_the_line_of_a_mask_in_another_coding_says_what_to_do(tmp_path):
    first = write_set(tmp_path / "a", PAIRS[:5], lambda ids: ids)
    second = write_set(tmp_path / "b", PAIRS[5:])
    line = fit_refuses(pd.concat([first, second], ignore_index=True))[0]
    assert "holds [0, 255], others hold 0 and 1: save all masks in one way" in line
    remedy = only(audit_of(second, first), "unknown-values").remedy
    assert remedy.startswith("save all masks in one coding")


RED = np.array([[0, 0, 0], [255, 0, 0]], np.uint8)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (lambda ids: ids, lambda ids: ids * np.uint8(100), "hold the value 1, 3 others"),
        (lambda ids: ids, lambda ids: ids * np.uint16(65535), "the value 65535"),
        (lambda ids: ids * np.uint8(255), lambda ids: RED[ids], "#FF0000"),
        (lambda ids: ids, lambda ids: ids * np.uint8(2), None),  # an object of one class a picture
        (lambda ids: RED[ids], lambda ids: RED[ids][..., ::-1], None),
    ],
)
def test_one_class_in_two_codings_is_asked_about(one, other, words, tmp_path):
    first = write_set(tmp_path / "a", PAIRS[:5], one)
    second = write_set(tmp_path / "b", PAIRS[5:], other)
    report = audit_of(pd.concat([first, second], ignore_index=True))
    if words is None:
        assert "mixed-encodings" not in checks(report)
        return
    question = only(report, "mixed-encodings")
    assert (str(question.severity), words in question.found) == ("warning", True)
    assert {item.position for item in question.evidence} == {5, 6, 7}


def test_two_codings_of_several_classes(tmp_path):
    far = np.array([0, 127, 254], np.uint8)
    first = write_set(tmp_path / "a", CLASSES[:5], lambda ids: ids)
    second = write_set(tmp_path / "b", CLASSES[5:], lambda ids: far[ids])
    question = only(audit_of(pd.concat([first, second], ignore_index=True)), "mixed-encodings")
    assert "5 masks hold the values 1, 2, 3 others the values 127, 254" in question.found


def test_probability_maps_are_no_classes(tmp_path):
    ramp = np.linspace(0, 170, SIZE[0] * SIZE[1]).astype(np.uint8).reshape(SIZE)
    table = write_set(tmp_path, PAIRS, lambda ids: ids * ramp.T.reshape(SIZE))
    report = audit_of(table)
    assert only(report, "soft-masks") in report.errors
    assert "8 of 8 masks hold more than 64 values each" in only(report, "soft-masks").found
    assert fit_refuses(table) != ()
    named = {value: f"class {value}" for value in range(171)}
    assert "soft-masks" not in checks(audit_of(table, classes=named))


def test_masks_with_too_many_values_are_one_error(tmp_path):
    rng = np.random.default_rng(0)
    many = rng.integers(0, 60000, SIZE, dtype=np.uint16)
    report = audit_of(write_set(tmp_path, PAIRS, lambda ids: many))
    assert [finding.check for finding in report.errors] == ["too-many-values"]
    assert "numbers of objects are no classes" in report.errors[0].remedy


def test_lossy_webps_of_two_values_are_grey_levels_rather_than_colours(tmp_path):
    table = write_set(tmp_path / "a", PAIRS, suffix="webp", quality=90)
    mixed = pd.concat([table[:1], write_set(tmp_path / "b", PAIRS[1:])], ignore_index=True)
    for each in (table, mixed):
        (line,) = fit_refuses(each)
        assert "Masks saved as JPEG or resized with interpolation hold smeared values" in line
    exact = audit_of(write_set(tmp_path / "c", PAIRS, suffix="webp", lossless=True))
    assert checks(exact) == []


def test_classes_in_lossy_files_are_doubted(tmp_path):
    table = write_set(tmp_path / "a", CLASSES, lambda ids: ids, suffix="jpg", quality=95)
    doubt = only(audit_of(table), "lossy-masks")
    assert (str(doubt.severity), len(doubt.evidence)) == ("warning", 8)
    clean = audit_of(write_set(tmp_path / "b", CLASSES, lambda ids: ids))
    assert "lossy-masks" not in checks(clean)


def test_colours_between_two_others_are_smeared_edges(tmp_path):
    pair = np.array([[68, 1, 84], [253, 231, 37]], np.uint8)

    def resized(ids):
        small = Image.fromarray(pair[ids]).resize((43, 32), Image.Resampling.NEAREST)
        return small.resize(SIZE[::-1], Image.Resampling.BILINEAR)

    levels = np.linspace(pair[0], pair[1], 7).astype(np.uint8)

    def blended(ids):
        grey = np.asarray(Image.fromarray(ids * np.uint8(6)).filter(ImageFilter.BoxBlur(1)))
        return levels[grey]

    doubt = only(audit_of(write_set(tmp_path / "a", PAIRS, blended)), "blended-colours")
    assert str(doubt.severity) == "warning"
    assert "rare and lie between two frequent colours" in doubt.found
    assert fit_refuses(write_set(tmp_path / "b", PAIRS, resized)) != ()  # far too many shades
    clean = audit_of(write_set(tmp_path / "c", CLASSES, lambda ids: COLOURS[ids]))
    assert "blended-colours" not in checks(clean)


def test_ambiguous_values_are_an_error_that_options_settle(tmp_path):
    values = np.array([0, 128, 255], np.uint8)
    table = write_set(tmp_path, CLASSES, lambda ids: values[ids])
    report = audit_of(table)
    assert [finding.check for finding in report.errors] == ["label-values"]
    assert "whether 255 is a class or ignored cannot be told" in report.errors[0].found
    assert report.errors[0].remedy.startswith("say what the values mean")
    assert report.label_map is None
    assert fit_refuses(table) == (report.errors[0].line(),)
    named = {0: "ground", 128: "pad", 255: "dots"}
    assert audit_of(table, classes=named).ok
    assert fit_refuses(table, classes=named) == ()


def test_gaps_in_ids(tmp_path):
    values = np.array([0, 3, 7], np.uint8)
    report = audit_of(write_set(tmp_path, CLASSES, lambda ids: values[ids]))
    assert "1, 2, 4, 5, 6 of 0 to 7 never occur" in only(report, "gaps-in-ids").found
    assert report.ok


def test_void_is_said_and_a_far_value_is_asked_about(tmp_path):
    def rim(ids, value):
        coded = ids.copy()
        coded[:4] = value
        return coded

    report = audit_of(write_set(tmp_path / "a", CLASSES, lambda ids: rim(ids, 255)))
    note = only(report, "ignored-pixels")
    assert "255 is ignored" in note.found
    assert f"{4 / 96:.2%}" in note.found
    report = audit_of(write_set(tmp_path / "b", CLASSES, lambda ids: rim(ids, 100)))
    assert "is the value 100 a class?" in only(report, "ignore-candidate").found
    assert "ignore_index=100" in only(report, "ignore-candidate").remedy
    white = np.concatenate([COLOURS, [[255, 255, 255]]]).astype(np.uint8)
    report = audit_of(write_set(tmp_path / "c", CLASSES, lambda ids: white[rim(ids, 3)]))
    assert "ignore_index='#FFFFFF'" in only(report, "ignore-candidate").remedy


def test_an_ignored_value_that_no_mask_holds_is_said(tmp_path):
    report = audit_of(write_set(tmp_path, CLASSES, lambda ids: ids), ignore_index=254)
    assert only(report, "ignored-pixels").found == "no training mask holds the ignored value 254"


def boxes(inverted):
    """Return pairs with an object that keeps off the border, in some as a negative."""
    rng = np.random.default_rng(0)
    pairs = []
    for i, (image, _) in enumerate(scenes(12, seed=2)):
        ids = np.zeros(SIZE, np.uint8)
        top, left = rng.integers(5, 40, 2)
        ids[top : top + 30, left : left + 40] = 1
        pairs.append((image, 1 - ids if i in inverted else ids))
    return pairs


@pytest.mark.parametrize("inverted", [{3}, {0, 5, 9}, set(range(6))])
def test_some_inverted_masks_are_a_question_that_names_them(inverted, tmp_path):
    report = audit_of(write_set(tmp_path, boxes(inverted)))
    question = only(report, "inverted-masks")
    assert str(question.severity) == "warning"
    assert {item.position for item in question.evidence} == inverted


def test_tables_that_are_inverted_beside_the_training_masks(tmp_path):
    train, tuning, test = (
        write_set(tmp_path / name, boxes(set(range(12)) if name == "tuning" else set()))
        for name in ("train", "tuning", "test")
    )
    question = only(audit_of(train, tuning, test), "inverted-masks")
    assert "(tuning: 12)" in question.found
    assert "inverted-masks" not in checks(audit_of(train, test))


def test_objects_that_fill_their_images_are_no_negatives(tmp_path):
    pairs = boxes(set())
    whole = np.ones(SIZE, np.uint8)
    large = whole.copy()
    large[40:44, 60:64] = 0  # leaves less free than any object takes
    pairs[2:4] = [(pairs[2][0], whole), (pairs[3][0], large)]
    assert "inverted-masks" not in checks(audit_of(write_set(tmp_path, pairs)))


def test_the_remedy_for_inverted_colours_is_python(tmp_path):
    colours = np.array([[255, 0, 0], [255, 255, 255]], np.uint8)
    report = audit_of(write_set(tmp_path, boxes(set(range(12))), lambda ids: colours[ids]))
    remedy = only(report, "inverted-foreground").remedy
    assert "classes={'#FFFFFF': 'background', '#FF0000': 'foreground'}" in remedy


def test_inverted_masks_are_a_question(tmp_path):
    report = audit_of(write_set(tmp_path, PAIRS, lambda ids: (1 - ids) * np.uint8(255)))
    question = only(report, "inverted-foreground")
    assert str(question.severity) == "warning"
    assert "is the foreground the other way round?" in question.found
    named = {255: "background", 0: "pad"}
    assert str(named) not in question.remedy
    assert "{255: 'background', 0: 'foreground'}" in question.remedy
    again = audit_of(
        write_set(tmp_path / "b", PAIRS, lambda ids: (1 - ids) * np.uint8(255)), classes=named
    )
    assert "inverted-foreground" not in checks(again)
    assert again.label_map.values == (255, 0)


# Classes.


def test_a_value_in_one_file_only(tmp_path):
    table = write_set(tmp_path, CLASSES, lambda ids: ids)
    with Image.open(table["label"][3]) as mask:
        values = np.array(mask)
    values[5, 5:8] = 3
    Image.fromarray(values).save(table["label"][3])
    lone = only(audit_of(table), "lone-value")
    assert "holds the value 3, in 3 pixels" in lone.found
    assert [item.position for item in lone.evidence] == [3]


def test_many_values_in_one_file_each_are_one_finding(tmp_path):
    pairs = [(image, ids * np.uint8(10 + i)) for i, (image, ids) in enumerate(PAIRS)]
    finding = only(audit_of(write_set(tmp_path, pairs, lambda ids: ids)), "lone-value")
    assert "8 of 9 values are each held by one mask of 8 alone" in finding.found
    assert len(finding.evidence) == 8


def test_empty_and_full_masks(tmp_path):
    table = write_set(tmp_path, PAIRS)
    empty, full = np.zeros((96, 128), np.uint8), np.full((96, 128), 255, np.uint8)
    for row, mask in ((1, empty), (2, empty), (6, full)):
        Image.fromarray(mask).save(table["label"][row])
    report = audit_of(table)
    assert str(only(report, "empty-masks").severity) == "note"
    assert [item.position for item in only(report, "empty-masks").evidence] == [1, 2]
    assert [item.position for item in only(report, "full-masks").evidence] == [6]
    for row in (0, 3, 4):
        Image.fromarray(empty).save(table["label"][row])
    assert str(only(audit_of(table), "empty-masks").severity) == "warning"
    for file in table["label"]:
        Image.fromarray(empty).save(file)
    report = audit_of(table)
    assert [finding.check for finding in report.errors] == ["label-values"]
    assert "all masks hold the value 0 (ignored: none), expected two" in report.errors[0].found
    assert "all masks hold the value 0" in fit_refuses(table)[0]


def test_one_photo_among_grey_masks_does_not_make_the_other_tables_coloured(tmp_path):
    train, tuning = (write_set(tmp_path / n, scenes(6, seed=s)) for s, n in ((0, "a"), (7, "b")))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(Image.open(train["image"][0]).size).save(train["label"][0])
    assert not audit_of(train, tuning).by_check("unknown-values")


def test_one_coloured_mask_among_grey_ones_of_another_table_is_named_alone(tmp_path):
    train, tuning = (write_set(tmp_path / n, scenes(6, seed=s)) for s, n in ((0, "a"), (7, "b")))
    ids = np.asarray(Image.open(tuning["label"][2])) > 0
    Image.fromarray(COLOURS[ids.astype(np.uint8)]).save(tuning["label"][2])
    finding = only(audit_of(train, tuning), "unknown-values")
    assert [item.files[-1] for item in finding.evidence] == [Path(tuning["label"][2]).as_posix()]


def test_classes_that_a_table_lacks(tmp_path):
    train = write_set(tmp_path / "train", CLASSES, lambda ids: ids)
    some = scenes(3, seed=2, multiclass=True)
    tuning = write_set(tmp_path / "tuning", some, lambda ids: np.minimum(ids, 1))
    missing = only(audit_of(train, tuning), "missing-class")
    assert missing.found == "no mask of the tuning table holds class_2 (2)"
    never = audit_of(train, classes={0: "a", 1: "b", 2: "c", 9: "d"})
    assert only(never, "missing-class").found == "no mask of the train table holds d (9)"


def test_values_that_only_the_tuning_table_holds(tmp_path):
    train = write_set(tmp_path / "train", CLASSES, lambda ids: np.minimum(ids, 1))
    tuning = write_set(tmp_path / "tuning", scenes(3, seed=2, multiclass=True), lambda ids: ids)
    report = audit_of(train, tuning)
    assert [finding.check for finding in report.errors] == ["unknown-values"]
    lines = fit_refuses(train, tuning)
    assert [line.split(":")[0] for line in lines] == [f"tuning row {i}" for i in range(3)]


def audited(counts, label_map, border=None):
    """Return an audit of made-up masks."""
    facts = tuple(
        ImageFacts(
            (10, 10), c, "uint8", "RGB", 0.0, {}, num_values=len(c), border_counts=border or c
        )
        for c in counts
    )
    samples = read_samples(pd.DataFrame({"image": [np.zeros((1, 1))], "label": [np.zeros((1, 1))]}))
    samples = samples.take([0] * len(facts))
    table = AuditTable("train", samples, facts, (), tuple(range(len(facts))))
    return Audited((table,), label_map, (), named=False, told=False, by_value=False)


@given(
    st.lists(
        st.dictionaries(st.sampled_from([0, 4, 9, 255]), st.integers(1, 10_000), min_size=1),
        min_size=1,
        max_size=6,
    )
)
def test_rare_classes_are_those_of_the_obvious_sum(counts):
    label_map = LabelMap((0, 4, 9), ("a", "b", "c"), 255, "uint8")
    total = Counter()
    for each in counts:
        total.update(each)
    kept = sum(total[value] for value in label_map.values)
    expected = {}
    for name, value in zip(label_map.names, label_map.values, strict=True):
        share = total[value] / kept if kept else 0
        if 0 < share < 0.02:
            expected[f"{name} ({value})"] = "warning" if share < 0.005 else "note"
    found = {
        finding.found.split("class ")[1].split(" has")[0]: str(finding.severity)
        for finding in check_rare_classes(audited(counts, label_map))
    }
    assert found == expected


@pytest.mark.parametrize(
    ("inside", "frame", "asked"), [(70, 70, True), (60, 90, False), (90, 60, False), (10, 5, False)]
)
def test_the_question_needs_both_the_pixels_and_the_border(inside, frame, asked):
    label_map = LabelMap((0, 1), ("background", "foreground"), None, "uint8")
    data = audited([{0: 100 - inside, 1: inside}] * 3, label_map, {0: 100 - frame, 1: frame})
    assert bool(list(check_inverted(data))) == asked


# The same picture twice.


def test_duplicates_in_a_table(tmp_path):
    table = write_set(tmp_path, PAIRS)
    with Image.open(table["image"][2]) as image:
        image.save(tmp_path / "again.png")
    twice = pd.DataFrame(
        {
            "image": [*table["image"], str(tmp_path / "again.png"), table["image"][5]],
            "label": [*table["label"], table["label"][2], table["label"][0]],
        }
    )
    report = audit_of(twice)
    found = only(report, "duplicate-images")
    assert str(found.severity) == "warning"
    assert "2 images are in one table more than once; different masks for 1 of them" in found.found
    assert [item.position for item in found.evidence] == [2, 8, 5, 9]
    assert "with another mask" not in found.evidence[0].detail
    assert "with another mask" in found.evidence[2].detail
    assert "near-duplicates" not in checks(report)
    assert fit_refuses(twice) == ()


@pytest.mark.parametrize("other", ["tuning", "test"])
def test_images_in_two_tables_are_leakage(tmp_path, other):
    train = write_set(tmp_path, PAIRS)
    shared = train.iloc[[1, 4]].reset_index(drop=True)
    report = audit_of(train, **{other: shared})
    (leak,) = report.errors
    assert (leak.check, leak.found[:29]) == ("leakage", "2 images are in two tables: s")
    assert [(i.table, i.position) for i in leak.evidence] == [
        ("train", 1),
        (other, 0),
        ("train", 4),
        (other, 1),
    ]
    if other == "tuning":
        lines = fit_refuses(train, shared)
        assert len(lines) == 4
        assert all("leakage: the same image in two tables; remove it from" in x for x in lines)


@pytest.mark.parametrize("two", [[(0, 0, 0)] * 2, [(90, 30, 60)] * 2, [7, 9]])
def test_blank_images_are_no_copies_of_each_other(two, tmp_path):
    """Constant images of 16 bits become black, whatever their value."""
    tables = []
    for i, value in enumerate(two):
        table = write_set(tmp_path / f"{i}", scenes(6, seed=i))
        for row in (1, 4):
            table.loc[row, "image"] = str(tmp_path / f"blank {i} {row}.png")
            blank = np.full((*SIZE, 3), value, np.uint8)
            if isinstance(value, int):
                blank = np.full(SIZE, value, np.uint16)
            Image.fromarray(blank).save(table["image"][row])
        tables.append(table)
    report = audit_of(*tables)
    assert report.ok
    assert "duplicate-images" not in checks(report)
    assert len(only(report, "constant-image").evidence) == 4
    assert fit_refuses(*tables) == ()


def test_blank_slices_do_not_tie_patients_together(tmp_path):
    table = write_set(tmp_path, scenes(12))
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "blank.png")
    table.loc[::3, "image"] = str(tmp_path / "blank.png")
    table["patient"] = [f"p{i // 3}" for i in range(12)]
    found = fit_prepares(table, groups="patient").fingerprint
    assert (found.split, found.duplicates) == ("4 groups of the column 'patient'", 0)


def test_near_duplicates_in_a_table_and_across_tables(tmp_path):
    train = write_set(tmp_path / "a", PAIRS)
    brighter = [
        (np.array(ImageEnhance.Brightness(Image.fromarray(i)).enhance(1.1)), m) for i, m in PAIRS
    ]
    close = write_set(tmp_path / "b", brighter[:2])
    report = audit_of(pd.concat([train, close], ignore_index=True))
    found = only(report, "near-duplicates")
    assert str(found.severity) == "warning"
    assert [item.position for item in found.evidence] == [0, 8, 1, 9]
    report = audit_of(train, close)
    found = only(report, "near-leakage")
    assert str(found.severity) == "warning"
    assert "likely leakage" in found.found
    assert report.ok
    assert fit_refuses(train, close) == ()


def test_a_mask_of_several_images(tmp_path):
    table = write_set(tmp_path, PAIRS)
    table.loc[3, "label"] = table["label"][4]
    shared = only(audit_of(table), "shared-mask")
    assert [item.position for item in shared.evidence] == [3, 4]


def test_groups_in_names_and_groups_in_two_tables(tmp_path):
    table = write_set(tmp_path, scenes(12))
    names = [f"patient{i // 3:02}_{i}.jpg" for i in range(12)]
    for old, new in zip(table["image"], names, strict=True):
        (tmp_path / new).write_bytes(open(old, "rb").read())  # noqa: PTH123, SIM115
    table["image"] = [str(tmp_path / name) for name in names]
    report = audit_of(table)
    assert "4 groups in 12 images" in only(report, "groups-in-names").found
    assert "groups=" in only(report, "groups-in-names").remedy
    assert checks(report) == ["groups-in-names"]
    split = audit_of(table.iloc[:8], table.iloc[8:].reset_index(drop=True))
    assert "1 of 4 groups" in only(split, "split-groups").found
    assert [i.position for i in only(split, "split-groups").evidence] == [6, 7, 0]


# Images.


@pytest.mark.parametrize("missing", [-9999.0, -3.4e38])
def test_a_value_for_missing_data_that_takes_the_whole_range(missing, tmp_path):
    table = write_set(tmp_path, PAIRS)
    for i, (image, _) in enumerate(PAIRS[:3]):
        bare = image[..., 1].astype(np.float32) / 255
        bare[:, :10] = missing if i < 2 else 0.5
        Image.fromarray(bare).save(tmp_path / f"{i}.tif")
        table.loc[i, "image"] = str(tmp_path / f"{i}.tif")
    finding = only(audit_of(table), "squeezed-range")
    assert {item.position for item in finding.evidence} == {0, 1}


@pytest.mark.parametrize("column", ["image", "label"])
@pytest.mark.parametrize(("orientation", "asked"), [(1, False), (2, True), (3, True), (4, True)])
def test_an_orientation_that_leaves_the_size_is_asked_about(orientation, asked, column, tmp_path):
    table = write_set(tmp_path, PAIRS, suffix="tif")
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "turned.tif"
    with Image.open(table[column][3]) as picture:
        picture.convert("RGB" if column == "image" else "L").save(file, exif=exif)
    table.loc[3, column] = str(file)
    report = audit_of(table)
    assert ("exif-orientation" in checks(report)) == asked
    if asked:
        assert {item.position for item in only(report, "exif-orientation").evidence} == {3}


def test_the_orientation_of_a_mask_without_an_image_is_no_question(tmp_path):
    table = write_set(tmp_path, PAIRS, suffix="tif")
    exif = Image.Exif()
    exif[0x0112] = 3
    with Image.open(table["label"][3]) as mask:
        mask.save(tmp_path / "turned.tif", exif=exif)
    table.loc[3, "label"] = str(tmp_path / "turned.tif")
    assert "exif-orientation" in checks(audit_of(table))
    Path(table["image"][3]).write_bytes(b"no image")
    assert "exif-orientation" not in checks(audit_of(table))


def test_an_orientation_that_tells_settles_the_others(tmp_path):
    table = write_set(tmp_path, PAIRS)
    for row, orientation in ((2, 3), (5, 6)):  # 6: the mask fits the image as shown
        exif = Image.Exif()
        exif[0x0112] = orientation
        turn = {3: 2, 6: 1}[orientation]
        stored = np.rot90(PAIRS[row][0], turn)
        Image.fromarray(stored).save(tmp_path / f"{row}.jpg", exif=exif)
        table.loc[row, "image"] = str(tmp_path / f"{row}.jpg")
        asked = "exif-orientation" in checks(audit_of(table))
        assert asked == (row == 2)
    assert "size-turned-by-exif" not in checks(audit_of(table))


@pytest.mark.parametrize(("suffix", "options"), [("tif", {}), ("webp", {"lossless": True})])
def test_pages_that_are_not_read_are_said(tmp_path, suffix, options):
    table = write_set(tmp_path, PAIRS)
    for column, row in (("image", 0), ("label", 2)):
        first = Image.open(table[column][row]).convert("L")
        file = tmp_path / f"{row}.{suffix}"
        first.save(file, save_all=True, append_images=[ImageOps.invert(first)] * 2, **options)
        table.loc[row, column] = str(file)
    found = {str(f.severity): f for f in audit_of(table).by_check("several-pages")}
    assert {key: [e.position for e in f.evidence] for key, f in found.items()} == {
        "note": [0],
        "warning": [2],
    }


def test_no_table_at_all_is_said():
    with pytest.raises(DataError, match="train data are None"):
        audit_of(None)
    with pytest.raises(DataError, match="expected a DataFrame or a CSV"):
        fit_prepares(None)


def test_extreme_sizes(tmp_path, monkeypatch):
    sizes = {"tiny-image": (20, 90), "elongated-image": (40, 200), "huge-image": (300, 300)}
    rng = np.random.default_rng(0)
    rows = [
        (rng.integers(0, 256, (*s, 3), dtype=np.uint8), np.eye(*s, dtype=np.uint8))
        for s in sizes.values()
    ]
    monkeypatch.setattr("easyseg.auditing.checks.sizes._HUGE", 80_000)
    report = audit_of(write_set(tmp_path, rows))
    for row, check in enumerate(sizes):
        found = only(report, check)
        assert row in [item.position for item in found.evidence]
        assert str(found.severity) == ("note" if check == "elongated-image" else "warning")
    assert report.ok


def test_a_bomb_is_an_error(tmp_path, monkeypatch):
    table = write_set(tmp_path, PAIRS)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    report = audit_of(table)
    assert {finding.check for finding in report.errors} == {"decompression-bomb"}
    assert len(report.errors[0].evidence) == 16
    assert "MAX_IMAGE_PIXELS" in report.errors[0].remedy


def test_swapped_columns_are_told_from_swapped_rows(tmp_path):
    table = write_set(tmp_path, PAIRS)
    swapped = table.rename(columns={"image": "label", "label": "image"})
    report = audit_of(swapped)
    assert [finding.check for finding in report.errors] == ["swapped-columns"]
    assert "the image and the label column are swapped in 8 of 8 rows" in report.errors[0].found
    lines = fit_refuses(swapped)
    assert all("different values in the label" in line for line in lines)
    assert all("seem to be swapped: swap the columns: image= names" in line for line in lines)
    smeared = write_set(tmp_path / "b", PAIRS, suffix="jpg", quality=80)
    swapped = smeared.rename(columns={"image": "label", "label": "image"})
    assert [finding.check for finding in audit_of(swapped).errors] == ["swapped-columns"]


@pytest.mark.parametrize(
    ("defect", "words"),
    [
        ("swapped", "image and label seem to be swapped: swap the two cells"),
        ("label is image", "the label must name the mask: correct the cell, or drop the row"),
        ("gradient", "save one class id a pixel, as PNG, or drop the row"),
    ],
)
def test_the_line_of_a_row_says_what_is_wrong_and_what_to_do(defect, words, tmp_path):
    table = spoil(write_set(tmp_path / "set", PAIRS), {5: defect}, tmp_path)
    (line,) = fit_refuses(table)
    assert line.startswith("row 5: ")
    assert line.endswith(f"; {words}")


def test_true_is_no_ignored_value(tmp_path):
    with pytest.raises(OptionError, match="ignore_index=True"):
        audit_of(write_set(tmp_path, PAIRS), ignore_index=True)


def test_options_that_make_no_sense_are_raised(tmp_path):
    table = write_set(tmp_path, PAIRS[:2])
    with pytest.raises(OptionError):
        audit_of(table, ignore_index=-1)


def test_no_check_speaks_about_tables_without_a_readable_mask(tmp_path):
    table = write_set(tmp_path, PAIRS)
    for file in table["label"]:
        open(file, "wb").close()  # noqa: PTH123
    report = audit_of(table)
    assert checks(report) == ["empty-file"]
    assert len(fit_refuses(table)) == 8


def test_checks_are_pure(tmp_path):
    data = audited([{0: 5, 1: 5}] * 6, LabelMap((0, 1), ("a", "b"), None, "uint8"))
    assert run_checks(data) == run_checks(data)
    assert isinstance(next(iter(data)), Seen)


# What a few masks do to all.


def spoilt(table, row, change):
    """Change the values of one mask of a set, in its file."""
    with Image.open(table["label"][row]) as mask:
        values = np.array(mask)
    change(values)
    Image.fromarray(values).save(table["label"][row])
    return table


def test_a_slip_in_one_mask_does_not_make_the_foreground_ignored(tmp_path):
    def slip(values):
        values[5, 5] = 1

    table = spoilt(write_set(tmp_path / "a", PAIRS), 3, slip)
    error = only(audit_of(table), "mixed-encodings")
    assert str(error.severity) == "error"
    assert "7 masks hold 0 and 255, a single one 1 beside 255" in error.found
    assert "mask_3.png" in error.found
    assert any("mask_3.png" in line for line in fit_refuses(table))
    assert "mixed-encodings" not in checks(audit_of(table, ignore_index=255))

    def object_of_1(values):
        values[5:25, 5:25] = 1

    both = spoilt(spoilt(write_set(tmp_path / "b", PAIRS), 3, object_of_1), 4, object_of_1)
    assert "mixed-encodings" not in checks(audit_of(both))


@pytest.mark.parametrize("coloured", [False, True])
def test_a_picture_of_few_grey_levels_is_no_mask(tmp_path, coloured):
    encode = (lambda ids: COLOURS[ids]) if coloured else (lambda ids: ids * np.uint8(255))
    table = write_set(tmp_path, scenes(12), encode)
    rows = np.linspace(90, 170, SIZE[0]).astype(np.uint8) // 4 * 4
    Image.fromarray(np.repeat(rows[:, None], SIZE[1], axis=1)).save(table["label"][7])
    report = audit_of(table)
    picture = only(report, "grey-picture")
    assert [item.position for item in picture.evidence] == [7]
    assert "smeared-masks" not in checks(report)
    assert report.label_map.num_classes == 2


def test_gaps_between_ids_of_32_bits_are_counted(tmp_path):
    values = np.array([0, 5, 2**31 - 1], np.int32)
    table = pd.DataFrame(CLASSES, columns=["image", "label"])
    table["label"] = [values[ids] for ids in table["label"]]
    found = only(audit_of(table), "gaps-in-ids").found
    number = 2**31 - 3
    assert f"1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, ... ({number} in all) of 0 to" in found


@pytest.mark.parametrize("save", ["1", "P"])
@pytest.mark.parametrize("multiclass", [False, True])
def test_an_empty_mask_is_empty_in_any_format(tmp_path, save, multiclass):
    encode = (lambda ids: ids) if multiclass else (lambda ids: ids * np.uint8(255))
    table = write_set(tmp_path, CLASSES if multiclass else PAIRS, encode)
    empty = Image.new(save, SIZE[::-1], 0)
    if save == "P":
        empty.putpalette([0, 0, 0, 255, 255, 255])
    empty.save(table["label"][2])
    report = audit_of(table)
    assert report.errors == ()
    assert fit_prepares(table).label_map == audit_of(table.drop(2)).label_map


def test_many_ids_of_which_a_mask_holds_few_are_classes(tmp_path):
    names = range(0, 120, 3)
    pairs = []
    for i, (image, _) in enumerate(scenes(40)):
        ids = np.full(SIZE, names[i], np.uint8)
        ids[30:60, 40:90] = names[i - 1]
        pairs.append((image, ids))
    report = audit_of(write_set(tmp_path / "a", pairs, lambda ids: ids))
    assert report.label_map.values == tuple(names)
    assert report.ok
    # Numbers of objects: each in one mask alone.
    report = audit_of(write_set(tmp_path / "b", pairs[1::2], lambda ids: ids))
    assert "so many are grey levels" in only(report, "label-values").found


def test_values_of_which_nobody_can_tell_are_shown_where_they_are(tmp_path):
    def grey(values):
        values[5:9, 5:9] = 128

    table = spoilt(write_set(tmp_path, scenes(12)), 3, grey)
    error = only(audit_of(table), "label-values")
    assert error.found.endswith("Few masks hold some of them: " + table["label"][3])
    assert [item.position for item in error.evidence] == [3]
    assert fit_refuses(table) == (error.line(),)


def test_an_ignored_value_leaves_no_gap(tmp_path):
    values = np.array([0, 1, 4], np.uint8)

    def coded(ids):
        found = values[ids]
        found[:4] = 2
        return found

    report = audit_of(write_set(tmp_path, CLASSES, coded), ignore_index=2)
    assert "the value 3 of 0 to 4 never occur" in only(report, "gaps-in-ids").found


def test_an_image_in_both_columns_is_said_though_no_mask_can_be_read_from_it(tmp_path):
    table = write_set(tmp_path, PAIRS)
    cmyk = tmp_path / "print.jpg"
    Image.fromarray(PAIRS[0][0]).convert("CMYK").save(cmyk)
    table.loc[0] = [str(cmyk), str(cmyk)]
    assert [finding.check for finding in audit_of(table).errors] == ["label-is-image"]


def test_an_ignored_value_answers_no_other_question(tmp_path):
    def inverted(ids):
        coded = (1 - ids) * np.uint8(255)
        coded[40:44, 40:44] = 128
        return coded

    report = audit_of(write_set(tmp_path, PAIRS, inverted), ignore_index=128)
    assert "inverted-foreground" in checks(report)


def test_rows_without_a_group_are_not_to_be_dropped(tmp_path):
    table = write_set(tmp_path, PAIRS).assign(patient=["a", None, *"bbccdd"])
    with pytest.raises(DataError) as refused:
        fit_prepares(table, groups="patient")
    assert len(refused.value.problems) == 1
    assert "there is no group" in str(refused.value)
    assert "--fix" not in str(refused.value)


def test_one_bit_masks_of_other_tables_are_mended_with_those_of_training(tmp_path):
    tables = []
    for name, pairs in (("train", PAIRS), ("tuning", scenes(8, seed=5))):
        bits = write_set(tmp_path / name / "a", pairs[:3], lambda ids: ids > 0)
        tables.append(pd.concat([bits, write_set(tmp_path / name / "b", pairs[3:])]))
    mixed = only(audit_of(*tables), "mixed-bits")
    assert [item.table for item in mixed.evidence] == ["train"] * 3 + ["tuning"] * 3
    assert "6 of 16 masks" in mixed.found
    repaired = repair(*tables, folder=tmp_path / "repaired", verbosity=0)
    assert repaired.left == ()
    assert fit_refuses(*(repaired.tables[name] for name in ("train", "tuning"))) == ()


@pytest.mark.parametrize("warned", [False, True])
def test_a_foreground_that_the_model_ignores_is_asked_about(tmp_path, warned):
    table = write_set(tmp_path, PAIRS, lambda ids: ids * np.uint8(255 if warned else 1))
    label_map = LabelMap((0, 1), ("background", "pad"), 255, "uint8")
    options = {"image": "image", "label": "label", "data_root": None}
    findings = examine_labelled(table, label_map, **options).findings
    assert [finding.check for finding in findings] == ["ignored-foreground"] * warned
