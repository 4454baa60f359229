"""Run what a study lacks: one fresh process a cell, as many at once as there are devices."""

from __future__ import annotations

import logging
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from easyseg.console import Reporter
from easyseg.plan.hardware import Hardware, detect_hardware
from easyseg.study.cells import Cell, cells_with_experts, unique
from easyseg.study.data import find_sets
from easyseg.study.progress import Progress, progress_of
from easyseg.study.results import read_result, read_results, result_file, write_failure
from easyseg.study.spec import Study
from easyseg.study.worker import Job

__all__ = ["Fleet", "Launcher", "Processes", "fleet_of", "run_study"]

log = logging.getLogger("easyseg")

_LAST_LINES = 15
_PAUSE = 1.0  # Seconds until it is asked again whether another run has finished its cells.
_LOCKS = "locks"
_RUNNING = "running-"
_WORKER = (sys.executable, "-m", "easyseg.study.worker")


class Launcher(Protocol):
    """Runs jobs, each until its result is written or it has failed."""

    def run(self, job: Job) -> None:
        """Run one job; called from several threads at once."""

    def stop(self) -> None:
        """End what runs, at once."""


@dataclass(frozen=True)
class Fleet:
    """Where cells are run.

    Attributes:
        accelerator: As for ``fit``.
        devices: Index of the device of each worker; ``None`` for a CPU.
        threads: Threads of each worker.
        cores: Share of each worker of the cores, for its threads and its loader processes.
    """

    accelerator: str
    devices: tuple[int | None, ...]
    threads: int
    cores: int = 1


