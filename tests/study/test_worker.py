"""A cell is a fit and its test by the public API, and what is written down is what was done."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from study_makers import make_sets
from tiny_sets import TINY

from easyseg import SemanticSegmentor
from easyseg.errors import DataError, OptionError
from easyseg.plan.hardware import Hardware
from easyseg.study.cells import Cell
from easyseg.study.data import load_tables
from easyseg.study.results import read_results, result_file
from easyseg.study.spec import Budget
from easyseg.study.worker import Job, run_cell, run_job
from easyseg.views.expert_use import SIZES

SETTINGS = {key: value for key, value in TINY.items() if key != "train.epochs"} | {
    "train.batch_size": 2,
    "adapter.kind": "conv_lora",
}
CELL = Cell("leaves", 3, ("fast",), SETTINGS, "dice@image", Budget("samples", 6))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sets(tmp_path_factory.mktemp("sets"), "leaves")


@pytest.fixture(scope="module")
def job(tiny_backbones, data, tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("study")
    return Job(
        CELL,
        result_file(folder, CELL),
        folder / "run",
        data,
        "cpu",
        None,
        1,
        ("ber@dataset",),
        True,
    )


@pytest.fixture(scope="module")
def result(job: Job):
    run_job(job)
    return read_results(job.file.parents[1])[CELL.key]


def test_a_cell_is_a_fit_and_its_test(result, job, data, tmp_path):
    tables = load_tables("leaves", data)
    segmentor = SemanticSegmentor(
        classes=tables.classes, eval_metric="dice@image", path=tmp_path / "run", verbosity=0
    ).fit(
        tables.train,
        tables.validation,
        presets="fast",
        # Six samples of four images in batches of two: three steps, the second pass cut short.
        hyperparameters={
            **SETTINGS,
            "train.max_steps": 3,
            "train.epochs": 2,
            "train.patience": 2,
        },
        accelerator="cpu",
        seed=3,
    )
    assert result.done
    assert result.validation == pytest.approx(segmentor.best_score_, abs=1e-6)
    assert result.content["validation"]["metric"] == "dice@image"
    expected = segmentor.evaluate(tables.tests["test"], [*result.tests["test"]][:-1])
    found = {key: result.tests["test"][key] for key in expected}
    assert "ber@dataset" in result.tests["test"]
    for key, value in expected.items():
        assert found[key] == (None if np.isnan(value) else pytest.approx(value, abs=1e-6))


def test_what_was_done_is_written_down(result):
    content = result.content
    assert content["steps"] == 3
    assert content["plan"]["train"]["batch_size"] == 2
    assert content["plan"]["adapter"]["kind"] == "conv_lora"
    assert content["images"] == {"train": 4, "validation": 2, "test: test": 2}
    assert 0 < content["trained_parameters"] < content["parameters"]
    assert content["history"]["epoch"] == [1, 2]
    assert content["threads"] == 1
    experts = content["experts"]
    assert set(experts["size"]) == set(SIZES)
    assert max(experts["scale"]) == SETTINGS["adapter.num_experts"]
    # Two test images of 8 x 8 tokens: one window a block, and three blocks.
    assert sum(experts["windows"]) == 2 * 3
    assert set(experts["test"]) == {"test"}
    assert content["experts_by_chance"]["test"].keys() == {"size", "object"}


def test_experts_are_counted_on_each_test_table(tiny_backbones, job, monkeypatch, tmp_path):
    tables = load_tables("leaves", job.data)
    tests = {"easy": tables.tests["test"], "hard": tables.tests["test"][:1]}
    monkeypatch.setattr(
        "easyseg.study.worker.load_tables", lambda *args: replace(tables, tests=tests)
    )
    measured = run_cell(replace(job, scratch=tmp_path / "run"))
    counts = pd.DataFrame(measured["experts"]).groupby("test")["windows"].sum()
    assert counts.to_dict() == {"easy": 2 * 3, "hard": 1 * 3}
    assert measured["experts_by_chance"].keys() == {"easy", "hard"}
    assert math.isnan(measured["experts_by_chance"]["hard"]["size"])  # One image.


def test_a_cell_that_fails_says_why(job):
    cell = Cell("nowhere", 0, ("fast",), SETTINGS, None, Budget("samples", 6))
    folder = job.file.parents[1]
    failing = Job(cell, result_file(folder, cell), folder / "other", job.data, "cpu", None, 1, ())
    run_job(failing)
    content = json.loads(failing.file.read_text(encoding="utf-8"))
    assert content["status"] == "failed"
    assert content["error"].startswith("DataError: ")
    failing.file.unlink()


def test_without_validation_images_a_part_of_the_training_images_is_held_out(
    job, tiny_backbones, tmp_path
):
    folder = make_sets(tmp_path / "sets", "leaves")
    (folder / "leaves" / "val.csv").unlink()
    cell = Cell(
        "leaves", 0, ("fast",), SETTINGS | {"adapter.kind": "none"}, None, Budget("samples", 10)
    )
    held = Job(cell, tmp_path / "r.json", tmp_path / "run", folder, "cpu", None, 1, ())
    measured = run_cell(held)
    assert measured["steps"] == 5
    assert measured["images"]["validation"] is None
    assert "experts" not in measured


@pytest.mark.parametrize(("cores", "started"), [(1, 1), (3, 3), (64, 8)])
def test_a_cell_starts_loader_processes_for_its_share_of_the_cores(
    job, monkeypatch, cores, started
):
    asked = []

    def fit(self, *args, **options):
        asked.append(options["num_workers"])
        raise KeyboardInterrupt

    gpu = Hardware("cuda", 1, "H100", 80.0, 64, True)
    monkeypatch.setattr("easyseg.plan.hardware.detect_hardware", lambda *args: gpu)
    monkeypatch.setattr("multiprocessing.get_start_method", lambda: "fork")
    monkeypatch.setattr(SemanticSegmentor, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        run_cell(replace(job, accelerator="cuda", device=0, cores=cores))
    assert asked == [started]


@pytest.mark.gpu
def test_a_cell_runs_on_the_gpu_that_it_is_given(tiny_backbones, data, tmp_path):
    job = Job(CELL, tmp_path / "r.json", tmp_path / "run", data, "cuda", 0, 1, (), True)
    measured = run_cell(job)
    assert measured["steps"] == 3
    assert sum(measured["experts"]["windows"]) == 2 * 3
    assert measured["machine"].startswith("CUDA")


def test_a_metric_of_another_problem_is_refused_before_the_fit(job, monkeypatch):
    monkeypatch.setattr(SemanticSegmentor, "fit", lambda *args, **options: pytest.fail("trained"))
    with pytest.raises(OptionError, match="iou@dataset/leaf"):
        run_cell(replace(job, metrics=("iou@image", "iou@dataset/leaf")))


def test_test_images_that_cannot_be_read_are_refused_before_the_fit(job, monkeypatch, tmp_path):
    monkeypatch.setattr(SemanticSegmentor, "fit", lambda *args, **options: pytest.fail("trained"))
    folder = make_sets(tmp_path, "leaves")
    file = Path(load_tables("leaves", folder).tests["test"]["image"][1])
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(DataError, match="nothing was trained") as caught:
        run_cell(replace(job, data=folder))
    assert [file.name in problem for problem in caught.value.problems] == [True]


def test_what_is_refused_after_the_fit_costs_itself_alone(
    job, tiny_backbones, monkeypatch, tmp_path
):
    evaluate = SemanticSegmentor.evaluate

    def picky(self, data, metrics=None, **options):
        if "ber@dataset" in metrics:
            raise MemoryError("too large")
        return evaluate(self, data, metrics, **options)

    monkeypatch.setattr(SemanticSegmentor, "evaluate", picky)
    monkeypatch.setattr("easyseg.views.expert_use.expert_choices", lambda *args: 1 / 0)
    cell = replace(CELL, seed=4)
    file = result_file(tmp_path, cell)
    run_job(replace(job, cell=cell, file=file, scratch=tmp_path / "run"))
    result = read_results(tmp_path)[cell.key]
    assert result.done
    assert result.errors == {
        "test: ber@dataset": "MemoryError: too large",
        "use of experts": "ZeroDivisionError: division by zero",
    }
    assert "experts" not in result.content
    scores = dict(result.tests["test"])
    assert scores.pop("ber@dataset") is None
    assert scores["iou@image"] is not None


def test_experts_are_counted_only_where_they_are_asked_for(
    job, tiny_backbones, monkeypatch, tmp_path
):
    monkeypatch.setattr(
        "easyseg.views.expert_use.expert_choices", lambda *args: pytest.fail("counted")
    )
    measured = run_cell(replace(job, scratch=tmp_path / "run", experts=False))
    assert "experts" not in measured
    assert measured["errors"] == {}
