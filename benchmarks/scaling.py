"""How the time of a training step grows with size, batch, rank and experts.

    python benchmarks/scaling.py --backbone lite_medsam

One thing is changed at a time, from the base of --size, batch 2, rank 4 and 8 experts; random
weights, the plan's precision. All variants take turns in one process; a figure is the median of
their rounds, after one that does not count. Nothing else should use the cores. The result goes to
benchmarks/results/scaling/ and into benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from _record import RESULTS, provenance, publish, write_json
from _steps import TrainingStep, binary_plan, medians

from easyseg.allocator import keep_freed_memory

BASE = {"train.batch_size": 2, "adapter.rank": 4, "adapter.num_experts": 8}
NAMES = {
    "data.size": "side of the input",
    "train.batch_size": "batch",
    "adapter.rank": "rank",
    "adapter.num_experts": "experts",
}


def axes(size: int) -> dict[str, tuple[int, ...]]:
    """Return the values that each thing takes.

    Args:
        size: The base's side of the input.
    """
    return {
        "data.size": (size, 2 * size, 3 * size),
        "train.batch_size": (1, 2, 4, 8),
        "adapter.rank": (1, 2, 4, 8, 16, 32),
        "adapter.num_experts": (1, 2, 4, 8, 16),
    }


def variants(size: int) -> list[dict[str, int]]:
    """Return the base, and then what differs from it in one value.

    Args:
        size: The base's side of the input.
    """
    base = {"data.size": size, **BASE}
    changed = [
        {**base, axis: value}
        for axis, values in axes(size).items()
        for value in values
        if value != base[axis]
    ]
    return [base, *changed]


def step_of(backbone: str, values: Mapping[str, Any]) -> TrainingStep:
    """Return a training step without accumulation or checkpointing."""
    fixed = {
        "backbone.name": backbone,
        "backbone.weights": "random",
        "adapter.lora_targets": [],
        "train.micro_batch_size": values["train.batch_size"],
        "train.gradient_checkpointing": False,
    }
    return TrainingStep(binary_plan(fixed | dict(values)))


def table(result: Mapping[str, Any]) -> str:
    """Return a row an axis: its values, and the time of a step in times of the base's.

    Args:
        result: What ``main`` writes down.
    """
    base, *_ = steps = [row["values"] for row in result["steps"]]
    seconds = [row["seconds"] for row in result["steps"]]
    lines = [
        f"| a step of {result['backbone']}, {result['precision']}, {seconds[0]:.2f} s at "
        f"{base['data.size']} px, batch {base['train.batch_size']}, rank {base['adapter.rank']}, "
        f"{base['adapter.num_experts']} experts | times as long |",
        "|---|---|",
    ]
    for axis, values in axes(base["data.size"]).items():
        ratios = (
            f"{value}: {seconds[steps.index({**base, axis: value})] / seconds[0]:.2f}"
            for value in values
        )
        lines.append(f"| {NAMES[axis]} | {' · '.join(ratios)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure all variants and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="lite_medsam")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    measured = provenance()
    changed = variants(options.size)
    steps = {str(number): step_of(options.backbone, v) for number, v in enumerate(changed)}
    with keep_freed_memory():  # As in every fit on a CPU.
        seconds = medians(steps, options.rounds)
    result = {
        "backbone": options.backbone,
        "precision": steps["0"].precision,
        "steps": [
            {"values": v, "seconds": seconds[str(number)]} for number, v in enumerate(changed)
        ],
        **measured,
    }
    folder = RESULTS / "scaling"
    write_json(folder / f"{options.backbone}.json", result)
    found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]
    publish("\n\n".join(table(r) for r in found), found, "scaling")


if __name__ == "__main__":
    main()
