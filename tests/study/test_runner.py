"""A study goes on where it was cut off, and a cell that fails or crashes costs one cell."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from study_makers import Pretended, make_sets, study_of

from easyseg.console import Reporter, reporting
from easyseg.errors import DataError, DownloadError, OptionError
from easyseg.plan.hardware import Hardware
from easyseg.study.cells import Cell, cell_of, places, tuning_cells, unique
from easyseg.study.progress import progress_of
from easyseg.study.results import read_results, result_file
from easyseg.study.runner import Fleet, Processes, fleet_of, run_study
from easyseg.study.spec import Budget
from easyseg.study.worker import Job

ONE = Fleet("cpu", (None,), 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sets(tmp_path_factory.mktemp("sets"), "leaves", "roads")


def go_on(study, data, results, launcher, fleet=ONE, **options):
    return run_study(
        study,
        data=data,
        results=results,
        fleet=fleet,
        reporter=Reporter(0),
        launcher=launcher,
        **options,
    )


def job_for(folder: Path, **changes) -> Job:
    cell = Cell("leaves", 0, ("fast",), {}, None, Budget("samples", 2))
    job = Job(cell, result_file(folder, cell), folder / "run", folder, "cpu", None, 1, ())
    return replace(job, **changes)


def rate(job: Job) -> float:
    """Let the higher rate be better for LoRA, the lower one for the other."""
    high = job.cell.settings["optim.lr"] == 1e-3
    return 0.6 if high == (job.cell.settings["adapter.kind"] == "lora") else 0.5


def test_values_are_picked_first_and_each_cell_is_run_once(data, tmp_path):
    launcher, study = Pretended(rate), study_of()
    progress = go_on(study, data, tmp_path, launcher)
    assert progress.picked == {"lora": 1e-3, "conv_lora": 1e-4}
    keys = [job.cell.key for job in launcher.jobs]
    tuning = [cell.key for cells in tuning_cells(study).values() for cell in cells]
    assert keys[:4] == tuning
    everything = [cell_of(study, place, progress.picked) for place in places(study)]
    assert len(keys) == len(set(keys))
    assert set(keys) == set(tuning) | {cell.key for cell in everything}
    assert {progress.status(cell) for _, cell in progress.cells} == {"done"}
    rates = {job.cell.settings["optim.lr"] for job in launcher.jobs[4:]}
    assert rates == {1e-3, 1e-4}


@pytest.mark.parametrize("finished", [0, 1, 3, 4, 5, 9])
def test_an_interrupted_study_goes_on_without_repeating_a_finished_cell(data, tmp_path, finished):
    study = study_of()
    whole = Pretended(rate)
    go_on(study, data, tmp_path / "whole", whole)
    first, second = Pretended(rate, stop_after=finished), Pretended(rate)
    with pytest.raises(KeyboardInterrupt):
        go_on(study, data, tmp_path / "cut", first)
    assert first.stopped
    assert len(read_results(tmp_path / "cut")) == finished
    progress = go_on(study, data, tmp_path / "cut", second)
    keys = [job.cell.key for job in [*first.jobs, *second.jobs]]
    assert keys == [job.cell.key for job in whole.jobs]
    assert {progress.status(cell) for _, cell in progress.cells} == {"done"}
    third = Pretended()
    go_on(study, data, tmp_path / "cut", third)
    assert third.jobs == []


def test_a_half_written_result_is_none(data, tmp_path):
    go_on(study_of(), data, tmp_path, Pretended(rate))
    files = sorted((tmp_path / "cells").glob("*.json"))
    assert sorted((tmp_path / "cells").iterdir()) == files
    files[0].write_text(files[0].read_text()[:50])
    changed = json.loads(files[1].read_text())
    changed["cell"]["seed"] = 77
    files[1].write_text(json.dumps(changed))
    with pytest.raises(OptionError, match="2 files are no results of a study; remove them") as e:
        read_results(tmp_path)
    assert str(files[0]) in str(e.value)
    assert f"do not make the key {changed['key']}" in str(e.value)


def test_a_study_that_grows_runs_what_is_new(data, tmp_path):
    go_on(study_of(), data, tmp_path, Pretended(rate))
    launcher = Pretended(rate)
    part = {"title": "Methods", "sets": {"leaves": [0, 1, 2, 3], "roads": [0, 1]}}
    go_on(study_of(parts={"methods": part}), data, tmp_path, launcher)
    assert sorted((job.cell.set, job.cell.seed) for job in launcher.jobs) == [
        ("leaves", 3),
        ("leaves", 3),
        ("roads", 1),
        ("roads", 1),
    ]


def test_failed_cells_are_written_down_and_run_again_on_request(data, tmp_path):
    def unlucky(job):
        return math.nan if job.cell.set == "roads" else rate(job)

    study = study_of()
    progress = go_on(study, data, tmp_path, Pretended(unlucky))
    states = {place.label: progress.status(cell) for place, cell in progress.cells}
    assert states["methods/roads/lora/0"] == states["methods/roads/conv_lora/0"] == "failed"
    assert states["methods/leaves/lora/2"] == "done"
    failed = next(cell for place, cell in progress.cells if place.set.name == "roads")
    assert progress.results[failed.key].reason == "OptionError: no luck in two lines"
    again, retried = Pretended(rate), Pretended(rate)
    go_on(study, data, tmp_path, again)
    assert again.jobs == []
    progress = go_on(study, data, tmp_path, retried, retry=True)
    assert [job.cell.set for job in retried.jobs] == ["roads", "roads"]
    assert {progress.status(cell) for _, cell in progress.cells} == {"done"}


@pytest.mark.parametrize("retry", [False, True])
def test_two_runs_share_out_the_cells(data, tmp_path, monkeypatch, retry):
    monkeypatch.setattr("easyseg.study.runner._PAUSE", 0.01)
    part = {"title": "Methods", "sets": {"leaves": [0, 1]}}
    study = study_of(parts={"p": part})
    other = Pretended(rate)
    run = threading.Thread(target=go_on, args=(study, data, tmp_path, other))

    class Busy(Pretended):
        def run(self, job: Job) -> None:
            if not self.jobs:  # The other one begins while this one is at its first cell.
                run.start()
                until = time.monotonic() + 60
                while len(other.jobs) < 3 and time.monotonic() < until:  # All rates but this one.
                    time.sleep(0.01)
                time.sleep(0.1)
                assert len(other.jobs) == 3  # It waits: the rates are not all tried.
            super().run(job)

    launcher = Busy(rate)
    progress = go_on(study, data, tmp_path, launcher, retry=retry)
    run.join(timeout=60)
    assert not run.is_alive()
    keys = [job.cell.key for job in [*launcher.jobs, *other.jobs]]
    assert len(keys) == len(set(keys)) == 6
    assert {progress.status(cell) for _, cell in progress.cells} == {"done"}


def test_a_cell_that_fails_beside_this_run_is_not_tried_once_more(data, tmp_path, monkeypatch):
    monkeypatch.setattr("easyseg.study.runner._PAUSE", 0.01)

    def unlucky(job):
        return math.nan if job.cell.set == "roads" else rate(job)

    study, beside = study_of(), Pretended(unlucky)
    go_on(study, data, tmp_path, Pretended(unlucky))
    run = threading.Thread(
        target=go_on, args=(study, data, tmp_path, beside), kwargs={"retry": True}
    )

    class Slow(Pretended):
        def run(self, job: Job) -> None:
            if not self.jobs:  # The other one begins, and fails at the cell that is free.
                run.start()
                until = time.monotonic() + 60
                while not beside.jobs and time.monotonic() < until:
                    time.sleep(0.01)
            super().run(job)

    launcher = Slow(unlucky)
    go_on(study, data, tmp_path, launcher, retry=True)
    run.join(timeout=60)
    assert not run.is_alive()
    keys = [job.cell.key for job in [*launcher.jobs, *beside.jobs]]
    assert len(keys) == len(set(keys)) == 2


def test_a_method_whose_values_were_not_all_tried_waits(data, tmp_path):
    def unlucky(job):
        failed = job.cell.settings["optim.lr"] == 1e-4
        return math.nan if failed and job.cell.settings["adapter.kind"] == "lora" else 0.5

    launcher = Pretended(unlucky)
    progress = go_on(study_of(), data, tmp_path, launcher)
    states = {(place.row.method.name, progress.status(cell)) for place, cell in progress.cells}
    assert states == {("lora", "waits"), ("conv_lora", "done")}
    still = Pretended(unlucky)
    go_on(study_of(), data, tmp_path, still, retry=True)
    assert len(still.jobs) == 1  # Once, not again with the cells that wait for it.
    go_on(study_of(), data, tmp_path, Pretended(), retry=True)
    assert progress_of(study_of(), tmp_path).picked.keys() == {"lora", "conv_lora"}


@pytest.mark.parametrize(
    ("only", "labels"),
    [
        ("methods/*/lora/0", {"methods/leaves/lora/0", "methods/roads/lora/0"}),
        ("roads", {"methods/roads/lora/0", "methods/roads/conv_lora/0"}),
        ("rank 2/1", {"ranks/leaves/rank 2/1"}),
    ],
)
def test_a_part_of_a_study_runs_with_what_it_needs(data, tmp_path, only, labels):
    launcher = Pretended(rate)
    progress = go_on(study_of(), data, tmp_path, launcher, only=only)
    assert {place.label for place, _ in progress.cells} == labels
    methods = {place.row.method.name for place, _ in progress.cells}
    needed = [cell for label, cell in progress.tuning]
    assert {label.split("/")[2] for label, _ in progress.tuning} == methods
    cells = unique([*needed, *(cell for _, cell in progress.cells)])
    assert {job.cell.key for job in launcher.jobs} == {cell.key for cell in cells}


def test_a_pattern_that_fits_nothing_names_the_nearest(data, tmp_path):
    with pytest.raises(OptionError, match=r"fits no cell; .* mean 'methods/roads/lora/0'"):
        go_on(study_of(), data, tmp_path, Pretended(), only="methods/roads/lroa/0")


def test_sets_that_are_missing_are_said_before_anything_is_run(data, tmp_path):
    sets = {"leaves": {}, "rodas": {}, "fields": {}}
    part = {"sets": {"leaves": [0], "rodas": [0], "fields": [0]}}
    launcher = Pretended()
    with pytest.raises(DataError, match="nothing was run") as caught:
        go_on(study_of(sets=sets, parts={"p": part}), data, tmp_path, launcher)
    assert {"rodas", "fields"} <= {Path(p.split(":")[0]).name for p in caught.value.problems}
    assert launcher.jobs == []
    with pytest.raises(DataError, match="say with --data in which folder"):
        go_on(study_of(), None, tmp_path, launcher)


def test_messages_of_a_download_come_once(tmp_path, monkeypatch, capsys):
    def fetch(spec, target: Path, by_hand: str) -> None:
        logging.getLogger("easyseg").info("a message of the download")
        raise DownloadError("no network")

    monkeypatch.setattr("easyseg.datasets.fetch.fetch", fetch)
    part = {"p": {"sets": {"isic2017": [0]}}}
    study = study_of(sets={"isic2017": {}}, parts=part, tuning=None)
    with reporting(1) as reporter, pytest.raises(DataError, match="isic2017: no network"):
        run_study(study, data=tmp_path, results=tmp_path, fleet=ONE, reporter=reporter)
    assert capsys.readouterr().err.count("a message of the download") == 1


def test_a_set_without_test_images_is_refused(tmp_path):
    folder = make_sets(tmp_path, "leaves", "roads")
    (folder / "roads" / "test.csv").unlink()
    with pytest.raises(DataError, match=r"test\.csv: missing; a study scores test images"):
        go_on(study_of(), folder, tmp_path / "results", Pretended())


def test_devices_work_side_by_side_each_on_one_cell(data, tmp_path):
    both = threading.Barrier(2, timeout=30)
    busy: list[int | None] = []

    class Pairs(Pretended):
        def run(self, job: Job) -> None:
            assert job.device not in busy
            busy.append(job.device)
            both.wait()  # Only two at once get beyond it.
            busy.remove(job.device)
            super().run(job)

    launcher = Pairs(rate)
    fleet = Fleet("cuda", (0, 3), 1)
    part = {"title": "Methods", "sets": {"leaves": [0, 1]}}
    go_on(study_of(parts={"p": part}), data, tmp_path, launcher, fleet)
    assert len(launcher.jobs) == 4 + 2
    assert {job.device for job in launcher.jobs} == {0, 3}


def test_experts_are_counted_in_the_cells_of_parts_that_show_them(data, tmp_path):
    launcher = Pretended(rate)
    progress = go_on(study_of(), data, tmp_path, launcher)
    shown = {cell.key for place, cell in progress.cells if place.part.experts}
    tried = {cell.key for _, cell in progress.tuning}  # Each could have been picked.
    counted = {job.cell.key for job in launcher.jobs if job.experts}
    assert counted == shown | tried
    assert counted < {job.cell.key for job in launcher.jobs}  # Not where only the ranks differ.


def test_cells_run_in_the_folder_of_the_results_and_leave_nothing_there(
    data, tmp_path, monkeypatch
):
    class Writing(Pretended):
        def run(self, job: Job) -> None:
            job.scratch.mkdir()
            (job.scratch / "model").write_text("large")
            super().run(job)

    monkeypatch.chdir(tmp_path)
    launcher = Writing(rate, stop_after=3)
    with pytest.raises(KeyboardInterrupt):
        go_on(study_of(), data, Path("results"), launcher)
    assert {job.scratch.parents[1] for job in launcher.jobs} == {tmp_path / "results"}
    assert {folder.name for folder in (tmp_path / "results").iterdir()} == {"cells", "locks"}


def test_a_broken_launcher_ends_the_study(data, tmp_path):
    class Full(Pretended):
        def run(self, job: Job) -> None:
            raise OSError("no space left on device")

    launcher = Full()
    with pytest.raises(OSError, match="no space"):
        go_on(study_of(), data, tmp_path, launcher)
    assert launcher.stopped


def test_processes_on_a_cpu_share_its_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("easyseg.plan.hardware._cpu_count", lambda: 6)
    assert fleet_of("cpu", "auto") == Fleet("cpu", (None,), 6, 6)
    assert fleet_of("cpu", 2) == Fleet("cpu", (None, None), 3, 3)
    assert fleet_of("cpu", 8).threads == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert fleet_of("cpu", 2) == Fleet("cpu", (None, None), 2, 3)


def test_workers_of_gpus_share_the_cores_too(data, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    gpus = Hardware("cuda", 4, "H100", 80.0, 16, True)
    monkeypatch.setattr("easyseg.study.runner.detect_hardware", lambda *args: gpus)
    fleet = fleet_of("cuda", "auto")
    assert fleet == Fleet("cuda", (0, 1, 2, 3), 4, 4)
    launcher = Pretended(rate)
    go_on(study_of(), data, tmp_path, launcher, fleet)
    assert {(job.threads, job.cores) for job in launcher.jobs} == {(4, 4)}


@pytest.mark.parametrize("accelerator", ["cpu", "cuda"])
def test_a_process_has_the_threads_of_its_job(tmp_path, monkeypatch, accelerator):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    job = job_for(tmp_path, threads=3, accelerator=accelerator)
    code = "import os; print(os.environ['OMP_NUM_THREADS'])"
    Processes(tmp_path / "logs", [sys.executable, "-c", code]).run(job)
    assert read_results(tmp_path)[job.cell.key].error.splitlines()[-1] == "3"


def test_a_job_is_the_same_after_a_trip_through_json(tmp_path):
    job = job_for(tmp_path, device=1, metrics=("iou@image", "ber@dataset"), experts=True, cores=3)
    assert Job.from_json(job.to_json()) == job
    assert "\n" not in job.to_json()


# Real processes.


def test_a_process_that_crashes_costs_one_cell(tmp_path):
    job = job_for(tmp_path)
    code = "import os, sys; print('the last words', flush=True); os._exit(7)"
    Processes(tmp_path / "logs", [sys.executable, "-c", code]).run(job)
    result = read_results(tmp_path)[job.cell.key]
    assert not result.done
    assert result.reason == "the process ended with code 7: the last words"
    assert "the last words" in (tmp_path / "logs" / f"{job.cell.stem}.log").read_text()


def test_what_goes_wrong_in_a_cell_is_its_result(tmp_path):
    job = job_for(tmp_path)  # There is no such set.
    Processes(tmp_path / "logs").run(job)
    result = read_results(tmp_path)[job.cell.key]
    assert not result.done
    assert result.reason.startswith("DataError: ")
    assert "expected a data set folder" in result.reason
    assert "Traceback" in (tmp_path / "logs" / f"{job.cell.stem}.log").read_text()


def test_processes_that_are_stopped_leave_no_result(tmp_path):
    job = job_for(tmp_path)
    processes = Processes(tmp_path / "logs", [sys.executable, "-c", "import time; time.sleep(300)"])
    thread = threading.Thread(target=processes.run, args=(job,))
    thread.start()
    while not processes._running:
        time.sleep(0.01)
    processes.stop()
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert read_results(tmp_path) == {}
    processes.run(job)  # Starts nothing any more.
    assert read_results(tmp_path) == {}


def test_a_worker_ends_with_the_study_that_started_it(tmp_path):
    code = (
        "import time; from easyseg.study import worker;"
        "worker.run_job = lambda job: time.sleep(300); worker.main()"
    )
    worker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True)
    assert worker.stdin is not None
    worker.stdin.write(job_for(tmp_path).to_json() + "\n")
    worker.stdin.flush()
    time.sleep(0.2)
    assert worker.poll() is None
    worker.stdin.close()  # As the system does when the study is killed.
    assert worker.wait(timeout=120) == 1


WORKER = """
import sys
from pathlib import Path
from easyseg.study.results import write_result
from easyseg.study.worker import Job
from study_makers import measured
job = Job.from_json(sys.stdin.readline())
job.scratch.mkdir()
(job.scratch / "model").write_text("large")
if job.cell.seed == 1 and not (job.file.parents[1] / "again").exists():
    sys.stdin.read()  # Until the study is dead.
    sys.exit(1)
