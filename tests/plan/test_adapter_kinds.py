"""What a plan says of each way to adapt an encoder, before anything is built."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from plan_makers import CPU, H200, facts, plan_for

from easyseg.errors import OptionError
from easyseg.models import registry
from easyseg.models.adapters.methods import METHODS
from easyseg.models.network import build_encoder, build_network
from easyseg.models.registry import get_spec
from easyseg.plan.adapter_choices import PROMPTS_PER_RANK, REDUCTION, SMALL_BACKBONE_RANK
from easyseg.plan.adapter_kinds import KINDS
from easyseg.plan.costs import Costs
from easyseg.plan.memory import ENCODER_PARAMETERS, KEPT, ON_CUDA_WITH_BF16, images_that_fit
from easyseg.plan.optimizer_choices import PRETRAINED_DECODER_LR, PRETRAINED_ENCODER_LR
from easyseg.plan.presets import load_preset

ADAPTER_KEYS = [
    "rank",
    "num_experts",
    "scales",
    "alpha",
    "gate",
    "routing",
    "identity",
    "targets",
    "lora_targets",
    "num_prompts",
    "reduction",
    "blocks",
]


def of_kind(kind, hardware=CPU, **options):
    overrides = {"adapter.kind": kind} | options.pop("overrides", {})
    if KINDS[kind].families == ("sam_vit",):
        overrides = {"backbone.name": "vit_b"} | overrides
    return plan_for(hardware=hardware, overrides=overrides, **options)


def test_what_the_user_sets_is_shown_even_without_effect(tiny_plan):
    plan = tiny_plan({"adapter.kind": "lora", "adapter.num_experts": 3})
    assert "without effect" in plan.reasons["adapter.scales"]
    shown = [line.split()[0] for line in str(plan).splitlines()]
    assert "adapter.num_experts" in shown
    assert "adapter.scales" not in shown


def test_each_kind_that_can_be_planned_can_be_built():
    assert KINDS.keys() == METHODS.keys()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("preset", ["balanced", "paper"])
def test_a_key_without_effect_says_so(kind, preset):
    plan = of_kind(kind, presets=preset)
    for key in ADAPTER_KEYS:
        silent = f"without effect on adapter {kind!r}" in plan.reasons[f"adapter.{key}"]
        assert silent == (key not in KINDS[kind].uses), key
    silent = "without effect" in plan.reasons["loss.balance_weight"]
    assert silent == (kind != "conv_lora")


def test_experts_that_are_summed_have_nothing_to_balance():
    plan = plan_for(overrides={"adapter.gate": "sum"})
    for key in ("adapter.routing", "loss.balance_weight"):
        assert "without effect on experts that are summed" in plan.reasons[key]
    assert "without effect" not in plan.reasons["adapter.num_experts"]
    assert "adapter.num_experts" in str(plan)
    assert not {
        key
        for key, reason in plan.reasons.items()
        if "without effect" in reason and f"\n{key} " in str(plan)
    }


@pytest.mark.parametrize("kind", ["lst", "sam_adapter"])
@pytest.mark.parametrize("backbone", ["lite_medsam", "mobile_sam"])
def test_what_does_not_fit_a_tiny_vit_is_refused_with_the_reason(kind, backbone):
    message = rf"'{kind}' does not go with .*'{backbone}': its .* TinyViT's change.*'vit_b'"
    with pytest.raises(OptionError, match=message):
        plan_for(overrides={"adapter.kind": kind, "backbone.name": backbone})


@pytest.mark.parametrize("kind", KINDS)
def test_auto_takes_a_backbone_that_the_kind_fits(kind):
    plan = plan_for(
        hardware=H200,
        obtainable=("mobile_sam", "vit_b"),
        presets="best",
        overrides={"adapter.kind": kind},
    )
    assert plan.backbone.name == "vit_b"
    small = replace(H200, memory_gb=6.0)
    options = {"hardware": small, "obtainable": ("mobile_sam",), "presets": "best"}
    if "tiny_vit" in KINDS[kind].families:
        plan = plan_for(**options, overrides={"adapter.kind": kind, "data.size": 512})
        assert plan.backbone.name == "mobile_sam"
    else:
        with pytest.raises(OptionError, match=r"Use backbone\.name = .*'vit_b'"):
            plan_for(**options, overrides={"adapter.kind": kind, "data.size": 512})


@pytest.mark.parametrize(
    ("kind", "backbone", "possible"),
    [("lst", "vit_b", (1, 2, 4, 8, 16, 32, 64)), ("lst", "vit_h", (1, 2, 4, 5, 8))],
)
def test_narrow_features_are_whole(kind, backbone, possible):
    """A side block of vit_b has 12 heads, of vit_h 16."""
    for reduction in range(1, 9):
        overrides = {"backbone.name": backbone, "adapter.reduction": reduction}
        if reduction in possible:
            assert of_kind(kind, overrides=overrides).adapter.reduction == reduction
        else:
            with pytest.raises(OptionError, match=rf"reduction = {reduction} does not divide"):
                of_kind(kind, overrides=overrides)
    with pytest.raises(OptionError, match="7 does not divide the 768 channels of vit_b: use one"):
        of_kind("sam_adapter", overrides={"adapter.reduction": 7})
    # Where it means nothing it may be anything.
    assert of_kind("lora", overrides={"adapter.reduction": 7}).adapter.reduction == 7


def test_sizes_are_those_of_the_authors_or_of_lora():
    for kind, reduction in REDUCTION.items():
        assert of_kind(kind).adapter.reduction == reduction
    plan = of_kind("vpt", overrides={"adapter.rank": 6})
    assert plan.adapter.num_prompts == PROMPTS_PER_RANK * 6
    assert "LoRA of rank 6" in plan.reasons["adapter.num_prompts"]


@pytest.mark.parametrize("value", [[], "qkv", ["q", "w"], ["query"], None, [1]])
def test_targets_that_are_none(value):
    with pytest.raises(OptionError, match=r"adapter\.targets = .* at least one of 'q', 'k', 'v'"):
        plan_for(overrides={"adapter.targets": value})


def test_targets_come_in_their_order_and_once():
    plan = plan_for(overrides={"adapter.targets": ["mlp", "v", "q", "v"]})
    assert plan.adapter.targets == ("q", "v", "mlp")
    assert plan_for().adapter.targets == ("q", "k", "v")


def test_only_low_rank_paths_of_small_backbones_are_wider_than_the_preset_s():
    for preset in ("fast", "balanced", "best"):
        usual = load_preset(preset)["budget"]["cpu"]["rank"]
        for kind in ("lora", "conv_lora", "adapter", "vpt"):
            for backbone in ("lite_medsam", "mobile_sam", "vit_b"):
                wide = "lora" in kind and backbone != "vit_b"
                plan = of_kind(kind, presets=preset, overrides={"backbone.name": backbone})
                assert plan.adapter.rank == (SMALL_BACKBONE_RANK if wide else usual)


def test_lora_goes_where_a_small_backbone_has_no_other_path():
    """In a TinyViT: SAM's ViTs are adapted as in the paper, and other choices are left alone."""
    others = ("proj", "mlp")
    for backbone, expected in (("lite_medsam", others), ("mobile_sam", others), ("vit_b", ())):
        overrides = {"backbone.name": backbone}
        assert plan_for(overrides=overrides).adapter.lora_targets == expected
        for targets, left in ((["q", "v"], ()), (["q", "k", "v", "proj"], expected[1:])):
            named = plan_for(overrides=overrides | {"adapter.targets": targets})
            assert named.adapter.lora_targets == left


