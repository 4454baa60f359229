"""Masks that could be read as something else, without a word or with a false error."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from audit_gallery import SIZE, audit_of, fit_prepares, fit_refuses, scenes, write_set
from PIL import Image, ImageFilter

from easyseg import repair
from easyseg.auditing.audit import examine_labelled
from easyseg.data.io import read_mask
from easyseg.data.label_map import LabelMap
from easyseg.errors import DataError

PAIRS = scenes(12)
OTHERS = scenes(6, seed=2)
CLASSES = scenes(12, seed=3, multiclass=True)
WHITE = np.uint8(255)


def only(report, check):
    (finding,) = report.by_check(check)
    return finding


def checks(report):
    return {finding.check for finding in report.findings}


def joined(*tables):
    return pd.concat(tables, ignore_index=True)


def softened(ids):
    return Image.fromarray(ids * WHITE).filter(ImageFilter.GaussianBlur(1))


def changed(table, row, change):
    """Change the values of one mask of a set, in its file."""
    values = read_mask(Path(table["label"][row]))
    change(values)
    Image.fromarray(values).save(table["label"][row])


# Smeared masks beside clean ones.


@pytest.mark.parametrize("way", ["jpeg", "soft"])
@pytest.mark.parametrize("named", [None, {0: "skin", 255: "mole"}, ["skin", "mole"]])
def test_smeared_masks_of_another_table_are_read_as_such(tmp_path, way, named):
    clean = write_set(tmp_path / "train", PAIRS)
    how = {"suffix": "jpg", "quality": 75} if way == "jpeg" else {"encode": softened}
    other = write_set(tmp_path / "other", OTHERS, **how)
    report = audit_of(clean, other, classes=named)
    assert report.ok
    smeared = only(report, "smeared-masks")
    assert {item.table for item in smeared.evidence} == {"tuning"}
    assert len(smeared.evidence) == len(OTHERS)
    prepared = fit_prepares(clean, other, classes=named)
    for file, (_, ids) in zip(other["label"], OTHERS, strict=True):
        read = prepared.label_map.encode(read_mask(Path(file)))
        assert (read != ids).mean() < 0.02
    fixed = repair(clean, other, folder=tmp_path / "fixed", classes=named, verbosity=0)
    masks = pd.read_csv(fixed.tables["tuning"])["label"]
    assert len(masks) == len(OTHERS)
    for file, (_, ids) in zip(masks, OTHERS, strict=True):
        mask = read_mask(tmp_path / "fixed" / file)
        assert set(np.unique(mask).tolist()) <= {0, 255}
        assert ((mask > 0) != (ids > 0)).mean() < 0.02


def test_a_model_of_clean_masks_is_scored_on_smeared_ones(tmp_path):
    labels = LabelMap((0, 255), ("background", "foreground"), None, "uint8")
    columns = {"image": "image", "label": "label", "data_root": None}
    smeared = write_set(tmp_path / "a", OTHERS, suffix="jpg", quality=75)
    examined = examine_labelled(smeared, labels, **columns)
    examined.refuse_errors()
    assert examined.label_map.smeared
    clean = examine_labelled(write_set(tmp_path / "b", OTHERS), labels, **columns)
    assert clean.label_map == labels
    grey = write_set(tmp_path / "c", scenes(6, seed=4, multiclass=True), lambda ids: ids * 120)
    for known in (labels, examined.label_map):  # one that has read smears takes no third class
        with pytest.raises(DataError, match="120"):
            examine_labelled(grey, known, **columns).refuse_errors()


def test_an_ignored_255_is_never_a_smeared_foreground(tmp_path):
    clean = write_set(tmp_path / "train", CLASSES, lambda ids: ids)
    for row in range(3):
        changed(clean, row, lambda values: values.__setitem__((slice(3), slice(9)), 255))
    other = write_set(tmp_path / "other", OTHERS, suffix="jpg", quality=75)
    assert any("unknown" in error.check for error in audit_of(clean, other).errors)


@pytest.mark.parametrize("odd", ["wide", "palette"])
def test_one_mask_of_another_format_does_not_hide_that_others_are_smeared(tmp_path, odd):
    table = write_set(tmp_path / "a", PAIRS, suffix="jpg", quality=75)
    ids = PAIRS[4][1]
    picture = Image.fromarray(ids.astype(np.uint16) * 255)
    if odd == "palette":
        picture = Image.fromarray(ids, "P")
        picture.putpalette([0, 0, 0, 200, 30, 30])
    picture.save(tmp_path / "odd.png")
    table.loc[4, "label"] = str(tmp_path / "odd.png")
    report = audit_of(table)
    if odd == "wide":  # the values are those of the others
        assert report.ok
        assert fit_prepares(table).label_map.smeared
        return
    (error,) = report.errors
    assert [item.position for item in error.evidence] == [4]
    assert all("odd.png" in problem for problem in fit_refuses(table))


def test_dark_pictures_are_no_smeared_masks(tmp_path):
    """Fluorescence: specks on black noise, which has no level of its own."""
    rows = []
    for number, (_, ids) in enumerate(PAIRS):
        noise = np.random.default_rng(number).normal(8, 3, SIZE)
        specks = np.asarray(Image.fromarray(ids * WHITE).filter(ImageFilter.GaussianBlur(3)))
        picture = np.clip(noise + specks, 0, 255).astype(np.uint8)
        files = [str(tmp_path / f"{kind}{number * 37}.png") for kind in ("cell", "mask")]
        for file, pixels in zip(files, (picture, ids * WHITE), strict=True):
            Image.fromarray(pixels).save(file)
        rows.append(files)
    table = pd.DataFrame(rows, columns=["image", "label"])
    assert audit_of(table).ok
    swapped = table.rename(columns={"image": "label", "label": "image"})
    report = audit_of(swapped)
    assert report.errors
    assert "smeared-masks" not in checks(report)
    assert fit_refuses(swapped)


# What 255 is.


@pytest.mark.parametrize("classes", [None, ["background", "lesion"]])
def test_slips_in_several_masks_do_not_make_the_foreground_ignored(tmp_path, classes):
    table = write_set(tmp_path, PAIRS)
    for row in (3, 7):
        changed(table, row, lambda values: values.__setitem__((5, slice(3)), 1))
    report = audit_of(table, classes=classes)
    error = only(report, "mixed-encodings")
    assert str(error.severity) == "error"
    assert "10 masks hold 0 and 255, 2 others 1 beside 255" in error.found
    assert [item.position for item in error.evidence] == [3, 7]
    assert fit_refuses(table, classes=classes)
    for told in ({"ignore_index": 255}, {"classes": {0: "background", 1: "lesion"}}):
        options = told if "ignore_index" in told else told | {"ignore_index": 255}
        assert "mixed-encodings" not in checks(audit_of(table, **options))


def test_void_around_objects_stays_void(tmp_path):
    """Objects of 1, and a rim of 255 in most masks."""

    def rimmed(ids):
        grown = np.asarray(Image.fromarray(ids).filter(ImageFilter.MaxFilter(5)))
        return np.where(grown > ids, WHITE, ids)

    table = write_set(tmp_path, PAIRS, rimmed)
    changed(table, 2, lambda values: values.__setitem__(values == 1, 0))
    report = audit_of(table)
    assert report.ok
    assert report.label_map.ignore == 255


@pytest.mark.parametrize("multiclass", [False, True])
@pytest.mark.parametrize("classes", [None, "list"])
def test_half_of_the_masks_in_ids_and_half_in_black_and_white(tmp_path, multiclass, classes):
    pairs = CLASSES if multiclass else PAIRS
    first = write_set(tmp_path / "a", pairs, lambda ids: ids)
    second = write_set(tmp_path / "b", PAIRS)
    table = joined(first, second)
    named = None if classes is None else ["background", "one", "two"][: 3 if multiclass else 2]
    error = only(audit_of(table, classes=named), "mixed-encodings")
    assert str(error.severity) == "error"
    assert "none of both" in error.found
    assert fit_refuses(table, classes=named)
    # One mask that holds both tells little.
    changed(table, 15, lambda values: values.__setitem__((slice(9), slice(9)), 1))
    assert "hardly one of both" in only(audit_of(table, classes=named), "mixed-encodings").found


@pytest.mark.parametrize("multiclass", [False, True])
def test_masks_without_any_label_are_no_other_coding(tmp_path, multiclass):
    pairs = CLASSES if multiclass else PAIRS
    table = write_set(tmp_path, pairs, lambda ids: ids)
    for row in range(1, 12, 2):
        changed(table, row, lambda values: values.__setitem__(slice(None), 255))
    report = audit_of(table)
    assert report.ok
    assert report.label_map.ignore == 255


def test_names_in_a_list_leave_the_question_which_side_is_the_background(tmp_path):
    table = write_set(tmp_path, PAIRS, lambda ids: np.uint8(255) - ids * WHITE)
    asked = audit_of(table, classes=["background", "lesion"])
    assert "inverted-foreground" in checks(asked)
    told = audit_of(table, classes={255: "background", 0: "lesion"})
    assert "inverted-foreground" not in checks(told)


# Numbers that are no classes.


def numbered(count):
    """Return a mask of so many squares, each with a value of its own."""
    ids = np.zeros(SIZE, np.uint8)
    for number in range(count):
        row, column = divmod(number, 6)
        ids[4 + 20 * row : 16 + 20 * row, 4 + 20 * column : 16 + 20 * column] = number + 1
    return ids


@pytest.mark.parametrize("problem", ["auto", "multiclass"])
def test_numbers_of_objects_are_no_classes(tmp_path, problem):
    counts = [4, 7, 5, 9, 6, 8, 4, 10, 7, 5, 9, 6]
    pairs = [(image, numbered(n)) for (image, _), n in zip(PAIRS, counts, strict=True)]
    table = write_set(tmp_path, pairs, lambda ids: ids)
    report = audit_of(table)
    error = only(report, "numbered-objects")
    assert str(error.severity) == "error"
    assert "up to 4 to 10" in error.found
    assert fit_refuses(table, problem_type=problem)
    names = {value: f"c{value}" for value in range(11)}
    assert "numbered-objects" not in checks(audit_of(table, classes=names))


def test_classes_that_images_lack_are_no_numbers_of_objects(tmp_path):
    keep = [range(1, 4 + row % 5) for row in range(12)]
    pairs = []
    for (image, _), present in zip(PAIRS, keep, strict=True):
        ids = numbered(10)
        ids[~np.isin(ids, [*present, 10])] = 0
        pairs.append((image, ids))
    assert "numbered-objects" not in checks(audit_of(write_set(tmp_path, pairs, lambda ids: ids)))


def test_what_is_counted_from_one_end_may_be_classes(tmp_path):
    """Layers, vertebrae: each one region, and the last ones not always in view."""
    pairs = [(image, numbered(5 + row % 4)) for row, (image, _) in enumerate(PAIRS)]
    assert audit_of(write_set(tmp_path / "a", pairs, lambda ids: ids)).ok
    few = [2, 3, 4] + 9 * [8]
    pairs = [(image, numbered(n)) for n, (image, _) in zip(few, PAIRS, strict=True)]
    assert audit_of(write_set(tmp_path / "b", pairs, lambda ids: ids)).ok


def test_small_objects_in_many_images_beside_large_void_borders_are_no_slips(tmp_path):
    def bordered(ids):
        coded = np.zeros(SIZE, np.uint8)
        coded[:, :30] = coded[:, -30:] = 255
        if ids[SIZE[0] // 2, SIZE[1] // 2]:
            coded[40:44, 60:64] = 1
        return coded

    pairs = [(image, np.full(SIZE, row % 2, np.uint8)) for row, (image, _) in enumerate(PAIRS)]
    report = audit_of(write_set(tmp_path, pairs, bordered))
    assert report.ok
    assert report.label_map.ignore == 255


def test_one_hot_masks_are_no_grey_and_alpha():
    hot = np.stack([PAIRS[0][1] == 0, PAIRS[0][1] == 1], axis=-1)
    for mask in (hot, hot.astype(np.uint8), hot.astype(np.float32)):
        with pytest.raises(DataError, match="one-hot"):
            read_mask(mask)
    grey = np.stack([PAIRS[0][1], np.full(SIZE, 255, np.uint8)], axis=-1)
    np.testing.assert_array_equal(read_mask(grey), PAIRS[0][1])


# Two codings of unlike numbers of values.


def test_masks_in_colours_and_masks_in_ids_are_asked_about(tmp_path):
    colours = np.array([[0, 0, 0], [128, 64, 128], [220, 20, 60]], np.uint8)
    first = write_set(tmp_path / "a", CLASSES, lambda ids: colours[ids])
    second = write_set(tmp_path / "b", OTHERS, lambda ids: ids)
    found = only(audit_of(joined(first, second)), "mixed-encodings")
    assert str(found.severity) == "warning"
    assert "#010101" in found.found


# Names.


def named_set(folder, count, name):
    table = write_set(folder, scenes(count, seed=len(str(folder))))
    for row, file in enumerate(table["image"]):
        path = Path(file)
        table.loc[row, "image"] = str(path.rename(path.with_name(name(row))))
    return table


def test_numbers_that_start_anew_in_each_table_are_no_leakage(tmp_path):
    train = named_set(tmp_path / "train", 12, lambda row: f"patient_{row + 1:03}.jpg")
    tuning = named_set(tmp_path / "val", 4, lambda row: f"patient_{row + 1:03}.jpg")
    assert "split-groups" not in checks(audit_of(train, tuning))


def test_pairs_in_two_tables_are(tmp_path):
    train = named_set(tmp_path / "a", 12, lambda row: f"patient_{row:03}_left.jpg")
    tuning = named_set(tmp_path / "b", 4, lambda row: f"patient_{row:03}_right.jpg")
    assert "split-groups" in checks(audit_of(train, tuning))


def test_groups_of_several_images_in_two_tables_are(tmp_path):
    name = "patient_{:03}_{}.jpg"
    train = named_set(tmp_path / "a", 12, lambda row: name.format(row // 3, row % 3))
    tuning = named_set(tmp_path / "b", 4, lambda row: name.format(row, 7))
    assert "split-groups" in checks(audit_of(train, tuning))


def test_a_folder_called_truncated_truncates_nothing(tmp_path):
    table = write_set(tmp_path / "truncated", PAIRS)
    Path(table["image"][2]).write_bytes(b"")
    Path(table["image"][5]).write_text("this is no picture")
    found = {finding.check: finding for finding in audit_of(table).errors}
    assert found.keys() == {"empty-file", "unreadable-file"}
    assert [item.position for item in found["empty-file"].evidence] == [2]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_file_name_that_is_no_utf_8_breaks_no_report(tmp_path):
    table = write_set(tmp_path / "set", PAIRS)
    odd = os.fsdecode(os.fsencode(tmp_path / "set") + b"/zell\xe4.png")
    try:
        Path(table["label"][3]).rename(odd)
    except OSError:
        pytest.skip("the file system takes UTF-8 only")
    changed_mask = Image.fromarray(read_mask(Path(odd))[1:])
    changed_mask.save(odd)
    table.loc[3, "label"] = odd
    report = audit_of(table)
    file = report.write_html(tmp_path / "report.html")
    assert "zell\\udce4.png" in file.read_text(encoding="utf-8")
    assert "zell" in json.dumps(json.loads(report.to_json()))
    report.to_json().encode("utf-8")
    with pytest.raises(DataError, match=r"zell.*no UTF-8: rename the file"):
        repair(table, folder=tmp_path / "fixed", verbosity=0)
    assert not (tmp_path / "fixed").exists()


def test_masks_of_another_coding_are_not_called_empty_too(tmp_path):
    train = write_set(tmp_path / "a", PAIRS)
    tuning = write_set(tmp_path / "b", OTHERS, lambda ids: ids * np.uint8(7))
    report = audit_of(train, tuning)
    assert [error.check for error in report.errors] == ["unknown-values"]
    assert not {"empty-masks", "missing-class"} & checks(report)
