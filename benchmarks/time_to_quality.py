"""How long a fit by the defaults takes to a given validation score, on four real sets.

    python benchmarks/time_to_quality.py --data ../shared/data
    python benchmarks/time_to_quality.py --data ../shared/data --device cuda

The seconds run from the call of fit, imports not included, to the first epoch whose score on
val.csv reaches the mark of its set. A fit ends as its plan wants it to; its model is scored on
test.csv. One seed; nothing else should use the cores. Finished sets are kept below
benchmarks/results/time_to_quality/ and not run again (--again does). The table goes to standard
output and into benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _record import RESULTS, provenance, publish, write_json

MARKS = {"skin_isic": 0.75, "leaf_disease": 0.50, "polyp_cvc": 0.50, "road_epfl": 0.60}
METRIC = "iou@image"


def measure(folder: Path, device: str) -> dict[str, Any]:
    """Fit one set and return seconds and score of each epoch, and the score of the test images."""
    import easyseg.training.fit  # noqa: F401 - fit imports it: its seconds hold no imports
    from easyseg import SemanticSegmentor
    from easyseg.datasets.folder import read_folder

    dataset = read_folder(folder)
    with tempfile.TemporaryDirectory() as scratch:
        segmentor = SemanticSegmentor(
            classes=dataset.classes, ignore_index=dataset.ignore, path=Path(scratch) / "run"
        ).fit(dataset.train, dataset.val, accelerator=device, devices=1)
        test = segmentor.evaluate(dataset.test)[METRIC]
    history = segmentor.history_
    return {
        "set": folder.name,
        "device": device,
        "images": len(dataset.train),
        "test": round(test, 4),
        "steps": int(history["step"].iloc[-1]),
        "seconds": history["seconds"].tolist(),
        "scores": history[METRIC].round(4).tolist(),
    }


def reached(seconds: Sequence[float], scores: Sequence[float], mark: float) -> float | None:
    """Return the seconds of the first score that is not below a mark; None if there is none."""
    return next((s for s, score in zip(seconds, scores, strict=True) if score >= mark), None)


def table(cells: Sequence[Mapping[str, Any]]) -> str:
    """Return a row a set.

    Args:
        cells: What ``main`` writes down.
    """
    lines = [
        f"| device | set | `{METRIC}` of | reached after | best | whole fit | steps | test |",
        "|---" * 8 + "|",
    ]
    for cell in cells:
        mark = MARKS[cell["set"]]
        after = reached(cell["seconds"], cell["scores"], mark)
        lines.append(
            f"| {cell['device']} | {cell['set']} | {mark:.2f} "
            f"| {'never' if after is None else f'{after:.0f} s'} | {max(cell['scores']):.3f} "
            f"| {cell['seconds'][-1]:.0f} s | {cell['steps']} | {cell['test']:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="+", choices=MARKS, default=list(MARKS))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--again", action="store_true", help="run finished sets again")
    parser.add_argument("--table", action="store_true", help="only write the table")
    options = parser.parse_args()
    device, folder = options.device, RESULTS / "time_to_quality"
    for name in [] if options.table else options.sets:
        file = folder / f"{name}-{device}.json"
        if options.again or not file.exists():
            measured = provenance(device)
            write_json(file, {**measure((options.data / name).resolve(), device), **measured})
    files = [folder / f"{name}-{kind}.json" for kind in ("cpu", "cuda") for name in MARKS]
    cells = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]
    publish(table(cells), cells, "time_to_quality")


if __name__ == "__main__":
    main()