write_result(job.file, job.cell, measured(job, 0.5))
"""

STUDY = """
import sys
from pathlib import Path
from easyseg.console import Reporter
from easyseg.study.runner import Fleet, Processes, run_study
from study_makers import study_of
data, results, worker = map(Path, sys.argv[1:])
run_study(
    study_of(parts={"p": {"methods": ["lora"], "sets": {"roads": [0, 1, 2]}}}, tuning=None),
    data=data, results=results, fleet=Fleet("cpu", (None,), 1), reporter=Reporter(0),
    launcher=Processes(results / "logs", [sys.executable, str(worker)]),
)
"""


def test_a_study_that_is_killed_goes_on(data, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    for name, code in (("worker", WORKER), ("study", STUDY)):
        (tmp_path / f"{name}.py").write_text(code)
    results = tmp_path / "results"
    words = [sys.executable, *map(str, (tmp_path / "study.py", data, results))]
    words.append(str(tmp_path / "worker.py"))
    study = subprocess.Popen(words)
    try:
        end = time.monotonic() + 240
        while not list(results.glob("running-roads-1-*/run/model")):
            assert study.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        study.kill()
        study.wait()
    (first,) = (results / "cells").glob("*.json")
    assert first.name.startswith("roads-0-")
    assert len(list(results.glob("running-*"))) == 1  # Nobody could clean up.
    when = first.stat().st_mtime_ns
    (results / "again").touch()
    subprocess.run(words, check=True, timeout=240)
    assert sorted(f.name[:7] for f in (results / "cells").glob("*.json")) == [
        "roads-0",
        "roads-1",
        "roads-2",
    ]
    assert first.stat().st_mtime_ns == when
    assert list(results.glob("running-*")) == []


def test_leftovers_of_dead_runs_are_removed_and_those_of_others_are_not(data, tmp_path):
    dead, alive = tmp_path / "running-roads-9-dead-x1", tmp_path / "running-roads-9-alive-x2"
    (tmp_path / "locks").mkdir()
    for folder in (dead, alive):
        folder.mkdir()
        (folder / "model").write_text("large")
        (tmp_path / "locks" / f"{folder.name[len('running-') : -len('-x1')]}.lock").touch()
    with FileLock(tmp_path / "locks" / "roads-9-alive.lock"):
        go_on(study_of(), data, tmp_path, Pretended(rate))
    assert not dead.exists()
    assert (alive / "model").exists()


def test_a_small_study_in_processes_of_its_own(data, tmp_path):
    settings = {
        "adapter.kind": "none",
        "data.size": 112,
        "optim.lr": 1e-3,
        "train.batch_size": 1,
        "train.precision": "32",
    }
    content = {
        "budget": {"samples": 1},
        "metrics": ["mae@image"],
        "sets": {"roads": {}},
        "methods": {"none": {"settings": settings}},
        "parts": {"one": {"sets": {"roads": [5]}}},
        "tuning": None,
    }
    study = study_of(**content)
    progress = run_study(study, data=data, results=tmp_path, fleet=ONE, reporter=Reporter(0))
    ((_, cell),) = progress.cells
    result = progress.result(cell)
    assert result is not None, progress.results[cell.key].error
    assert result.content["steps"] == 1
    assert {"iou@image", "mae@image"} <= result.tests["test"].keys()
    assert list((tmp_path / "logs").iterdir()) == []
