"""Each way to adapt an encoder: its equations, its start, what it trains, keeps and recomputes."""

from __future__ import annotations

import copy
from collections import Counter
from contextlib import nullcontext

import numpy as np
import pytest
import safetensors.torch
import torch
from segment_anything.modeling.common import LayerNorm2d
from torch import nn
from torch.nn import functional as F

from easyseg.models.adapters import LoRALinear
from easyseg.models.adapters.bottleneck import BottleneckLinear
from easyseg.models.adapters.methods import METHODS
from easyseg.models.adapters.sam_adapter import SamAdapter, high_frequencies
from easyseg.models.adapters.scale_shift import ScaleShift
from easyseg.models.adapters.side import LadderSide
from easyseg.models.network import (
    build_network,
    load_trainable_state,
    running_statistics,
    trainable_state,
)
from easyseg.models.registry import get_spec
from easyseg.models.sam_vit import SamBlock
from easyseg.models.tiny_vit import ConvBN, TinyViTBlock

SAM_ONLY = ("lst", "sam_adapter")
CASES = [
    (backbone, kind)
    for kind in METHODS
    for backbone in ("tiny_sam", "tiny_vit")
    if backbone == "tiny_sam" or kind not in SAM_ONLY
]
EACH = pytest.mark.parametrize(("backbone", "kind"), CASES)
EVERYWHERE = ("q", "k", "v", "proj", "mlp")


def network_of(tiny_plan, backbone, kind, *, effect=True, pretrained=True, **adapter):
    """Build a tiny network; with ``effect`` nothing of it is at zero, as after some training.

    Its weights are random. ``pretrained`` has them taken for pretrained ones.
    """
    values = {f"adapter.{key}": value for key, value in adapter.items()}
    plan = tiny_plan({"backbone.name": backbone, "adapter.kind": kind, "data.size": 112} | values)
    network = build_network(plan, seed=0)
    if pretrained:
        for layer in network.modules():
            if isinstance(layer, ConvBN):
                layer.live = False
    if effect:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in network.backbone.parameters():
                if parameter.requires_grad or not parameter.any():
                    parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


def images_for(seed=0):
    return torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(seed))


def loss_of(network, output):
    target = (images_for()[:, 0] > 0).to(torch.uint8)
    return network.head.loss(output.logits, target) + output.aux_losses


def take_step(network):
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0)
    torch.manual_seed(0)
    loss_of(network, network(images_for())).backward()
    optimizer.step()


# Equations.


def test_a_bottleneck_is_its_formula():
    layer = BottleneckLinear(nn.Linear(8, 12), width=3)
    x = torch.randn(4, 5, 8)
    assert torch.equal(layer(x), layer.base(x))
    assert 0 < layer.adapter_down.weight.abs().max() <= 0.02
    for parameter in (layer.adapter_up.weight, layer.adapter_up.bias, layer.adapter_down.bias):
        nn.init.normal_(parameter)
    h = x @ layer.base.weight.T + layer.base.bias
    d, u = layer.adapter_down, layer.adapter_up
    inner = h @ d.weight.T + d.bias
    inner = 0.5 * inner * (1 + torch.erf(inner / 2**0.5))
    torch.testing.assert_close(layer(x), h + inner @ u.weight.T + u.bias)


@pytest.mark.parametrize(
    ("base", "shape", "dim"),
    [
        (nn.Linear(6, 4), (2, 5, 6), -1),
        (nn.LayerNorm(4), (2, 5, 4), -1),
        (nn.Conv2d(3, 4, 3), (2, 3, 7, 8), 1),
        (LayerNorm2d(4), (2, 4, 3, 5), 1),
        (ConvBN(3, 4), (2, 3, 7, 8), 1),
    ],
)
def test_scale_and_shift_are_per_channel(base, shape, dim):
    x = torch.randn(shape)
    expected = base(x).detach()
    layer = ScaleShift(base, 4, dim)
    assert torch.equal(layer(x), expected)
    scale, shift = torch.randn(4), torch.randn(4)
    with torch.no_grad():
        layer.scale.copy_(scale)
        layer.shift.copy_(shift)
    for channel in range(4):
        found = layer(x).select(dim, channel)
        torch.testing.assert_close(
            found, scale[channel] * expected.select(dim, channel) + shift[channel]
        )
    assert {n for n, p in layer.named_parameters() if p.requires_grad} == {"scale", "shift"}


