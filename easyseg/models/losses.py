"""Segmentation losses; ignored pixels (255) count as absent."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from easyseg.data.label_map import IGNORE

__all__ = [
    "balanced_bce_loss",
    "cross_entropy_dice_loss",
    "focal_loss",
    "structure_loss",
]

_EDGE_KERNEL = 31
_FOCAL_GAMMA = 2


def structure_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return the structure loss of PraNet (Fan et al., MICCAI 2020): weighted BCE + weighted IoU.

    Pixels near edges weigh more: ``1 + 5 |mean of the mask over 31x31 - mask|``. The reference
    code of Conv-LoRA loses these weights in the BCE half (``reduce="none"`` is read as a mean);
    here they apply, as PraNet means it.

    Args:
        logits: Foreground logits ``[B, 1, H, W]``.
        target: Class ids ``[B, H, W]``, integer: 0, 1 or 255 (ignored).

    Returns:
        Mean over the images, a scalar.
    """
    logits = logits.float()
    valid = (target != IGNORE).to(logits.dtype)[:, None]
    mask = (target == 1).to(logits.dtype)[:, None]
    weight = (1 + 5 * (_local_mean(mask, valid) - mask).abs()) * valid
    bce = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    weight_sum = weight.sum(dim=(2, 3))
    weighted_bce = (weight * bce).sum(dim=(2, 3)) / weight_sum.clamp(min=1)
    p = logits.sigmoid()
    intersection = (weight * p * mask).sum(dim=(2, 3))
    union = (weight * (p + mask)).sum(dim=(2, 3)) - intersection
    weighted_iou = 1 - (intersection + 1) / (union + 1)
    return (weighted_bce + weighted_iou).mean()


def _local_mean(mask: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of ``mask`` over valid neighbours; zeros beyond the border, as in PraNet."""

    def pool(x: Tensor) -> Tensor:
        # Rows, then columns: the same mean for 2/31 of the additions.
        x = F.avg_pool2d(x, (_EDGE_KERNEL, 1), stride=1, padding=(_EDGE_KERNEL // 2, 0))
        return F.avg_pool2d(x, (1, _EDGE_KERNEL), stride=1, padding=(0, _EDGE_KERNEL // 2))

    inside = pool(torch.ones_like(valid))
    return pool(mask * valid) * inside / pool(valid).clamp(min=1e-6)


def balanced_bce_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return the BCE in which foreground and background weigh the same, however small one is.

    Each foreground pixel weighs the share of the background in the batch, each background pixel
    the share of the foreground, and the mean is taken over all pixels: class-balanced cross entropy
    (Xie and Tu, *Holistically-Nested Edge Detection*, ICCV 2015). Conv-LoRA's reference code writes
    the same as (foreground share) * BCE(pos_weight = negatives / positives); here nothing is
    divided by the number of positives. A batch of one kind of pixel only has a loss of 0.

    Args:
        logits: Foreground logits ``[B, 1, H, W]``.
        target: Class ids ``[B, H, W]``, integer: 0, 1 or 255 (ignored).

    Returns:
        A scalar; 0 if all pixels are ignored.
    """
    logits = logits.float()[:, 0]
    valid = (target != IGNORE).to(logits.dtype)
    mask = (target == 1).to(logits.dtype)
    count = valid.sum().clamp(min=1)
    foreground = mask.sum() / count
    weight = torch.where(mask > 0, 1 - foreground, foreground) * valid
    bce = F.binary_cross_entropy_with_logits(logits, mask, weight=weight, reduction="sum")
    return bce / count


def focal_loss(logits: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Return the focal loss, ``(1 - p)^2 * cross entropy`` (Lin et al., ICCV 2017).

    p is the probability of a pixel's true class: what is right already weighs little.

    Args:
        logits: Class logits ``[B, K, H, W]``, or foreground logits ``[B, 1, H, W]``.
        target: Class ids ``[B, H, W]``, integer: below max(K, 2), or 255 (ignored).
        class_weights: Weight of the pixels of each class, float32 ``[max(K, 2)]``.

    Returns:
        The (weighted) mean over the pixels, a scalar; 0 if all pixels are ignored.
    """
    logits = logits.float()
    if logits.shape[1] == 1:
        mask = (target == 1).to(logits.dtype)
        entropy = F.binary_cross_entropy_with_logits(logits[:, 0], mask, reduction="none")
    else:
        entropy = F.cross_entropy(logits, target.long(), ignore_index=IGNORE, reduction="none")
    wrong = -torch.expm1(-entropy)
    return _pixel_mean(wrong**_FOCAL_GAMMA * entropy, target, class_weights)


def cross_entropy_dice_loss(
    logits: Tensor, target: Tensor, class_weights: Tensor | None = None
) -> Tensor:
    """Return cross entropy plus soft Dice over the classes that the batch holds.

    Args:
        logits: Class logits ``[B, K, H, W]``.
        target: Class ids ``[B, H, W]``, integer: 0..K-1 or 255 (ignored).
        class_weights: Weight of the pixels of each class in the cross entropy, float32 ``[K]``; the
            Dice half weighs all classes the same by itself.

    Returns:
        A scalar; 0 if all pixels are ignored.
    """
    logits = logits.float()
    target = target.long()
    valid = target != IGNORE
    pixels = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
    cross_entropy = _pixel_mean(pixels, target, class_weights)
    # A byte a pixel and class; F.one_hot would take eight.
    one_hot = torch.zeros_like(logits, dtype=torch.bool)
    one_hot.scatter_(1, target.where(valid, 0)[:, None], valid[:, None])
    p = logits.softmax(dim=1) * valid[:, None]
    counts = one_hot.sum(dim=(0, 2, 3))
    overlap = (p * one_hot).sum(dim=(0, 2, 3))
    total = p.sum(dim=(0, 2, 3)) + counts
    present = (counts > 0).to(logits.dtype)
    dice = (1 - 2 * overlap / total.clamp(min=1e-6)) * present
    return cross_entropy + dice.sum() / present.sum().clamp(min=1)


def _pixel_mean(pixels: Tensor, target: Tensor, class_weights: Tensor | None) -> Tensor:
    """Return the mean of ``[B, H, W]`` over valid pixels, each weighing what its class does."""
    valid = target != IGNORE
    weight = valid.to(pixels.dtype)
    if class_weights is not None:
        weight = weight * class_weights[target.where(valid, 0).long()]
    return (pixels * weight).sum() / weight.sum().clamp(min=1e-6)
