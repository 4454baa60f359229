"""Run one cell: ``python -m easyseg.study.worker`` reads a job from its input and ends with it.

The input stays open as long as whoever started it lives: where it closes, nobody waits for the
result any more, and the process ends at once.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easyseg.errors import DataError
from easyseg.study.cells import Cell, budget_settings
from easyseg.study.data import Tables, load_tables
from easyseg.study.results import write_failure, write_result

if TYPE_CHECKING:
    import pandas as pd

    from easyseg.segmentor import SemanticSegmentor

__all__ = ["Job", "run_cell", "run_job"]

_DIGITS = 6


@dataclass(frozen=True)
class Job:
    """A cell, and where and with what it is run.

    Attributes:
        cell: The cell.
        file: Where its result is written.
        scratch: A folder for the run, which is removed afterwards.
        data: Folder of the data sets, or ``None``.
        accelerator: As for ``fit``.
        device: Index of the device; ``None`` on a CPU.
        threads: Threads of the process.
        metrics: Test scores that are asked for beside those of the usual report.
        experts: Whether the use of experts is counted, if there is a choice.
        cores: Cores that this process may use: so many loader processes are enough.
    """

    cell: Cell
    file: Path
    scratch: Path
    data: Path | None
    accelerator: str
    device: int | None
    threads: int
    metrics: tuple[str, ...]
    experts: bool = False
    cores: int = 1

    def to_json(self) -> str:
        """Return one line that :meth:`from_json` reads."""
        content = {
            "cell": self.cell.to_dict(),
            "file": str(self.file),
            "scratch": str(self.scratch),
            "data": None if self.data is None else str(self.data),
            "accelerator": self.accelerator,
            "device": self.device,
            "threads": self.threads,
            "metrics": self.metrics,
            "experts": self.experts,
            "cores": self.cores,
        }
        return json.dumps(content)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Rebuild a job."""
        content = json.loads(text)
        return cls(
            Cell.from_dict(content["cell"]),
            Path(content["file"]),
            Path(content["scratch"]),
            None if content["data"] is None else Path(content["data"]),
            content["accelerator"],
            content["device"],
            content["threads"],
            tuple(content["metrics"]),
            content["experts"],
            content["cores"],
        )


def run_job(job: Job) -> None:
    """Run a cell in this process and write its result, or that it failed."""
    try:
        measured = run_cell(job)
    except Exception as error:
        traceback.print_exc()
        write_failure(job.file, job.cell, _said(error))
    else:
        write_result(job.file, job.cell, measured)


def run_cell(job: Job) -> dict[str, Any]:
    """Fit and score.

    Args:
        job: The cell, and where it is run.

    Returns:
        What was measured, in plain Python types; ``errors`` says why scores are missing.

    Raises:
        EasySegError: If the fit is not possible, or its test would not be; before any training.
    """
    from easyseg.segmentor import SemanticSegmentor

    cell, tables = job.cell, load_tables(job.cell.set, job.data)
    _check_tests(tables, job.metrics)
    started, when = time.monotonic(), time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    # What fit holds out for validation is not trained on. It is never more than half: with so few
    # images there are epochs enough for all steps of the budget.
    num_train = len(tables.train) // (2 if tables.validation is None else 1)
    settings = {**cell.settings, **budget_settings(cell.budget, cell.settings, max(1, num_train))}
    segmentor = SemanticSegmentor(
        tables.problem_type,
        classes=tables.classes,
        ignore_index=tables.ignore_index,
        eval_metric=cell.eval_metric,
        path=job.scratch,
        verbosity=0,
    ).fit(
        tables.train,
        tables.validation,
        presets=list(cell.presets) or "auto",
        hyperparameters=settings,
        time_limit=cell.budget.amount if cell.budget.kind == "seconds" else None,
        accelerator=job.accelerator,
        devices=_devices(job),
        num_workers=_loader_workers(job),
        seed=cell.seed,
    )
    seconds = time.monotonic() - started
    tests, errors = _scores(segmentor, tables.tests, job.metrics)
    experts: dict[str, Any] = {}
    if job.experts:
        try:
            experts = _experts(segmentor, tables.tests)
        except Exception as error:
            traceback.print_exc()
            errors["use of experts"] = _said(error)
    return {
        "validation": {"metric": segmentor.plan_.metric, "score": segmentor.best_score_},
        "tests": tests,
        "errors": errors,
        **_fit(segmentor),
        **experts,
        "images": {
            "train": len(tables.train),
            "validation": None if tables.validation is None else len(tables.validation),
            **{f"test: {name}": len(table) for name, table in tables.tests.items()},
        },
        "fit_seconds": round(seconds, 2),
        "started": when,
        **_provenance(job),
    }


def _devices(job: Job) -> int | list[int]:
    return 1 if job.device is None else [job.device]


def _loader_workers(job: Job) -> int:
    """Return as many loader processes as ``fit`` would start on a machine with the job's cores."""
    from easyseg.plan.hardware import detect_hardware
    from easyseg.training.fit import loader_workers

    hardware = detect_hardware(job.accelerator, _devices(job))
    return loader_workers("auto", replace(hardware, cpu_count=job.cores))


