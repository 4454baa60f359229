"""What to do where a GPU has no memory left."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from easyseg.errors import OptionError
from easyseg.plan.plan import Plan

__all__ = ["explained_shortage"]


@contextmanager
def explained_shortage(plan: Plan, work: str) -> Iterator[None]:
    """Raise a GPU's lack of memory as an error that names the settings which need less.

    What the failed work held is let go: in a notebook the next try would find it there.

    Args:
        plan: The plan that was too large.
        work: What was done, for the message.

    Raises:
        OptionError: In the place of PyTorch's error.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        traceback.clear_frames(error.__traceback__)
        reason = str(error).partition("\n")[0]
        raise OptionError(
            f"the GPU has too little memory for {work}: {plan.backbone.name} at {plan.data.size} px"
            f" with {plan.train.micro_batch_size} images at once. {_remedy(plan)} Other programs,"
            f" or a notebook that is still open, may hold memory: nvidia-smi lists them. ({reason})"
        ) from None


def _remedy(plan: Plan) -> str:
    train, smaller = plan.train, "a smaller data.size, or another backbone.name"
    if (size := train.micro_batch_size) > 1:
        part = next(n for n in range(size // 2, 0, -1) if size % n == 0)
        return f"Set train.micro_batch_size={part} (the batch stays as it is), or {smaller}."
    if not train.gradient_checkpointing:
        return f"Set train.gradient_checkpointing=true (slower, same result), or {smaller}."
    return f"Set {smaller}."