def test_a_layer_has_one_low_rank_path():
    overrides = {"adapter.targets": ["q", "mlp"], "adapter.lora_targets": ["proj", "mlp"]}
    with pytest.raises(OptionError, match="both name 'mlp': name a layer in one of them"):
        plan_for(overrides=overrides)
    # Where it means nothing it may be anything.
    plan_for(overrides=overrides | {"adapter.kind": "bitfit"})


@pytest.mark.parametrize("value", ["mlp", ["q"], None, [1]])
def test_lora_targets_that_are_none(value):
    with pytest.raises(OptionError, match=r"adapter\.lora_targets = .* of 'proj', 'mlp'"):
        plan_for(overrides={"adapter.lora_targets": value})


@pytest.mark.parametrize("kind", KINDS)
def test_pretrained_weights_take_smaller_steps_than_new_ones(kind):
    """At rank 4 all methods have the rate of Conv-LoRA but full fine-tuning."""
    rate = plan_for().optim.lr
    plan = of_kind(kind)
    if kind == "full":
        assert plan.optim.lr == pytest.approx(PRETRAINED_ENCODER_LR * rate, rel=0.05)
        assert "the whole encoder is pretrained" in plan.reasons["optim.lr"]
        decoder = plan.optim.lr * plan.optim.decoder_lr
        assert decoder == pytest.approx(PRETRAINED_DECODER_LR * rate, rel=0.05)
    else:
        assert plan.optim.lr == rate
    scratch = of_kind(kind, overrides={"backbone.weights": "random"})
    assert (scratch.optim.lr, scratch.optim.decoder_lr) == (rate, 1.0)


def test_ranks_lower_the_rate_of_paths_that_add_up_only():
    rates = {
        kind: [of_kind(kind, overrides={"adapter.rank": rank}).optim.lr for rank in (16, 64)]
        for kind in ("lora", "adapter", "bitfit")
    }
    assert rates["lora"][1] == pytest.approx(rates["lora"][0] / 2, rel=0.05)
    assert len({*rates["adapter"], *rates["bitfit"]}) == 1


@pytest.mark.parametrize(
    ("kind", "blocks", "cached", "word"),
    [
        ("bitfit", "all", False, "adapters in all blocks"),
        ("vpt", 2, True, "% of the blocks are frozen"),
        ("full", "all", False, "all of the encoder is trained"),
        ("full", 2, True, "% of the blocks are frozen"),
        ("lst", "all", False, "too much"),
        ("sam_adapter", 2, False, "looks at the image itself"),
    ],
)
def test_features_are_kept_where_they_can_be(kind, blocks, cached, word):
    values = {"train.epochs": 8, "data.augment": ["hflip"], "adapter.blocks": blocks}
    plan = of_kind(kind, overrides=values)
    assert plan.train.prefix_cache is cached
    assert word in plan.reasons["train.prefix_cache"]


