"""Heads: what the decoder's masks and tokens mean, their loss, and their probabilities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from easyseg.models.losses import (
    balanced_bce_loss,
    cross_entropy_dice_loss,
    focal_loss,
    structure_loss,
)
from easyseg.models.matching import Segments, mask2former_loss

__all__ = ["BinaryHead", "Head", "MaskClassificationHead", "SoftmaxHead", "build_head"]

_LOSSES: dict[str, Callable[..., Tensor]] = {
    "structure": structure_loss,
    "balanced_bce": balanced_bce_loss,
    "ce_dice": cross_entropy_dice_loss,
    "focal": focal_loss,
    "mask2former": mask2former_loss,
}


class Head(nn.Module, ABC):
    """The meaning of what the decoder returns; owns the loss and logits -> probabilities.

    Args:
        num_masks: Number of mask tokens that the decoder needs.
        num_classes: Number of classes K, background included.
        loss: The name of a loss that suits the head.
        class_weights: One weight a class, for the losses that take them.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        num_masks: int,
        num_classes: int,
        loss: str,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.num_masks = num_masks
        self.num_classes = num_classes
        self._loss = _LOSSES[loss]
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, masks: Tensor, tokens: Tensor) -> tuple[Tensor, Segments | None]:
        """Make logits of what the decoder returns.

        Args:
            masks: Mask logits ``[B, num_masks, h, w]``.
            tokens: Decoded mask tokens ``[B, num_masks, C]``.

        Returns:
            Logits that may be resampled and decided, here the masks as they are; and what the loss
            needs beside them, here nothing.
        """
        return masks, None

    def loss(self, logits: Tensor, target: Tensor, segments: Segments | None = None) -> Tensor:
        """Return the task loss; logits are enlarged to the target's size first.

        Args:
            logits: First value of :meth:`forward`.
            target: Class ids ``[B, H, W]``, 255 ignored.
            segments: Second value of :meth:`forward`.
        """
        logits = _enlarge(logits, target)
        if self.class_weights is None:
            return self._loss(logits, target)
        return self._loss(logits, target, self.class_weights)

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Map logits ``[..., C, H, W]`` to probabilities ``[..., K, H, W]``, float32."""

    @abstractmethod
    def decide(self, logits: Tensor, threshold: float | None = None) -> Tensor:
        """Map logits ``[..., C, H, W]`` to class ids ``[..., H, W]``, uint8."""


def _enlarge(logits: Tensor, target: Tensor) -> Tensor:
    """Bring logits ``[B, C, h, w]`` to the size of the target."""
    size = target.shape[-2:]
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)


class BinaryHead(Head):
    """One mask: foreground against background; C = 1."""

    def __init__(
        self, loss: str = "structure", class_weights: Sequence[float] | None = None
    ) -> None:
        super().__init__(1, 2, loss, class_weights)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return background and foreground probabilities ``[..., 2, H, W]``."""
        p = logits.float().sigmoid()
        return torch.cat([1 - p, p], dim=-3)

    def decide(self, logits: Tensor, threshold: float | None = None) -> Tensor:
        """Foreground where its probability exceeds ``threshold`` (default 0.5)."""
        p = logits.float().sigmoid().squeeze(-3)
        return (p > (0.5 if threshold is None else threshold)).to(torch.uint8)


class SoftmaxHead(Head):
    """One mask for each class, softmax at each pixel; C = K."""

    def __init__(
        self,
        num_classes: int,
        loss: str = "ce_dice",
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(num_classes, num_classes, loss, class_weights)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return class probabilities ``[..., K, H, W]``."""
        return logits.float().softmax(dim=-3)

    def decide(self, logits: Tensor, threshold: float | None = None) -> Tensor:
        """Return the most probable class; ``threshold`` has no meaning here and is refused."""
        if threshold is not None:
            raise ValueError("threshold applies to a binary head only")
        return logits.argmax(dim=-3).to(torch.uint8)


class MaskClassificationHead(SoftmaxHead):
    """N masks, each with class scores: the multi-class head of the Conv-LoRA paper.

    A linear layer on each decoded mask token says which class its mask is of, or "no object". A
    class's score at a pixel is the sum over tokens of P(class) * sigmoid(mask). The logits are the
    logarithms of these scores: their softmax is the score divided by the sum of scores. So what
    follows is that of a softmax head, class maps are resampled once and as log-probabilities there
    as here, and the cost of own-size images does not grow with the number of tokens. (Mask2Former
    resamples the masks before it combines them; at the logits' own size both are the same.)

    Args:
        num_classes: Number of classes K, background included.
        num_tokens: Number of mask tokens N, at least K: an image may hold every class.
        dim: Channels of a decoded token.
    """

    def __init__(self, num_classes: int, num_tokens: int, dim: int) -> None:
        super().__init__(num_classes, "mask2former")
        self.num_masks = num_tokens
        self.class_branch = nn.Linear(dim, num_classes + 1)

    def forward(self, masks: Tensor, tokens: Tensor) -> tuple[Tensor, Segments]:
        """Return the class maps float32 ``[B, K, h, w]``, and the segments that they combine."""
        segments = Segments(masks, self.class_branch(tokens))
        # In float32: a product in bf16 would round the probabilities to three digits.
        with torch.autocast(masks.device.type, enabled=False):
            shares = segments.classes.float().softmax(dim=-1)[..., :-1]
            scores = torch.einsum("bnk,bnhw->bkhw", shares, masks.float().sigmoid())
        return scores.clamp(min=torch.finfo(scores.dtype).tiny).log(), segments

    def loss(self, logits: Tensor, target: Tensor, segments: Segments | None = None) -> Tensor:
        """Return the loss of the segments; their masks are enlarged to the target's size first."""
        assert segments is not None
        enlarged = Segments(_enlarge(segments.masks, target), segments.classes)
        return self._loss(enlarged, target)


def build_head(
    kind: str,
    num_classes: int,
    loss: str,
    *,
    class_weights: str | tuple[float, ...] = "none",
    num_tokens: int | None = None,
    dim: int = 256,
) -> Head:
    """Build the head that a plan names.

    Args:
        kind: ``"binary"``, ``"softmax"`` or ``"mask_classification"``.
        num_classes: Number of classes K, background included.
        loss: Name of the loss.
        class_weights: One weight a class, or ``"none"``.
        num_tokens: Mask tokens of a mask classification head; None for one a class.
        dim: Channels of the decoder's tokens.
    """
    if kind == "mask_classification":
        return MaskClassificationHead(num_classes, num_tokens or num_classes, dim)
    weights = class_weights if isinstance(class_weights, tuple) else None
    if kind == "binary":
        return BinaryHead(loss, weights)
    return SoftmaxHead(num_classes, loss, weights)
