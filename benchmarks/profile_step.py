"""What a training step spends its time on, by kind of operation: products, attention, copies, ...

    python benchmarks/profile_step.py --backbone vit_b --size 1024 --batch 1 --precision bf16
    python benchmarks/profile_step.py --batch 8 --device cuda

Conv-LoRA (rank 3, 8 experts, all blocks) on random weights, no checkpointing. The step is timed
(median of --rounds), and run once more under PyTorch's profiler. A row is the time of its operators
themselves; on a GPU that of their kernels, and what is missing to the step's seconds is the time in
which none ran. The profiler makes a step longer, so the shares of a CPU are of more than a hundred.
Beside the products, and beside the attention of SAM's ViTs, stands what their operations would take
at the speed of a product of two large matrices, which is measured in turns with the step. The
result goes to benchmarks/results/profile/ and into benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from _record import RESULTS, provenance, publish, write_json
from _steps import CPU, DTYPES, TrainingStep, a_product, binary_plan, finish, flops_of, medians
from torch.profiler import ProfilerActivity, profile

from easyseg.plan.hardware import detect_hardware

FOLDER = RESULTS / "profile"
PRODUCTS, ATTENTION, OTHER = "matrix products and convolutions", "attention", "everything else"
# The first kind whose word is part of an operator's name has it.
KINDS: dict[str, tuple[str, ...]] = {
    ATTENTION: ("attention", "softmax"),
    PRODUCTS: ("mm", "aten::linear", "conv", "matmul"),
    "GELU": ("gelu",),
    "normalisation": ("layer_norm", "batch_norm"),
    "copies, casts, changes of layout": (
        *("copy", "clone", "cat", "stack", "contiguous", "index", "fill", "zero", "pad", "gather"),
        *("repeat", "roll", "empty", "resize", "select_backward", "slice_backward", "permute"),
        *("reshape", "view", "narrow", "split", "unbind"),
    ),
    "update": ("adam", "foreach", "optimizer"),
    "sums, products by element": ("add", "mul", "sub", "div", "sum", "mean"),
}


def kind_of(operator: str) -> str:
    """Return the kind of an operator by its name."""
    name = operator.lower()
    return next((kind for kind, words in KINDS.items() if any(w in name for w in words)), OTHER)


def by_kind(seconds: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Add up the seconds of operators by their kind, the largest first."""
    found: dict[str, float] = {}
    for operator, own in seconds:
        kind = kind_of(operator)
        found[kind] = found.get(kind, 0.0) + own
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Time the step and its operators."""
    hardware, device = detect_hardware(options.device.type), options.device
    overrides = {
        "backbone.name": options.backbone,
        "backbone.weights": "random",
        "data.size": options.size,
        "adapter.rank": 3,
        "adapter.num_experts": 8,
        "train.batch_size": options.batch,
        "train.precision": options.precision,
        "train.gradient_checkpointing": False,
    }
    step = TrainingStep(binary_plan(overrides, hardware), device)
    flops, of_attention = flops_of(step), flops_of(step) - flops_of(step, attention=False)
    product, of_a_product = a_product(options.precision, device)
    times = medians({"step": step, "product": product}, options.rounds, device)
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as profiled:
        step()
        finish(device)
    operators = [
        (event.key, 1e-6 * (event.self_device_time_total if on_gpu else event.self_cpu_time_total))
        for event in profiled.key_averages()
        # On a GPU a kernel counts where its operator stands; the host waits, which is no work.
        if event.key.startswith(("aten::", "mkldnn", "onednn"))
        or ("optimizer" in event.key.lower() and not on_gpu)
    ]
    return {
        "backbone": options.backbone,
        "size": options.size,
        "batch": options.batch,
        "precision": options.precision,
        "device": device.type,
        "seconds": times["step"],
        "seconds_by_kind": by_kind(operators),
        "largest": dict(sorted(operators, key=lambda item: -item[1])[:25]),
        "calls": sum(event.count for event in profiled.key_averages()),
        "gflop": round(flops / 1e9, 1),
        "gflop_of_attention": round(of_attention / 1e9, 1),
        "gflops_of_a_product": round(of_a_product / times["product"] / 1e9, 1),
    }


def table(cells: list[dict[str, Any]]) -> str:
    """Return a column for each profile, a row for each kind: seconds and share of the step."""
    kinds = sorted(
        {kind for cell in cells for kind in cell["seconds_by_kind"]},
        key=lambda kind: -sum(c["seconds_by_kind"].get(kind, 0) / c["seconds"] for c in cells),
    )
    heads = [
        f"`{c['backbone']}`, {c['size']} px, batch {c['batch']}, {c['precision']}, {c['device']}"
        for c in cells
    ]
    lines = [f"| seconds of a step | {' | '.join(heads)} |", "|---" * (len(cells) + 1) + "|"]
    lines.append(f"| commit | {' | '.join(cell['commit'] for cell in cells)} |")

    def row(name: str, seconds: Sequence[float]) -> str:
        texts = [f"{s:#.3g} ({s / c['seconds']:.0%})" for s, c in zip(seconds, cells, strict=True)]
        return f"| {name} | {' | '.join(texts)} |"

    for kind in kinds:
        lines.append(row(kind, [cell["seconds_by_kind"].get(kind, 0.0) for cell in cells]))
        if kind in (PRODUCTS, ATTENTION):
            bounds = []
            for cell in cells:
                own = cell["gflop_of_attention"]
                gflop = own if kind == ATTENTION else cell["gflop"] - own
                bounds.append(gflop / cell["gflops_of_a_product"])
            lines.append(row(f"{kind}: their operations at the speed of a large product", bounds))
    lines.append(row("the step", [cell["seconds"] for cell in cells]))
    return "\n".join(lines)


def main() -> None:
    """Profile a step and write the table of all profiles."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="vit_b")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--precision", choices=DTYPES, default="bf16")
    parser.add_argument("--device", type=torch.device, default=CPU, help="cpu or cuda")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    measured = provenance(options.device.type)
    found = measure(options)
    name = f"{options.backbone}-{options.size}-{options.batch}-{options.precision}"
    write_json(FOLDER / f"{name}-{options.device.type}.json", {**found, **measured})
    cells = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.json"))]
    publish(table(cells), cells, "profile")


if __name__ == "__main__":
    main()