def fleet_of(accelerator: str, devices: int | str | Sequence[int]) -> Fleet:
    """Return the workers for devices: one a GPU; on a CPU as many as asked for share its cores.

    Args:
        accelerator: As for ``fit``.
        devices: Number of workers, indices of GPUs, or ``"auto"``: all GPUs, one CPU process.

    Raises:
        OptionError: If there are no such devices.
    """
    hardware = detect_hardware(accelerator, devices)
    cores = max(1, hardware.cpu_count // hardware.devices)
    return Fleet(hardware.accelerator, _indices(hardware, devices), _threads(cores), cores)


def _indices(hardware: Hardware, devices: int | str | Sequence[int]) -> tuple[int | None, ...]:
    if hardware.accelerator != "cuda":
        return (None,) * hardware.devices
    if isinstance(devices, (int, str)):
        return tuple(range(hardware.devices))
    return tuple(devices)


def _threads(cores: int) -> int:
    """Return the threads of a worker: those the user asks for, else its share of the cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() else cores


class Processes:
    """Runs each job in a fresh process: what crashes, or leaves memory behind, is one cell.

    Args:
        logs: Folder of what the processes of failed cells print.
        command: What is run; it reads a job from its input, and ends where that closes.
    """

    def __init__(self, logs: Path, command: Sequence[str] = _WORKER) -> None:
        self.logs = logs
        self.command = tuple(command)
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, job: Job) -> None:
        """Run one job; a process that ends without a result has failed."""
        self.logs.mkdir(parents=True, exist_ok=True)
        record = self.logs / f"{job.cell.stem}.log"
        with record.open("w", encoding="utf-8") as output:
            code = self._process(job, output)
        if self._stopped:
            return
        if not job.file.exists():
            printed = record.read_text(encoding="utf-8", errors="replace").splitlines()
            last = "\n".join(printed[-_LAST_LINES:])
            write_failure(job.file, job.cell, f"the process ended with code {code}:\n{last}")
        elif read_result(job.file).done:
            record.unlink()

    def _process(self, job: Job, output: Any) -> int:
        environment = {
            **os.environ,
            "PYTHONIOENCODING": "utf-8",
            "OMP_NUM_THREADS": str(job.threads),
        }
        with self._lock:
            if self._stopped:
                return 1
            # In a session of its own: a Ctrl-C in the terminal is for the study, and a fit that
            # heard of it would end early and look finished.
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                encoding="utf-8",
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
            self._running.add(process)
        try:
            assert process.stdin is not None
            with suppress(OSError):  # It has ended already; its code says why.
                process.stdin.write(job.to_json() + "\n")
                process.stdin.flush()
            return process.wait()
        finally:
            with suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
            with self._lock:
                self._running.discard(process)

    def stop(self) -> None:
        """End all processes; none is started any more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.kill()


def run_study(
    study: Study,
    *,
    data: Path | None,
    results: Path,
    fleet: Fleet,
    reporter: Reporter,
    only: str | None = None,
    retry: bool = False,
    launcher: Launcher | None = None,
) -> Progress:
    """Run the cells that have no result yet: first what picks the values, then the rest.

    What is finished is never run again, so a study that was interrupted, or has grown, goes on.
    Several runs, on several machines that share the folder too, share out the cells: a cell that is
    running is locked, and where the file system knows locks (``flock``) they end with the process
    that holds them, however that ends.

    Args:
        study: The study.
        data: Folder of the data sets.
        results: Folder of the results.
        fleet: Where cells are run.
        reporter: Where progress is shown.
        only: Pattern of the labels of the places that are run; ``None``: all.
        retry: Run cells that failed once more.
        launcher: Runs jobs; ``None``: in fresh processes.

    Returns:
        How far the study is.

    Raises:
        DataError: If a data set cannot be had; before anything is run.
        OptionError: If no place fits, or a file in the folder is no result.
    """
    progress = progress_of(study, results, only)
    names = {place.set.name for place, _ in progress.cells}
    names |= {cell.set for _, cell in progress.tuning}
    find_sets(sorted(names), data)
    _remove_leftovers(results)
    launcher = launcher or Processes(results / "logs")
    turn = _Turn(study, cells_with_experts(study), data, results, fleet, reporter, launcher, retry)
    turn.run("picking values", progress.tuning)
    progress = progress_of(study, results, only)
    for method, value in progress.picked.items():
        log.info("%s: picked %s", study.methods[method].title, value)
    turn.run("cells", [(place.label, cell) for place, cell in progress.cells if cell is not None])
    return progress_of(study, results, only)


@dataclass(frozen=True)
class _Turn:
    """What all cells of a run have in common."""

    study: Study
    with_experts: frozenset[str]
    data: Path | None
    results: Path
    fleet: Fleet
    reporter: Reporter
    launcher: Launcher
    retry: bool

    def run(self, text: str, labelled: Sequence[tuple[str, Cell]]) -> None:
        """Run the cells that have no result, in their order; the first label of a cell is shown."""
        known = read_results(self.results)
        cells = unique([cell for _, cell in labelled])
        labels = {cell.key: label for label, cell in reversed(labelled)}
        todo = [
            cell
            for cell in cells
            if cell.key not in known or (self.retry and not known[cell.key].done)
        ]
        if not todo:
            return
        # A cell that fails again while this run goes on is not tried once more.
        failed = {
            cell.key: _written(result_file(self.results, cell))
            for cell in todo
            if cell.key in known
        }
        log.info("%s: %d to run, %d are there", text, len(todo), len(cells) - len(todo))
        devices: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        for device in self.fleet.devices:
            devices.put(device)
        with (
            self.reporter.progress(text, len(todo)) as advance,
            ThreadPoolExecutor(len(self.fleet.devices)) as pool,
        ):

            def submit(cell: Cell) -> Future[str | None]:
                return pool.submit(self._run_cell, cell, devices, failed.get(cell.key))

            waiting = {submit(cell): cell for cell in todo}
            held: list[Cell] = []
            told_of_others = False
            try:
                while waiting or held:
                    if not waiting:  # What other runs do comes last, if they do not finish it.
                        if not told_of_others:
                            log.info("waiting for %d cells of another run", len(held))
                            told_of_others = True
                        time.sleep(_PAUSE)
                        waiting = {submit(cell): cell for cell in held}
                        held = []
                    # Not for ever: on Windows a Ctrl-C would not be heard.
                    ended, _ = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
                    for future in ended:
                        cell, told = waiting.pop(future), future.result()
                        if told is None:
                            held.append(cell)
                            continue
                        log.info("%s: %s", labels[cell.key], told)
                        advance(1)
            except BaseException:
                for future in waiting:
                    future.cancel()
                self.launcher.stop()
                raise

    def _run_cell(
        self, cell: Cell, devices: queue.SimpleQueue[int | None], failed: int | None
    ) -> str | None:
        """Run a cell on the next free device, and tell in a line how it went.

        Args:
            cell: The cell.
            devices: The free devices.
            failed: When its result was written that is to be replaced, as the file system has it.

        Returns:
            ``None`` if another run is at it.
        """
        device = devices.get()
        file = result_file(self.results, cell)
        try:
            with _locked(self.results, cell.stem) as ours:
                if not ours:
                    return None
                # Whoever runs the same study beside this one may have come first.
                if file.exists() and _written(file) != failed:
                    return _told(file)
                file.unlink(missing_ok=True)
                # Beside the results, where there is room: the system's folder may be small, or
                # memory.
                prefix = f"{_RUNNING}{cell.stem}-"
                scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=self.results.absolute()))
                try:
                    self.launcher.run(self._job(cell, file, scratch, device))
                finally:
                    shutil.rmtree(scratch, ignore_errors=True)
        finally:
            devices.put(device)
        return _told(file)

    def _job(self, cell: Cell, file: Path, scratch: Path, device: int | None) -> Job:
        return Job(
            cell,
            file.absolute(),
            scratch / "run",
            None if self.data is None else self.data.absolute(),
            self.fleet.accelerator,
            device,
            self.fleet.threads,
            self.study.sets[cell.set].metrics,
            cell.key in self.with_experts,
            self.fleet.cores,
        )


@contextmanager
def _locked(results: Path, stem: str) -> Iterator[bool]:
    """Hold the lock of a cell, if no other run does; what a dead run left of it is removed.

    The files of the locks stay: whoever removed one could remove that of another run.

    Args:
        results: Folder of the results.
        stem: Name of the cell's files.
    """
    file = results / _LOCKS / f"{stem}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(file, timeout=0):
            for folder in results.glob(f"{_RUNNING}{stem}-*"):
                shutil.rmtree(folder, ignore_errors=True)
            yield True
    except Timeout:
        yield False


def _remove_leftovers(results: Path) -> None:
    """Remove what runs that were killed have left of their cells."""
    for folder in results.glob(f"{_RUNNING}*"):
        stem = folder.name.removeprefix(_RUNNING).rpartition("-")[0]
        if (results / _LOCKS / f"{stem}.lock").exists():
            with _locked(results, stem):
                pass


def _written(file: Path) -> int | None:
    """Return when a file was written; None if there is none: another run may just replace it."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _told(file: Path) -> str:
    """Return how a cell went, in a line."""
    if not file.exists():
        return "stopped"
    result = read_result(file)
    if not result.done:
        return f"failed: {result.reason}"
    validation = result.content["validation"]
    text = f"{validation['metric']} {result.validation:.3f} in {result.content['fit_seconds']} s"
    return "; ".join([text, *(f"no {what}" for what in result.errors)])
