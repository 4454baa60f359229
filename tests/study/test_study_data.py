"""The data sets of a study: public ones by name, others as folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from study_makers import make_sets

from easyseg.errors import DataError
from easyseg.study.data import find_sets, load_tables


def test_a_folder_is_a_set(tmp_path):
    tables = load_tables("leaves", make_sets(tmp_path, "leaves"))
    assert (len(tables.train), len(tables.validation)) == (4, 2)
    assert {name: len(table) for name, table in tables.tests.items()} == {"test": 2}
    assert tables.problem_type == "auto"
    assert set(tables.classes) == {0, 255}
    assert all(Path(file).is_absolute() for file in tables.train["image"])


def test_a_public_set_has_a_name(shared_data, monkeypatch):
    tables = load_tables("skin_isic", shared_data)
    assert [len(t) for t in (tables.train, tables.validation, *tables.tests.values())] == [
        65,
        9,
        19,
    ]
    assert tables.problem_type == "binary"
    monkeypatch.setenv("EASYSEG_DATA", str(shared_data))
    assert load_tables("skin_isic", None).train.equals(tables.train)


def test_a_set_of_ones_own_may_have_a_public_name(tmp_path):
    folder = make_sets(tmp_path, "camo", "isic2017")
    tables = load_tables("camo", folder)
    assert (len(tables.train), len(tables.validation)) == (4, 2)
    own = tables.classes
    assert load_tables("isic2017", folder).classes[255] == "lesion"  # All of the public layout.
    (folder / "isic2017" / "val.csv").unlink()
    assert load_tables("isic2017", folder).classes == own
    assert load_tables("isic2017", folder).validation is None
    (folder / "camo" / "test.csv").unlink()
    with pytest.raises(DataError, match="a part of camo is missing"):
        load_tables("camo", folder)


def test_all_problems_of_all_sets_are_said_at_once(tmp_path):
    folder = make_sets(tmp_path, "leaves", "roads")
    (folder / "roads" / "images").rename(folder / "roads" / "pictures")
    with pytest.raises(DataError, match="problems in the data; nothing was run") as caught:
        find_sets(["leaves", "roads", "fields"], folder)
    problems = caught.value.problems
    assert len(problems) == 4 + 2 + 2 + 1  # Each image of the roads, and the folder of the fields.
    assert not any(str(folder / "leaves") in problem for problem in problems)
