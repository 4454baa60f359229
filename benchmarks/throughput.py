"""Images a second of every backbone, trained and predicted, beside the speed of matrix products.

    python benchmarks/throughput.py
    python benchmarks/throughput.py --backbones vit_b --sizes 1024 --again

A cell is a backbone at an input size, with random weights, in a fresh process: a training step with
Conv-LoRA (the plan's precision and options, no checkpointing) and a prediction of as many images,
in turns with a product of two 2048x2048 matrices; a figure is the median of three rounds after one
that does not count. The operations are those of the network's products and convolutions, attention
by its plain formula. A step that the plan expects not to fit into memory is left out. Nothing else
should use the cores.

Finished cells are kept below benchmarks/results/throughput/ and not run again (--again does). The
table goes to standard output and into benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from _record import RESULTS, provenance, publish, write_json
from _steps import TrainingStep, a_product, binary_plan, flops_of, medians
from _turns import peak_gb

from easyseg.allocator import keep_freed_memory
from easyseg.inference.predict import autocast_for
from easyseg.plan.hardware import detect_hardware
from easyseg.plan.memory import images_that_fit

SIZES = {
    "lite_medsam": (112, 224, 256),
    "mobile_sam": (224, 448, 1024),
    "vit_b": (224, 448, 1024),
    "vit_l": (224, 448, 1024),
    "vit_h": (224, 448, 1024),
}
BATCH = 2  # The plan's on a CPU; a single image where inputs are large.
SINGLE_FROM = 512
ROUNDS = 3


def measure(backbone: str, size: int) -> dict[str, Any]:
    """Measure one cell in this process.

    Args:
        backbone: Name of the backbone.
        size: Side of its input in pixels.
    """
    batch = 1 if size >= SINGLE_FROM else BATCH
    values = {
        "backbone.name": backbone,
        "backbone.weights": "random",
        "data.size": size,
        "train.batch_size": batch,
        "train.micro_batch_size": batch,
        "train.gradient_checkpointing": False,
    }
    plan = binary_plan(values)
    precision = plan.train.precision
    step = TrainingStep(plan)
    fits = batch <= images_that_fit(
        detect_hardware("cpu"), backbone, size, mixed=precision != "32", num_masks=1
    )

    def predict() -> None:
        step.network.eval()
        with torch.inference_mode(), autocast_for(precision, torch.device("cpu")):
            step.network(step.images)

    def train() -> None:
        step.network.train()
        step()

    cases = {"predict": predict, **({"train": train} if fits else {})}
    product, of_a_product = a_product(precision)
    with keep_freed_memory():  # As in every fit on a CPU.
        seconds = medians({**cases, "product": product}, ROUNDS)
    peak = peak_gb()  # Before the operations are counted, by the plain formula.
    flops = {name: flops_of(run) for name, run in cases.items()}
    speed = of_a_product / seconds.pop("product")
    return {
        "backbone": backbone,
        "size": size,
        "batch": batch,
        "precision": precision,
        "seconds": seconds,
        "gflop": {name: round(count / 1e9, 3) for name, count in flops.items()},
        "gflops_of_a_product": round(speed / 1e9, 1),
        "share_of_its_speed": {name: flops[name] / seconds[name] / speed for name in seconds},
        "peak_gb": round(peak, 2),
    }


def table(cells: Sequence[Mapping[str, Any]]) -> str:
    """Return a row a cell.

    Args:
        cells: Finished cells, in their order.
    """
    lines = [
        "| backbone | input | batch | precision | trained, images/s | of the products' speed "
        "| predicted, images/s | of the products' speed | peak memory |",
        "|---" * 9 + "|",
    ]
    for cell in cells:
        rates = []
        for name in ("train", "predict"):
            seconds = cell["seconds"].get(name)
            rates += (
                ["–", "–"]
                if seconds is None
                else [f"{cell['batch'] / seconds:.2g}", f"{cell['share_of_its_speed'][name]:.0%}"]
            )
        lines.append(
            f"| `{cell['backbone']}` | {cell['size']} | {cell['batch']} | {cell['precision']} | "
            f"{' | '.join(rates)} | {cell['peak_gb']:.1f} GB |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, each cell in a fresh process, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--sizes", nargs="+", type=int, help="the same for each backbone")
    parser.add_argument("--again", action="store_true", help="run finished cells again")
    parser.add_argument("--here", action="store_true", help="run one cell in this process")
    parser.add_argument("--table", action="store_true", help="only write the table")
    options = parser.parse_args()
    folder = RESULTS / "throughput"
    for backbone in [] if options.table else options.backbones:
        for size in SIZES[backbone] if options.sizes is None else options.sizes:
            file = folder / f"{backbone}-{size}.json"
            if options.here:
                measured = provenance()
                write_json(file, {**measure(backbone, size), **measured})
            elif options.again or not file.exists():
                command = [sys.executable, __file__, "--here", "--backbones", backbone]
                subprocess.run([*command, "--sizes", str(size)], check=True)
    if options.here:
        return
    found = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")]
    order = list(SIZES)
    found.sort(key=lambda cell: (order.index(cell["backbone"]), cell["size"]))
    publish(table(found), found, "throughput")


if __name__ == "__main__":
    main()
