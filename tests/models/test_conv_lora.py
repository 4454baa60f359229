"""The Conv-LoRA layer: the golden cases of the reference implementation, and our own promises."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from easyseg.models.adapters import ConvLoRALinear

CASES = ("windows", "tokens", "rect", "train")
TOLERANCE = 1e-5
NUM_EXPERTS = 8


@pytest.fixture(scope="module")
def golden(golden_file):
    """Return the tensors of each golden case, by name."""
    tensors = load_file(golden_file("conv_lora_reference.safetensors"))
    cases = {
        case: {k.removeprefix(f"{case}/"): v for k, v in tensors.items() if k.startswith(case)}
        for case in CASES
    }
    for case in cases.values():
        case["balance_loss"] = case["balance_loss"].squeeze()
    return cases


def test_a_missing_golden_file_fails_in_ci_and_is_skipped_elsewhere(golden_file, monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"nowhere\.safetensors is missing"):
        golden_file("nowhere.safetensors")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception):
        golden_file("nowhere.safetensors")


def load_reference(case, *, train, zeroed=None):
    """Build the layer of a golden case from its state dict, with one tensor zeroed on demand."""
    state = {k.removeprefix("param."): v for k, v in case.items() if k.startswith("param.")}
    layer = ConvLoRALinear(
        nn.Linear(8, 12), rank=len(state["lora_A"]), num_experts=NUM_EXPERTS, gate="constant"
    )
    assert layer.state_dict().keys() == state.keys()
    if zeroed is not None:
        state[zeroed] = torch.zeros_like(state[zeroed])
    layer.load_state_dict(state)
    if train:
        layer.gate.sample_noise = lambda logits: case["noise"]
    return layer.train(train)


def run(layer, case):
    """Return everything the golden file knows of a case, computed by ``layer``."""
    routed = []
    handle = layer.gate.register_forward_hook(lambda module, args, out: routed.append(out.expert))
    x = case["x"].clone().requires_grad_()
    y, balance_loss = layer.forward_with_aux(x)
    handle.remove()
    found = {"y": y.detach(), "balance_loss": balance_loss.detach(), "expert_index": routed[0]}
    (y * case["grad_out"]).sum().backward()
    found["grad.x"] = x.grad
    found |= {f"grad.{name}": p.grad for name, p in layer.named_parameters()}
    if layer.training:
        layer.zero_grad()
        layer.forward_with_aux(case["x"])[1].backward()
        found |= {
            "grad_balance.w_gate": layer.gate.w_gate.grad,
            "grad_balance.w_noise": layer.gate.w_noise.grad,
            "grad_balance.lora_A": layer.lora_A.grad,
        }
    return found


def worst_error(found, case, relative_error):
    """Return the largest error over all tensors of a case; infinite for another routing."""
    if not torch.equal(found["expert_index"], case["expert_index"].to(torch.int64)):
        return float("inf")
    return max(
        relative_error(found[name], value)
        for name, value in case.items()
        if name in ("y", "balance_loss") or name.startswith("grad")
        if name != "grad_out"
    )


@pytest.mark.parametrize("name", CASES)
def test_golden_case(golden, relative_error, name):
    case = golden[name]
    layer = load_reference(case, train=name == "train")
    found = run(layer, case)
    assert worst_error(found, case, relative_error) < TOLERANCE
    unused = set(range(NUM_EXPERTS)) - set(case["expert_index"].tolist())
    for index in unused:
        for part in ("weight", "bias"):
            assert f"grad.experts.{index}.{part}" not in case
            assert not found[f"grad.experts.{index}.{part}"].any()
    assert found["grad.gate.w_gate"] is None  # as in the reference: the task does not reach it


def test_golden_cases_use_every_expert(golden):
    assert set(golden["windows"]["expert_index"].tolist()) == set(range(NUM_EXPERTS))


@pytest.mark.parametrize(
    ("name", "zeroed"),
    [
        *(("windows", n) for n in ("weight", "bias", "lora_A", "lora_B", "gate.w_gate")),
        *(("windows", f"experts.{i}.{p}") for i in range(NUM_EXPERTS) for p in ("weight", "bias")),
        *((name, "gate.w_gate") for name in ("rect", "train")),
        ("train", "gate.w_noise"),
    ],
)
def test_golden_case_breaks_without(golden, relative_error, name, zeroed):
    case = golden[name]
    layer = load_reference(case, train=name == "train", zeroed=zeroed)
    assert worst_error(run(layer, case), case, relative_error) > 100 * TOLERANCE


@pytest.mark.parametrize("scales", [(2, 1, 3, 4, 5, 6, 7, 8), (1,) * 8])
def test_golden_case_breaks_with_other_scales(golden, relative_error, scales):
    case = golden["windows"]
    layer = load_reference(case, train=False)
    layer.scales = scales
    assert worst_error(run(layer, case), case, relative_error) > 100 * TOLERANCE


def random_layer(*, gate="learned", num_experts=4, rank=3, dtype=torch.float32, **options):
    """Return a layer with random weights everywhere, B among them."""
    torch.manual_seed(0)
    layer = ConvLoRALinear(
        nn.Linear(8, 12, dtype=dtype), rank=rank, num_experts=num_experts, gate=gate, **options
    )
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name not in ("weight", "bias"):
                parameter.copy_(torch.randn_like(parameter) * 0.5)
    return layer


def test_fresh_layer_is_the_frozen_one():
    base = nn.Linear(8, 24)
    layer = ConvLoRALinear(base)
    x = torch.randn(2, 5, 7, 8)
    assert torch.equal(layer(x), base(x))
    assert layer.weight is base.weight
    assert {n for n, p in layer.named_parameters() if not p.requires_grad} == {"weight", "bias"}


def test_maps_and_tokens_agree():
    layer = random_layer().eval()
    maps = torch.randn(3, 6, 6, 8)
    assert torch.equal(layer(maps.flatten(1, 2)), layer(maps).flatten(1, 2))


def test_rectangular_tokens_need_the_grid_size():
    maps = torch.randn(2, 4, 9, 8)
    layer = random_layer(grid_size=(4, 9)).eval()
    assert torch.equal(layer(maps.flatten(1, 2)), layer(maps).flatten(1, 2))
    assert layer(torch.randn(1, 36, 8)).shape == (1, 36, 12)
    square = random_layer().eval()
    assert not torch.allclose(square(maps.flatten(1, 2)), layer(maps.flatten(1, 2)))


def test_prefix_tokens_get_plain_lora():
    layer = random_layer(num_prefix_tokens=2).eval()
    prefix, maps = torch.randn(3, 2, 8), torch.randn(3, 5, 5, 8)
    out = layer(torch.cat([prefix, maps.flatten(1, 2)], dim=1))
    lora = F.linear(F.linear(prefix, layer.lora_A), layer.lora_B) * layer.scaling
    torch.testing.assert_close(out[:, :2], F.linear(prefix, layer.weight, layer.bias) + lora)
    torch.testing.assert_close(out[:, 2:], layer(maps).flatten(1, 2))


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        (
            {},
            (2, 35, 8),
            "35 tokens after 0 prefix tokens do not form a 5 x 5 grid; pass grid",
        ),
        ({"num_prefix_tokens": 1}, (2, 36, 8), "35 tokens after 1 prefix"),
        ({"grid_size": (4, 9)}, (2, 35, 8), "change grid_size"),
        ({}, (36, 8), "expected .B, H, W, C. or .B, N, C."),
    ],
)
def test_tokens_that_form_no_grid(options, shape, message):
    with pytest.raises(ValueError, match=message):
        random_layer(**options)(torch.zeros(shape))


@pytest.mark.parametrize(
    "options",
    [
        {"rank": 0},
        {"num_experts": 0},
        {"num_experts": 2, "scales": (1, 2, 3)},
        {"num_experts": 2, "scales": (0, 1)},
        {"gate": "softmax"},
    ],
)
def test_impossible_options(options):
    with pytest.raises(ValueError, match="expected"):
        ConvLoRALinear(nn.Linear(8, 12), **options)


def gate_gradient(gate, *, zero_b=False):
    """Return the gradient of the task loss alone with respect to ``w_gate``."""
    layer = random_layer(gate=gate).eval()
    if zero_b:
        nn.init.zeros_(layer.lora_B)
    y, _ = layer.forward_with_aux(torch.randn(6, 6, 6, 8))
    y.square().sum().backward()
    return layer.gate.w_gate.grad


def test_the_task_loss_reaches_the_learned_gate_only():
    assert gate_gradient("learned").abs().max() > 1e-3
    assert gate_gradient("constant") is None


def test_with_b_zero_the_gate_gets_exactly_nothing():
    assert not gate_gradient("learned", zero_b=True).any()


@pytest.mark.parametrize("train", [False, True])
def test_learned_and_constant_gate_give_the_same_output(train):
    outputs = []
    for gate in ("learned", "constant"):
        layer = random_layer(gate=gate).train(train)
        torch.manual_seed(1)
        outputs.append(layer.forward_with_aux(torch.randn(6, 6, 6, 8)))
    assert torch.equal(outputs[0][0], outputs[1][0])
    assert torch.equal(outputs[0][1], outputs[1][1])


def test_unused_experts_get_zero_gradients():
    layer = random_layer().eval()
    nn.init.zeros_(layer.gate.w_gate)  # a tie: every sample goes to the first expert
    layer(torch.randn(3, 6, 6, 8)).sum().backward()
    assert layer.experts[0].weight.grad.any()
    for expert in layer.experts[1:]:
        assert not expert.weight.grad.any()
        assert not expert.bias.grad.any()


def test_every_trainable_parameter_has_a_gradient_in_training():
    for gate in ("learned", "constant"):
        layer = random_layer(gate=gate).train()
        y, balance_loss = layer.forward_with_aux(torch.randn(3, 6, 6, 8))
        (y.sum() + balance_loss).backward()
        assert all(p.grad is not None for p in layer.parameters() if p.requires_grad)


def test_noise_is_drawn_in_training_only():
    layer = random_layer()
    x = torch.randn(16, 6, 6, 8)
    layer.eval()
    before = torch.get_rng_state()
    first, second = layer(x), layer(x)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    layer.train()
    assert not torch.equal(layer(x), layer(x))


def test_routing_is_counted_in_training_and_not_saved():
    layer = random_layer()
    layer.eval()(torch.randn(5, 6, 6, 8))
    assert layer.routing_counts.sum() == 0
    layer.train()(torch.randn(5, 6, 6, 8))
    assert layer.routing_counts.sum() == 5
    assert "routing_counts" not in layer.state_dict()


def test_the_counts_are_where_the_layer_is_and_whole_in_any_precision():
    assert ConvLoRALinear(nn.Linear(8, 24, device="meta")).routing_counts.device.type == "meta"
    layer = random_layer().bfloat16().train()
    for _ in range(3):
        layer(torch.randn(300, 2, 2, 8, dtype=torch.bfloat16))
    assert layer.routing_counts.sum() == 900


def test_gradients_are_those_of_finite_differences():
    layer = random_layer(gate="constant", rank=2, num_experts=3, dtype=torch.float64).eval()
    names = [n for n, p in layer.named_parameters() if p.requires_grad and "gate" not in n]

    def function(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    x = torch.randn(3, 4, 5, 8, dtype=torch.float64, requires_grad=True)
    values = [p for n, p in layer.named_parameters() if n in names]
    assert torch.autograd.gradcheck(function, (x, *values), fast_mode=True)


@pytest.mark.parametrize("train", [False, True])
def test_checkpointing_gives_the_same_gradients(train):
    """The gate's noise is replayed in the recomputation."""
    gradients = []
    for recompute in (False, True):
        layer = random_layer().train(train)
        torch.manual_seed(3)
        x = torch.randn(6, 6, 6, 8, requires_grad=True)
        run = layer.forward_with_aux
        y, balance_loss = checkpoint(run, x, use_reentrant=False) if recompute else run(x)
        (y.square().sum() + balance_loss).backward()
        gradients.append([x.grad, *(p.grad for p in layer.parameters())])
    for one, other in zip(*gradients, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


def test_bf16_autocast_keeps_gate_and_loss_in_float32(relative_error):
    layer = random_layer().train()
    x = torch.randn(8, 6, 6, 8)
    torch.manual_seed(5)
    expected, expected_loss = layer.forward_with_aux(x)
    torch.manual_seed(5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, balance_loss = layer.forward_with_aux(x)
    assert y.dtype == torch.bfloat16
    assert balance_loss.dtype == torch.float32
    assert relative_error(y.float(), expected) < 0.03
    torch.testing.assert_close(balance_loss, expected_loss, rtol=0.05, atol=1e-4)
    (y.float().square().mean() + balance_loss).backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters() if p.requires_grad)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_modules_of_another_precision(dtype, relative_error):
    layer = random_layer().eval()
    x = torch.randn(4, 6, 6, 8)
    other = copy.deepcopy(layer).to(dtype)
    y, balance_loss = other.forward_with_aux(x.to(dtype))
    assert y.dtype == dtype
    assert balance_loss.dtype == torch.promote_types(dtype, torch.float32)
    assert relative_error(y.float(), layer(x)) < 0.05
    y.float().sum().backward()
    assert other.gate.w_gate.grad.dtype == dtype


def test_one_expert_needs_no_balance():
    y, balance_loss = random_layer(num_experts=1).train().forward_with_aux(torch.randn(2, 4, 4, 8))
    assert y.shape == (2, 4, 4, 12)
    assert balance_loss == 0


def test_print_says_what_it_is():
    text = repr(ConvLoRALinear(nn.Linear(8, 24), rank=4, num_experts=2))
    assert "8, 24, rank=4, alpha=32.0, scales=(1, 2), gate=learned" in text
