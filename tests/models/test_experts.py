"""Experts against the literal evaluation of the reference: enlarge, convolve, GELU, reduce."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from easyseg.models.adapters import ConvLoRALinear
from easyseg.models.adapters.experts import ConvExpert, axis_products, stencil_table


def literal(expert, z):
    """Evaluate an expert as the reference code does, with the enlarged maps."""
    weight, bias = expert.weight.to(z.dtype), expert.bias.to(z.dtype)
    if expert.scale == 1:
        return F.gelu(F.conv2d(z, weight, bias, padding=1))
    enlarged = F.interpolate(z, scale_factor=float(expert.scale), mode="bicubic")
    convolved = F.gelu(F.conv2d(enlarged, weight, bias, padding=1))
    return F.interpolate(convolved, size=z.shape[-2:], mode="bicubic")


def random_expert(rank, scale, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    expert = ConvExpert(rank, scale).to(dtype)
    nn.init.normal_(expert.bias)
    return expert


@settings(max_examples=60)
@given(
    st.integers(1, 10), st.integers(1, 5), st.integers(1, 4), st.integers(1, 17), st.integers(1, 17)
)
def test_an_expert_is_the_literal_one_to_its_borders(scale, rank, samples, height, width):
    expert = random_expert(rank, scale)
    z = torch.randn(samples, rank, height, width, dtype=torch.float64)
    torch.testing.assert_close(expert(z), literal(expert, z), rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", range(1, 9))
def test_gradients_are_the_literal_ones(scale):
    expert = random_expert(3, scale)
    z = torch.randn(4, 3, 7, 14, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(4, 3, 7, 14, dtype=torch.float64)
    inputs = (z, expert.weight, expert.bias)
    found = torch.autograd.grad((expert(z) * weights).sum(), inputs)
    expected = torch.autograd.grad((literal(expert, z) * weights).sum(), inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("expanded", [False, True])
def test_gradients_of_any_layout_are_the_literal_ones(scale, samples, expanded):
    expert = random_expert(2, scale)
    z = torch.randn(samples, 5, 4, 2, dtype=torch.float64).permute(0, 3, 1, 2).requires_grad_()
    gradient = torch.randn(samples, 5, 4, 2, dtype=torch.float64).permute(0, 3, 1, 2)
    if expanded:
        gradient = torch.ones((), dtype=torch.float64).expand(samples, 2, 5, 4)
    inputs = (z, expert.weight, expert.bias)
    found = torch.autograd.grad(expert(z), inputs, gradient)
    expected = torch.autograd.grad(literal(expert, z), inputs, gradient)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_under_autocast_an_expert_keeps_the_dtype_of_its_maps():
    expert = random_expert(2, 2, dtype=torch.float32)
    z = torch.randn(3, 2, 5, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = expert(z)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expert(z))
    out.sum().backward()
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("scale", [3, 8])
def test_the_global_grid_of_sam_in_float32(scale):
    expert = random_expert(3, scale, dtype=torch.float32)
    z = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(expert(z), literal(expert, z), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scales", [(1, 2, 3, 4), (1, 3, 5), (8,)])
def test_grouped_by_expert_and_all_at_once_agree(scales):
    """The way of the CPU and the way of accelerators, values and gradients."""
    torch.manual_seed(0)
    layer = ConvLoRALinear(
        nn.Linear(8, 12, dtype=torch.float64), rank=3, num_experts=len(scales), scales=scales
    )
    for expert in layer.experts:
        nn.init.normal_(expert.bias)
    chosen = torch.randint(0, max(1, len(scales) - 1), (9,))  # The last of several has no sample.
    results = []
    for way in (layer._expert_by_expert, layer._all_at_once):
        z = torch.randn(9, 3, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        out = way(z.requires_grad_(), chosen)
        layer.zero_grad()
        out.square().sum().backward()
        results.append([out, z.grad, *(p.grad for p in layer.experts.parameters())])
    for one, other in zip(*results, strict=True):
        assert one is not None
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("way", ["_expert_by_expert", "_all_at_once"])
def test_no_window_at_all(way):
    layer = ConvLoRALinear(nn.Linear(4, 4), rank=2, num_experts=4)
    none = torch.zeros(0, 2, 6, 6)
    out = getattr(layer, way)(none, torch.zeros(0, dtype=torch.int64))
    assert out.shape == none.shape
    out.sum().backward()  # They stay in the graph, which DDP asks for.
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in layer.experts.parameters())


@pytest.mark.parametrize("way", ["_expert_by_expert", "_all_at_once"])
def test_a_first_call_while_predicting_does_not_break_training(way):
    axis_products.cache_clear()
    stencil_table.cache_clear()
    layer = ConvLoRALinear(nn.Linear(4, 4, dtype=torch.float64), rank=2, num_experts=4)
    z, chosen = torch.randn(1, 2, 6, 6, dtype=torch.float64), torch.tensor([3])
    with torch.inference_mode():
        getattr(layer, way)(z, chosen)
    getattr(layer, way)(z, chosen).sum().backward()
    assert layer.experts[3].weight.grad.isfinite().all()
