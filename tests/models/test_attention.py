"""Attention with relative positions: every way against the plain formula."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from easyseg.models import attention
from easyseg.models.attention import (
    attend_folded,
    attend_in_chunks,
    attention_with_positions,
    key_positions,
)


def literal(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """SAM's own: the logits of all pairs, plus what each pair's row and column add."""
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    height, width = rel_h.shape[-1], rel_w.shape[-1]
    for key in range(height * width):
        logits[..., key] += rel_h[..., key // width] + rel_w[..., key % width]
    return logits.softmax(-1) @ v


def inputs(b: int, heads: int, h: int, w: int, d: int, *, dtype=torch.float64) -> list[Tensor]:
    """Queries, keys and values as views of one product, and both position terms."""
    torch.manual_seed(b + heads + h + w + d)
    qkv = torch.randn(b, h * w, 3, heads, d, dtype=dtype).requires_grad_()
    rel_h = torch.randn(b, heads, h * w, h, dtype=dtype).requires_grad_()
    rel_w = torch.randn(b, heads, h * w, w, dtype=dtype).requires_grad_()
    return [qkv, rel_h, rel_w]


def out_and_gradients(attend, leaves: list[Tensor]) -> list[Tensor]:
    qkv, rel_h, rel_w = leaves
    out = attend(*qkv.permute(2, 0, 3, 1, 4).unbind(0), rel_h, rel_w)
    weights = torch.arange(out.numel(), dtype=out.dtype).reshape(out.shape).sin()
    return [out, *torch.autograd.grad((out * weights).sum(), leaves)]


def folded(q, k, v, rel_h, rel_w):
    onehot = key_positions((rel_h.shape[-1], rel_w.shape[-1]))
    return attend_folded(q, k, v, rel_h, rel_w, onehot.to(q.dtype))


@pytest.mark.parametrize("attend", [folded, attend_in_chunks])
@pytest.mark.parametrize("chunk", [1, 40, 10**6])
@settings(deadline=None, max_examples=15)
@given(
    b=st.integers(1, 3),
    heads=st.integers(1, 3),
    h=st.integers(1, 5),
    w=st.integers(1, 5),
    d=st.integers(1, 6),
)
def test_outputs_and_gradients_are_those_of_the_formula(attend, chunk, b, heads, h, w, d):
    leaves = inputs(b, heads, h, w, d)
    before, attention._CHUNK = attention._CHUNK, chunk
    try:
        found = out_and_gradients(attend, leaves)
    finally:
        attention._CHUNK = before
    for ours, theirs in zip(found, out_and_gradients(literal, leaves), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_half_precision_of_older_gpus_is_filled_up_to_what_their_kernels_take(monkeypatch):
    leaves, widths, fused = inputs(1, 2, 3, 4, 6), [], F.scaled_dot_product_attention

    def attend(q, k, v, scale):
        widths.append((q.shape[-1], k.shape[-1], v.shape[-1]))
        return fused(q, k, v, scale=scale)

    monkeypatch.setattr(F, "scaled_dot_product_attention", attend)
    usual = out_and_gradients(folded, leaves)
    monkeypatch.setattr(attention, "_fuses_multiples_of_8_only", lambda tensor: True)
    for found, expected in zip(out_and_gradients(folded, leaves), usual, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    assert widths == [(13, 13, 13), (16, 16, 16)]


@pytest.mark.parametrize(
    ("capability", "dtype", "device", "expected"),
    [
        ((7, 5), torch.float16, "cuda", True),
        ((7, 5), torch.float32, "cuda", False),
        ((8, 0), torch.float16, "cuda", False),
        ((7, 5), torch.float16, "cpu", False),
    ],
)
def test_which_gpus_those_are(monkeypatch, capability, dtype, device, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    tensor = SimpleNamespace(dtype=dtype, device=torch.device(device))
    assert attention._fuses_multiples_of_8_only(tensor) is expected


def test_gradients_by_finite_differences():
    qkv, rel_h, rel_w = inputs(1, 2, 2, 3, 4)

    def attend(qkv, rel_h, rel_w):
        return attend_in_chunks(*qkv.permute(2, 0, 3, 1, 4).unbind(0), rel_h, rel_w)

    assert torch.autograd.gradcheck(attend, (qkv, rel_h, rel_w))


def test_every_query_and_head_is_in_one_chunk(monkeypatch):
    for chunk, heads, n in ((1, 3, 5), (20, 3, 5), (30, 4, 5), (1000, 4, 5), (7, 1, 9)):
        monkeypatch.setattr(attention, "_CHUNK", chunk)
        seen = torch.zeros(heads, n)
        for some, rows in attention._chunks(heads, n):
            seen[some, rows] += 1
            assert seen[some, rows].numel() * n <= max(chunk, n)
        assert (seen == 1).all()


def test_the_way_is_chosen_by_device_and_precision():
    """In float32 on a CPU no tensor is wider than a head; in bf16 the fused kernel runs."""
    for dtype, kept in ((torch.float32, {4}), (torch.bfloat16, {4 + 2 + 3})):
        qkv, rel_h, rel_w = inputs(1, 2, 2, 3, 4, dtype=dtype)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        widths = set()

        def look(tensor: Tensor, widths: set[int] = widths) -> Tensor:
            if tensor.ndim == 4 and tensor.shape[-2] == 6:
                widths.add(tensor.shape[-1])
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(look, lambda tensor: tensor):
            out = attention_with_positions(q, k, v, rel_h, rel_w, key_positions((2, 3)))
        assert out.dtype == dtype
        assert out.shape == q.shape
        assert widths - {2, 3} == kept  # The position terms are 2 and 3 wide.