@pytest.mark.parametrize("backbone", ["tiny_sam", "tiny_vit"])
def test_every_layer_that_has_weights_is_scaled_and_shifted(tiny_plan, backbone):
    plain = network_of(tiny_plan, backbone, "none").backbone
    layers = [m for m in plain.modules() if isinstance(m, nn.Linear | nn.LayerNorm | LayerNorm2d)]
    layers += [m for m in plain.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    inside = 2 * sum(isinstance(m, ConvBN) for m in plain.modules())
    adapted = network_of(tiny_plan, backbone, "ssf").backbone
    found = [m for m in adapted.modules() if isinstance(m, ScaleShift)]
    assert len(found) == len(layers) - inside // 2
    assert not any(isinstance(m.base, ScaleShift) for m in found)


def slow_softmax_attention(q, k, v, bias):
    """Attend, one query and head at a time; ``bias[head][query]`` is added to the logits."""
    heads, queries, width = q.shape
    out = torch.zeros(queries, heads, width)
    for head in range(heads):
        for query in range(queries):
            logits = torch.stack([q[head, query] @ key for key in k[head]]) / width**0.5
            out[query, head] = (logits + bias[head, query]).softmax(0) @ v[head]
    return out.flatten(1)


@torch.no_grad()
@pytest.mark.parametrize("window", [0, 3])
def test_prompts_are_further_tokens_of_the_block_that_are_dropped(window):
    """VPT-Deep as its paper has it: prompts go through the whole block, and what becomes of them
    is dropped. On 3x4 tokens; windows of 3 are filled up to 3x6.
    """
    torch.manual_seed(0)
    grid = (3, 4)
    block = SamBlock(8, 2, window, grid)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.4)
    block.prompts = nn.Parameter(torch.randn(5, 8))
    x = torch.randn(2, *grid, 8)
    filled = F.pad(block.norm1(x), (0, 0, 0, 2)) if window else block.norm1(x)
    side = (3, 3) if window else grid
    attended = torch.zeros_like(filled)
    for image in range(2):
        for left in range(0, filled.shape[2], side[1]):
            part = filled[image, :, left : left + side[1]].reshape(-1, 8)
            tokens = torch.cat([block.norm1(block.prompts), part])
            q, k, v = block.attn.qkv(tokens).view(-1, 3, 2, 4).permute(1, 2, 0, 3)
            bias = torch.zeros(2, len(tokens), len(tokens))
            for i in range(len(part)):
                for j in range(len(part)):
                    rows = i // side[1] - j // side[1] + side[0] - 1
                    cols = i % side[1] - j % side[1] + side[1] - 1
                    offset = block.attn.rel_pos_h[rows] + block.attn.rel_pos_w[cols]
                    bias[:, 5 + i, 5 + j] = q[:, 5 + i] @ offset
            out = block.attn.proj(slow_softmax_attention(q, k, v, bias))
            attended[image, :, left : left + side[1]] = out[5:].view(*side, 8)
    y = x + attended[:, :, : grid[1]]
    hidden = block.mlp.lin1(block.norm2(y))
    y = y + block.mlp.lin2(F.gelu(hidden))
    torch.testing.assert_close(block(x)[0], y, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_prompts_in_windows_of_a_tiny_vit():
    torch.manual_seed(0)
    block = TinyViTBlock(8, 2, 2).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.4)
    block.prompts = nn.Parameter(torch.randn(3, 8))
    x = torch.randn(2, 8, 2, 4)
    attended = torch.zeros_like(x)
    for image in range(2):
        for left in (0, 2):
            part = x[image, :, :, left : left + 2].flatten(1).T
            tokens = block.attn.norm(torch.cat([block.prompts, part]))
            q, k, v = block.attn.qkv(tokens).view(-1, 2, 3, 4).permute(2, 1, 0, 3)
            bias = torch.zeros(2, 7, 7)
            bias[:, 3:, 3:] = block.attn.attention_biases[:, block.attn.attention_bias_idxs]
            out = block.attn.proj(slow_softmax_attention(q, k, v, bias))
            attended[image, :, :, left : left + 2] = out[3:].T.view(8, 2, 2)
    y = block.local_conv(x + attended).permute(0, 2, 3, 1)
    y = y + block.mlp.fc2(F.gelu(block.mlp.fc1(block.mlp.norm(y))))
    torch.testing.assert_close(block(x)[0].permute(0, 2, 3, 1), y, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("blocks", ["all", 2])
def test_the_ladder_is_its_formula(tiny_plan, blocks):
    """``s_i = mu_i D_i h_i + (1 - mu_i) s'_(i-1)``, mu the sigmoid of ten times its parameter."""
    side = network_of(tiny_plan, "tiny_sam", "lst", blocks=blocks).backbone.eval()
    assert isinstance(side, LadderSide)
    states = [side.base.embed(images_for())]
    for block in side.base.blocks:
        states.append(block(states[-1])[0])
    count = 3 if blocks == "all" else 2
    states = states[-count - 1 :]
    climbing = side.side_down[0](states[0])
    for rung in range(count):
        mu = 1 / (1 + torch.exp(-10 * side.side_gates[rung]))
        climbing = mu * side.side_down[rung + 1](states[rung + 1]) + (1 - mu) * climbing
        climbing = side.side_blocks[rung](climbing)[0]
    last = states[-1] + side.side_up(side.side_norm(climbing))
    torch.testing.assert_close(side(images_for())[0], side.base.neck(last.permute(0, 3, 1, 2)))
    windows = [block.window for block in side.base.blocks][-count:]
    assert [block.window for block in side.side_blocks] == windows
    assert side.side_blocks[0].attn.qkv.in_features == 32 // 8


@torch.no_grad()
@pytest.mark.parametrize("blocks", ["all", 1])
def test_sam_adapter_is_its_formula(tiny_plan, blocks):
    adapted = network_of(tiny_plan, "tiny_sam", "sam_adapter", blocks=blocks).backbone.eval()
    assert isinstance(adapted, SamAdapter)
    images, base = images_for(), adapted.base
    embedded = base.patch_embed(images)
    shown = adapted.tune_image(high_frequencies(images)).permute(0, 2, 3, 1)
    narrow = adapted.tune_embedding(embedded) + shown
    features, tuned = embedded + base.pos_embed, list(adapted.tune_blocks)
    for index, block in enumerate(base.blocks):
        place = index - len(base.blocks) + len(tuned)
        if place >= 0:
            features = features + adapted.tune_up(F.gelu(tuned[place](narrow)))
        features = block(features)[0]
    torch.testing.assert_close(adapted(images)[0], base.neck(features.permute(0, 3, 1, 2)))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 12)])