def test_what_a_limit_lets_come_again_decides_on_keeping_not_the_planned_epochs():
    values = {"data.augment": [], "adapter.blocks": 2, "train.epochs": 8, "train.batch_size": 1}
    for seconds, times, cached in ((50.0, 0.8, False), (128.0, 2.0, True)):
        paid = Costs(step=1.0, image=0.0, build=0.0, before=0.0, memory_gb=None)
        plan = plan_for(facts(count=64), overrides=values, time_limit=seconds, costs=paid)
        assert plan.train.prefix_cache is cached
        again = max(0.0, 1 - 1 / times)
        assert f"{again:.0%} of the images were seen before" in plan.reasons["train.prefix_cache"]
        assert (plan.estimate is None) is cached  # No step with kept features was timed.


def test_what_cannot_be_kept_or_recomputed_is_refused():
    with pytest.raises(OptionError, match="looks at the images themselves"):
        of_kind("sam_adapter", overrides={"train.prefix_cache": True})
    assert of_kind("lst", overrides={"train.prefix_cache": True}).train.prefix_cache
    scratch = {"backbone.weights": "random", "train.gradient_checkpointing": True}
    with pytest.raises(OptionError, match=r"count twice in its batch normalisation.*micro_batch"):
        of_kind("full", overrides=scratch)
    for overrides in (
        scratch | {"backbone.name": "vit_b"},
        scratch | {"backbone.weights": "pretrained"},
    ):
        assert of_kind("full", overrides=overrides).train.gradient_checkpointing
    tiny = replace(CPU, memory_gb=3.0)
    plan = of_kind("full", tiny, overrides={"backbone.weights": "random", "data.size": 256})
    assert not plan.train.gradient_checkpointing
    assert "count twice" in plan.reasons["train.gradient_checkpointing"]


# Memory.


@pytest.mark.parametrize("name", ENCODER_PARAMETERS)
def test_encoders_have_the_parameters_that_are_stated(name):
    spec = get_spec(name)
    with torch.device("meta"):
        encoder = build_encoder(spec, (spec.default_size, spec.default_size))
    assert sum(p.numel() for p in encoder.parameters()) == ENCODER_PARAMETERS[name]


def kept_bytes(plan):
    """Return what autograd keeps of a forward pass; nothing is computed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("easyseg.models.network.load_base", lambda *args, **kwargs: "no weights")
        patch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # Not on "meta".
        with torch.device("meta"):
            network = build_network(plan, seed=0)
        network.to("meta")
        weights = [*network.parameters(), *network.buffers()]
        seen = {value.untyped_storage()._cdata: None for value in weights}
        total = 0

        def keep(value):
            nonlocal total
            storage = value.untyped_storage()
            if storage._cdata not in seen:
                seen[storage._cdata] = storage
                total += storage.nbytes()
            return value

        size = plan.data.size
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            network(torch.empty(1, 3, size, size, device="meta"))
    return total


@pytest.mark.parametrize(("backbone", "size"), [("vit_b", 1024), ("lite_medsam", 256)])
def test_what_is_kept_is_what_is_stated(backbone, size, monkeypatch):
    """Three blocks of vit_b stand for twelve: one in three is global."""
    spec = get_spec(backbone)
    if spec.family == "sam_vit":
        arch = {**spec.arch, "depth": 3, "global_blocks": (2,)}
        monkeypatch.setitem(registry._SPECS, backbone, replace(spec, arch=arch, num_blocks=3))
    overrides = {"backbone.name": backbone, "data.size": size}
    kept = {
        kind: kept_bytes(plan_for(facts(), H200, overrides=overrides | {"adapter.kind": kind}))
        for kind in ("conv_lora", "ssf", "full", "vpt" if spec.family == "sam_vit" else "bitfit")
    }
    for kind, found in kept.items():
        share = found / kept["conv_lora"]
        assert share == pytest.approx(KEPT[spec.family].get(kind, 1.0), rel=0.1), kind


def test_a_trained_encoder_takes_more_memory():
    options = {"mixed": True, "num_masks": 1}
    hardware = replace(H200, memory_gb=80.0)
    fit = {
        kind: images_that_fit(hardware, "vit_h", 1024, kind=kind, **options)
        for kind in ("conv_lora", "full")
    }
    state = 16 * ENCODER_PARAMETERS["vit_h"] / 1e9
    beyond = 6 * (ENCODER_PARAMETERS["vit_h"] - ENCODER_PARAMETERS["vit_b"]) / 1e9
    expected = (80 * 0.85 - 1.5 - beyond - state) / (
        15 * ON_CUDA_WITH_BF16 * KEPT["sam_vit"]["full"]
    )
    assert fit["full"] == pytest.approx(expected)
    assert fit["full"] < fit["conv_lora"] == images_that_fit(hardware, "vit_h", 1024, **options)
