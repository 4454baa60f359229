"""The gate: its balance loss by the book, its noise, and that it learns where to send what."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from easyseg.models.adapters import ConvLoRALinear
from easyseg.models.adapters.gate import NoisyTopOneGate


def slow_balance_loss(features, gate, noise):
    """Shazeer et al. 2017, appendix A, for k = 1, literally; ``noise=None`` in evaluation."""

    def cv_squared(values):
        return statistics.variance(values) / (statistics.fmean(values) ** 2 + 1e-10)

    importance = [0.0] * gate.num_experts
    load = [0.0] * gate.num_experts
    for row, feature in enumerate(features):
        clean = (feature @ gate.w_gate).tolist()
        if noise is None:
            winner = max(range(len(clean)), key=lambda i: clean[i])
            importance[winner] += 1
            load[winner] += 1
            continue
        std = [math.log1p(math.exp(v)) + 1e-2 for v in (feature @ gate.w_noise).tolist()]
        noisy = [c + n * s for c, n, s in zip(clean, noise[row].tolist(), std, strict=True)]
        importance[max(range(len(noisy)), key=lambda i: noisy[i])] += 1
        for i in range(len(noisy)):
            threshold = max(v for j, v in enumerate(noisy) if j != i)
            load[i] += 0.5 * (1 + math.erf((clean[i] - threshold) / std[i] / math.sqrt(2)))
    return 1e-2 * (cv_squared(importance) + cv_squared(load))


def random_gate(num_experts=5, kind="learned"):
    torch.manual_seed(0)
    gate = NoisyTopOneGate(3, num_experts, kind).double()
    for parameter in gate.parameters():
        nn.init.normal_(parameter)
    return gate


@pytest.mark.parametrize("num_experts", [2, 5, 8])
@pytest.mark.parametrize("train", [False, True])
def test_balance_loss_by_the_book(num_experts, train):
    gate = random_gate(num_experts).train(train)
    features = torch.randn(13, 3, dtype=torch.float64)
    noise = torch.randn(13, num_experts, dtype=torch.float64)
    gate.sample_noise = lambda logits: noise
    expected = slow_balance_loss(features, gate, noise if train else None)
    assert gate(features).balance_loss.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", ["learned", "constant"])
def test_one_expert_leaves_the_gate_in_the_graph(kind):
    gate = random_gate(1, kind).train()
    routing = gate(torch.randn(13, 3, dtype=torch.float64))
    assert routing.balance_loss == 0
    (routing.balance_loss + routing.weight.sum()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in gate.parameters())


def test_evaluation_takes_the_largest_logit():
    gate = random_gate().eval()
    features = torch.randn(20, 3, dtype=torch.float64)
    assert torch.equal(gate(features).expert, (features @ gate.w_gate).argmax(dim=1))


def test_training_adds_noise_of_the_learned_width():
    gate = random_gate().train()
    features = torch.randn(20, 3, dtype=torch.float64)
    noise = torch.randn(20, 5, dtype=torch.float64)
    gate.sample_noise = lambda logits: noise
    noisy = features @ gate.w_gate + noise * (F.softplus(features @ gate.w_noise) + 1e-2)
    assert torch.equal(gate(features).expert, noisy.argmax(dim=1))
    assert not torch.equal(noisy.argmax(dim=1), (features @ gate.w_gate).argmax(dim=1))


def test_weight_is_one_and_carries_the_gradient_of_the_choice():
    gate = random_gate().eval()
    features = torch.randn(20, 3, dtype=torch.float64)
    routing = gate(features)
    assert torch.equal(routing.weight, torch.ones(20, dtype=torch.float64))
    signal = torch.randn(20, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((routing.weight * signal).sum(), gate.w_gate)
    log_p = (features @ gate.w_gate).log_softmax(dim=1)[torch.arange(20), routing.expert]
    (expected,) = torch.autograd.grad((log_p * signal).sum(), gate.w_gate)
    torch.testing.assert_close(gradient, expected)


def test_constant_weight_has_no_gradient():
    routing = random_gate(kind="constant").eval()(torch.randn(4, 3, dtype=torch.float64))
    assert not routing.weight.requires_grad


def test_one_expert_takes_everything():
    routing = random_gate(1).train()(torch.randn(4, 3, dtype=torch.float64))
    assert routing.expert.tolist() == [0, 0, 0, 0]
    assert routing.balance_loss == 0


class TwoGroups:
    """Inputs of two groups; the targets of each come from an expert of its own.

    All weights are random and frozen but the gate's. The experts are scaled to outputs of one
    size: the straight-through gradient asks a chosen expert for more or for less, so that a far
    too weak one would look promising.
    """

    def __init__(self, gate: str, experts: tuple[int, int], num_experts: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.layer = ConvLoRALinear(
            nn.Linear(8, 12), rank=4, num_experts=num_experts, alpha=4.0, gate=gate
        )
        self.layer.requires_grad_(False)
        nn.init.orthogonal_(self.layer.lora_A)
        nn.init.orthogonal_(self.layer.lora_B)
        mean = F.normalize(torch.randn(4), dim=0) @ self.layer.lora_A
        self.means = torch.stack([mean, -mean])
        self.experts = torch.tensor(experts)
        z = F.linear(self.draw(64)[0], self.layer.lora_A).permute(0, 3, 1, 2)
        for expert in self.layer.experts:
            nn.init.normal_(expert.weight)
            nn.init.normal_(expert.bias, std=0.3)
            for _ in range(5):
                size = expert(z).square().mean().sqrt()
                expert.weight /= size
                expert.bias /= size

    def draw(self, count):
        """Return inputs ``[count, 6, 6, 8]`` and the group of each."""
        groups = torch.arange(count) % 2
        return self.means[groups][:, None, None] + torch.randn(count, 6, 6, 8), groups

    def targets(self, x, groups):
        """Return what the layer gives if each sample goes to the expert of its group."""
        layer = self.layer
        z = F.linear(x, layer.lora_A).permute(0, 3, 1, 2)
        outputs = torch.stack([layer.experts[int(i)](z) for i in self.experts])
        mixed = (z + outputs[groups, torch.arange(len(x))]).permute(0, 2, 3, 1)
        return F.linear(x, layer.weight, layer.bias) + F.linear(mixed, layer.lora_B) * layer.scaling

    def train_gate(self, steps):
        """Train nothing but the gate, on task and balance loss as a fit does."""
        layer = self.layer
        layer.gate.requires_grad_(True)
        layer.train()
        optimizer = torch.optim.Adam(layer.gate.parameters(), lr=0.05)
        for _ in range(steps):
            x, groups = self.draw(32)
            y, balance_loss = layer.forward_with_aux(x)
            loss = F.mse_loss(y, self.targets(x, groups)) + balance_loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def share_routed_right(self):
        """Return the share of fresh samples that the gate sends to the expert of their group."""
        self.layer.eval()
        x, groups = self.draw(200)
        routing = self.layer.gate(F.linear(x, self.layer.lora_A).mean(dim=(1, 2)))
        return float((routing.expert == self.experts[groups]).float().mean())


@pytest.mark.parametrize(
    ("experts", "num_experts", "seed"), [((1, 2), 4, 0), ((0, 3), 4, 1), ((2, 5), 8, 2)]
)
def test_the_learned_gate_finds_the_experts_and_the_constant_one_does_not(
    experts, num_experts, seed
):
    shares = {}
    for gate in ("learned", "constant"):
        task = TwoGroups(gate, experts, num_experts, seed)
        task.train_gate(steps=200)
        shares[gate] = task.share_routed_right()
    assert shares["learned"] >= 0.8
    assert shares["constant"] < 0.6


def test_the_targets_are_what_right_routing_gives():
    task = TwoGroups("constant", (0, 1), 2, seed=0)
    x, groups = task.draw(40)
    layer = task.layer.eval()
    mean = F.linear(task.means[:1], layer.lora_A).T
    layer.gate.w_gate.copy_(torch.cat([mean, -mean], dim=1))
    right = layer.gate(F.linear(x, layer.lora_A).mean(dim=(1, 2))).expert == groups
    assert right.float().mean() > 0.9
    torch.testing.assert_close(layer(x)[right], task.targets(x, groups)[right])