def test_high_frequencies_lack_a_quarter_of_the_spectrum(height, width):
    """Written by waves: each is added but those in the rectangle around frequency zero."""
    image = np.random.default_rng(0).normal(size=(height, width))
    half = int((height * width * 0.25) ** 0.5 // 2)
    rows, cols = np.arange(height)[:, None], np.arange(width)[None]
    expected = np.zeros((height, width), complex)
    left_out = 0
    for u in range(-(height // 2), height - height // 2):
        for v in range(-(width // 2), width - width // 2):
            if -half <= u < half and -half <= v < half:
                left_out += 1
                continue
            wave = np.exp(2j * np.pi * (u * rows / height + v * cols / width))
            expected += (image * wave.conj()).mean() * wave
    assert left_out == (2 * half) ** 2
    found = high_frequencies(torch.from_numpy(image)[None, None])[0, 0]
    np.testing.assert_allclose(found.numpy(), abs(expected.real), atol=1e-12)


@pytest.mark.parametrize("backbone", ["tiny_sam", "tiny_vit"])
@pytest.mark.parametrize("part", ["q", "k", "v"])
@torch.no_grad()
def test_lora_changes_the_planned_projections_only(tiny_plan, backbone, part):
    network = network_of(tiny_plan, backbone, "lora", targets=(part,))
    attention = network.backbone.attention_blocks()[0].attn
    heads, dim = attention.num_heads, attention.proj.in_features
    x = torch.randn(5, dim)
    change = attention.qkv(x) - F.linear(x, attention.qkv.weight, attention.qkv.bias)
    # As the attention takes its queries, keys and values apart.
    if backbone == "tiny_sam":
        parts = change.view(5, 3, dim).unbind(1)
    else:
        parts = change.view(5, heads, 3, dim // heads).transpose(1, 2).flatten(2).unbind(1)
    for name, found in zip("qkv", parts, strict=True):
        assert bool(found.any()) == (name == part)
    expected = x @ attention.qkv.lora_A.T @ attention.qkv.lora_B.T * attention.qkv.scaling
    rows = attention.rows_of([part])
    torch.testing.assert_close(change[:, rows], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("backbone", ["tiny_sam", "tiny_vit"])
@pytest.mark.parametrize("kind", ["lora", "conv_lora"])
def test_low_rank_paths_are_where_they_are_planned(tiny_plan, backbone, kind):
    mlp = ["lin1", "lin2"] if backbone == "tiny_sam" else ["fc1", "fc2"]
    for targets, leaves in ((("proj",), ["proj"]), (("v", "mlp"), ["qkv", *mlp])):
        network = network_of(tiny_plan, backbone, kind, targets=targets)
        names = [name.rpartition(".")[2] for name, _ in network.adapters()]
        assert sorted(names) == sorted(leaves * get_spec(backbone).num_blocks)
        loss_of(network, network(images_for())).backward()
        for name, layer in network.adapters():
            assert layer.lora_A.grad.any(), name
            assert layer.lora_B.grad.any(), name


@pytest.mark.parametrize("backbone", ["tiny_sam", "tiny_vit"])
@pytest.mark.parametrize("kind", ["lora", "conv_lora"])
@pytest.mark.parametrize(
    ("targets", "lora_targets"), [(("q", "k", "v"), ("proj", "mlp")), (("q", "proj"), ("mlp",))]
)
def test_lora_targets_have_no_experts(tiny_plan, backbone, kind, targets, lora_targets):
    network = network_of(tiny_plan, backbone, kind, targets=targets, lora_targets=lora_targets)
    mlp = ["lin1", "lin2"] if backbone == "tiny_sam" else ["fc1", "fc2"]
    expected = {"qkv": kind, "proj": kind if "proj" in targets else "lora"}
    expected |= dict.fromkeys(mlp, "lora")
    found = Counter(
        (name.rpartition(".")[2], "lora" if type(layer) is LoRALinear else "conv_lora")
        for name, layer in network.adapters()
    )
    assert found == dict.fromkeys(expected.items(), get_spec(backbone).num_blocks)
    loss_of(network, network(images_for())).backward()
    for name, layer in network.adapters():
        assert layer.lora_A.grad.any(), name
        assert layer.lora_B.grad.any(), name


# The start.


@EACH
def test_the_start_is_the_frozen_network_where_the_method_says_so(tiny_plan, backbone, kind):
    """VPT's prompts and SAM-Adapter's start at random numbers and change the features."""
    targets = {"targets": EVERYWHERE} if "lora" in kind else {}
    adapted = network_of(tiny_plan, backbone, kind, effect=False, **targets).eval()
    frozen = network_of(tiny_plan, backbone, "none", effect=False).eval()
    found, expected = (network(images_for()).logits for network in (adapted, frozen))
    same = torch.allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert same == (kind not in ("vpt", "sam_adapter"))


# What is trained, and what is saved.


@EACH
def test_a_step_changes_what_is_saved_and_nothing_else(tiny_plan, backbone, kind):
    network = network_of(tiny_plan, backbone, kind)
    before = copy.deepcopy(network)
    take_step(network)
    trained = trainable_state(network)
    assert not any("running_" in name for name in trained)
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    start = before.state_dict()
    moved = {n for n, value in network.state_dict().items() if not torch.equal(value, start[n])}
    assert moved <= trained.keys()
    # Experts that nobody chose have zero gradients.
    assert not {n for n in trained.keys() - moved if "backbone." in n and "experts." not in n}
    assert any(name.startswith("backbone.") for name in moved) == (kind != "none")

    expected = network.eval()(images_for()).logits
    assert not torch.equal(before.eval()(images_for()).logits, expected)
    load_trainable_state(before, safetensors.torch.load(safetensors.torch.save(trained)))
    assert torch.equal(before(images_for()).logits, expected)


@pytest.mark.parametrize("backbone", ["tiny_sam", "tiny_vit"])
def test_bitfit_trains_the_bias_terms(tiny_plan, backbone):
    network = network_of(tiny_plan, backbone, "bitfit")
    for name, parameter in network.backbone.named_parameters():
        assert parameter.requires_grad == name.endswith(".bias"), name


@pytest.mark.parametrize("kind", ["bitfit", "ssf", "full"])
@pytest.mark.parametrize("backbone", ["tiny_sam", "tiny_vit"])
def test_in_the_last_blocks_all_before_stays_frozen(tiny_plan, backbone, kind):
    network = network_of(tiny_plan, backbone, kind, blocks=1)
    steps = list(network.backbone.steps())
    start = network.backbone.split_at
    assert steps[start] is network.backbone.attention_blocks()[-1]
    before = [p for step in steps[:start] for p in step.parameters()]
    embedding = list(network.backbone.patch_embed.parameters())
    assert not any(p.requires_grad for p in before + embedding)
    for part in (*steps[start:], network.backbone.neck):
        assert any(p.requires_grad for p in part.parameters())


def test_from_scratch_batch_normalisation_follows_the_batches(tiny_plan):
    network = network_of(tiny_plan, "tiny_vit", "full", effect=False, pretrained=False)
    layers = {name: m for name, m in network.named_modules() if isinstance(m, ConvBN)}
    assert all(layer.live for layer in layers.values())
    assert len(running_statistics(network)) == 2 * len(layers)
    stem, seen = layers["backbone.patch_embed.seq.0"], []
    stem.c.register_forward_hook(lambda module, args, out: seen.append(out.detach()))
    expected = nn.BatchNorm2d(stem.c.out_channels).train()
    found = stem(images_for())
    torch.testing.assert_close(found, expected(seen[-1]))
    torch.testing.assert_close(stem.bn.running_mean, expected.running_mean)
    torch.testing.assert_close(stem.bn.running_var, expected.running_var)
    take_step(network)
    fresh = network_of(tiny_plan, "tiny_vit", "full", effect=False, pretrained=False).eval()
    expected = network.eval()(images_for()).logits
    load_trainable_state(fresh, {k: v.clone() for k, v in trainable_state(network).items()})
    assert torch.equal(fresh(images_for()).logits, expected)
    statistics = running_statistics(network)
    before = {name: value.clone() for name, value in statistics.items()}
    network(images_for(1))
    assert all(torch.equal(value, before[name]) for name, value in statistics.items())


def test_batch_statistics_are_for_what_is_trained_from_scratch(tiny_plan):
    for kind in METHODS.keys() - {"full", *SAM_ONLY}:
        network = network_of(tiny_plan, "tiny_vit", kind, pretrained=False)
        assert not running_statistics(network), kind
    network = network_of(tiny_plan, "tiny_vit", "full", pretrained=False, blocks=1)
    first = network.backbone.split_at
    for index, step in enumerate(network.backbone.steps()):
        for layer in step.modules():
            assert not isinstance(layer, ConvBN) or layer.live == (index >= first)


# Recomputed, kept, in sixteen bits.


def gradients_of(network, run):
    """Return the gradients of a training step, all in one; the gate's noise is always the same."""
    network.zero_grad()
    torch.manual_seed(2)
    loss_of(network, run()).backward()
    found = [p.grad for p in network.parameters() if p.requires_grad]
    return torch.cat([value.flatten() for value in found])


@EACH
def test_what_is_recomputed_or_kept_of_the_prefix_makes_the_same_step(
    tiny_plan, backbone, kind, relative_error
):
    network = network_of(tiny_plan, backbone, kind)
    expected = gradients_of(network, lambda: network(images_for()))
    prefix = network.backbone.prefix(images_for())
    assert not prefix.requires_grad
    found = gradients_of(network, lambda: network.from_prefix(prefix))
    assert relative_error(found, expected) < 1e-5
    network.backbone.gradient_checkpointing = True
    assert relative_error(gradients_of(network, lambda: network(images_for())), expected) < 1e-5


@pytest.mark.parametrize("kind", [kind for kind in METHODS if kind != "none"])
def test_the_prefix_of_the_last_blocks_too(tiny_plan, kind, relative_error):
    network = network_of(tiny_plan, "tiny_sam", kind, blocks=1)
    prefix = network.backbone.prefix(images_for())
    expected = gradients_of(network, lambda: network(images_for()))
    assert (
        relative_error(gradients_of(network, lambda: network.from_prefix(prefix)), expected) < 1e-5
    )


@pytest.mark.parametrize(
    ("backbone", "kind"), [case for case in CASES if case[0] == "tiny_sam" or case[1] == "vpt"]
)
def test_bf16_autocast(tiny_plan, backbone, kind, relative_error):
    network = network_of(tiny_plan, backbone, kind).eval()
    expected = network(images_for())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network(images_for())
        assert relative_error(found.logits.float(), expected.logits) < 0.1
        output = network.train()(images_for())
        loss_of(network, output).backward()
    assert output.aux_losses.dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("kind", "options"),
    [(kind, {}) for kind in ("vpt", "ssf", "lst", "sam_adapter")]
    + [("lora", {"targets": ("q", "mlp")})]
    + [("conv_lora", {"gate": "sum"}), ("conv_lora", {"routing": "image", "identity": False})],
)
def test_no_step_asks_for_a_value(tiny_plan, kind, options, monkeypatch):
    """Tensors on "meta" have none: what would make a GPU wait is an error."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # Not on "meta".
    for backbone in ("tiny_sam", "tiny_vit") if kind == "vpt" else ("tiny_sam",):
        network = network_of(tiny_plan, backbone, kind, **options).to("meta")
        output = network(images_for().to("meta"))
        (output.logits.mean() + output.aux_losses).backward()
        assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


# Numbers of parameters.

DECODER = 3_505_536
WIDTHS = {"vit_b": [768] * 12, "vit_l": [1024] * 24, "vit_h": [1280] * 32}
TINY_VITS = {"lite_medsam": [128] * 2 + [160] * 6 + [320] * 2}
NECK = 256


def encoder_parameters(width, depth, windowed, grid=64, window=14, expand=4):
    """Return the parameters of SAM's encoder, added up by hand; the heads' width is 64 or 80."""
    heads = {768: 12, 1024: 16, 1280: 16}[width]
    block = 2 * 2 * width + (width + 1) * 3 * width + (width + 1) * width
    block += (width + 1) * expand * width + (expand * width + 1) * width
    positions = 2 * (2 * window - 1) * windowed + 2 * (2 * grid - 1) * (depth - windowed)
    patch = (3 * 16 * 16 + 1) * width + grid**2 * width
    neck = width * NECK + 2 * NECK + 9 * NECK**2 + 2 * NECK
    return depth * block + positions * (width // heads) + patch + neck


def side_parameters(width, depth, windowed, heads, reduction=8):
    """Return the parameters of the ladder beside an encoder at 64x64 tokens."""
    d = width // reduction
    block = 2 * 2 * d + (d + 1) * 3 * d + (d + 1) * d + (d + 1) * 4 * d + (4 * d + 1) * d
    positions = (2 * 27 * windowed + 2 * 127 * (depth - windowed)) * (d // heads)
    ends = (depth + 1) * (width + 1) * d + (d + 1) * width + 2 * d + depth
    return depth * block + positions + ends


def expected_parameters(backbone, kind, rank=3, prompts=12):
    widths = WIDTHS[backbone]
    width, depth = widths[0], len(widths)
    windowed = depth - 4
    by_block = {
        # norms, qkv, proj, the MLP's two: 1 + 1 + 3 + 1 + 4 + 1 times the width.
        "bitfit": 11 * width,
        "ssf": 2 * 11 * width,
        "adapter": 2 * (2 * width * rank + rank + width),
        "vpt": prompts * width,
    }
    if kind == "full":
        return encoder_parameters(width, depth, windowed)
    if kind == "lst":
        return side_parameters(width, depth, windowed, {768: 12}.get(width, 16))
    if kind == "sam_adapter":
        w = width // 32
        return (width + 1) * w + (768 + 1) * w + depth * (w + 1) * w + (w + 1) * width
    # Beside the blocks: the patch embedding's bias, and those of the neck's two norms; SSF scales
    # and shifts the neck's two convolutions as well.
    beside = {"bitfit": width + 2 * NECK, "ssf": 2 * (width + 4 * NECK)}
    return depth * by_block[kind] + beside.get(kind, 0)


def count_trained(plan):
    """Count what is trained of an encoder whose weights are never made."""
    with pytest.MonkeyPatch.context() as patch, torch.device("meta"):
        patch.setattr("easyseg.models.network.load_base", lambda *args, **kwargs: "no weights")
        for layer in (nn.Linear, nn.Conv2d):
            patch.setattr(layer, "reset_parameters", lambda self: None)
        network = build_network(plan, seed=0)
    decoder = sum(p.numel() for p in network.decoder.parameters() if p.requires_grad)
    assert decoder == DECODER
    return sum(p.numel() for p in network.backbone.parameters() if p.requires_grad)


@pytest.mark.parametrize("backbone", WIDTHS)
@pytest.mark.parametrize("kind", [k for k in METHODS if k not in ("none", "lora", "conv_lora")])
def test_number_of_trained_parameters(tiny_plan, backbone, kind):
    """Those of the other three are in ``test_network.py``."""
    plan = tiny_plan({"backbone.name": backbone, "data.size": 1024, "adapter.kind": kind})
    assert plan.adapter.num_prompts == 12
    assert count_trained(plan) == expected_parameters(backbone, kind)


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("bitfit", sum(11 * w for w in TINY_VITS["lite_medsam"])),
        ("adapter", sum(2 * (2 * w * 3 + 3 + w) for w in TINY_VITS["lite_medsam"])),
        ("vpt", sum(12 * w for w in TINY_VITS["lite_medsam"])),
        ("full", 5_726_740),
    ],
)
def test_number_of_trained_parameters_of_a_tiny_vit(tiny_plan, kind, count):
    """Biases of its blocks are 11 widths and those of the depthwise convolution's norm."""
    plan = tiny_plan({"backbone.name": "lite_medsam", "data.size": 256, "adapter.kind": kind})
    if kind == "bitfit":
        count += sum(TINY_VITS["lite_medsam"])
        stem, first_stage = 32 + 64, 2 * (256 + 256 + 64)
        merges, neck = 3 * (128 + 160 + 320), 2 * NECK
        count += stem + first_stage + merges + neck
    assert count_trained(plan) == count


@pytest.mark.parametrize(
    ("targets", "by_width"),
    [(("q",), 2), (("q", "v"), 3), (("proj",), 2), (("mlp",), 10), (EVERYWHERE, 16)],
)
def test_number_of_parameters_by_placement(tiny_plan, targets, by_width):
    plan = tiny_plan(
        {
            "backbone.name": "vit_b",
            "adapter.kind": "lora",
            "adapter.rank": 2,
            "adapter.targets": targets,
        }
    )
    assert count_trained(plan) == 12 * 2 * by_width * 768


def test_layers_in_the_place_of_others_are_no_low_rank_ones(tiny_plan):
    for kind in ("adapter", "ssf", "vpt", "bitfit"):
        network = network_of(tiny_plan, "tiny_vit", kind)
        assert not any(isinstance(module, LoRALinear) for module in network.modules())
