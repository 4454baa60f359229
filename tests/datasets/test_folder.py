from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from easyseg.datasets.folder import read_folder
from easyseg.errors import DataError


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "set"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for split, names in {"train": "ab", "test": "c"}.items():
        rows = [(f"images/{name}.jpg", f"masks/{name}.png") for name in names]
        for image, mask in rows:
            Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(root / image)
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / mask)
        pd.DataFrame(rows, columns=["image", "label"]).to_csv(root / f"{split}.csv", index=False)
    (root / "classes.txt").write_text("0 sky\n10 traffic light\n\n255 void (ignore)\n")
    return root


def test_reads_tables_classes_and_the_ignored_value(folder):
    data = read_folder(str(folder))
    assert data.root == folder
    assert list(data.train.columns) == ["image", "label"]
    assert data.train["image"].tolist() == [str(folder / "images" / f"{n}.jpg") for n in "ab"]
    assert data.test["label"].tolist() == [str(folder / "masks" / "c.png")]
    assert data.val is None
    assert data.classes == {0: "sky", 10: "traffic light"}
    assert data.ignore == 255


def test_classes_of_masks_coded_in_colours(folder):
    (folder / "classes.txt").write_text("#000000 void (ignore)\n#804080 road\n#00ff00 tree\n")
    data = read_folder(folder)
    assert data.classes == {"#804080": "road", "#00FF00": "tree"}
    assert data.ignore == "#000000"


def test_tables_work_from_any_directory(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    data = read_folder("set")
    monkeypatch.chdir("/")
    assert Image.open(data.train["image"][0]).size == (4, 4)


def test_classes_are_optional(folder):
    (folder / "classes.txt").unlink()
    data = read_folder(folder)
    assert (data.classes, data.ignore) == (None, None)


def test_byte_order_mark_crlf_and_further_columns(folder):
    (folder / "train.csv").write_bytes(
        b"\xef\xbb\xbfid,label,image\r\n7,masks/a.png,images/a.jpg\r\n"
    )
    (folder / "classes.txt").write_bytes(b"\xef\xbb\xbf0 sky\r\n1 tree\r\n")
    data = read_folder(folder)
    assert data.train["image"].tolist() == [str(folder / "images" / "a.jpg")]
    assert data.classes == {0: "sky", 1: "tree"}


@pytest.mark.parametrize("missing", ["nowhere", "set/train.csv"])
def test_no_such_folder(folder, missing):
    with pytest.raises(DataError, match=r"expected a data set folder that holds train\.csv"):
        read_folder(folder.parent / missing)


def test_no_train_csv(folder):
    (folder / "train.csv").unlink()
    with pytest.raises(DataError, match=r"train\.csv: missing; .*image,label"):
        read_folder(folder)


def test_all_missing_files_of_all_splits_are_listed(folder):
    (folder / "images" / "b.jpg").unlink()
    (folder / "masks" / "c.png").unlink()
    with pytest.raises(DataError) as error:
        read_folder(folder)
    assert len(error.value.problems) == 2
    assert "train.csv, line 3: image 'images/b.jpg'" in str(error.value)
    assert "test.csv, line 2: label 'masks/c.png'" in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,lable\na,b\n", ["'label'", "Did you mean 'lable'"]),
        ("image,label\n", ["at least one row"]),
        ("", ["not a readable CSV"]),
        ("image,label\nimages/a.jpg\n", ["line 2", "'label' is empty"]),
        ("image,label\n ,masks/a.png\n", ["line 2", "'image' is empty"]),
        ('image,label\n"images/a.jpg,masks/a.png\n', ["train.csv"]),
        ("image,label\nimages,masks/a.png\n", ["'images' is not a file"]),
    ],
)
def test_broken_tables(folder, text, words):
    (folder / "train.csv").write_text(text)
    with pytest.raises(DataError) as error:
        read_folder(folder)
    assert all(word in str(error.value) for word in ["train.csv", *words])


def test_a_table_that_is_no_text(folder):
    (folder / "train.csv").write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(DataError, match=r"train\.csv"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sky\n", ["line 1", "'sky'"]),
        ("0 sky\n0 tree\n", ["line 2", "0 is there twice"]),
        ("0 sky\n254 x (ignore)\n255 void (ignore)\n", ["[254, 255]"]),
    ],
)
def test_broken_classes(folder, text, words):
    (folder / "classes.txt").write_text(text)
    with pytest.raises(DataError) as error:
        read_folder(folder)
    assert all(word in str(error.value) for word in ["classes.txt", *words])
