"""Frozen weights shared out over processes: the same numbers, a share of the memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]

# Backbone, whether activations are kept or recomputed, the first step that is shared out.
CASES = [("tiny_sam", "keep", 0), ("tiny_vit", "recompute", 0), ("tiny_vit", "keep", 2)]

# One of two processes, which go through all cases: to start them takes longer than any case. Their
# numbers of forward passes without gradients differ, as in validation.
RANK_SCRIPT = """
import sys
from pathlib import Path
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, sys.argv[1] + "/tests")
from tiny_specs import TINY_SAM, TINY_VIT
from easyseg.models.adapters import inject_adapters
from easyseg.models.network import build_encoder
from easyseg.training.sharding import WholeInValidation, shard_frozen

rank = int(sys.argv[2])
images = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(rank))

class Root(nn.Module):
    def __init__(self, spec, recompute):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = build_encoder(spec, (128, 128))
        for parameter in self.backbone.parameters():
            nn.init.normal_(parameter, std=0.1)
        self.backbone.requires_grad_(False)
        for block in self.backbone.attention_blocks():
            inject_adapters(block, "conv_lora", target="qkv", rank=2, num_experts=3)
        for name, parameter in self.backbone.named_parameters():
            if name.endswith("lora_B"):
                nn.init.normal_(parameter, std=0.1)
        self.backbone.gradient_checkpointing = recompute

    def forward(self, images):
        embedding, aux = self.backbone(images)
        return embedding.square().mean() + aux

def train(root):
    torch.manual_seed(1 + rank)  # The gate's noise.
    root(images).backward()
    named = root.named_parameters()
    return {name.removeprefix("module."): p.grad for name, p in named if p.requires_grad}

def frozen(steps):
    return [p for step in steps for p in step.parameters() if not p.requires_grad]

def fail(module, inputs):
    raise RuntimeError("no memory")

def check(spec, recompute, start):
    whole, shared = Root(spec, recompute), Root(spec, recompute)
    shard_frozen(shared, shared.backbone, torch.device("cpu"), nodes=1, start=start)
    assert not any(isinstance(p, DTensor) for p in frozen(shared.backbone.steps()[:start]))
    steps = frozen(shared.backbone.steps()[start:])
    assert all(isinstance(p, DTensor) for p in steps)
    here = sum(p.to_local().numel() for p in steps)
    assert here < 0.6 * sum(p.numel() for p in steps), here

    expected = train(DistributedDataParallel(whole))
    wrapped = DistributedDataParallel(shared)
    found = train(wrapped)
    assert expected.keys() == found.keys() and len(found) > 0
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=0)

    validation = WholeInValidation()
    for mode in torch.no_grad, torch.inference_mode:  # Lightning takes the first with gloo.
        validation.on_validation_start(None, shared)
        with mode():
            for _ in range(1 + rank):
                torch.testing.assert_close(
                    shared.backbone.eval()(images), whole.backbone.eval()(images), rtol=0, atol=0
                )
        validation.on_validation_end(None, shared)
    again = frozen(shared.backbone.steps()[start:])
    assert sum(p.to_local().numel() for p in again) == here
    wrapped.zero_grad()
    wrapped.train()
    found = train(wrapped)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=0)

    # What a failure in the middle of a step leaves behind, Lightning moves to the CPU.
    next(shared.backbone.steps()[-1].children()).register_forward_pre_hook(fail)
    for moment in "training", "validation":
        if moment == "validation":
            validation.on_validation_start(None, shared)
        try:
            shared(images)
            raise SystemExit("it did not fail")
        except RuntimeError as error:
            assert "no memory" in str(error)
            validation.on_exception(None, shared, error)
        shared.cpu()
        shards = frozen(shared.backbone.steps()[start:])
        assert sum(p.to_local().numel() for p in shards) == here

dist.init_process_group("gloo", init_method=Path(sys.argv[3]).as_uri(), rank=rank, world_size=2)
for case in sys.argv[4:]:
    backbone, memory, start = case.split()
    spec = {"tiny_sam": TINY_SAM, "tiny_vit": TINY_VIT}[backbone]
    check(spec, memory == "recompute", int(start))
    print("equal:", case, flush=True)
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two processes printed, what went wrong in it, and how it ended."""
    folder = tmp_path_factory.mktemp("ranks")
    script = folder / "rank.py"
    script.write_text(RANK_SCRIPT)
    cases = [" ".join(map(str, case)) for case in CASES]
    processes = [
        subprocess.Popen(
            [sys.executable, script, CHECKOUT, str(rank), folder / "meeting", *cases],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"},
        )
        for rank in (0, 1)
    ]
    try:
        return [(*process.communicate(timeout=180), process.returncode) for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.parametrize(("backbone", "memory", "start"), CASES)
def test_gradients_are_those_of_ddp_and_validations_may_differ(ranks, backbone, memory, start):
    for out, error, _ in ranks:
        assert f"equal: {backbone} {memory} {start}" in out.splitlines(), error[-3000:]


def test_the_processes_end_without_an_error(ranks):
    assert [(error[-3000:], code) for _, error, code in ranks if code] == []
