"""AutoGluon MultiModal 1.6.3 and easyseg at the same work: steps, predictions, memory.

    python benchmarks/autogluon_step.py --env ~/autogluon-env
    python benchmarks/autogluon_step.py --env ~/autogluon-env --device cuda

Both fine-tune a SAM ViT-B of random weights with Conv-LoRA (rank 3, 8 experts, all blocks) through
their own fit, on images of 1024x1024, one a step, and then predict single images. A step is what
Lightning does from the start of a batch to its end: forward, loss, backward, update; reading the
image is not part of it. A prediction of AutoGluon is timed likewise, one of easyseg from the call
of predict to the mask, reading and resizing included.

Each runs in a process of its own, AutoGluon in the environment that --env names, which is made if
it is not there (some 8 GB). The processes take turns, step by step, so that slower and faster
minutes of the machine meet all of them; the first turn does not count, a figure is the median of
the others. Nothing else should use the cores. The result goes to
benchmarks/results/autogluon_step.json (autogluon_step-cuda.json) and into benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _record import RESULTS, provenance, put_into_page, source, write_json
from PIL import Image

SIZE = 1024
PACKAGE = "autogluon.multimodal==1.6.3"
# The newest pair that it allows and that goes together from PyPI.
PAIR = ("torch==2.12.*", "torchvision==0.27.*")
HERE = Path(__file__).parent


def python_of(environment: Path) -> Path:
    """Return the interpreter of an environment with AutoGluon; make what is missing."""
    python = environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    if not python.exists():
        venv.create(environment, with_pip=True)
    ask = [python, "-c", "import autogluon.multimodal"]
    if subprocess.run(ask, capture_output=True).returncode:
        subprocess.run([python, "-m", "pip", "install", PACKAGE, *PAIR], check=True)
    return python


def write_images(folder: Path, count: int) -> Path:
    """Write images and masks ``[1024, 1024]`` and the table ``train.csv`` of them.

    Args:
        folder: Where they are written.
        count: How many.
    """
    rng = np.random.default_rng(0)
    lines = ["image,label"]
    for number in range(count):
        image = rng.integers(0, 256, (SIZE // 8, SIZE // 8, 3), dtype=np.uint8)
        mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
        mask[SIZE // 5 : SIZE * 3 // 5, SIZE // 3 : SIZE * 2 // 3 - 8 * number] = 255
        paths = folder / f"image-{number}.png", folder / f"mask-{number}.png"
        Image.fromarray(image).resize((SIZE, SIZE)).save(paths[0])
        Image.fromarray(mask).save(paths[1])
        lines.append(",".join(map(str, paths)))
    table = folder / "train.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table


class Runner:
    """A process that does one piece of work each time it is asked to.

    Args:
        command: What to run; it reads ``go`` and answers with a line of ``## `` and JSON.
        log: Where everything else that it says goes.
    """

    def __init__(self, command: Sequence[str | Path], log: Path) -> None:
        self.log = log
        self._log = log.open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def wait(self) -> dict[str, Any]:
        """Return what it says next."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("## "):
                return json.loads(line.removeprefix("## "))
            self._log.write(line)
        raise SystemExit(f"ended too early; see {self.log}")

    def go(self) -> dict[str, Any]:
        """Let it do one piece of work, wait for it, and return what it measured."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self.wait()

    def end(self) -> None:
        """Stop it, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._log.close()


def measure(runners: Mapping[str, Runner], rounds: int) -> dict[str, dict[str, float]]:
    """Return median seconds of a step and of a prediction, and the peak memory, of each.

    Args:
        runners: Each ready for ``rounds + 1`` steps, and then for as many predictions.
        rounds: Turns that count.
    """
    found: dict[str, dict[str, float]] = {name: {} for name in runners}
    for work in ("step", "prediction"):
        for name, runner in runners.items():
            ready = runner.wait()
            assert ready == {"ready": work}, f"{name} says {ready}, expected {work}"
        answers: dict[str, list[dict[str, Any]]] = {name: [] for name in runners}
        for turn in range(rounds + 1):
            for name, runner in runners.items():
                answers[name].append(runner.go())
                print(f"{work} {turn} · {name}: {answers[name][-1]}", flush=True)
        for name, given in answers.items():
            found[name][work] = statistics.median(answer["seconds"] for answer in given[1:])
            found[name][f"{work}_peak_gb"] = given[-1]["peak_gb"]
    return found


def table(cell: Mapping[str, Any]) -> str:
    """Return seconds and memory, and their ratios to AutoGluon's."""
    base = cell["found"]["AutoGluon, float32"]
    lines = ["| SAM ViT-B, 1024 px, batch 1 | step | prediction | peak memory |"]
    lines.append("|---|---|---|---|")
    for name, own in cell["found"].items():
        texts = [
            f"{own[key]:#.3g} {unit} ({own[key] / base[key]:.2f})"
            for key, unit in (("step", "s"), ("prediction", "s"), ("step_peak_gb", "GB"))
        ]
        lines.append(f"| {name} | {' | '.join(texts)} |")
    lines += [
        "",
        "In brackets: over AutoGluon's. A prediction of easyseg includes reading the image and "
        f"resizing the mask. {source(cell)}.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Let them take turns, and record it."""
    from easyseg.plan.hardware import detect_hardware

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", type=Path, required=True, help="AutoGluon's environment")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    python = python_of(options.env.expanduser())
    device = options.device
    measured = provenance(device)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = write_images(folder, options.rounds + 2)

        def runner(product: str, python: str | Path, precision: str) -> Runner:
            name = f"{product}-{precision}"
            script = HERE / f"_{product}_worker.py"
            command = [python, script, images, folder / name, precision, device]
            return Runner(command, RESULTS / f"autogluon_step-{name}-{device}.log")

        RESULTS.mkdir(parents=True, exist_ok=True)
        runners = {
            "AutoGluon, float32": runner("autogluon", python, "32"),
            "easyseg, float32": runner("easyseg", sys.executable, "32"),
        }
        if detect_hardware(device).native_bf16:
            runners["easyseg, bf16"] = runner("easyseg", sys.executable, "bf16")
            if device == "cuda":  # On a CPU it computes in float32 by default.
                runners["AutoGluon, bf16"] = runner("autogluon", python, "bf16")
        try:
            found = measure(runners, options.rounds)
        finally:
            for each in runners.values():
                each.end()
    cell = {"package": PACKAGE, "size": SIZE, "rounds": options.rounds, "found": found, **measured}
    suffix = "" if device == "cpu" else f"-{device}"
    write_json(RESULTS / f"autogluon_step{suffix}.json", cell)
    files = sorted(RESULTS.glob("autogluon_step*.json"))
    text = "\n\n".join(table(json.loads(file.read_text(encoding="utf-8"))) for file in files)
    put_into_page(HERE / "README.md", text, "autogluon_step")
    print(text)


if __name__ == "__main__":
    main()
