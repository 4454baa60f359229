"""The audit of 1,000 and of 10,000 images: seconds, and peak memory.

    python benchmarks/audit_many.py

Pairs of JPEG images of 512x512 (photo-like: soft blobs and fine grain) and PNG masks of three
blobs, each another one, are written to a scratch folder and audited there in a fresh process, as
`easyseg audit` does it: all files read, all checks run. Nothing else should use the cores. The
result goes to benchmarks/results/audit_many.json and into benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _record import RESULTS, provenance, publish, write_json
from _turns import peak_gb
from PIL import Image

COUNTS = (1000, 10_000)
SIDE = 512


def write_pair(folder: Path, number: int) -> tuple[str, str]:
    """Write an image and its mask; return their names."""
    rng = np.random.default_rng(number)
    blobs = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    soft = np.asarray(blobs.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.int16)
    grain = rng.integers(-12, 13, (SIDE, SIDE, 1), dtype=np.int16)
    rows, columns = np.ogrid[:SIDE, :SIDE]
    mask = np.zeros((SIDE, SIDE), bool)
    for row, column, radius in rng.integers([0, 0, 20], [SIDE, SIDE, 90], (3, 3)):
        mask |= (rows - row) ** 2 + (columns - column) ** 2 < radius**2
    names = f"{rng.integers(16**12):012x}.jpg", f"{number:05}.png"
    image = np.clip(soft + grain, 0, 255).astype(np.uint8)
    Image.fromarray(image).save(folder / names[0], quality=90)
    Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(folder / names[1])
    return names


def write_set(folder: Path, count: int) -> Path:
    """Write pairs and their table."""
    folder.mkdir(parents=True)
    rows = [",".join(write_pair(folder, number)) for number in range(count)]
    table = folder / "train.csv"
    table.write_text("\n".join(["image,label", *rows, ""]), encoding="utf-8")
    return table


def measure(table: Path) -> dict[str, Any]:
    """Audit a table in this process."""
    import easyseg

    before = peak_gb()
    started = time.perf_counter()
    report = easyseg.audit(table, verbosity=0)
    return {
        "images": report.num_samples["train"],
        "seconds": round(time.perf_counter() - started, 2),
        "peak_gb_before": round(before, 3),
        "peak_gb": round(peak_gb(), 3),
        "findings": [finding.check for finding in report.findings],
    }


def table_of(result: Mapping[str, Any]) -> str:
    """Return a row for each number of images."""
    head = "| images | seconds | ms an image | peak memory | of it before |"
    lines = [head, "|---|---|---|---|---|"]
    for one in result["runs"]:
        lines.append(
            f"| {one['images']} | {one['seconds']:.1f} |"
            f" {1000 * one['seconds'] / one['images']:.1f} | {one['peak_gb']:.2f} GB |"
            f" {one['peak_gb_before']:.2f} GB |"
        )
    return "\n".join(lines)


def run(counts: Sequence[int]) -> list[dict[str, Any]]:
    """Measure each number of images in a fresh process."""
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        for count in counts:
            table = write_set(Path(scratch) / str(count), count)
            command = [sys.executable, __file__, "--here", str(table)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            runs.append(json.loads(done.stdout))
    return runs


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", nargs="+", type=int, default=COUNTS, help="numbers of images")
    parser.add_argument("--here", type=Path, help="a table: audit it in this process only")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.here)))
        return
    measured = provenance()
    result = {"side": SIDE, "runs": run(options.counts), **measured}
    write_json(RESULTS / "audit_many.json", result)
    publish(table_of(result), [result], "audit_many")


if __name__ == "__main__":
    main()
