"""The command: what it prints, what it leaves, how it ends."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from study_makers import CONTENT, Pretended, make_sets
from typer.testing import CliRunner

from easyseg import cli
from easyseg.study import runner


def invoke(*arguments: str | Path):
    return CliRunner().invoke(
        cli.app, ["study", *map(str, arguments)], env={"COLUMNS": "100", "TERM": "dumb"}
    )


@pytest.fixture
def launcher(monkeypatch) -> Pretended:
    pretended = Pretended()
    monkeypatch.setattr(runner, "Processes", lambda logs: pretended)
    return pretended


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_sets(tmp_path_factory.mktemp("sets"), "leaves", "roads")
    OmegaConf.save(OmegaConf.create(dict(CONTENT)), folder / "mine.yaml")
    return folder


def test_a_study_is_run_and_reported(folder, tmp_path, launcher):
    spec, results = folder / "mine.yaml", tmp_path / "out"
    done = invoke(spec, "--data", folder, "--results", results, "--accelerator", "cpu")
    assert done.exit_code == 0, done.output
    assert len(launcher.jobs) == len(list((results / "cells").iterdir())) == 12
    assert str(results / "tables.md") in done.stdout
    assert "ranks/leaves/rank 2/0: iou@image 0.500 in 90.0 s" in " ".join(done.stderr.split())
    assert "Differences of equal seeds" in (results / "tables.md").read_text(encoding="utf-8")
    again = invoke(spec, "--data", folder, "--results", results, "--accelerator", "cpu", "-q")
    assert again.exit_code == 0
    assert again.stderr == ""
    assert len(launcher.jobs) == 12


def test_a_dry_run_lists_and_runs_nothing(folder, tmp_path, launcher):
    spec, results = folder / "mine.yaml", tmp_path / "out"
    listed = invoke(spec, "--results", results, "--dry-run", "--only", "ranks/*")
    lines = [line.split() for line in listed.stdout.splitlines()]
    assert ["tuning/leaves/conv_lora/0.001", "open"] in lines
    assert ["ranks/leaves/rank", "2/0", "waits"] in lines
    assert "2 different cells: 0 done, 2 open, 0 failed" in listed.stdout
    assert "4 places wait for the value that is picked for their method" in listed.stdout
    assert launcher.jobs == []
    assert not results.exists()


def test_tables_alone_need_no_data(folder, tmp_path, launcher):
    spec, results = folder / "mine.yaml", tmp_path / "out"
    invoke(spec, "--data", folder, "--results", results, "--accelerator", "cpu", "--only", "roads")
    (results / "tables.md").unlink()
    done = invoke(spec, "--results", results, "--table")
    assert done.exit_code == 0, done.output
    assert "6 of 12 cells are finished." in (results / "tables.md").read_text(encoding="utf-8")


def test_failed_cells_are_an_exit_code_and_retried(folder, tmp_path, launcher):
    spec, results = folder / "mine.yaml", tmp_path / "out"
    launcher.score = lambda job: math.nan if job.cell.set == "roads" else 0.5
    options = ("--data", folder, "--results", results, "--accelerator", "cpu")
    assert invoke(spec, *options).exit_code == 1
    assert invoke(spec, *options, "--only", "leaves").exit_code == 0
    launcher.score = lambda job: 0.5
    assert invoke(spec, *options).exit_code == 1
    assert invoke(spec, *options, "--retry").exit_code == 0
    states = {
        json.loads(file.read_text(encoding="utf-8"))["status"]
        for file in (results / "cells").iterdir()
    }
    assert states == {"done"}


def test_the_default_folder_has_the_name_of_the_study(folder, tmp_path, launcher, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke(folder / "mine.yaml", "--data", folder, "--accelerator", "cpu", "-q")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "easyseg-studies" / "mine" / "scores.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("smal",), "Did you mean 'small'?"),
        (("{spec}", "--only", "nothing"), "fits no cell"),
        (("{spec}", "--devices", "two"), "--devices"),
        (("{spec}",), "say with --data"),
    ],
)
def test_what_cannot_be_run_is_said(folder, tmp_path, launcher, arguments, message):
    words = [word.format(spec=folder / "mine.yaml") for word in arguments]
    done = invoke(*words, "--results", tmp_path / "out", "--accelerator", "cpu")
    assert done.exit_code != 0
    assert message in " ".join(done.stderr.split())
    assert launcher.jobs == []


def test_an_interrupt_is_an_exit_code(folder, tmp_path, launcher):
    launcher.stop_after = 3
    done = invoke(
        folder / "mine.yaml", "--data", folder, "--results", tmp_path, "--accelerator", "cpu"
    )
    assert done.exit_code == 130
    assert len(list((tmp_path / "cells").iterdir())) == 3
