"""Images a second of every backbone, trained and predicted, beside the speed of matrix products.

    python benchmarks/throughput.py
    python benchmarks/throughput.py --backbones vit_b --sizes 1024 --again
    python benchmarks/throughput.py --device cuda

A cell is a backbone at an input size, with random weights, in a fresh process: a training step with
Conv-LoRA (the plan's precision and options, no checkpointing) and a prediction of as many images,
in turns with a product of two large matrices (2048x2048 on a CPU, 8192x8192 on a GPU); a figure is
the median of three rounds (ten on a GPU) after one that does not count. The operations are those of
the network's products and convolutions, attention by its plain formula. A step that the plan
expects not to fit into memory is left out. Nothing else should use the cores.

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
from _steps import CPU, TrainingStep, a_product, binary_plan, flops_of, medians, peak_gb

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
BATCH = {"cpu": 2, "cuda": 8}  # The plan's; on a CPU a single image where inputs are large.
SINGLE_FROM = 512
ROUNDS = {"cpu": 3, "cuda": 10}


def measure(backbone: str, size: int, device: torch.device) -> dict[str, Any]:
    """Measure one cell in this process.

    Args:
        backbone: Name of the backbone.
        size: Side of its input in pixels.
        device: Where it computes.
    """
    hardware = detect_hardware(device.type)
    mixed = hardware.native_bf16
    room = images_that_fit(hardware, backbone, size, mixed=mixed, num_masks=1)
    batch = BATCH[device.type]
    if device.type == "cuda":
        batch = max(1, min(batch, int(room)))
    elif size >= SINGLE_FROM:
        batch = 1
    values = {
        "backbone.name": backbone,
        "backbone.weights": "random",
        "data.size": size,
        "train.batch_size": batch,
        "train.micro_batch_size": batch,
        "train.gradient_checkpointing": False,
    }
    plan = binary_plan(values, hardware)
    precision = plan.train.precision
    step = TrainingStep(plan, device)
    fits = batch <= room

    def predict() -> None:
        step.network.eval()
        with torch.inference_mode(), autocast_for(precision, device):
            step.network(step.images)

    def train() -> None:
        step.network.train()
        step()

    cases = {"predict": predict, **({"train": train} if fits else {})}
    product, of_a_product = a_product(precision, device)
    with keep_freed_memory():  # As in every fit on a CPU.
        seconds = medians({**cases, "product": product}, ROUNDS[device.type], device)
    peak = peak_gb(device)  # Before the operations are counted, by the plain formula.
    flops = {name: flops_of(run) for name, run in cases.items()}
    speed = of_a_product / seconds.pop("product")
    return {
        "backbone": backbone,
        "size": size,
        "device": device.type,
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
        "| device | backbone | input | batch | precision | trained, images/s "
        "| of the products' speed | predicted, images/s | of the products' speed | peak memory |",
        "|---" * 10 + "|",
    ]
    for cell in cells:
        rates = []
        for name in ("train", "predict"):
            seconds = cell["seconds"].get(name)
            rates += (
                ["–", "–"]
                if seconds is None
                else [
                    in_few_digits(cell["batch"] / seconds),
                    f"{cell['share_of_its_speed'][name]:.0%}",
                ]
            )
        lines.append(
            f"| {cell.get('device', 'cpu')} | `{cell['backbone']}` | {cell['size']} "
            f"| {cell['batch']} | {cell['precision']} | {' | '.join(rates)} "
            f"| {cell['peak_gb']:.1f} GB |"
        )
    return "\n".join(lines)


def in_few_digits(rate: float) -> str:
    """Return a rate with two digits, or all before its point."""
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"


def main() -> None:
    """Run what is missing, each cell in a fresh process, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--sizes", nargs="+", type=int, help="the same for each backbone")
    parser.add_argument("--device", type=torch.device, default=CPU, help="cpu or cuda")
    parser.add_argument("--again", action="store_true", help="run finished cells again")
    parser.add_argument("--here", action="store_true", help="run one cell in this process")
    parser.add_argument("--table", action="store_true", help="only write the table")
    options = parser.parse_args()
    folder = RESULTS / "throughput"
    suffix = "" if options.device == CPU else f"-{options.device.type}"
    for backbone in [] if options.table else options.backbones:
        for size in SIZES[backbone] if options.sizes is None else options.sizes:
            file = folder / f"{backbone}-{size}{suffix}.json"
            if options.here:
                measured = provenance(options.device.type)
                write_json(file, {**measure(backbone, size, options.device), **measured})
            elif options.again or not file.exists():
                command = [sys.executable, __file__, "--here", "--backbones", backbone]
                here = ["--sizes", str(size), "--device", str(options.device)]
                subprocess.run([*command, *here], check=True)
    if options.here:
        return
    found = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")]
    order = list(SIZES)
    found.sort(
        key=lambda c: (c.get("device", "cpu"), order.index(c["backbone"]), c["size"], c["machine"])
    )
    publish(table(found), found, "throughput")


if __name__ == "__main__":
    main()
