"""The whole network: what is trained, what never moves, and that a plan means what it says."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from easyseg.errors import ArtifactError, OptionError
from easyseg.models.adapters import ConvLoRALinear
from easyseg.models.backbone import split_windows
from easyseg.models.network import build_network, load_trainable_state, trainable_state
from easyseg.models.registry import get_spec

DECODER = 3_505_536
BACKBONES = pytest.mark.parametrize("backbone", ["tiny_sam", "tiny_vit"])


def network_of(tiny_plan, overrides=None, *, num_classes=2, seed=0, random_b=True):
    """Build a tiny network; with ``random_b`` its adapters have an effect from the start."""
    network = build_network(tiny_plan(overrides, num_classes=num_classes), seed=seed)
    if random_b:
        generator = torch.Generator().manual_seed(1)
        for name, parameter in network.named_parameters():
            if name.endswith(("lora_B", "w_gate")):
                parameter.data.normal_(std=0.1, generator=generator)
    return network


def images_for(seed=0, count=2):
    return torch.randn(count, 3, 128, 128, generator=torch.Generator().manual_seed(seed))


def train_steps(network, steps=2):
    """Take a few steps as a fit does."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    torch.manual_seed(0)
    for step in range(steps):
        output = network(images_for(step))
        target = torch.randint(0, network.head.num_classes, (2, 128, 128), dtype=torch.uint8)
        optimizer.zero_grad()
        (network.head.loss(output.logits, target) + output.aux_losses).backward()
        optimizer.step()


def adapter_parameters(features, rank, num_experts):
    """Return the trainable parameters of one adapted qkv: LoRA, experts, gate."""
    lora = rank * features + rank * 3 * features
    return lora + num_experts * (9 * rank**2 + rank) + 2 * rank * num_experts


def layers_with_experts(network):
    return [layer for _, layer in network.adapters() if isinstance(layer, ConvLoRALinear)]


def count_trainable(plan):
    """Count what is trained in the full network of a plan, whose weights are never made."""
    with pytest.MonkeyPatch.context() as patch, torch.device("meta"):
        patch.setattr("easyseg.models.network.load_base", lambda *args, **kwargs: "no weights")
        network = build_network(plan, seed=0)
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("backbone", "widths"),
    [
        ("vit_b", [768] * 12),
        ("vit_l", [1024] * 24),
        ("vit_h", [1280] * 32),
        ("lite_medsam", [128] * 2 + [160] * 6 + [320] * 2),
        ("mobile_sam", [128] * 2 + [160] * 6 + [320] * 2),
    ],
)
def test_number_of_trainable_parameters(tiny_plan, backbone, widths):
    for kind, num_experts in (("conv_lora", 8), ("lora", 0), ("none", None)):
        plan = tiny_plan(
            {
                "backbone.name": backbone,
                "adapter.kind": kind,
                "adapter.rank": 3,
                "adapter.num_experts": num_experts or 8,
            }
        )
        adapters = (
            sum(adapter_parameters(w, 3, num_experts) for w in widths) if kind != "none" else 0
        )
        if kind != "none" and get_spec(backbone).family == "tiny_vit":
            # LoRA beside proj (two widths a rank), fc1 and fc2 (five each).
            adapters += sum(12 * 3 * width for width in widths)
        assert count_trainable(plan) == DECODER + adapters


@pytest.mark.parametrize(
    ("kind", "count"), [("none", DECODER), ("lora", 3_997_056), ("conv_lora", 4_020_096)]
)
def test_vit_h_trains_as_many_parameters_as_the_paper_says(tiny_plan, kind, count):
    plan = tiny_plan(
        {
            "backbone.name": "vit_h",
            "data.size": 1024,
            "adapter.kind": kind,
            "adapter.rank": 3,
            "adapter.num_experts": 8,
            "adapter.blocks": "all",
        }
    )
    assert count_trainable(plan) == count


@BACKBONES
def test_only_adapters_and_decoder_are_trained(tiny_plan, backbone):
    network = build_network(tiny_plan({"backbone.name": backbone}), seed=0)
    for name, parameter in network.named_parameters():
        adapter = any(part in name for part in ("lora_", ".gate.", ".experts."))
        assert parameter.requires_grad == (adapter or name.startswith("decoder.")), name
    spec = get_spec(backbone)
    assert len(layers_with_experts(network)) == spec.num_blocks
    # LoRA beside proj, fc1 and fc2 of a small backbone.
    layers = 4 if spec.family == "tiny_vit" else 1
    assert len(list(network.adapters())) == layers * spec.num_blocks
    assert network.training


