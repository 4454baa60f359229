"""Mask classification: costs, assignment and loss by hand and against a slow version."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from easyseg.data.label_map import IGNORE
from easyseg.models.matching import Segments, assign, mask2former_loss, matching_costs

LN3 = math.log(3)  # The sigmoid of it is 3/4, that of -LN3 is 1/4.

# One image of four pixels, of which the last one is ignored; classes 0 and 1; tokens A, B and C.
#
#   pixel    0    1    2    3         P(class 0)  P(class 1)  P(no object)
#   truth    0    0    1   ignored
#   A       3/4  3/4  1/4   1/2          0.5         0.25         0.25
#   B       1/4  1/4  3/4   3/4          0.25        0.5          0.25
#   C       1/2  1/2  1/2   1/4          0.4         0.4          0.2
HAND_TARGET = torch.tensor([[[0, 0], [1, IGNORE]]], dtype=torch.uint8)
HAND = Segments(
    masks=torch.tensor([[[LN3, LN3, -LN3, 0], [-LN3, -LN3, LN3, LN3], [0, 0, 0, -LN3]]]).view(
        1, 3, 2, 2
    ),
    classes=torch.tensor([[[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.4, 0.4, 0.2]]]).log(),
)
# Mean BCE over the three pixels that count: every pixel of A as class 0 costs -ln 3/4 = 0.287682,
# as class 1 -ln 1/4 = 1.386294; B the other way round; C costs -ln 1/2 = 0.693147 as both.
#
# Dice, 1 - (2 overlap + 1) / (sum of p + sum of truth + 1), with 2 pixels of class 0 and 1 of 1:
#   A: sum of p 1.75    0: 1 - 4 / 4.75 = 0.157895      1: 1 - 1.5 / 3.75 = 0.6
#   B: sum of p 1.25    0: 1 - 2 / 4.25 = 0.529412      1: 1 - 2.5 / 3.25 = 0.230769
#   C: sum of p 1.5     0: 1 - 3 / 4.5  = 0.333333      1: 1 - 2 / 3.5    = 0.428571
#
# Costs, -2 P + 5 BCE + 5 Dice:
HAND_COSTS = [
    [-1.0 + 1.438410 + 0.789474, -0.5 + 6.931472 + 3.0],
    [-0.5 + 6.931472 + 2.647059, -1.0 + 1.438410 + 1.153846],
    [-0.8 + 3.465736 + 1.666667, -0.8 + 3.465736 + 2.142857],
]
# The cheapest matching: A is class 0 (1.227884), B is class 1 (1.592256), C is no object.
#
# Loss: the cross entropies are ln 2, ln 2 and -ln 0.2 = 1.609438 with weights 1, 1 and 0.1:
# (2 * 0.693147 + 0.1609438) / 2.1 = 0.736780. BCE of A and B: 0.287682 each. Dice: the mean of
# 0.157895 and 0.230769 = 0.194332.
HAND_LOSS = 2 * 0.736780 + 5 * 0.287682 + 5 * 0.194332


def parts_of(segments, target):
    """Return the arguments of ``matching_costs``."""
    num_classes = segments.classes.shape[-1] - 1
    truth = torch.stack([target.flatten(1) == k for k in range(num_classes)], dim=1).float()
    valid = (target.flatten(1) != IGNORE).float()
    return segments.masks.flatten(2), segments.classes, truth, valid


def test_costs_assignment_and_loss_by_hand():
    costs = matching_costs(*parts_of(HAND, HAND_TARGET))
    torch.testing.assert_close(costs, torch.tensor([HAND_COSTS]), rtol=1e-5, atol=1e-5)
    assert assign(costs, torch.tensor([[True, True]])).tolist() == [[0, 1, 2]]
    assert float(mask2former_loss(HAND, HAND_TARGET)) == pytest.approx(HAND_LOSS, abs=1e-5)


def test_a_class_that_is_not_there_is_no_segment():
    """Only class 0: A has it; B and C are no object."""
    target = torch.where(HAND_TARGET == 1, IGNORE, HAND_TARGET)
    # Two pixels count. A: BCE 0.287682, Dice 1 - 4 / 4.5 = 0.111111. Cross entropies: ln 2 (weight
    # 1), ln 4 and ln 5 (weight 0.1): (0.693147 + 0.138629 + 0.160944) / 1.2 = 0.827267.
    expected = 2 * 0.827267 + 5 * 0.287682 + 5 * 0.111111
    assert float(mask2former_loss(HAND, target)) == pytest.approx(expected, abs=1e-5)


def test_the_matching_is_the_cheapest_in_all_not_the_nearest_first():
    costs = torch.tensor([[[1.0, 2.0], [2.0, 9.0]]])
    assert assign(costs, torch.tensor([[True, True]])).tolist() == [[1, 0]]


def test_costs_that_are_not_finite_are_no_error():
    costs = torch.tensor([[[math.nan, 1.0], [math.inf, 2.0], [0.0, -math.inf]]])
    assigned = assign(costs, torch.tensor([[True, True]]))
    assert sorted(assigned[0].tolist()) == [0, 1, 2]


def slow_loss(segments, target):
    """Loop over images, all matchings, tokens and pixels, in Python's floats."""
    batch, num_tokens, num_classes = *segments.classes.shape[:2], segments.classes.shape[2] - 1
    entropy, weight, masks, count = 0.0, 0.0, 0.0, 0
    for b in range(batch):
        pixels = [tuple(i) for i in (target[b] != IGNORE).nonzero().tolist()]
        if not pixels:
            continue
        truth = [int(target[b][i]) for i in pixels]
        present = sorted(set(truth))
        p_class = segments.classes[b].double().softmax(-1).tolist()
        p_mask = [
            [1 / (1 + math.exp(-float(segments.masks[b, n][i]))) for i in pixels]
            for n in range(num_tokens)
        ]

        def mask_cost(n, k, truth=truth, p_mask=p_mask):
            t, p = [float(v == k) for v in truth], p_mask[n]
            each = [-math.log(a if v else 1 - a) for a, v in zip(p, t, strict=True)]
            overlap = sum(a * v for a, v in zip(p, t, strict=True))
            dice = 1 - (2 * overlap + 1) / (sum(p) + sum(t) + 1)
            return 5 * sum(each) / len(each) + 5 * dice

        def cost(tokens, present=present, p_class=p_class, mask_cost=mask_cost):
            pairs = zip(tokens, present, strict=True)
            return sum(mask_cost(n, k) - 2 * p_class[n][k] for n, k in pairs)

        best = min(itertools.permutations(range(num_tokens), len(present)), key=cost)
        matched = dict(zip(best, present, strict=True))
        masks += sum(mask_cost(n, k) for n, k in matched.items())
        count += len(matched)
        for n in range(num_tokens):
            w = 1.0 if n in matched else 0.1
            entropy -= w * math.log(p_class[n][matched.get(n, num_classes)])
            weight += w
    return 2 * entropy / weight + masks / count


