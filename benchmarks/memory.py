"""How the plan trains the large backbones on GPUs of several sizes, as it estimates their needs.

    python benchmarks/memory.py

Nothing is run: these are the plan's own decisions for images of 1024x1024 and a batch of 4 in bf16.
The table goes to standard output and into README.md.
"""

from __future__ import annotations

from _record import README, put_into_page
from _steps import binary_plan

from easyseg.models.registry import get_spec
from easyseg.plan.hardware import Hardware

SIZES_GB = (8, 12, 16, 24, 40)
BACKBONES = ("mobile_sam", "vit_b", "vit_l", "vit_h")


def decided(backbone: str, memory_gb: float) -> str:
    """Return how many images go through the network at once, and what else it takes.

    Args:
        backbone: Name of the backbone.
        memory_gb: Of the GPU.
    """
    gpu = Hardware("cuda", 1, "a GPU", memory_gb, 8, native_bf16=True)
    size = get_spec(backbone).default_size
    values = {"backbone.name": backbone, "data.size": size, "train.batch_size": 4}
    train = binary_plan(values, gpu).train
    return f"{train.micro_batch_size}{', recomputed' if train.gradient_checkpointing else ''}"


def table() -> str:
    """Return the table: a row a backbone, a column a size of memory."""
    lines = [
        f"| images at once | {' | '.join(f'{size} GB' for size in SIZES_GB)} |",
        "|---" * (len(SIZES_GB) + 1) + "|",
    ]
    for backbone in BACKBONES:
        cells = (decided(backbone, size) for size in SIZES_GB)
        lines.append(f"| `{backbone}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Write the table."""
    put_into_page(README, table(), "memory")
    print(table())


if __name__ == "__main__":
    main()
