"""Heads: what the decoder's mask channels mean, their loss, and their probabilities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from easyseg.models.losses import cross_entropy_dice_loss, structure_loss

__all__ = ["BinaryHead", "Head", "SoftmaxHead", "build_head"]

_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "structure": structure_loss,
    "ce_dice": cross_entropy_dice_loss,
}


class Head(nn.Module, ABC):
    """The meaning of the decoder's channels; owns the loss and logits -> probabilities.

    Args:
        num_masks: Number of mask tokens that the decoder needs.
        num_classes: Number of classes K, background included.
        loss: ``"structure"`` or ``"ce_dice"``.
    """

    def __init__(self, num_masks: int, num_classes: int, loss: str) -> None:
        super().__init__()
        self.num_masks = num_masks
        self.num_classes = num_classes
        self._loss = _LOSSES[loss]

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the task loss; logits are enlarged to the target's size first.

        Args:
            logits: ``[B, num_masks, h, w]``.
            target: Class ids ``[B, H, W]``, 255 ignored.
        """
        if logits.shape[-2:] != target.shape[-2:]:
            size = target.shape[-2:]
            logits = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)
        return self._loss(logits, target)

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Map logits ``[..., num_masks, H, W]`` to probabilities ``[..., K, H, W]``, float32."""

    @abstractmethod
    def decide(self, logits: Tensor, threshold: float | None = None) -> Tensor:
        """Map logits ``[..., num_masks, H, W]`` to class ids ``[..., H, W]``, uint8."""


class BinaryHead(Head):
    """One mask: foreground against background."""

    def __init__(self, loss: str = "structure") -> None:
        super().__init__(1, 2, loss)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return background and foreground probabilities ``[..., 2, H, W]``."""
        p = logits.float().sigmoid()
        return torch.cat([1 - p, p], dim=-3)

    def decide(self, logits: Tensor, threshold: float | None = None) -> Tensor:
        """Foreground where its probability exceeds ``threshold`` (default 0.5)."""
        p = logits.float().sigmoid().squeeze(-3)
        return (p > (0.5 if threshold is None else threshold)).to(torch.uint8)


class SoftmaxHead(Head):
    """One mask for each class, softmax at each pixel."""

    def __init__(self, num_classes: int, loss: str = "ce_dice") -> None:
        super().__init__(num_classes, num_classes, loss)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return class probabilities ``[..., K, H, W]``."""
        return logits.float().softmax(dim=-3)

    def decide(self, logits: Tensor, threshold: float | None = None) -> Tensor:
        """Return the most probable class; ``threshold`` has no meaning here and is refused."""
        if threshold is not None:
            raise ValueError("threshold applies to a binary head only")
        return logits.argmax(dim=-3).to(torch.uint8)


def build_head(kind: str, num_classes: int, loss: str) -> Head:
    """Build the head that a plan names: ``"binary"`` or ``"softmax"``."""
    return BinaryHead(loss) if kind == "binary" else SoftmaxHead(num_classes, loss)
