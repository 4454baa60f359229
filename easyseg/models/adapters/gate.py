"""The gate of Conv-LoRA: noisy top-1 routing with a load-balancing loss (Shazeer et al., 2017)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["GateKind", "NoisyTopOneGate", "Routing"]

GateKind = Literal["learned", "constant"]

_NOISE_FLOOR = 1e-2
_BALANCE_SCALE = 1e-2
_EPSILON = 1e-10


class Routing(NamedTuple):
    """What the gate decided for a batch of S samples (or windows).

    Attributes:
        expert: Chosen expert of each sample, int64 ``[S]``.
        weight: Factor on the chosen expert's output ``[S]``; its value is 1 everywhere. With the
            learned gate it carries the gradient of the choice, with the constant one it does not.
        balance_loss: Scalar, ``1e-2 * (CV^2(importance) + CV^2(load))``.
    """

    expert: Tensor
    weight: Tensor
    balance_loss: Tensor


class NoisyTopOneGate(nn.Module):
    """Choose one expert for each sample from the mean of its low-rank features.

    The reference implementation multiplies the chosen output by a softmax over a single logit, the
    constant 1, so that the task loss never reaches the gate. ``kind="learned"`` multiplies it by
    ``p / p.detach()`` instead, with p the softmax probability of the chosen expert: the forward
    pass is the same, the backward pass raises p where a larger output lowers the loss
    (straight-through). ``kind="constant"`` is the reference.

    Args:
        dim: Number of features r.
        num_experts: Number of experts E.
        kind: ``"learned"`` or ``"constant"``.
    """

    def __init__(self, dim: int, num_experts: int, kind: GateKind = "learned") -> None:
        super().__init__()
        self.kind = kind
        self.num_experts = num_experts
        self.w_gate = nn.Parameter(torch.zeros(dim, num_experts))
        self.w_noise = nn.Parameter(torch.zeros(dim, num_experts))

    def sample_noise(self, logits: Tensor) -> Tensor:
        """Draw the standard normal noise of the training mode, in the shape of ``logits``."""
        if logits.device.type == "mps":
            # Gradient checkpointing replays the CPU's random state, not that of Apple's GPUs.
            return torch.randn(logits.shape, dtype=logits.dtype).to(logits.device)
        return torch.randn_like(logits)

    def forward(self, features: Tensor) -> Routing:
        """Route a batch.

        Args:
            features: Mean low-rank features of each sample ``[S, r]``, float32 or float64.

        Returns:
            The routing of the S samples.
        """
        clean = features @ self.w_gate.to(features.dtype)
        logits, noise_std = clean, None
        if self.training:
            noise_std = F.softplus(features @ self.w_noise.to(features.dtype)) + _NOISE_FLOOR
            logits = clean + self.sample_noise(clean) * noise_std
        expert = logits.argmax(dim=-1)
        # F.one_hot would look for ids out of range first.
        chosen = torch.zeros_like(logits).scatter_(-1, expert[:, None], 1.0)
        weight = logits.new_ones(len(logits))
        if self.kind == "learned":
            p = (logits.softmax(dim=-1) * chosen).sum(dim=-1)
            weight = p / p.detach()
        if self.num_experts > 1:
            importance = chosen.sum(dim=0)
            load = importance if noise_std is None else _load(clean, logits, noise_std)
            balance = _BALANCE_SCALE * _cv_squared(torch.stack([importance, load])).sum()
        else:
            # One expert is in balance, but the gate stays in the graph: "no gradient" would be an
            # error under DDP.
            balance = 0 * logits.sum()
        return Routing(expert, weight, balance)


def _load(clean: Tensor, noisy: Tensor, noise_std: Tensor) -> Tensor:
    """Return the smooth load of each expert ``[E]`` (Shazeer et al. 2017, appendix A, k = 1).

    The probability that an expert would be chosen if only its own noise were drawn again: its
    logit must beat the best of the others, which is the second best where it leads.
    """
    best, second = noisy.topk(2, dim=-1).values.split(1, dim=-1)
    threshold = torch.where(noisy > second, second, best)
    return torch.special.ndtr((clean - threshold) / noise_std).sum(dim=0)


def _cv_squared(v: Tensor) -> Tensor:
    """Return the squared coefficient of variation of each row, with the unbiased variance.

    Args:
        v: ``[N, E]``.
    """
    return v.var(dim=1) / (v.mean(dim=1).square() + _EPSILON)