def _check_tests(tables: Tables, metrics: Sequence[str]) -> None:
    """Refuse, before the fit, what ``evaluate`` would refuse after it.

    Raises:
        DataError: If the images or masks cannot be read; all problems of all test tables at once.
        OptionError: If a metric is not one of this problem.
    """
    from easyseg.auditing.audit import examine
    from easyseg.metrics.paper import expand_metrics
    from easyseg.preparation import read_labelled, resolve_problem

    examined = examine(
        {"train": tables.train, "tuning": tables.validation},
        image="image",
        label="label",
        classes=tables.classes,
        ignore_index=tables.ignore_index,
        problem_type=tables.problem_type,
    )
    examined.refuse_errors()
    label_map = examined.label_map
    binary = resolve_problem(tables.problem_type, label_map) == "binary"
    expand_metrics(metrics, "", binary, label_map.names)
    problems: list[str] = []
    for table in tables.tests.values():
        try:
            read_labelled(table, label_map, image="image", label="label", data_root=None)
        except DataError as error:
            problems.extend(error.problems)
    if problems:
        raise DataError(problems, title="the test images cannot be scored; nothing was trained:")


def _scores(
    segmentor: SemanticSegmentor, tests: Mapping[str, pd.DataFrame], metrics: Sequence[str]
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Return the scores of the test images, and why some are missing: those are NaN.

    A fit is not thrown away for a score: what cannot be scored together is scored key by key.
    """
    from easyseg.metrics.catalogue import report_keys

    usual = report_keys(segmentor.plan_.problem_type == "binary", segmentor.classes_)
    keys = list(dict.fromkeys([*usual, *metrics]))
    scores: dict[str, dict[str, float]] = {}
    errors: dict[str, str] = {}
    for name, table in tests.items():
        try:
            scores[name] = _evaluate(segmentor, table, keys)
        except Exception:
            traceback.print_exc()
            scores[name] = {}
            for key in keys:
                try:
                    scores[name] |= _evaluate(segmentor, table, [key])
                except Exception as error:
                    scores[name][key] = math.nan
                    errors[f"{name}: {key}"] = _said(error)
    return scores, errors


def _evaluate(
    segmentor: SemanticSegmentor, table: pd.DataFrame, keys: Sequence[str]
) -> dict[str, float]:
    found = segmentor.evaluate(table, keys)
    assert isinstance(found, dict)
    return {key: round(float(value), _DIGITS) for key, value in found.items()}


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _fit(segmentor: SemanticSegmentor) -> dict[str, Any]:
    """Return what was trained, and how it went."""
    network, history, plan = segmentor._fitted().network, segmentor.history_, segmentor.plan_
    sizes = [(p.numel(), p.requires_grad) for p in network.parameters()]
    record = plan.to_dict()
    record.pop("reasons")
    columns = ["epoch", "step", "seconds", "train_loss", plan.metric, "routing_entropy"]
    kept = history[[name for name in columns if name in history.columns]]
    return {
        "steps": int(history["step"].iloc[-1]),
        "parameters": sum(size for size, _ in sizes),
        "trained_parameters": sum(size for size, trained in sizes if trained),
        "history": {name: kept[name].round(4).tolist() for name in kept.columns},
        "plan": record,
    }


def _experts(
    segmentor: SemanticSegmentor, tests: Mapping[str, pd.DataFrame]
) -> dict[str, dict[str, Any]]:
    """Return which experts the images of each test table use, if there is a choice."""
    import pandas as pd

    from easyseg.views.expert_tables import count_use
    from easyseg.views.expert_use import expert_choices, has_experts

    if not has_experts(segmentor):
        return {}
    uses = {name: count_use(expert_choices(segmentor, table)) for name, table in tests.items()}
    counts = pd.concat({name: use.counts for name, use in uses.items()}, names=["test"])
    chances = {
        name: {of: round(value, _DIGITS) for of, value in use.chance.items()}
        for name, use in uses.items()
    }
    columns = counts.reset_index("test")
    return {
        "experts": {str(name): columns[name].tolist() for name in columns},
        "experts_by_chance": chances,
    }


def _provenance(job: Job) -> dict[str, Any]:
    import easyseg
    from easyseg.plan.hardware import detect_hardware

    return {
        "machine": detect_hardware(job.accelerator, _devices(job)).describe(),
        "threads": job.threads,
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "easyseg": easyseg.__version__,
        "commit": _commit(),
    }


def _commit() -> str | None:
    """Return the commit of a checkout, with a mark if it was changed; ``None`` if there is none."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *words], cwd=checkout, capture_output=True, text=True)

    try:
        commit = git("rev-parse", "--short", "HEAD").stdout.strip()
        changed = git("diff", "--quiet", "HEAD", "--", "easyseg", "presets").returncode
    except OSError:  # There is no git.
        return None
    return f"{commit}-dirty" if changed else commit


def _end_with(lifeline: int) -> None:
    """End this process where a pipe ends."""
    while os.read(lifeline, 1):
        pass
    os._exit(1)


def main() -> None:
    """Run the job that the input's first line holds."""
    job = Job.from_json(sys.stdin.readline())
    # The processes that a fit starts must not wait for the pipe: their input is an empty one.
    lifeline = os.dup(sys.stdin.fileno())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    run_job(job)


if __name__ == "__main__":
    main()
