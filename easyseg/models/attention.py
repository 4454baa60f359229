"""Attention with SAM's decomposed relative positions, without keeping the N x N logits.

SAM (Kirillov et al., 2023; ViTDet) adds ``rel_h[query, key_row] + rel_w[query, key_col]`` to the
logits of query and key. There are two exact ways here that keep no matrix of all pairs:

* **Folded**: with ``q' = [q * scale, rel_h, rel_w]`` and ``k' = [k, onehot(key_row),
  onehot(key_col)]`` the logits are a plain product, so the fused kernels run. Their width triples
  on large grids; on a GPU the kernels make up for that.
* **In chunks**: the logits of a few queries at a time are made, used and dropped, forward and
  backward. Nothing is widened; on a CPU in float32 it is faster (``benchmarks/parts.py attention``)
  and keeps less.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = [
    "append_tokens",
    "attend_folded",
    "attend_in_chunks",
    "attention_with_positions",
    "key_positions",
]

# Logits at a time: 16 MB of float32, which stay in the caches of most CPUs.
_CHUNK = 2**22


def key_positions(grid: tuple[int, int]) -> Tensor:
    """Return row and column of every token as one-hot vectors ``[H * W, H + W]``.

    Args:
        grid: Height H and width W of the token grid.
    """
    height, width = grid
    rows = torch.eye(height).repeat_interleave(width, 0)
    return torch.cat([rows, torch.eye(width).repeat(height, 1)], 1)


def append_tokens(own: Tensor, shared: Tensor) -> Tensor:
    """Append tokens ``[heads, P, D]`` to those of each sample ``[B, heads, N, D]``."""
    return torch.cat([own, shared.expand(len(own), -1, -1, -1)], dim=2)


def attention_with_positions(
    q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, onehot: Tensor
) -> Tensor:
    """Attend, in the way that is fast on the device and in the precision of the tensors.

    Args:
        q: Queries ``[B, heads, N, D]``, N the tokens of a grid of height H and width W.
        k: Keys, of the same shape, or followed by keys ``[B, heads, P, D]`` without a position.
        v: Values, of the shape of ``k``.
        rel_h: What a query's logits gain by the row of the key ``[B, heads, N, H]``.
        rel_w: The same by its column ``[B, heads, N, W]``.
        onehot: :func:`key_positions` of the grid.

    Returns:
        The attended values, of the shape of ``q``.
    """
    on_grid = k.shape[-2] == q.shape[-2]
    if on_grid and q.device.type == "cpu" and q.dtype == torch.float32:
        return attend_in_chunks(q, k, v, rel_h, rel_w)
    return attend_folded(q, k, v, rel_h, rel_w, onehot)


def attend_folded(
    q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, onehot: Tensor
) -> Tensor:
    """Attend by one fused product; arguments as for :func:`attention_with_positions`.

    The values are filled up to the width of q': the fused kernels take one width only, and without
    them the logits of all pairs would be kept.
    """
    width = v.shape[-1]
    q = torch.cat([q * width**-0.5, rel_h, rel_w], dim=-1)
    onehot = F.pad(onehot, (0, 0, 0, k.shape[-2] - len(onehot)))
    k = torch.cat([k, onehot.to(k.dtype).expand(*k.shape[:2], -1, -1)], dim=-1)
    if _fuses_multiples_of_8_only(v):
        fill = -q.shape[-1] % 8
        q, k = F.pad(q, (0, fill)), F.pad(k, (0, fill))
    filled = F.pad(v, (0, q.shape[-1] - width))
    return F.scaled_dot_product_attention(q, k, filled, scale=1.0)[..., :width]


def _fuses_multiples_of_8_only(tensor: Tensor) -> bool:
    """Return True for float16 on GPUs before Ampere (``minimum_gemm_alignment`` in PyTorch)."""
    if tensor.dtype != torch.float16 or tensor.device.type != "cuda":
        return False
    return torch.cuda.get_device_capability(tensor.device) < (8, 0)


def attend_in_chunks(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """Attend a few queries at a time; arguments as for :func:`attention_with_positions`."""
    out: Tensor = _Chunked.apply(q, k, v, rel_h, rel_w)
    return out


class _Chunked(torch.autograd.Function):
    """Keeps queries, keys, values and the output, and makes the logits again for the gradient."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
        b, heads, n, d = q.shape
        # In memory by token, as the projection that follows reads it.
        out = q.new_empty(b, n, heads, d).transpose(1, 2)
        for image in range(b):
            for some, rows in _chunks(heads, n):
                at = (image, some, rows)
                logits = _logits(q[at], k[image, some], rel_h[at], rel_w[at])
                torch.softmax(logits, dim=-1, out=logits)
                out[at] = torch.bmm(logits, v[image, some])
        ctx.save_for_backward(q, k, v, rel_h, rel_w, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        q, k, v, rel_h, rel_w, out = ctx.saved_tensors
        b, heads, n, d = q.shape
        height, width = rel_h.shape[-1], rel_w.shape[-1]
        scale = d**-0.5
        # As their inputs lie in memory: one product made all three, token by token.
        grads = q.new_zeros(b, n, 3, heads, d).permute(2, 0, 3, 1, 4)
        grad_q, grad_k, grad_v = grads.unbind(0)
        grad_h, grad_w = torch.empty_like(rel_h), torch.empty_like(rel_w)
        for image in range(b):
            for some, rows in _chunks(heads, n):
                at, of = (image, some, rows), (image, some)
                weights = _logits(q[at], k[of], rel_h[at], rel_w[at])
                torch.softmax(weights, dim=-1, out=weights)
                of_out = grad[at]
                grad_v[of] += torch.bmm(weights.mT, of_out)
                of_logits = torch.bmm(of_out, v[of].mT)
                of_logits -= (of_out * out[at]).sum(-1, keepdim=True)
                of_logits *= weights
                by_key = of_logits.unflatten(-1, (height, width))
                torch.sum(by_key, -1, out=grad_h[at])
                torch.sum(by_key, -2, out=grad_w[at])
                grad_q[at] = torch.bmm(of_logits, k[of]).mul_(scale)
                grad_k[of] += torch.bmm(of_logits.mT, q[at]).mul_(scale)
        return grad_q, grad_k, grad_v, grad_h, grad_w


def _chunks(heads: int, n: int) -> Iterator[tuple[slice, slice]]:
    """Cut heads and queries so that the logits of a part are few: many heads, or few queries."""
    together = max(1, min(heads, _CHUNK // (n * n)))
    queries = max(1, min(n, _CHUNK // (together * n)))
    for head in range(0, heads, together):
        for row in range(0, n, queries):
            yield slice(head, head + together), slice(row, row + queries)


def _logits(q: Tensor, k: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """Return the logits ``[heads, queries, N]`` of some queries and all keys."""
    logits = (rel_h[..., :, None] + rel_w[..., None, :]).flatten(-2)
    return logits.baddbmm_(q, k.mT, alpha=q.shape[-1] ** -0.5)
