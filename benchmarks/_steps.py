"""Networks and training steps on random images, for benchmarks that need no data."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import patch

import _turns
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from easyseg.auditing.fingerprint import Fingerprint, Percentiles, Quantiles
from easyseg.inference.predict import autocast_for
from easyseg.models import sam_vit, tiny_vit
from easyseg.models.adapters.experts import ConvExpert
from easyseg.models.network import build_network
from easyseg.plan.decisions import decide
from easyseg.plan.hardware import Hardware, detect_hardware
from easyseg.plan.plan import Plan
from easyseg.training.module import new_optimizer, training_loss

DTYPES = {"32": torch.float32, "bf16": torch.bfloat16}
CPU = torch.device("cpu")
SIDE = {"cpu": 2048, "cuda": 8192}  # Of a product: large enough to fill the device.


def finish(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def medians(
    cases: Mapping[str, Callable[[], Any]], rounds: int, device: torch.device = CPU
) -> dict[str, float]:
    """Return the median seconds of each case; they take turns, after a round that does not count.

    Args:
        cases: What is measured, by name.
        rounds: How many times each is run.
        device: Where they compute; the clock stops when it has finished.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, run in cases.items():
            finish(device)
            started = time.perf_counter()
            run()
            finish(device)
            if number:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_gb(device: torch.device = CPU) -> float:
    """Return the most memory so far: resident size of this process, or GPU memory, in GB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return _turns.peak_gb()


def literal_attention(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """Attend as SAM does, with the logits of all pairs."""
    logits = (q * q.shape[-1] ** -0.5) @ k.mT
    positions = rel_h[..., :, None] + rel_w[..., None, :]
    return (logits + positions.flatten(-2)).softmax(dim=-1) @ v


def literal_expert(expert: ConvExpert, z: Tensor) -> Tensor:
    """Evaluate an expert as the reference code does, with the enlarged maps."""
    enlarged = z
    if expert.scale > 1:
        enlarged = F.interpolate(z, scale_factor=float(expert.scale), mode="bicubic")
    convolved = F.gelu(F.conv2d(enlarged, expert.weight, expert.bias, padding=1))
    return F.interpolate(convolved, size=z.shape[-2:], mode="bicubic")


def _literal(*inputs: Tensor) -> Tensor:
    return literal_attention(*inputs[:5])  # The last one is of use to folded attention only.


def _values(*inputs: Tensor) -> Tensor:
    return inputs[2]


def flops_of(run: Callable[[], Any], *, attention: bool = True) -> int:
    """Return the floating-point operations of the products and convolutions of one run.

    Attention counts as its plain formula, forward and backward, however it is computed; rows that
    strips have in common count once.

    Args:
        run: What is counted.
        attention: False leaves out the attention of SAM's ViTs.
    """
    with (
        patch.object(tiny_vit, "_STRIP_BYTES", 2**62),
        patch.object(sam_vit, "attention_with_positions", _literal if attention else _values),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        run()
    return counter.get_total_flops()


def a_product(precision: str, device: torch.device = CPU) -> tuple[Callable[[], Tensor], int]:
    """Return the product of two large square matrices, as a yardstick, and its operations.

    Args:
        precision: A key of ``DTYPES``.
        device: Where it is computed: 2048 rows on a CPU, 8192 on a GPU.
    """
    rows = SIDE[device.type]
    side = torch.randn(rows, rows, dtype=DTYPES[precision], device=device)
    return lambda: side @ side, 2 * len(side) ** 3


def binary_plan(overrides: Mapping[str, Any], hardware: Hardware | None = None) -> Plan:
    """Return the plan of a made-up binary set.

    Args:
        overrides: Hyperparameters, ``data.size`` among them.
        hardware: Where it would train; ``None``: on this machine's CPU.
    """
    side = Quantiles(overrides["data.size"], overrides["data.size"], overrides["data.size"])
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
        components=Quantiles(1, 1, 3),
        object_sizes=Percentiles(0.001, 0.01, 0.1),
        thickness={"foreground": 0.1},
        brightness=Quantiles(90, 120, 150),
        contrast=Quantiles(40, 50, 60),
        channels=(120.0, 120.0, 120.0),
        grey_images=0,
    )
    hardware = hardware or detect_hardware("cpu")
    return decide(
        fingerprint, hardware, problem_type="binary", num_classes=2, overrides=dict(overrides)
    )


class TrainingStep:
    """Trains the network of a plan by one batch of random images, always the same.

    Forward, loss, backward and the plan's optimizer; a rectangle is the object.

    Args:
        plan: The plan; its weights are loaded.
        device: Where it trains.

    Attributes:
        network: The network.
        images: The batch ``[B, 3, H, W]``.
    """

    def __init__(self, plan: Plan, device: torch.device = CPU) -> None:
        self.plan, self.device = plan, device
        self.network = build_network(plan, seed=0).to(device)
        self.optimizer = new_optimizer(self.network, plan, device)
        size, batch = plan.data.size, plan.train.batch_size
        self.images = torch.randn(batch, 3, size, size, device=device)
        self.target = torch.zeros(batch, size, size, dtype=torch.uint8, device=device)
        self.target[:, size // 5 : size * 3 // 5, size // 3 : size * 2 // 3] = 1

    def __call__(self, encode: Callable[[Tensor], Tensor] | None = None) -> None:
        """Take the step.

        Args:
            encode: What runs the frozen prefix, by default the network itself.
        """
        encode = encode or self.network.backbone.prefix
        with autocast_for(self.plan.train.precision, self.device):
            output = self.network.from_prefix(encode(self.images))
            _, loss = training_loss(self.network, self.plan, output, self.target)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
