"""The losses against their literal definitions; ignored pixels count as absent."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from easyseg.data.label_map import IGNORE
from easyseg.models.losses import cross_entropy_dice_loss, structure_loss


def pranet_structure_loss(pred, mask, *, reference_bug=False):
    """``structure_loss`` of PraNet (train.py), line by line.

    There and in the code of Conv-LoRA the BCE is asked for with ``reduce="none"``, which PyTorch
    reads as a mean (``reference_bug``); what is meant is ``reduction="none"``.
    """
    weit = 1 + 5 * torch.abs(F.avg_pool2d(mask, kernel_size=31, stride=1, padding=15) - mask)
    reduction = "mean" if reference_bug else "none"
    wbce = F.binary_cross_entropy_with_logits(pred, mask, reduction=reduction)
    wbce = (weit * wbce).sum(dim=(2, 3)) / weit.sum(dim=(2, 3))
    pred = torch.sigmoid(pred)
    inter = ((pred * mask) * weit).sum(dim=(2, 3))
    union = ((pred + mask) * weit).sum(dim=(2, 3))
    wiou = 1 - (inter + 1) / (union - inter + 1)
    return (wbce + wiou).mean()


def binary_case():
    torch.manual_seed(0)
    rows, cols = torch.meshgrid(torch.arange(48), torch.arange(40), indexing="ij")
    first = (rows - 20) ** 2 + (cols - 15) ** 2 < 100
    target = torch.stack([first, rows > 30, torch.zeros_like(first)]).to(torch.uint8)
    return torch.randn(3, 1, 48, 40), target


def test_structure_loss_is_that_of_pranet():
    logits, target = binary_case()
    expected = pranet_structure_loss(logits, target[:, None].float())
    torch.testing.assert_close(structure_loss(logits, target), expected)


def test_structure_loss_weighs_the_edges_which_the_reference_does_not():
    logits, target = binary_case()
    mask = target[:, None].float()
    buggy = pranet_structure_loss(logits, mask, reference_bug=True)
    # In the reference the weights cancel: what is left of the BCE half is the plain mean.
    iou_half = pranet_structure_loss(logits, mask) - _weighted_bce(logits, mask)
    torch.testing.assert_close(buggy, F.binary_cross_entropy_with_logits(logits, mask) + iou_half)
    assert abs(float(structure_loss(logits, target) - buggy)) > 1e-3
    # A mistake at the edge costs more than one in the middle.
    costs = []
    for row, col in ((20, 24), (20, 15)):
        wrong = torch.where(mask[:1] > 0, 8.0, -8.0)
        wrong[0, 0, row, col] = -8.0
        costs.append(float(structure_loss(wrong, target[:1])))
    assert costs[0] > costs[1]


def _weighted_bce(logits, mask):
    weight = 1 + 5 * (F.avg_pool2d(mask, 31, stride=1, padding=15) - mask).abs()
    bce = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    return ((weight * bce).sum(dim=(2, 3)) / weight.sum(dim=(2, 3))).mean()


def literal_cross_entropy_dice(logits, target):
    """Loop over images, pixels and classes; pixels that are ignored are not looked at."""
    num_classes = logits.shape[1]
    entropy, count = 0.0, 0
    overlap, total, present = [0.0] * num_classes, [0.0] * num_classes, [False] * num_classes
    for image in range(logits.shape[0]):
        for row in range(logits.shape[2]):
            for col in range(logits.shape[3]):
                truth = int(target[image, row, col])
                if truth == IGNORE:
                    continue
                scores = [math.exp(float(v)) for v in logits[image, :, row, col]]
                p = [v / sum(scores) for v in scores]
                entropy -= math.log(p[truth])
                count += 1
                present[truth] = True
                for k in range(num_classes):
                    overlap[k] += p[k] * (k == truth)
                    total[k] += p[k] + (k == truth)
    dice = [1 - 2 * overlap[k] / total[k] for k in range(num_classes) if present[k]]
    return entropy / count + sum(dice) / len(dice)


@pytest.mark.parametrize("ignored", [False, True])
def test_cross_entropy_dice_is_its_definition(ignored):
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 6, 5)
    target = torch.randint(0, 3, (2, 6, 5), dtype=torch.uint8)  # class 3 does not occur
    if ignored:
        target[:, 2:4] = IGNORE
    expected = literal_cross_entropy_dice(logits, target)
    assert float(cross_entropy_dice_loss(logits, target)) == pytest.approx(expected, rel=1e-5)


def random_case(loss):
    torch.manual_seed(1)
    channels = 1 if loss is structure_loss else 3
    target = torch.randint(0, max(2, channels), (2, 40, 36), dtype=torch.uint8)
    return torch.randn(2, channels, 40, 36), target


LOSSES = pytest.mark.parametrize("loss", [structure_loss, cross_entropy_dice_loss])


@LOSSES
def test_what_is_predicted_for_ignored_pixels_changes_nothing(loss):
    logits, target = random_case(loss)
    target[:, 25:] = IGNORE
    other = logits.clone()
    other[:, :, 25:] = 100 * torch.randn_like(other[:, :, 25:])
    results = []
    for values in (logits, other):
        values.requires_grad_()
        value = loss(values, target)
        value.backward()
        assert not values.grad[:, :, 25:].any()
        results.append((value.detach(), values.grad[:, :, :25]))
    torch.testing.assert_close(results[0], results[1])


def test_ignored_images_change_no_pixel_mean():
    """Cross entropy + Dice pool the pixels: an image that is ignored is as good as absent."""
    logits, target = random_case(cross_entropy_dice_loss)
    alone = cross_entropy_dice_loss(logits[:1], target[:1])
    target[1] = IGNORE
    torch.testing.assert_close(cross_entropy_dice_loss(logits, target), alone)


def test_ignored_pixels_do_not_weigh_on_their_neighbours():
    """The edge weight is a mean over valid neighbours: no edge appears beside ignored pixels."""
    target = torch.ones(1, 64, 64, dtype=torch.uint8)
    target[:, :, 32:] = IGNORE
    logits = torch.zeros(1, 1, 64, 64, requires_grad=True)
    structure_loss(logits, target).backward()
    gradient = logits.grad[0, 0, 32]
    torch.testing.assert_close(gradient[16:32], gradient[16].expand(16))


@LOSSES
def test_nothing_but_ignored_pixels(loss):
    logits, target = random_case(loss)
    logits.requires_grad_()
    value = loss(logits, torch.full_like(target, IGNORE))
    value.backward()
    assert value == 0
    assert not logits.grad.any()


@LOSSES
def test_right_is_cheap_wrong_is_dear_and_neither_overflows(loss):
    logits, target = random_case(loss)
    right = F.one_hot(target.long(), max(2, logits.shape[1])).movedim(-1, 1)[:, -logits.shape[1] :]
    good, bad = loss(1e4 * (2.0 * right - 1), target), loss(1e4 * (1 - 2.0 * right), target)
    assert good < 1e-3
    assert 1 < bad < math.inf


@LOSSES
def test_half_precision_logits_give_a_float32_loss(loss):
    logits, target = random_case(loss)
    value = loss(logits.bfloat16(), target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(logits, target), rtol=0.02, atol=0.02)
