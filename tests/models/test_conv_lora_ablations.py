"""The ablations of Conv-LoRA: experts summed, no identity beside them, one route an image."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from easyseg.models.adapters import ConvLoRALinear


def random_layer(**options):
    """Return a layer in evaluation mode that has an effect, and maps of two images in 3 windows."""
    torch.manual_seed(3)
    layer = ConvLoRALinear(nn.Linear(8, 12), rank=2, num_experts=3, **options).eval()
    for parameter in layer.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter)
    return layer, torch.randn(6, 4, 4, 8)


def low_rank_part(layer, x):
    """Return the term that is added, in the low-rank channels ``[S, H, W, r]``."""
    change = layer(x) - F.linear(x, layer.weight, layer.bias)
    return change @ torch.linalg.pinv(layer.lora_B).T / layer.scaling


@pytest.mark.parametrize("identity", [True, False])
def test_all_experts_summed(identity):
    layer, x = random_layer(gate="sum", identity=identity)
    z = (x @ layer.lora_A.T).permute(0, 3, 1, 2)
    expected = sum(expert(z) for expert in layer.experts)
    expected = expected + z if identity else expected
    torch.testing.assert_close(
        low_rank_part(layer, x), expected.permute(0, 2, 3, 1), rtol=1e-3, atol=1e-4
    )
    assert layer.forward_with_aux(x)[1] == 0
    assert not any("gate" in name for name in layer.state_dict())
    assert not list(layer.buffers())
    assert "gate=sum" in repr(layer)


def test_without_the_identity_the_chosen_expert_remains():
    layer, x = random_layer(identity=False)
    z = (x @ layer.lora_A.T).permute(0, 3, 1, 2)
    chosen = (z.mean(dim=(2, 3)) @ layer.gate.w_gate).argmax(dim=1)
    assert len(chosen.unique()) > 1
    expected = torch.stack(
        [
            layer.experts[int(index)](sample[None])[0]
            for index, sample in zip(chosen, z, strict=True)
        ]
    )
    torch.testing.assert_close(
        low_rank_part(layer, x), expected.permute(0, 2, 3, 1), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("training", [True, False])
def test_windows_of_an_image_routed_together(training, dtype):
    layer, x = random_layer(routing="image")
    layer, x = layer.to(dtype).train(training), x.to(dtype)
    exact = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {}
    layer.gate.sample_noise = torch.zeros_like
    routed = []
    layer.gate.register_forward_hook(lambda module, args, out: routed.append((args[0], out)))
    y, balance = layer.forward_with_aux(x, images=2)
    features, routing = routed.pop()
    z = x @ layer.lora_A.T
    torch.testing.assert_close(
        features, torch.stack([z[:3].mean((0, 1, 2)), z[3:].mean((0, 1, 2))])
    )
    assert balance == routing.balance_loss
    # Each image by itself, all of its windows by the expert of the image.
    for image in range(2):
        expert = layer.experts[int(routing.expert[image])]
        maps = z[3 * image : 3 * image + 3].permute(0, 3, 1, 2)
        mixed = (maps + expert(maps)).permute(0, 2, 3, 1)
        frozen = F.linear(x[3 * image : 3 * image + 3], layer.weight, layer.bias)
        expected = frozen + layer.scaling * mixed @ layer.lora_B.T
        # In float32 what the other image's windows add to a product changes its last digits.
        rounded = exact or {"rtol": 1e-5, "atol": 1e-4}
        torch.testing.assert_close(y[3 * image : 3 * image + 3], expected, **rounded)
    counts = torch.bincount(routing.expert, minlength=3) * 3
    assert torch.equal(layer.routing_counts, counts if training else torch.zeros_like(counts))
    # Without windows each sample is an image.
    other, _ = random_layer()
    other.to(dtype).load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer.eval()(x), other(x), **exact)


def test_unknown_options_of_an_ablation_are_refused():
    with pytest.raises(ValueError, match="gate is 'mean', expected 'learned', 'constant' or 'sum'"):
        ConvLoRALinear(nn.Linear(8, 12), gate="mean")
    with pytest.raises(ValueError, match="routing is 'block', expected 'window' or 'image'"):
        ConvLoRALinear(nn.Linear(8, 12), routing="block")