@BACKBONES
def test_frozen_tensors_and_batch_norm_buffers_never_move(tiny_plan, backbone):
    network = network_of(tiny_plan, {"backbone.name": backbone}, random_b=False)
    before = copy.deepcopy(network.state_dict())
    train_steps(network)
    moved = {name for name, v in network.state_dict().items() if not torch.equal(v, before[name])}
    trained = set(trainable_state(network))
    assert moved <= trained
    assert any(name.startswith("decoder.") for name in moved)
    assert any("lora_B" in name for name in moved)
    if backbone == "tiny_vit":
        assert any(name.endswith("running_mean") for name in before)


@BACKBONES
def test_every_trained_parameter_gets_a_gradient(tiny_plan, backbone):
    """None may miss: DDP would wait for it. Experts nobody chose get zeros."""
    network = network_of(tiny_plan, {"backbone.name": backbone})
    output = network(images_for())
    (output.logits.square().mean() + output.aux_losses).backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    gates = [module.gate.w_gate.grad for module in layers_with_experts(network)]
    assert all(gradient.any() for gradient in gates)


@BACKBONES
@pytest.mark.parametrize("kind", ["conv_lora", "lora", "none"])
def test_fresh_adapters_change_nothing(tiny_plan, backbone, kind):
    """B starts at zero: the same base and decoder, whatever the adapter."""
    networks = [
        build_network(tiny_plan({"backbone.name": backbone, "adapter.kind": k}), seed=0).eval()
        for k in (kind, "none")
    ]
    outputs = [network(images_for()).logits for network in networks]
    torch.testing.assert_close(outputs[0], outputs[1])


@BACKBONES
@pytest.mark.parametrize("num_classes", [2, 4])
def test_shapes(tiny_plan, backbone, num_classes):
    network = network_of(tiny_plan, {"backbone.name": backbone}, num_classes=num_classes)
    output = network(images_for(count=3))
    side = 128 * 4 // get_spec(backbone).stride
    assert output.logits.shape == (3, 1 if num_classes == 2 else num_classes, side, side)
    assert output.aux_losses.shape == ()
    assert output.aux_losses > 0


@BACKBONES
def test_balance_losses_of_all_layers_add_up(tiny_plan, backbone):
    network = network_of(tiny_plan, {"backbone.name": backbone})
    losses = []
    for layer in layers_with_experts(network):
        layer.gate.register_forward_hook(lambda module, args, out: losses.append(out.balance_loss))
    total = network(images_for()).aux_losses
    assert len(losses) == get_spec(backbone).num_blocks
    torch.testing.assert_close(total, torch.stack(losses).sum())


@BACKBONES
def test_gradient_checkpointing_gives_the_same_gradients(tiny_plan, backbone):
    """In training mode: the gate's noise is replayed."""
    gradients = []
    for recompute in (False, True):
        overrides = {"backbone.name": backbone, "train.gradient_checkpointing": recompute}
        network = network_of(tiny_plan, overrides)
        calls: list[object] = []
        network.backbone.steps()[-1].register_forward_pre_hook(
            lambda module, args, calls=calls: calls.append(module)
        )
        torch.manual_seed(2)
        output = network(images_for())
        (output.logits.square().mean() + output.aux_losses).backward()
        gradients.append({n: p.grad for n, p in network.named_parameters() if p.requires_grad})
        assert len(calls) == 1 + recompute
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)


@BACKBONES
def test_bf16_autocast(tiny_plan, backbone, relative_error):
    network = network_of(tiny_plan, {"backbone.name": backbone}).eval()
    expected = network(images_for())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network(images_for())
    assert found.aux_losses.dtype == torch.float32
    assert relative_error(found.logits.float(), expected.logits) < 0.1
    network.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(images_for())
        target = torch.zeros(2, 128, 128, dtype=torch.uint8)
        (network.head.loss(output.logits, target) + output.aux_losses).backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)


@BACKBONES
def test_what_products_read_is_cast_before_them(tiny_plan, backbone, monkeypatch):
    """Autocast would cast it in each of the products, and each of their gradients back."""
    targets = {"adapter.targets": ["q", "k", "v", "mlp"], "adapter.lora_targets": []}
    network = network_of(tiny_plan, {"backbone.name": backbone} | targets)
    layers, windows = {}, set()
    for name, layer in network.adapters():

        def noted(x, images=None, name=name, forward=layer.forward_with_aux):
            layers[name.rpartition(".")[2]] = x.dtype
            return forward(x, images)

        layer.forward_with_aux = noted

    def split(x, window):
        windows.add(x.dtype)
        return split_windows(x, window)

    monkeypatch.setattr("easyseg.models.sam_vit.split_windows", split)
    network(images_for())
    assert len(layers) == 3
    assert {*layers.values(), *windows} == {torch.float32}
    windows.clear()
    with torch.autocast("cpu", torch.bfloat16):
        network(images_for())
    assert {*layers.values(), *windows} == {torch.bfloat16}


