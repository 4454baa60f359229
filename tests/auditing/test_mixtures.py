"""Sets in which some masks are coded in another way than the others: said as such, and repaired."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from audit_gallery import SIZE, audit_of, fit_refuses, scenes, write_set
from PIL import Image, ImageFilter, ImageOps

from easyseg import repair
from easyseg.auditing.audit import examine_labelled
from easyseg.data.io import load_mask, read_mask
from easyseg.errors import DataError

PAIRS = scenes(8)
OTHERS = scenes(4, seed=2)
CLASSES = scenes(4, seed=3, multiclass=True)


def only(report, check):
    (finding,) = report.by_check(check)
    return finding


def jpegs(folder, pairs):
    return write_set(folder, pairs, suffix="jpg", quality=75)


def joined(*tables):
    return pd.concat(tables, ignore_index=True)


def black_and_white(ids):
    picture = Image.fromarray(ids, "P")
    picture.putpalette([0, 0, 0, 255, 255, 255])
    return picture


def picture():
    """Return a colourful smooth picture, and what it is in grey."""
    coarse = np.random.default_rng(0).integers(40, 215, (9, 12, 3), dtype=np.uint8)
    photo = Image.fromarray(coarse).resize(SIZE[::-1], Image.Resampling.BICUBIC)
    return photo, ImageOps.grayscale(photo)


def with_picture(table, row, folder):
    """Return a table in which a row has a colourful picture, and for its mask the same in grey."""
    table = table.copy()
    for column, image in zip(("image", "label"), picture(), strict=True):
        file = folder / f"photo_{column}.png"
        image.save(file)
        table.loc[row, column] = str(file)
    return table


# Beside smeared masks.


@pytest.mark.parametrize(
    ("pairs", "encode", "fix"),
    [
        (OTHERS, lambda ids: ids, "write 255 for 1"),
        (OTHERS, lambda ids: ids > 0, "write 255 for 1"),
        (OTHERS, black_and_white, "write 255 for 1"),
        (CLASSES, lambda ids: ids, "drop the row"),
        (CLASSES, lambda ids: ids * np.uint8(10), "drop the row"),
    ],
)
def test_ids_beside_smeared_masks_are_an_error(pairs, encode, fix, tmp_path):
    train, other = jpegs(tmp_path / "train", PAIRS), write_set(tmp_path / "other", pairs, encode)
    report = audit_of(train, other)
    assert report.label_map.smeared
    findings = report.by_check("unknown-values")
    assert fix in {finding.repair for finding in findings}
    assert report.errors == findings
    named = {item.position for finding in findings for item in finding.evidence}
    assert named == {i for i, (_, ids) in enumerate(pairs) if ids.any()}
    smeared = {(item.table, item.position) for item in only(report, "smeared-masks").evidence}
    assert smeared == {("train", i) for i in range(len(PAIRS))}
    assert len(fit_refuses(train, other)) == len(named)
    with pytest.raises(DataError, match="save all masks in one coding") as caught:
        examine_labelled(
            other, report.label_map, image="image", label="label", data_root=None
        ).refuse_errors()
    assert caught.value.advice is None  # an audit of this table alone finds nothing to repair


def test_clean_and_faint_masks_fit_smeared_ones(tmp_path):
    train = jpegs(tmp_path / "train", PAIRS)
    assert audit_of(train, write_set(tmp_path / "clean", OTHERS)).ok
    faint = np.zeros(SIZE, np.uint8)
    faint[0, 20:40] = 12  # what a tile holds of an object beyond its border
    table = write_set(tmp_path / "faint", OTHERS)
    Image.fromarray(faint).save(table["label"][1])
    assert audit_of(train, table).ok


def test_dark_levels_of_a_jpeg_are_no_ids(tmp_path):
    table = jpegs(tmp_path / "tuning", OTHERS)
    faint = np.zeros(SIZE, np.uint8)
    faint[:8, :32] = np.repeat([1, 2, 3, 4], 8)
    Image.fromarray(faint).save(table["label"][1], quality=95)
    assert np.unique(read_mask(Path(table["label"][1]))).tolist() == [0, 1, 2, 3, 4]
    assert audit_of(jpegs(tmp_path / "train", PAIRS), table).ok


def test_a_table_of_dark_jpegs_alone_holds_ids_beside_smeared_masks(tmp_path):
    table = write_set(
        tmp_path / "tuning", CLASSES, lambda ids: ids * np.uint8(10), suffix="jpg", quality=95
    )
    found = only(audit_of(jpegs(tmp_path / "train", PAIRS), table), "unknown-values")
    assert {item.position for item in found.evidence} == set(range(len(CLASSES)))


def test_ids_among_many_smeared_training_masks_are_named(tmp_path):
    train = jpegs(tmp_path / "a", scenes(34, seed=5))
    train = joined(train, write_set(tmp_path / "b", OTHERS, lambda ids: ids))
    report = audit_of(train)
    assert report.label_map.smeared
    (finding,) = report.errors
    assert (finding.check, finding.repair) == ("unknown-values", "write 255 for 1")
    assert {item.position for item in finding.evidence} == {34, 35, 36, 37}
    assert all("the foreground is coded in another way" in line for line in fit_refuses(train))


def test_a_repair_beside_smeared_masks_erases_nothing(tmp_path):
    train = jpegs(tmp_path / "train", PAIRS)
    tuning = joined(
        write_set(tmp_path / "a", OTHERS[:2], lambda ids: ids),
        jpegs(tmp_path / "b", OTHERS[2:]),
        write_set(tmp_path / "c", CLASSES[:1], lambda ids: ids),
    )
    result = repair(train, tuning, folder=tmp_path / "out", verbosity=0)
    done = {change.row: change for change in result.changes if change.table == "tuning"}
    assert [done[row].did for row in range(5)] == [
        *["write 255 for 1"] * 2,
        *["threshold the mask"] * 2,
        "drop the row",
    ]
    for row, (_, ids) in enumerate(OTHERS[:2]):
        np.testing.assert_array_equal(read_mask(tmp_path / "out" / done[row].copy), ids * 255)
    assert audit_of(result.tables["train"], result.tables["tuning"]).ok


# Two codings of the foreground.


@pytest.mark.parametrize("encode", [lambda ids: ids, lambda ids: ids > 0, black_and_white])
def test_a_foreground_of_1_in_another_table_is_no_value_to_ignore(encode, tmp_path):
    train = write_set(tmp_path / "train", PAIRS)
    tuning = write_set(tmp_path / "tuning", OTHERS, encode)
    for line in fit_refuses(train, tuning):
        assert "holds the values 0, 1, expected only the values 0, 255" in line
        assert "the foreground is coded in another way; save all masks in one coding" in line
        assert "ignore_index" not in line
        assert "classes=" not in line
    finding = only(audit_of(train, tuning), "unknown-values")
    assert (finding.remedy, finding.repair) == ("save all masks in one coding", "write 255 for 1")
    result = repair(train, tuning, folder=tmp_path / "out", verbosity=0)
    assert audit_of(result.tables["train"], result.tables["tuning"]).ok
    for change in result.changes:
        mask = load_mask(result.folder / change.copy)
        assert (mask.dtype, mask.palette) == ("uint8", None)
        np.testing.assert_array_equal(mask.values, OTHERS[change.row][1] * 255)


@pytest.mark.parametrize("encode", [lambda ids: ids, lambda ids: ids > 0])
def test_a_foreground_of_255_in_another_table(encode, tmp_path):
    train = write_set(tmp_path / "train", PAIRS, encode)
    tuning = write_set(tmp_path / "tuning", OTHERS)
    report = audit_of(train, tuning)
    (finding,) = report.errors
    assert (finding.check, finding.repair) == ("unknown-values", "write 1 for 255")
    for line in fit_refuses(train, tuning):
        assert line.endswith(
            "save all masks in one coding, or ignore 255 with ignore_index=255 at fit"
        )
    result = repair(train, tuning, folder=tmp_path / "out", verbosity=0)
    assert audit_of(result.tables["train"], result.tables["tuning"]).ok
    for change in result.changes:
        np.testing.assert_array_equal(read_mask(result.folder / change.copy), OTHERS[change.row][1])


def test_255_beside_1_in_another_table_is_not_taken_for_the_foreground(tmp_path):
    def with_void(ids):
        coded = ids.copy()
        coded[:4] = 255
        return coded

    train = write_set(tmp_path / "train", PAIRS, lambda ids: ids)
    tuning = write_set(tmp_path / "tuning", OTHERS, with_void)
    Image.fromarray(with_void(np.zeros(SIZE, np.uint8))).save(tuning["label"][0])
    finding = only(audit_of(train, tuning), "unknown-values")
    assert (finding.repair, len(finding.evidence)) == ("drop the row", 4)


# What a remedy says.


def test_black_and_white_palettes_among_masks_of_0_and_255_are_repaired(tmp_path):
    train = joined(
        write_set(tmp_path / "a", OTHERS, black_and_white), write_set(tmp_path / "b", PAIRS)
    )
    (finding,) = audit_of(train).errors
    assert (finding.check, finding.repair) == ("mixed-bits", "write 255 for 1")
    assert len(finding.evidence) == 4
    line = fit_refuses(train)[0]
    assert "has a palette of black and white, others hold 0 and 255; save all alike" in line
    result = repair(train, folder=tmp_path / "out", verbosity=0)
    assert audit_of(result.tables["train"]).ok
    for change in result.changes:
        mask = load_mask(result.folder / change.copy)
        assert mask.palette is None
        np.testing.assert_array_equal(mask.values, OTHERS[change.row][1] * 255)


def test_a_black_palette_mask_among_colours_is_none_of_1_bit(tmp_path):
    blue = np.array([[0, 0, 0], [0, 0, 255]], np.uint8)
    train = joined(
        write_set(tmp_path / "a", [(OTHERS[0][0], OTHERS[0][1] * 0)], black_and_white),
        write_set(tmp_path / "b", PAIRS, lambda ids: blue[ids]),
    )
    assert audit_of(train).ok


def test_the_remedy_is_that_for_the_reason(tmp_path):
    bits = joined(
        write_set(tmp_path / "a", OTHERS, lambda ids: ids > 0),
        write_set(tmp_path / "b", CLASSES, lambda ids: ids),
    )
    empty = write_set(tmp_path / "c", PAIRS, lambda ids: ids * 0)
    classes = write_set(tmp_path / "d", CLASSES, lambda ids: ids)
    for table, options, words in (
        (bits, {}, "mostly as 255: save all masks in one format"),
        (empty, {}, "expected two classes: check that the label column holds the masks"),
        (classes, {"problem_type": "binary"}, "(ignored: none): use 'multiclass'"),
        (classes, {"classes": {0: "a", 1: "b"}}, "does not list: add it, or ignore one"),
        (classes, {"classes": ["a", "b"]}, "(ignored: none): name each"),
        (classes, {"classes": {"#FF0000": "a", 0: "b"}}, "name values, or colours that"),
    ):
        (line,) = fit_refuses(table, **options)
        assert words in line
        assert "say what the values mean" not in line


# A picture in the place of a mask.


def test_a_grey_picture_among_masks_is_named_and_makes_none_of_them_smeared(tmp_path):
    table = with_picture(write_set(tmp_path, scenes(24)), 5, tmp_path)
    report = audit_of(table)
    assert [finding.check for finding in report.errors] == ["grey-picture"]
    assert [item.position for item in report.errors[0].evidence] == [5]
    assert not report.label_map.smeared
    (line,) = fit_refuses(table)
    assert line.startswith("row 5: ")
    assert "the label must name the mask" in line
    result = repair(table, folder=tmp_path / "out", verbosity=0)
    assert audit_of(result.tables["train"]).ok


def test_a_grey_picture_is_scored_by_no_model_of_smeared_masks(tmp_path):
    train = jpegs(tmp_path / "train", PAIRS)
    tuning = with_picture(write_set(tmp_path / "tuning", OTHERS[:1]), 0, tmp_path)
    report = audit_of(train, tuning)
    assert [finding.check for finding in report.errors] == ["grey-picture"]


def test_a_mask_that_is_blurred_among_clean_ones_is_no_picture(tmp_path):
    table = write_set(tmp_path, scenes(24))
    with Image.open(table["label"][5]) as mask:
        blurred = mask.filter(ImageFilter.GaussianBlur(3))
    blurred.save(table["label"][5])
    assert len(np.unique(read_mask(Path(table["label"][5])))) > 64
    assert not audit_of(table).by_check("grey-picture")
