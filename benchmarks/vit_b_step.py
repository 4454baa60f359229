"""One Conv-LoRA training step of SAM ViT-B at 1024x1024: seconds and peak memory of the process.

    python benchmarks/vit_b_step.py --precision bf16

Random weights, batch 1, rank 3, 8 experts, all blocks, no checkpointing: forward, loss, backward,
AdamW. The result goes to benchmarks/results/vit_b_step-PRECISION.json.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import torch
from _record import RESULTS, provenance, write_json

from easyseg.auditing.fingerprint import Fingerprint, Quantiles
from easyseg.inference.predict import autocast_for
from easyseg.models.network import build_network, trainable_state
from easyseg.plan.decisions import decide
from easyseg.plan.hardware import detect_hardware


def peak_gb() -> float:
    """Return the largest resident size of this process so far, in GB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


def main() -> None:
    """Run the step and record it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=["bf16", "32"], default="bf16")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=2, help="the first one warms up")
    options = parser.parse_args()
    side = Quantiles(options.size, options.size, options.size)
    fingerprint = Fingerprint(
        num_images=100,
        num_tuning=20,
        height=side,
        width=side,
        image_modes={"RGB": 100},
        mask_dtype="uint8",
        mask_values={0: 0.8, 1: 0.2},
        class_shares={"background": 0.8, "foreground": 0.2},
        images_with={"background": 100, "foreground": 100},
        empty_masks=0,
        ignored_share=0.0,
        uprightness=0.0,
    )
    plan = decide(
        fingerprint,
        detect_hardware("cpu"),
        problem_type="binary",
        num_classes=2,
        overrides={
            "backbone.name": "vit_b",
            "backbone.weights": "random",
            "data.size": options.size,
            "adapter.rank": 3,
            "adapter.num_experts": 8,
            "train.batch_size": 1,
            "train.precision": options.precision,
            "train.gradient_checkpointing": False,
        },
    )
    network = build_network(plan, seed=0)
    optimizer = torch.optim.AdamW(p for p in network.parameters() if p.requires_grad)
    before = peak_gb()
    images = torch.randn(1, 3, options.size, options.size)
    target = torch.zeros(1, options.size, options.size, dtype=torch.uint8)
    target[:, 200:600, 300:700] = 1
    seconds = []
    for _ in range(options.steps):
        started = time.monotonic()
        with autocast_for(options.precision, torch.device("cpu")):
            output = network(images)
            loss = network.head.loss(output.logits, target) + output.aux_losses
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(round(time.monotonic() - started, 2))
    result = {
        "precision": options.precision,
        "size": options.size,
        "trainable_parameters": sum(p.numel() for p in trainable_state(network).values()),
        "step_seconds": seconds,
        "peak_gb": round(peak_gb(), 2),
        "peak_gb_before_the_steps": round(before, 2),
        **provenance(),
    }
    write_json(RESULTS / f"vit_b_step-{options.precision}.json", result)
    print(result)


if __name__ == "__main__":
    main()
