from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from easyseg.models.adapters import LoRALinear

GOLDEN = Path(__file__).parents[1] / "golden" / "peft"


def random_lora(**options):
    layer = LoRALinear(nn.Linear(8, 12), **options)
    nn.init.normal_(layer.lora_B)
    return layer


def test_lora_is_its_formula():
    layer = random_lora(rank=2, alpha=6.0)
    x = torch.randn(3, 5, 8)
    update = layer.lora_B @ layer.lora_A * (6.0 / 2)
    expected = x @ (layer.weight + update).T + layer.bias
    torch.testing.assert_close(layer(x), expected)


def test_gradients_are_those_of_the_formula():
    layer = random_lora(rank=2, alpha=6.0, rows=[0, 3, 7]).double()
    x = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, layer.lora_A, layer.lora_B))
    # Without a gradient of x, as in the first adapted layer of an encoder.
    assert torch.autograd.gradcheck(lambda *_: layer(x.detach()), (layer.lora_A, layer.lora_B))


def test_in_mixed_precision_it_is_its_formula_too():
    layer = random_lora(rank=2, alpha=6.0)
    x = torch.randn(3, 5, 8, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x), rtol=0.05, atol=0.1)
    y.sum().backward()
    halved = layer.lora_B.grad.clone(), x.grad.clone()
    layer.lora_B.grad = x.grad = None
    layer(x).sum().backward()
    for half, whole in zip(halved, (layer.lora_B.grad, x.grad), strict=True):
        torch.testing.assert_close(half, whole, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("shape", [(8,), (0, 8), (0, 5, 8), (2, 3, 5, 8)])
def test_any_shape_that_a_linear_layer_takes(shape):
    layer = random_lora()
    x = torch.randn(shape)
    assert layer(x).shape == nn.Linear(8, 12)(x).shape
    torch.testing.assert_close(layer(x.expand(2, *shape))[1], layer(x))


def test_fresh_layer_is_the_frozen_one_and_shares_its_weight():
    base = nn.Linear(8, 12)
    layer = LoRALinear(base, rank=4)
    x = torch.randn(3, 8)
    assert torch.equal(layer(x), base(x))
    assert layer.weight is base.weight
    assert {n for n, p in layer.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}


def test_a_layer_without_bias():
    layer = LoRALinear(nn.Linear(8, 12, bias=False))
    assert layer.bias is None
    assert layer(torch.zeros(2, 8)).shape == (2, 12)


def test_auxiliary_loss_is_zero():
    y, aux = random_lora().forward_with_aux(torch.randn(2, 8))
    assert y.shape == (2, 12)
    assert aux.dtype == torch.float32
    assert aux == 0


def test_dtype_follows_the_base():
    layer = LoRALinear(nn.Linear(8, 12, dtype=torch.float64))
    assert layer.lora_A.dtype == layer.lora_B.dtype == torch.float64


def test_rank_zero_is_refused():
    with pytest.raises(ValueError, match="rank is 0, expected at least 1"):
        LoRALinear(nn.Linear(8, 12), rank=0)


def test_some_outputs_only():
    layer = random_lora(rank=2, alpha=6.0, rows=[9, 1, 4])
    assert layer.lora_B.shape == (3, 2)
    assert "rows" not in layer.state_dict()
    x = torch.randn(3, 5, 8)
    expected = x @ layer.weight.T + layer.bias
    for place, row in enumerate((9, 1, 4)):
        expected[..., row] += 3.0 * (x @ layer.lora_A.T) @ layer.lora_B[place]
    torch.testing.assert_close(layer(x), expected)
    layer(x).sum().backward()
    assert layer.lora_B.grad.abs().min() > 0


def test_it_is_peft_s_layer():
    """What PEFT's layer returns and its gradients; tests/golden/peft/make.py wrote them."""
    theirs = load_file(GOLDEN / "lora.safetensors")
    base = nn.Linear(8, 12)
    base.load_state_dict({name: theirs[name] for name in ("weight", "bias")})
    layer = LoRALinear(base, rank=2, alpha=6.0)
    with torch.no_grad():
        layer.lora_A.copy_(theirs["lora_A"])
        layer.lora_B.copy_(theirs["lora_B"])
    y = layer(theirs["x"])
    torch.testing.assert_close(y, theirs["y"])
    y.square().sum().backward()
    torch.testing.assert_close(layer.lora_A.grad, theirs["lora_A.grad"])
    torch.testing.assert_close(layer.lora_B.grad, theirs["lora_B.grad"])
