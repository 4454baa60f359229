"""The losses against their literal definitions; ignored pixels count as absent."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from easyseg.data.label_map import IGNORE
from easyseg.models.losses import (
    balanced_bce_loss,
    cross_entropy_dice_loss,
    focal_loss,
    structure_loss,
)


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


def with_ignored(target, share=0.3):
    """Return the target with random pixels ignored, and which ones count."""
    valid = torch.rand(target.shape) > share
    return target.where(valid, IGNORE).to(torch.uint8), valid


def reference_balanced_bce(pred, gt):
    """``BBCEWithLogitLoss`` of AutoGluon 1.6.3 (optim/losses/bce_loss.py), line by line.

    Its ``w_neg`` is the share of the positives, whatever its name says.
    """
    eps = 1e-10
    count_pos = torch.sum(gt) + eps
    count_neg = torch.sum(1.0 - gt)
    ratio = count_neg / count_pos
    w_neg = count_pos / (count_pos + count_neg)
    return w_neg * torch.nn.BCEWithLogitsLoss(pos_weight=ratio)(pred, gt)


def test_balanced_bce_is_that_of_the_reference():
    """Of the pixels that count, as if there were no others: pooled over the batch."""
    logits, target = binary_case()
    target, valid = with_ignored(target)
    mask, scores = (target == 1)[valid].float(), logits[:, 0][valid]
    expected = reference_balanced_bce(scores, mask)
    torch.testing.assert_close(balanced_bce_loss(logits, target), expected)


def test_balanced_bce_weighs_foreground_and_background_the_same():
    """However small the foreground is: here one pixel of a hundred."""
    target = torch.zeros(1, 10, 10, dtype=torch.uint8)
    target[0, 3, 4] = 1
    logits = torch.zeros(1, 1, 10, 10, requires_grad=True)
    balanced_bce_loss(logits, target).backward()
    gradient = logits.grad[0, 0]
    assert float(gradient[3, 4]) == pytest.approx(-float(gradient.sum() - gradient[3, 4]), rel=1e-5)


@pytest.mark.parametrize("value", [0, 1])
def test_balanced_bce_of_one_kind_of_pixel_is_zero_and_finite(value):
    logits = torch.randn(2, 1, 8, 8, requires_grad=True)
    loss = balanced_bce_loss(logits, torch.full((2, 8, 8), value, dtype=torch.uint8))
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


def test_binary_focal_loss_is_that_of_torchvision():
    logits, target = binary_case()
    target, valid = with_ignored(target)
    scores, mask = logits[:, 0][valid], (target == 1)[valid].float()
    expected = sigmoid_focal_loss(scores, mask, alpha=-1, gamma=2, reduction="mean")
    torch.testing.assert_close(focal_loss(logits, target), expected)
    # torchvision's alpha weighs foreground, and 1 - alpha background.
    weighted = sigmoid_focal_loss(scores, mask, alpha=0.8, gamma=2, reduction="sum")
    weights = torch.tensor([0.2, 0.8])
    expected = weighted / weights[mask.long()].sum()
    torch.testing.assert_close(focal_loss(logits, target, weights), expected)


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 0.1, 1.4]])
def test_focal_loss_is_its_definition(weights):
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 6, 5)
    target, _ = with_ignored(torch.randint(0, 4, (2, 6, 5)))
    total, mass = 0.0, 0.0
    for image, row, col in (target != IGNORE).nonzero().tolist():
        truth = int(target[image, row, col])
        scores = [math.exp(float(v)) for v in logits[image, :, row, col]]
        p = scores[truth] / sum(scores)
        weight = 1.0 if weights is None else weights[truth]
        total -= weight * (1 - p) ** 2 * math.log(p)
        mass += weight
    given_weights = None if weights is None else torch.tensor(weights)
    assert float(focal_loss(logits, target, given_weights)) == pytest.approx(total / mass, rel=1e-5)


def test_class_weights_reach_the_cross_entropy_and_not_the_dice():
    torch.manual_seed(0)
    logits, weights = torch.randn(2, 3, 6, 5), torch.tensor([0.2, 0.9, 1.9])
    target, _ = with_ignored(torch.randint(0, 3, (2, 6, 5)))

    def cross_entropy(weight):
        return F.cross_entropy(logits, target.long(), weight, ignore_index=IGNORE)

    dice = cross_entropy_dice_loss(logits, target) - cross_entropy(None)
    found = cross_entropy_dice_loss(logits, target, weights)
    torch.testing.assert_close(found, cross_entropy(weights) + dice)
    equal = cross_entropy_dice_loss(logits, target, torch.full((3,), 7.0))
    torch.testing.assert_close(equal, cross_entropy_dice_loss(logits, target))


def random_case(loss):
    torch.manual_seed(1)
    channels = 1 if loss in (structure_loss, balanced_bce_loss, binary_focal) else 3
    target = torch.randint(0, max(2, channels), (2, 40, 36), dtype=torch.uint8)
    return torch.randn(2, channels, 40, 36), target


def binary_focal(logits, target):
    return focal_loss(logits, target, torch.tensor([0.3, 1.7]))


def weighted_cross_entropy(logits, target):
    return cross_entropy_dice_loss(logits, target, torch.tensor([0.1, 0.7, 2.2]))


ALL = [
    structure_loss,
    balanced_bce_loss,
    binary_focal,
    focal_loss,
    cross_entropy_dice_loss,
    weighted_cross_entropy,
]
LOSSES = pytest.mark.parametrize("loss", ALL)


@settings(max_examples=40)
@given(st.sampled_from(ALL), st.integers(0, 10_000), st.floats(0, 1), st.floats(-80, 80))
def test_ignored_pixels_change_neither_loss_nor_gradient(loss, seed, share, value):
    logits, target = random_case(loss)
    torch.manual_seed(seed)
    target, valid = with_ignored(target, share)
    void = ~valid[:, None].expand_as(logits)
    results = []
    for values in (logits.clone(), logits.masked_fill(void, value)):
        values.requires_grad_()
        result = loss(values, target)
        result.backward()
        assert values.grad.isfinite().all()
        assert not values.grad[void].any()
        results.append((result.detach(), values.grad))
    torch.testing.assert_close(results[0], results[1])


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
    logits = (1e4 * (1 - 2.0 * right)).requires_grad_()
    loss(logits, target).backward()
    assert logits.grad.isfinite().all()


@LOSSES
def test_half_precision_logits_give_a_float32_loss(loss):
    logits, target = random_case(loss)
    value = loss(logits.bfloat16(), target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(logits, target), rtol=0.02, atol=0.02)
