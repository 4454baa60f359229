"""What ``easyseg datasets`` tells and writes."""

from __future__ import annotations

import shlex

import pytest
from layout_trees import TREES
from typer.testing import CliRunner

from easyseg import cli, datasets
from easyseg.cli.values import parse_classes
from easyseg.datasets.folder import read_folder
from easyseg.datasets.listing import facts, fit_command, overview
from easyseg.errors import DataError

ISIC = next(tree for tree in TREES if tree.name == "isic2017" and tree.tables)
CAMO = next(tree for tree in TREES if tree.folder == "CAMO-V.1.0-CVIU2019")


@pytest.fixture(autouse=True)
def nothing_here(monkeypatch, tmp_path):
    monkeypatch.setenv("EASYSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EASYSEG_DATA", raising=False)


def run(*arguments):
    return CliRunner().invoke(cli.app, ["datasets", *map(str, arguments)], env={"COLUMNS": "100"})


def test_the_list_says_what_is_here(tmp_path, monkeypatch):
    ISIC.write(tmp_path)
    (CAMO.write(tmp_path) / "GT").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("EASYSEG_DATA", str(tmp_path))
    done = run()
    assert done.exit_code == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert tuple(lines) == datasets.list_datasets()
    assert " here " in lines["isic2017"]
    assert " incomplete " in lines["camo"]
    assert " to download " in lines["polyp"]
    assert " by hand " in lines["trans10k_v1"]
    assert "skin lesions in dermoscopy" in lines["isic2017"]


def test_a_name_tells_what_is_known(tmp_path):
    ISIC.write(tmp_path)
    done = run("isic2017", "--root", tmp_path)
    assert done.exit_code == 0
    spec = datasets.get_spec("isic2017")
    for word in (spec.licence, spec.citation, spec.homepage, spec.metric, "skin_lesion"):
        assert word in done.stdout
    assert f"here: {tmp_path / 'isic2017'}" in done.stdout
    assert "0=background, 255=lesion" in done.stdout
    assert "ISIC-2017_Test_v2_Part1_GroundTruth/{stem}_segmentation.png" in done.stdout


def test_what_is_incomplete_is_told(tmp_path):
    root = ISIC.write(tmp_path)
    (root / "val.csv").unlink()
    where = dict(facts("isic2017", tmp_path))["where"]
    assert where.startswith("incomplete: ")
    assert str(root / "val.csv") in where


def test_tables_are_written(tmp_path):
    root, out = ISIC.write(tmp_path / "data"), tmp_path / "out"
    done = run("isic2017", "--root", root, "--output", out)
    assert done.exit_code == 0
    for name in ("train.csv", "val.csv", "test.csv", "classes.txt", "SOURCE.md"):
        assert str(out / name) in done.stdout
    assert "CC-0" in done.stdout
    assert len(read_folder(out).train) == len(ISIC.parts["train"])
    assert "next: easyseg fit" in done.stderr
    again = run("isic2017", "--root", root, "--output", out)
    assert again.exit_code == 1
    assert "expected a new or empty folder" in again.stderr


def test_the_next_command_says_all_that_is_known(tmp_path):
    isic = datasets.load("isic2017", ISIC.write(tmp_path))
    words = shlex.split(fit_command(isic, tmp_path / "my tables"))
    assert words[:5] == [
        *("easyseg", "fit", str(tmp_path / "my tables" / "train.csv")),
        *("--tuning-data", str(tmp_path / "my tables" / "val.csv")),
    ]
    assert parse_classes(words[words.index("--classes") + 1]) == isic.classes
    assert words[-2:] == ["--presets", "skin_lesion"]
    assert "--ignore-index" not in words
    camo = datasets.load("camo", CAMO.write(tmp_path))
    words = shlex.split(fit_command(camo, tmp_path))
    assert "--tuning-data" not in words
    assert tuple(parse_classes(words[words.index("--classes") + 1])) == camo.classes


def test_the_void_value_is_part_of_the_next_command(shared_data):
    words = shlex.split(fit_command(datasets.load("camvid", shared_data), shared_data))
    assert words[words.index("--ignore-index") + 1] == "255"


def test_a_wrong_name_and_an_output_without_one():
    done = run("isic")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "Did you mean" in done.stderr
    assert run("--output", "x").exit_code == 2


def test_a_variable_that_names_no_folder_is_one_error(tmp_path, monkeypatch):
    monkeypatch.setenv("EASYSEG_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="EASYSEG_DATA names"):
        overview()
