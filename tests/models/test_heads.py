from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from easyseg.data.label_map import IGNORE
from easyseg.models.heads import BinaryHead, SoftmaxHead, build_head
from easyseg.models.losses import cross_entropy_dice_loss, structure_loss


def test_the_plan_names_the_head():
    binary = build_head("binary", 2, "structure")
    assert isinstance(binary, BinaryHead)
    assert (binary.num_masks, binary.num_classes) == (1, 2)
    softmax = build_head("softmax", 5, "ce_dice")
    assert isinstance(softmax, SoftmaxHead)
    assert (softmax.num_masks, softmax.num_classes) == (5, 5)


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
    [(BinaryHead(), structure_loss), (SoftmaxHead(3), cross_entropy_dice_loss)],
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
