"""Repairs: a new folder with masks that fit, tables that a fit takes, and nothing else touched."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from audit_gallery import ROW_DEFECTS, audit_of, fit_refuses, scenes, spoil, write_set
from PIL import Image

from easyseg import repair
from easyseg.auditing.findings import Evidence, Finding, Severity, how_to_repair
from easyseg.auditing.repair import Repaired
from easyseg.data.io import load_mask, read_image, read_mask
from easyseg.errors import DataError, OptionError

PAIRS = scenes(24)


def fix(train, folder: Path, **options) -> Repaired:
    return repair(train, folder=folder, verbosity=0, **options)


def digests(folder: Path):
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def repaired(tmp_path_factory):
    """All defects of rows, repaired."""
    folder = tmp_path_factory.mktemp("spoiled")
    names = {name: d for name, d in ROW_DEFECTS.items() if name != "fractions"}  # in memory
    table = spoil(write_set(folder / "set", PAIRS), dict(enumerate(names)), folder)
    table["patient"] = [f"{i:03}" for i in range(len(table))]
    file = folder / "train.csv"
    table.to_csv(file, index=False)
    before = digests(folder)
    result = fix(file, folder.parent / f"{folder.name}-repaired")
    assert digests(folder) == before
    return table, names, result


def test_what_cannot_be_repaired_is_dropped_and_named(repaired):
    table, names, result = repaired
    changes = pd.read_csv(result.folder / "repairs.csv", keep_default_na=False)
    assert len(changes) == len(result.changes)
    done = dict(zip(changes["row"], changes["did"], strict=True))
    assert done == {row: d.repair for row, d in enumerate(names.values()) if d.repair}
    kept = pd.read_csv(result.tables["train"], dtype=str)
    dropped = [row for row, d in enumerate(names.values()) if d.repair == "drop the row"]
    assert kept["patient"].tolist() == table["patient"].drop(dropped).tolist()
    assert all(changes["why"])
    assert result.left == ()


def test_the_new_table_has_no_errors_and_no_sizes_to_repair(repaired):
    report = audit_of(repaired[2].tables["train"])
    assert report.errors == ()
    assert not any(found.check.startswith("size") for found in report.findings)
    assert fit_refuses(repaired[2].tables["train"]) == ()


def test_repaired_masks_lie_on_their_images(repaired):
    _, names, result = repaired
    copies = {change.row: result.folder / change.copy for change in result.changes if change.copy}
    order = list(names)
    for name, turn in (("few pixels", None), ("turned by exif", -1), ("turned mask", 0)):
        row = order.index(name)
        mask, ids = read_mask(copies[row]), PAIRS[row][1] * np.uint8(255)
        if turn is None:
            assert mask.shape == ids.shape
            assert (mask != ids).mean() < 0.02
        else:
            np.testing.assert_array_equal(mask, np.rot90(ids, turn))


def test_files_without_a_defect_stay_where_they_are(repaired):
    table, names, result = repaired
    kept = pd.read_csv(result.tables["train"], dtype=str).set_index("patient")
    row = len(names) + 1
    assert kept.loc[f"{row:03}", "label"] == table["label"][row]
    assert sum(1 for _ in (result.folder / "masks").rglob("*.png")) == 3


def test_the_folder_can_be_moved(repaired, tmp_path):
    moved = tmp_path / "moved"
    import shutil

    shutil.copytree(repaired[2].folder, moved)
    assert audit_of(moved / "train.csv").ok


def test_smeared_masks_become_black_and_white(tmp_path):
    table = write_set(tmp_path / "set", PAIRS[:6], suffix="jpg", quality=70)
    result = fix(table, tmp_path / "out")
    report = audit_of(result.tables["train"])
    assert [found.check for found in report.findings] == ["mask-encoding"]
    for (_, ids), change in zip(PAIRS, result.changes, strict=False):
        mask = read_mask(result.folder / change.copy)
        assert set(np.unique(mask)) == {0, 255}
        assert ((mask > 0) != ids).mean() < 0.01


def test_masks_of_one_bit_become_black_and_white(tmp_path):
    first = write_set(tmp_path / "a", PAIRS[:3], lambda ids: ids > 0)
    table = pd.concat([first, write_set(tmp_path / "b", PAIRS[3:6])], ignore_index=True)
    result = fix(table, tmp_path / "out")
    assert [change.did for change in result.changes] == ["write 255 for 1"] * 3
    assert result.left == ()
    assert audit_of(result.tables["train"]).ok
    np.testing.assert_array_equal(
        read_mask(result.folder / result.changes[0].copy), PAIRS[0][1] * np.uint8(255)
    )


@pytest.mark.parametrize("kind", ["palette", "colours", "16 bit"])
def test_repaired_masks_keep_their_encoding(kind, tmp_path):
    palette = [0, 0, 0, 128, 64, 128]

    def encode(ids):
        if kind == "16 bit":
            return ids.astype(np.uint16) * 1000
        picture = Image.fromarray(ids, "P")
        picture.putpalette(palette)
        return picture if kind == "palette" else picture.convert("RGB")

    table = write_set(tmp_path / "set", PAIRS[:6], encode)
    with Image.open(table["label"][2]) as mask:
        short = mask.crop((0, 1, mask.width, mask.height))
    short.save(table["label"][2])
    (change,) = fix(table, tmp_path / "out").changes
    before, after = load_mask(Path(table["label"][2])), load_mask(tmp_path / "out" / change.copy)
    assert after.dtype == before.dtype
    assert (after.palette or b"")[:6] == (before.palette or b"")[:6]
    rows = [min(94, round((y + 0.5) * 95 / 96 - 0.5)) for y in range(96)]
    np.testing.assert_array_equal(after.values, before.values[rows])


def test_a_repair_is_advised_only_where_there_is_one():
    def missing(positions, source=Path("a.png")):
        evidence = tuple(Evidence("train", p, p, ("a.png",), sources=(source,)) for p in positions)
        return Finding(
            Severity.ERROR, "missing-file", "files", "drop", evidence, repair="drop the row"
        )

    assert "can drop the row" in how_to_repair([missing([0, 2])], {"train": 3})
    assert how_to_repair([missing([0, 1]), missing([1, 2])], {"train": 3}) is None
    assert how_to_repair([missing([0], np.zeros((2, 2)))], {"train": 3}) is None


def test_several_tables_and_what_is_left_to_be_settled_by_hand(tmp_path):
    train = write_set(tmp_path / "set", PAIRS[:8])
    tuning = spoil(write_set(tmp_path / "more", PAIRS[8:12]), {1: "text"}, tmp_path)
    tuning.loc[0] = train.loc[0]
    names = {"image": "photo", "label": "outline"}
    train, tuning = train.rename(columns=names), tuning.rename(columns=names)
    result = fix(train, tmp_path / "out", tuning_data=tuning, **names)
    assert set(result.tables) == {"train", "tuning"}
    assert list(pd.read_csv(result.tables["tuning"]).columns) == ["photo", "outline"]
    assert len(pd.read_csv(result.tables["tuning"])) == 3
    assert [found.check for found in result.left] == ["leakage"]
    assert result.summary() == (
        "0 repaired masks, 1 dropped row, 1 error that must be settled by hand"
    )


def test_a_folder_in_use_is_refused_and_a_failure_leaves_nothing(tmp_path, monkeypatch):
    table = spoil(write_set(tmp_path / "set", PAIRS[:6]), {2: "few pixels"}, tmp_path)
    used = tmp_path / "used"
    used.mkdir()
    (used / "mine.txt").write_text("mine")
    with pytest.raises(OptionError, match="not an empty folder"):
        fix(table, used)
    assert (used / "mine.txt").read_text() == "mine"

    def fail(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("easyseg.auditing.repair.write_mask", fail)
        with pytest.raises(OSError, match="no space"):
            fix(table, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir() if "out" in p.name) == []
    empty = tmp_path / "empty"
    empty.mkdir()
    assert fix(table, empty).folder == empty
    assert (empty / "train.csv").is_file()


def test_what_is_in_memory_or_hopeless_is_refused(tmp_path):
    image, ids = PAIRS[0]
    with pytest.raises(DataError, match="in memory"):
        fix(pd.DataFrame({"image": [image] * 2, "label": [ids] * 2}), tmp_path / "out")
    table = write_set(tmp_path / "set", PAIRS[:2])
    for file in table["image"]:
        Path(file).write_bytes(b"")
    with pytest.raises(DataError, match="no row can be repaired"):
        fix(table, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert read_image(Path(write_set(tmp_path / "b", PAIRS[:1])["image"][0])).any()


def test_numbered_columns_are_those_of_the_new_table(tmp_path):
    table = spoil(write_set(tmp_path / "set", PAIRS[:6]), {2: "few pixels"}, tmp_path)
    table.columns = pd.RangeIndex(2)
    result = fix(table, tmp_path / "out", image="0", label="1")
    assert len(result.changes) == 1
    written = pd.read_csv(result.tables["train"])
    assert list(written.columns) == ["0", "1"]
    assert written["1"][2] == result.changes[0].copy