@BACKBONES
def test_adapters_in_the_last_blocks_leave_a_frozen_prefix(tiny_plan, backbone):
    network = network_of(tiny_plan, {"backbone.name": backbone, "adapter.blocks": 1})
    steps, split = network.backbone.steps(), network.backbone.split_at
    assert len(layers_with_experts(network)) == 1
    adapted = {id(layer) for _, layer in network.adapters()}
    assert adapted <= {id(layer) for layer in network.backbone.attention_blocks()[-1].modules()}
    assert steps[split] is network.backbone.attention_blocks()[-1]
    graphs = []
    for step in steps:
        step.register_forward_hook(lambda module, args, out: graphs.append(out[0].requires_grad))
    network(images_for())
    assert graphs == [False] * split + [True] * (len(steps) - split)


def test_without_adapters_the_encoder_keeps_no_graph(tiny_plan):
    network = network_of(tiny_plan, {"adapter.kind": "none"})
    assert network.backbone.split_at == len(network.backbone.steps())
    embedding, aux = network.backbone(images_for())
    assert not embedding.requires_grad
    assert aux == 0


def test_the_plan_reaches_the_adapters(tiny_plan):
    network = build_network(
        tiny_plan(
            {
                "adapter.rank": 5,
                "adapter.num_experts": 2,
                "adapter.scales": (1, 4),
                "adapter.alpha": 10,
                "adapter.gate": "constant",
            }
        ),
        seed=0,
    )
    for _, layer in network.adapters():
        assert isinstance(layer, ConvLoRALinear)
        assert (layer.rank, layer.scales, layer.scaling) == (5, (1, 4), 2.0)
        assert layer.gate.kind == "constant"


@BACKBONES
@pytest.mark.parametrize("kind", ["lora", "conv_lora"])
@pytest.mark.parametrize("classes", [2, 3])
def test_no_step_asks_for_a_value(tiny_plan, backbone, kind, classes, monkeypatch):
    """Tensors on "meta" have none: what would make a GPU wait (item, nonzero, tolist) is an error.

    Mask classification is left out: its matching is solved on the CPU.
    """
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # Not on "meta".
    network = network_of(
        tiny_plan, {"backbone.name": backbone, "adapter.kind": kind}, num_classes=classes
    ).to("meta")
    output = network(images_for().to("meta"))
    target = torch.zeros(2, 128, 128, dtype=torch.uint8, device="meta")
    (network.head.loss(output.logits, target) + output.aux_losses).backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


