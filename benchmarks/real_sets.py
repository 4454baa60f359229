"""Defaults on real sets: test score and time of `easyseg demo --data FOLDER`, three seeds.

    python benchmarks/real_sets.py --data ../shared/data --sets skin_isic leaf_disease

Each (set, seed) is a fresh process that runs `easyseg demo`; a finished one is kept as JSON below
benchmarks/results/real_sets/ and not run again (--again does). Nothing else should use the cores.
The table goes to standard output, to benchmarks/results/real_sets.md and into README.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _record import README, RESULTS, provenance, put_into_page, write_json


def run_cell(folder: Path, seed: int, target: Path) -> None:
    """Fit and score one set with one seed in a fresh process, and record it."""
    measured = provenance()
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "easyseg", "demo", "--data", str(folder)]
        command += ["--seed", str(seed), "--output-dir", scratch]
        started = time.monotonic()
        subprocess.run(command, check=True)
        seconds = time.monotonic() - started
        demo = next(Path(scratch).iterdir())
        scores = json.loads((demo / "scores.json").read_text())
        plan = json.loads((demo / "run" / "plan.json").read_text())
        log = (demo / "run" / "metrics.csv").read_text().splitlines()
    plan.pop("reasons")
    write_json(
        target,
        {
            "set": folder.name,
            "seed": seed,
            "demo_seconds": round(seconds, 1),
            "scores": scores,
            "epochs": log,
            "plan": plan,
            **measured,
        },
    )


def table(cells: list[dict]) -> str:
    """Return the Markdown table of the cells: mean and range over seeds."""
    lines = [
        "| set | metric | mean of seeds | each seed | whole demo, slowest |",
        "|---|---|---|---|---|",
    ]
    for name in sorted({cell["set"] for cell in cells}):
        mine = sorted((c for c in cells if c["set"] == name), key=lambda c: c["seed"])
        metric = mine[0]["plan"]["metric"]
        scores = [cell["scores"][metric] for cell in mine]
        each = ", ".join(f"{score:.3f}" for score in scores)
        slowest = max(cell["demo_seconds"] for cell in mine)
        lines.append(
            f"| {name} | {metric} | **{statistics.mean(scores):.3f}** | {each} | {slowest:.0f} s |"
        )
    machine = " / ".join(sorted({f"{c['machine']}, torch {c['torch']}" for c in cells}))
    commits = ", ".join(sorted({cell["commit"] for cell in cells}))
    return "\n".join([*lines, "", f"Machine: {machine}. Commits: {commits}."])


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="+", default=["skin_isic", "leaf_disease"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--again", action="store_true", help="run finished cells again")
    options = parser.parse_args()
    files = []
    for name in options.sets:
        for seed in options.seeds:
            file = RESULTS / "real_sets" / f"{name}-seed{seed}.json"
            files.append(file)
            if options.again or not file.exists():
                run_cell((options.data / name).resolve(), seed, file)
    text = table([json.loads(file.read_text()) for file in files])
    (RESULTS / "real_sets.md").write_text(text + "\n", encoding="utf-8")
    put_into_page(README, text, "real_sets")
    print(text)


if __name__ == "__main__":
    main()