def random_case(seed=0, *, batch=2, num_tokens=5, num_classes=3, size=(6, 5)):
    generator = torch.Generator().manual_seed(seed)
    masks = 2 * torch.randn(batch, num_tokens, *size, generator=generator)
    classes = torch.randn(batch, num_tokens, num_classes + 1, generator=generator)
    target = torch.randint(0, num_classes, (batch, *size), generator=generator)
    void = torch.rand(batch, *size, generator=generator) < 0.2
    return Segments(masks, classes), target.masked_fill(void, IGNORE).to(torch.uint8)


@pytest.mark.parametrize("seed", range(6))
def test_the_loss_is_that_of_the_slow_version(seed):
    segments, target = random_case(seed, num_tokens=3 + seed % 3)
    if seed % 2:
        target[target == 1] = 0  # A class that no image holds.
    assert float(mask2former_loss(segments, target)) == pytest.approx(
        slow_loss(segments, target), rel=1e-5
    )


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.permutations(range(5)))
def test_the_order_of_tokens_and_classes_changes_nothing(seed, order):
    segments, target = random_case(seed)
    expected = mask2former_loss(segments, target)
    shuffled = Segments(segments.masks[:, order], segments.classes[:, order])
    torch.testing.assert_close(mask2former_loss(shuffled, target), expected)
    classes = [k for k in order if k < 3]  # New class i is what was class classes[i].
    renamed = Segments(segments.masks, segments.classes[..., [*classes, 3]])
    new_ids = torch.full((256,), IGNORE, dtype=torch.uint8)
    new_ids[classes] = torch.arange(3, dtype=torch.uint8)
    torch.testing.assert_close(mask2former_loss(renamed, new_ids[target.long()]), expected)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(-50, 50))