def test_the_seed_decides_and_the_global_state_stays(tiny_plan, monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("seeds CUDA"))
    before = torch.get_rng_state()
    plan = tiny_plan({"backbone.name": "lite_medsam", "backbone.weights": "pretrained"})
    first, same, other = (build_network(plan, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    states = [network.state_dict() for network in (first, same, other)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    changed = {name for name, value in states[0].items() if not torch.equal(value, states[2][name])}
    # Fresh parts only: everything else is pretrained.
    assert changed
    assert all("lora_A" in name or "experts" in name for name in changed)


def test_what_is_saved_restores_the_network(tiny_plan):
    trained = network_of(tiny_plan)
    train_steps(trained, steps=1)
    fresh = network_of(tiny_plan, random_b=False)
    assert not torch.equal(trained.eval()(images_for()).logits, fresh.eval()(images_for()).logits)
    load_trainable_state(fresh, {n: v.clone() for n, v in trainable_state(trained).items()})
    assert torch.equal(trained(images_for()).logits, fresh(images_for()).logits)
    assert sum(v.numel() for v in trainable_state(fresh).values()) < sum(
        v.numel() for v in fresh.state_dict().values()
    )


def test_tensors_of_another_plan_are_refused(tiny_plan):
    network = network_of(tiny_plan)
    state = dict(trainable_state(network))
    name = next(iter(state))
    with pytest.raises(ArtifactError, match=name):
        load_trainable_state(network, {k: v for k, v in state.items() if k != name})
    with pytest.raises(ArtifactError, match=r"decoder\.extra"):
        load_trainable_state(network, state | {"decoder.extra": torch.zeros(1)})
    with pytest.raises(ArtifactError, match=name):
        load_trainable_state(network, state | {name: torch.zeros(1)})
    other = dict(trainable_state(network_of(tiny_plan, {"adapter.rank": 2})))
    with pytest.raises(ArtifactError, match="and others; the artifact is damaged"):
        load_trainable_state(network, other)


TOKENS = {"head.kind": "mask_classification", "head.num_tokens": 6}


@BACKBONES
@pytest.mark.parametrize("target", [0, 255], ids=["one class", "all ignored"])
def test_every_parameter_of_mask_classification_gets_a_gradient(tiny_plan, backbone, target):
    """None may miss under DDP, whatever the images hold."""
    network = network_of(tiny_plan, {"backbone.name": backbone} | TOKENS, num_classes=4)
    output = network(images_for())
    assert output.logits.shape[:2] == (2, 4)
    assert output.segments.masks.shape[:2] == (2, 6)
    assert output.segments.classes.shape == (2, 6, 5)
    targets = torch.full((2, 128, 128), target, dtype=torch.uint8)
    loss = network.head.loss(output.logits, targets, output.segments)
    assert (loss == 0) == (target == 255)
    (loss + output.aux_losses).backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    assert bool(network.head.class_branch.weight.grad.any()) == (target == 0)


def test_the_class_branch_is_trained_saved_and_decided_by_the_seed(tiny_plan):
    plan = tiny_plan(TOKENS, num_classes=4)
    first, same, other = (build_network(plan, seed=seed) for seed in (0, 0, 1))
    states = [trainable_state(network) for network in (first, same, other)]
    for name in ("head.class_branch.weight", "head.class_branch.bias"):
        assert torch.equal(states[0][name], states[1][name])
        assert not torch.equal(states[0][name], states[2][name])
    load_trainable_state(other, states[0])
    assert torch.equal(other.head.class_branch.weight, first.head.class_branch.weight)


def test_mask_tokens_of_mask_classification_start_around_that_of_sam_and_apart(tiny_plan):
    """So far apart that a matching can tell them; two of SAM's own differ by 0.2."""
    pretrained = {"backbone.name": "lite_medsam", "backbone.weights": "pretrained"}
    tokens = build_network(tiny_plan(pretrained | TOKENS), seed=0).decoder.mask_tokens.weight
    of_sam = build_network(tiny_plan(pretrained), seed=0).decoder.mask_tokens.weight
    assert tokens.shape[0] == 6
    assert 0.2 < float((tokens - of_sam).detach().std()) < 0.4


def test_the_order_of_the_classes_changes_nothing_but_their_order(tiny_plan):
    """Masks coded in colours have another order than masks of ids."""
    plan = tiny_plan(
        {"backbone.name": "lite_medsam", "backbone.weights": "pretrained", "data.size": 112},
        num_classes=4,
    )
    generator = torch.Generator().manual_seed(0)
    embedding = torch.randn(1, 256, 7, 7, generator=generator).double()
    target = torch.randint(0, 4, (1, 112, 112), dtype=torch.uint8, generator=generator)
    order = torch.tensor([2, 0, 3, 1])

    def trained(target):
        network = build_network(plan, seed=0).double()
        optimizer = torch.optim.SGD(network.decoder.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            logits, _ = network.head(*network.decoder(embedding))
            network.head.loss(logits, target).backward()
            optimizer.step()
        return network.head(*network.decoder(embedding))[0].detach()

    first, other = trained(target), trained(order[target.long()].to(torch.uint8))
    assert float((first[:, 0] - first[:, 1]).abs().max()) > 0.01
    torch.testing.assert_close(other[:, order], first, rtol=1e-4, atol=1e-5)  # Losses: float32.


def test_mask_classification_in_bf16(tiny_plan):
    network = network_of(tiny_plan, TOKENS, num_classes=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(images_for())
        target = torch.randint(0, 4, (2, 128, 128), dtype=torch.uint8)
        loss = network.head.loss(output.logits, target, output.segments)
    assert (loss.dtype, output.logits.dtype) == (torch.float32, torch.float32)
    (loss + output.aux_losses).backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)


def test_a_size_the_backbone_cannot_take(tiny_plan):
    plan = tiny_plan()
    plan = replace(plan, data=replace(plan.data, size=130))
    with pytest.raises(OptionError, match=r"130x130: tiny_sam needs sides .* multiples of 16"):
        build_network(plan, seed=0)
