"""One Conv-LoRA training step of SAM ViT-B at 1024x1024: seconds and peak memory of the process.

    python benchmarks/vit_b_step.py --precision bf16

Random weights, batch 1, rank 3, 8 experts, all blocks, no checkpointing: forward, loss, backward,
AdamW. The result goes to benchmarks/results/vit_b_step-PRECISION.json.
"""

from __future__ import annotations

import argparse
import time

from _record import RESULTS, provenance, write_json
from _steps import TrainingStep, binary_plan
from _turns import peak_gb

from easyseg.models.network import trainable_state


def main() -> None:
    """Run the step and record it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=["bf16", "32"], default="bf16")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=2, help="the first one warms up")
    options = parser.parse_args()
    plan = binary_plan(
        {
            "backbone.name": "vit_b",
            "backbone.weights": "random",
            "data.size": options.size,
            "adapter.rank": 3,
            "adapter.num_experts": 8,
            "train.batch_size": 1,
            "train.precision": options.precision,
            "train.gradient_checkpointing": False,
        }
    )
    step = TrainingStep(plan)
    before = peak_gb()
    seconds = []
    for _ in range(options.steps):
        started = time.monotonic()
        step()
        seconds.append(round(time.monotonic() - started, 2))
    result = {
        "precision": options.precision,
        "size": options.size,
        "trainable_parameters": sum(p.numel() for p in trainable_state(step.network).values()),
        "step_seconds": seconds,
        "peak_gb": round(peak_gb(), 2),
        "peak_gb_before_the_steps": round(before, 2),
        **provenance(),
    }
    write_json(RESULTS / f"vit_b_step-{options.precision}.json", result)
    print(result)


if __name__ == "__main__":
    main()
