from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from easyseg.data.label_map import IGNORE
from easyseg.models.heads import BinaryHead, MaskClassificationHead, SoftmaxHead, build_head
from easyseg.models.losses import (
    balanced_bce_loss,
    cross_entropy_dice_loss,
    focal_loss,
    structure_loss,
)
from easyseg.models.matching import Segments, mask2former_loss


def test_the_plan_names_the_head():
    binary = build_head("binary", 2, "structure")
    assert isinstance(binary, BinaryHead)
    assert (binary.num_masks, binary.num_classes) == (1, 2)
    softmax = build_head("softmax", 5, "ce_dice")
    assert isinstance(softmax, SoftmaxHead)
    assert (softmax.num_masks, softmax.num_classes) == (5, 5)
    tokens = build_head("mask_classification", 5, "mask2former", num_tokens=7, dim=16)
    assert isinstance(tokens, MaskClassificationHead)
    assert (tokens.num_masks, tokens.num_classes) == (7, 5)
    assert tokens.class_branch.weight.shape == (6, 16)
    assert build_head("mask_classification", 5, "mask2former").num_masks == 5


@pytest.mark.parametrize("lead", [(), (3,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_probabilities(lead, dtype):
    for head in (BinaryHead(), SoftmaxHead(4)):
        logits = torch.randn(*lead, head.num_masks, 6, 5).to(dtype)
        p = head.probabilities(logits)
        assert p.shape == (*lead, head.num_classes, 6, 5)
        assert p.dtype == torch.float32
        assert (p >= 0).all()
        torch.testing.assert_close(p.sum(dim=-3), torch.ones(*lead, 6, 5))


@pytest.mark.parametrize("lead", [(), (3,)])
def test_decisions_are_the_most_probable_classes(lead):
    for head in (BinaryHead(), SoftmaxHead(4)):
        logits = torch.randn(*lead, head.num_masks, 6, 5)
        ids = head.decide(logits)
        assert ids.dtype == torch.uint8
        assert torch.equal(ids.long(), head.probabilities(logits).argmax(dim=-3))


def test_threshold_of_a_binary_head():
    logits = torch.tensor([-2.0, 0.0, 2.0]).view(1, 1, 3)
    head = BinaryHead()
    assert head.decide(logits).tolist() == [[0, 0, 1]]
    assert head.decide(logits, 0.05).tolist() == [[1, 1, 1]]
    assert head.decide(logits, 0.9).tolist() == [[0, 0, 0]]
    assert head.decide(logits, 0.0).tolist() == [[1, 1, 1]]


def test_a_softmax_head_knows_no_threshold():
    with pytest.raises(ValueError, match="binary head only"):
        SoftmaxHead(3).decide(torch.zeros(3, 2, 2), 0.5)


@pytest.mark.parametrize(
    ("head", "loss"),
    [
        (BinaryHead(), structure_loss),
        (BinaryHead("balanced_bce"), balanced_bce_loss),
        (BinaryHead("focal"), focal_loss),
        (SoftmaxHead(3), cross_entropy_dice_loss),
        (SoftmaxHead(3, "focal"), focal_loss),
    ],
)
def test_the_loss_is_taken_at_the_size_of_the_target(head, loss):
    torch.manual_seed(0)
    logits = torch.randn(2, head.num_masks, 8, 8)
    target = torch.randint(0, head.num_classes, (2, 32, 32), dtype=torch.uint8)
    target[:, :4] = IGNORE
    enlarged = F.interpolate(logits, (32, 32), mode="bilinear", align_corners=False)
    assert torch.equal(head.loss(logits, target), loss(enlarged, target))
    assert torch.equal(head.loss(enlarged, target), loss(enlarged, target))


def test_a_binary_softmax_head_can_use_cross_entropy():
    head = build_head("softmax", 2, "ce_dice")
    assert head.num_masks == 2
    assert head.probabilities(torch.zeros(2, 3, 3)).shape == (2, 3, 3)


@pytest.mark.parametrize("head", [BinaryHead(), SoftmaxHead(4)])
def test_simple_heads_pass_the_masks_on(head):
    masks = torch.randn(2, head.num_masks, 3, 3)
    logits, segments = head(masks, torch.randn(2, head.num_masks, 8))
    assert logits is masks
    assert segments is None


@pytest.mark.parametrize(
    ("kind", "loss", "function"),
    [
        ("softmax", "ce_dice", cross_entropy_dice_loss),
        ("softmax", "focal", focal_loss),
        ("binary", "focal", focal_loss),
    ],
)
def test_class_weights_reach_the_loss_and_move_with_the_head(kind, loss, function):
    torch.manual_seed(0)
    head = build_head(kind, 2, loss, class_weights=(0.25, 1.75))
    logits, target = torch.randn(2, head.num_masks, 8, 8), torch.randint(0, 2, (2, 8, 8))
    expected = function(logits, target, torch.tensor([0.25, 1.75]))
    assert torch.equal(head.loss(logits, target), expected)
    assert not torch.equal(expected, function(logits, target))
    assert head.to("meta").class_weights.device.type == "meta"
    assert not head.state_dict()  # They are in the plan.


def mask_head(num_classes=2, num_tokens=3, dim=4):
    torch.manual_seed(0)
    return MaskClassificationHead(num_classes, num_tokens, dim)


def test_mask_classification_by_hand():
    """Two classes, three tokens, one pixel: the sum over tokens of P(class) * sigmoid(mask)."""
    head = mask_head(dim=3)
    with torch.no_grad():
        head.class_branch.weight.copy_(torch.eye(3))
        head.class_branch.bias.zero_()
    tokens = torch.tensor([[[0.5, 0.25, 0.25], [0.2, 0.2, 0.6], [0.1, 0.8, 0.1]]]).log()
    masks = torch.tensor([0.0, math.log(3), -math.log(3)]).view(1, 3, 1, 1)  # 1/2, 3/4, 1/4
    logits, segments = head(masks, tokens)
    # Class 0: 0.5 * 0.5 + 0.2 * 0.75 + 0.1 * 0.25 = 0.425.
    # Class 1: 0.25 * 0.5 + 0.2 * 0.75 + 0.8 * 0.25 = 0.475.
    torch.testing.assert_close(logits.exp().flatten(), torch.tensor([0.425, 0.475]))
    expected = torch.tensor([0.425 / 0.9, 0.475 / 0.9])
    torch.testing.assert_close(head.probabilities(logits).flatten(), expected)
    assert head.decide(logits).tolist() == [[[1]]]
    assert segments.masks is masks
    torch.testing.assert_close(segments.classes, tokens)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mask_classification_combines_in_float32_and_stays_finite(dtype):
    head = mask_head(num_classes=4, num_tokens=6, dim=8)
    masks, tokens = torch.randn(2, 6, 5, 7), torch.randn(2, 6, 8)
    masks[0] = -1e4  # No token claims any pixel of this image.
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        logits, segments = head(masks.to(dtype), tokens)
    assert logits.shape == (2, 4, 5, 7)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    p = head.probabilities(logits)
    torch.testing.assert_close(p.sum(dim=1), torch.ones(2, 5, 7))
    assert torch.equal(head.decide(logits).long(), p.argmax(dim=1))
    shares = segments.classes.double().softmax(-1)[1, :, :-1]
    scores = sum(
        shares[n][:, None, None] * segments.masks[1, n].double().sigmoid() for n in range(6)
    )
    torch.testing.assert_close(p[1].double(), scores / scores.sum(0), rtol=1e-5, atol=1e-6)


def test_mask_classification_does_not_see_the_order_of_tokens():
    head = mask_head(num_classes=3, num_tokens=5)
    masks, tokens = torch.randn(2, 5, 6, 6), torch.randn(2, 5, 4)
    order = torch.tensor([3, 0, 4, 1, 2])
    logits, _ = head(masks, tokens)
    torch.testing.assert_close(head(masks[:, order], tokens[:, order])[0], logits)


def test_the_loss_of_mask_classification_enlarges_the_masks():
    head = mask_head()
    masks, tokens = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4)
    target = torch.randint(0, 2, (2, 32, 32), dtype=torch.uint8)
    target[:, :4] = IGNORE
    logits, segments = head(masks, tokens)
    enlarged = F.interpolate(masks, (32, 32), mode="bilinear", align_corners=False)
    expected = mask2former_loss(Segments(enlarged, segments.classes), target)
    assert torch.equal(head.loss(logits, target, segments), expected)