def test_what_is_predicted_for_ignored_pixels_changes_nothing(seed, value):
    segments, target = random_case(seed)
    void = (target == IGNORE)[:, None].expand_as(segments.masks)
    results = []
    for masks in (segments.masks.clone(), segments.masks.masked_fill(void, value)):
        masks.requires_grad_()
        loss = mask2former_loss(Segments(masks, segments.classes), target)
        loss.backward()
        assert not masks.grad[void].any()
        results.append((loss.detach(), masks.grad))
    torch.testing.assert_close(results[0], results[1])


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(0, 3))
def test_the_assignment_is_the_cheapest_of_all(seed, num_classes, more):
    rng = np.random.default_rng(seed)
    costs = rng.normal(size=(num_classes + more, num_classes))
    there = rng.random(num_classes) < 0.7
    assigned = assign(torch.tensor(costs)[None], torch.tensor(there)[None])[0].tolist()
    ids = there.nonzero()[0]
    assert sorted(k for k in assigned if k < num_classes) == list(ids)
    found = sum(costs[n, k] for n, k in enumerate(assigned) if k < num_classes)
    every = itertools.permutations(range(len(costs)), len(ids))
    best = min(sum(costs[n, k] for n, k in zip(tokens, ids, strict=True)) for tokens in every)
    assert found == pytest.approx(best)
    rows, columns = linear_sum_assignment(costs[:, ids])
    assert costs[:, ids][rows, columns].sum() == pytest.approx(best)


def leaves(segments):
    return Segments(*(value.clone().requires_grad_() for value in segments))


def test_images_without_a_pixel_that_counts_are_as_good_as_absent():
    segments, target = random_case()
    target[1] = IGNORE
    alone = mask2former_loss(Segments(*(v[:1] for v in segments)), target[:1])
    inputs = leaves(segments)
    both = mask2former_loss(inputs, target)
    both.backward()
    torch.testing.assert_close(both, alone)
    assert not inputs.masks.grad[1].any()
    assert not inputs.classes.grad[1].any()


def test_nothing_but_ignored_pixels():
    segments, target = random_case()
    inputs = leaves(segments)
    loss = mask2former_loss(inputs, torch.full_like(target, IGNORE))
    loss.backward()
    assert loss == 0
    assert all(value.grad is not None and not value.grad.any() for value in inputs)


def test_right_is_cheap_wrong_is_dear_and_neither_overflows():
    target = torch.tensor([[[0, 0, 1, 1], [2, 2, 2, IGNORE]]], dtype=torch.uint8)
    masks = torch.stack([target == k for k in (2, 0, 1)], dim=1).float()
    classes = torch.eye(4)[[2, 0, 1]][None]
    costs = []
    for sign in (1, -1):
        inputs = leaves(Segments(1e4 * (2 * masks - 1) * sign, 1e4 * (2 * classes - 1) * sign))
        loss = mask2former_loss(inputs, target)
        loss.backward()
        assert all(value.grad.isfinite().all() for value in inputs)
        costs.append(float(loss.detach()))
    assert costs[0] < 1e-3
    assert 1 < costs[1] < math.inf


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_gives_a_float32_loss(autocast):
    segments, target = random_case(size=(32, 32))
    half = Segments(*(value.bfloat16() for value in segments))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = mask2former_loss(half, target)
    assert loss.dtype == torch.float32
    expected = mask2former_loss(Segments(*(value.float() for value in half)), target)
    assert torch.equal(loss, expected)


def test_gradient_steps_sort_tokens_and_classes():
    """A few steps on the segments themselves: each class finds a token, the rest no object."""
    _, target = random_case(batch=1, size=(8, 8))
    segments = leaves(random_case(1, batch=1, size=(8, 8))[0])
    optimizer = torch.optim.Adam(segments, lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = mask2former_loss(segments, target)
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    decided = segments.classes.argmax(dim=-1)[0].tolist()
    assert sorted(decided) == [0, 1, 2, 3, 3]
