"""Mask classification: which token answers for which class, and the loss of that.

After Mask2Former (Cheng et al., CVPR 2022, https://github.com/facebookresearch/Mask2Former), whose
loss the Conv-LoRA paper takes for several classes. Each class that an image holds is one segment;
the segments are matched to tokens, one token each, at the least cost in all, and all other tokens
learn "no object". The reference code of Conv-LoRA hands Mask2Former's weights on but never applies
them; here they apply in the matching and in the loss alike. Two things differ from Mask2Former:
masks are compared on all pixels that are not ignored, not on a random sample of 12544, and mask
losses are means over the segments of one forward pass, not of all processes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from easyseg.data.label_map import IGNORE

__all__ = ["Segments", "assign", "mask2former_loss", "matching_costs"]

CLASS_WEIGHT = 2.0
MASK_WEIGHT = 5.0
DICE_WEIGHT = 5.0
NO_OBJECT_WEIGHT = 0.1


class Segments(NamedTuple):
    """What the N tokens say, before they are combined to one map a class.

    Attributes:
        masks: Mask logits ``[B, N, h, w]``.
        classes: Class logits ``[B, N, K + 1]``; the last one is "no object".
    """

    masks: Tensor
    classes: Tensor


def mask2former_loss(segments: Segments, target: Tensor) -> Tensor:
    """Return 2 x classification + 5 x mask BCE + 5 x mask Dice of the best matching.

    The classification is a cross entropy over all tokens of the images that hold any pixel, "no
    object" weighing 0.1; BCE and Dice are means over the matched tokens. Ignored pixels (255) enter
    neither matching nor loss.

    Args:
        segments: Mask logits at the target's size, and class logits.
        target: Class ids ``[B, H, W]``, integer: 0..K-1 or 255 (ignored).

    Returns:
        A float32 scalar; 0 if all pixels are ignored.
    """
    # The sums over pixels and the class probabilities need more digits than autocast's products.
    with torch.autocast(segments.masks.device.type, enabled=False):
        masks, classes = segments.masks.float().flatten(2), segments.classes.float()
        num_classes = classes.shape[-1] - 1
        ids = torch.arange(num_classes, device=target.device)[:, None]
        truth = (target.flatten(1)[:, None] == ids).to(masks.dtype)
        valid = (target.flatten(1) != IGNORE).to(masks.dtype)
        with torch.no_grad():
            costs = matching_costs(masks, classes, truth, valid)
            assigned = assign(costs, present=truth.any(dim=-1))
        class_loss = _class_loss(classes, assigned.to(classes.device), valid.any(dim=-1))
        images, tokens = (assigned < num_classes).nonzero(as_tuple=True)
        bce, dice = _mask_losses(
            masks[images, tokens], truth[images, assigned[images, tokens]], valid[images]
        )
        mask_loss = (MASK_WEIGHT * bce + DICE_WEIGHT * dice).sum() / max(1, len(images))
        return CLASS_WEIGHT * class_loss + mask_loss


def matching_costs(masks: Tensor, classes: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Return what each token would cost as each class.

    Args:
        masks: Mask logits float32 ``[B, N, P]`` at P pixels.
        classes: Class logits float32 ``[B, N, K + 1]``.
        truth: 1 where a pixel is of a class, else 0, float32 ``[B, K, P]``.
        valid: 0 where a pixel is ignored, else 1, float32 ``[B, P]``.

    Returns:
        ``[B, N, K]``: 2 x (- probability of the class) + 5 x mean BCE + 5 x Dice loss.
    """
    valid = valid[:, None]
    # BCE(x, t) = softplus(x) - x t: the products of all pairs are one matrix product.
    bce = (F.softplus(masks) * valid).sum(dim=-1, keepdim=True) - masks @ truth.mT
    bce = bce / valid.sum(dim=-1, keepdim=True).clamp(min=1)
    p = masks.sigmoid() * valid
    total = p.sum(dim=-1, keepdim=True) + truth.sum(dim=-1)[:, None]
    dice = 1 - (2 * (p @ truth.mT) + 1) / (total + 1)
    probability = classes.softmax(dim=-1)[..., :-1]
    return -CLASS_WEIGHT * probability + MASK_WEIGHT * bce + DICE_WEIGHT * dice


def assign(costs: Tensor, present: Tensor) -> Tensor:
    """Match the classes that each image holds to tokens at the least cost in all.

    Args:
        costs: ``[B, N, K]``, N of at least K.
        present: ``[B, K]`` bool, whether an image holds a class.

    Returns:
        The class of each token, or K ("no object"), int64 ``[B, N]`` on the CPU.

    Example:
        >>> costs = torch.tensor([[[1.0, 5.0], [2.0, 9.0], [0.0, 0.0]]])
        >>> assign(costs, torch.tensor([[True, True]]))
        tensor([[0, 2, 1]])
        >>> assign(costs, torch.tensor([[True, False]]))
        tensor([[2, 2, 0]])
    """
    batch, num_tokens, num_classes = costs.shape
    assigned = torch.full((batch, num_tokens), num_classes)
    # Costs that are not finite belong to a step that the gradient scaler skips: no error then.
    all_costs = np.nan_to_num(costs.cpu().numpy())
    for row, there in enumerate(present.cpu().numpy()):
        ids = there.nonzero()[0]
        tokens, columns = linear_sum_assignment(all_costs[row][:, ids])
        assigned[row, tokens] = torch.from_numpy(ids[columns])
    return assigned


def _class_loss(classes: Tensor, assigned: Tensor, informative: Tensor) -> Tensor:
    """Return the weighted mean cross entropy of ``[B, N, K + 1]`` to ``[B, N]``.

    Images without a pixel that counts, ``informative`` ``[B]`` false, say nothing about objects.
    """
    entropy = F.cross_entropy(classes.transpose(1, 2), assigned, reduction="none")
    no_object = assigned == classes.shape[-1] - 1
    weight = torch.where(no_object, NO_OBJECT_WEIGHT, 1.0) * informative[:, None]
    return (weight * entropy).sum() / weight.sum().clamp(min=NO_OBJECT_WEIGHT)


def _mask_losses(masks: Tensor, truth: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean BCE and Dice loss of each of M matched masks; all arguments are ``[M, P]``."""
    bce = F.binary_cross_entropy_with_logits(masks, truth, weight=valid, reduction="none")
    p = masks.sigmoid() * valid
    dice = 1 - (2 * (p * truth).sum(dim=1) + 1) / (p.sum(dim=1) + truth.sum(dim=1) + 1)
    return bce.sum(dim=1) / valid.sum(dim=1), dice
