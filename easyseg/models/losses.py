"""Segmentation losses; ignored pixels (255) count as absent."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from easyseg.data.label_map import IGNORE

__all__ = ["cross_entropy_dice_loss", "structure_loss"]

_EDGE_KERNEL = 31


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


def cross_entropy_dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return cross entropy plus soft Dice over the classes that the batch holds.

    Args:
        logits: Class logits ``[B, K, H, W]``.
        target: Class ids ``[B, H, W]``, integer: 0..K-1 or 255 (ignored).

    Returns:
        A scalar; 0 if all pixels are ignored.
    """
    logits = logits.float()
    target = target.long()
    valid = target != IGNORE
    pixels = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
    cross_entropy = pixels.sum() / valid.sum().clamp(min=1)
    num_classes = logits.shape[1]
    one_hot = F.one_hot(target.where(valid, 0), num_classes).permute(0, 3, 1, 2).to(logits.dtype)
    one_hot = one_hot * valid[:, None]
    p = logits.softmax(dim=1) * valid[:, None]
    overlap = (p * one_hot).sum(dim=(0, 2, 3))
    total = (p + one_hot).sum(dim=(0, 2, 3))
    present = (one_hot.sum(dim=(0, 2, 3)) > 0).to(logits.dtype)
    dice = (1 - 2 * overlap / total.clamp(min=1e-6)) * present
    return cross_entropy + dice.sum() / present.sum().clamp(min=1)
