from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from omegaconf import OmegaConf
from plan_makers import CPU, H200, facts, plan_for

from easyseg.errors import OptionError
from easyseg.plan.choices import CHOICES
from easyseg.plan.decisions import check_request
from easyseg.plan.domains import DOMAINS, flatten
from easyseg.plan.presets import list_presets, load_preset


def multiclass(**options):
    names = ("soil", "crop", "weed")
    return plan_for(facts(names=names), problem_type="multiclass", num_classes=3, **options)


def test_defaults_on_a_cpu():
    plan = plan_for()
    assert plan.preset == "balanced"
    assert (plan.backbone.name, plan.backbone.prompt) == ("lite_medsam", "box")
    assert plan.adapter.kind == "conv_lora"
    assert plan.adapter.scales == tuple(range(1, plan.adapter.num_experts + 1))
    assert (plan.head.kind, plan.loss.kind, plan.loss.balance_weight) == ("binary", "structure", 1)
    assert plan.metric == "iou@image"
    assert plan.train.precision == "bf16"
    assert plan.train.micro_batch_size == plan.train.batch_size
    assert plan.train.max_steps == -1
    assert not plan.train.gradient_checkpointing


def test_several_classes_get_their_own_head_loss_weight_and_metric():
    plan = multiclass()
    assert (plan.head.kind, plan.loss.kind, plan.loss.balance_weight) == ("softmax", "ce_dice", 2)
    assert (plan.num_classes, plan.metric) == (3, "miou@dataset")


def test_every_value_has_a_reason():
    for plan in (plan_for(), multiclass(), plan_for(hardware=H200, overrides={"optim.lr": 1e-3})):
        assert plan.reasons.keys() == plan.values().keys()
        assert all(plan.reasons.values())


def test_decide_is_pure():
    overrides = {"adapter": {"rank": 2}, "train.epochs": 5}
    before = copy.deepcopy(overrides)
    assert plan_for(overrides=overrides) == plan_for(overrides=overrides)
    assert overrides == before


def test_presets_really_differ_on_a_cpu():
    fast, balanced, best = (plan_for(presets=name) for name in ("fast", "balanced", "best"))
    samples = [plan.train.epochs * 64 for plan in (fast, balanced, best)]
    assert samples == sorted(set(samples))
    patience = [plan.train.patience for plan in (fast, balanced, best)]
    assert patience == sorted(set(patience))
    vit_b = {"backbone.name": "vit_b"}
    ranks = [
        plan_for(presets=name, overrides=vit_b).adapter.rank
        for name in ("fast", "balanced", "best")
    ]
    assert ranks == sorted(set(ranks))
    assert fast.adapter.num_experts < best.adapter.num_experts
    assert fast.data.size <= balanced.data.size < best.data.size
    assert fast.reasons["preset"].startswith("set by you")


def test_sizes_below_the_full_one_fill_the_windows():
    sides = [plan_for(presets=name).data.size for name in ("fast", "balanced", "best")]
    assert sides == [112, 112, 224]
    assert "multiples of 56 fill its windows" in plan_for().reasons["data.size"]
    named = {"backbone.name": "vit_b", "backbone.weights": "random"}
    assert plan_for(presets="fast", overrides=named).data.size == 448


def test_presets_really_differ_on_a_gpu():
    plans = [plan_for(hardware=H200, presets=name) for name in ("fast", "balanced", "best")]
    epochs = [plan.train.epochs for plan in plans]
    assert epochs == sorted(set(epochs))
    assert epochs[1] == 30
    assert plans[0].data.size == plans[1].data.size == 256
    vit_b = {"backbone.name": "vit_b", "backbone.weights": "random"}
    large = [
        plan_for(hardware=H200, presets=name, overrides=vit_b) for name in ("fast", "balanced")
    ]
    assert large[0].data.size < large[1].data.size == 1024


@pytest.mark.parametrize(
    ("fingerprint", "hardware", "time_limit", "preset", "word"),
    [
        (facts(), CPU, None, "balanced", "CPU"),
        (facts(), CPU, 60, "fast", "60 s"),
        (facts(), CPU, 3600, "balanced", "CPU"),
        (facts(2000, 200), CPU, None, "fast", "2000 images"),
        (facts(900, 4000), CPU, None, "fast", "megapixels"),
        (facts(), H200, None, "best", "H200"),
        (facts(2000), H200, 3600, "balanced", "2000 images"),
        (facts(), H200, 60, "fast", "60 s"),
        (facts(), H200, 900, "balanced", "900 s"),
        (facts(50_000), H200, None, "fast", "50000 images"),
    ],
)
def test_auto_looks_at_device_time_number_and_size(fingerprint, hardware, time_limit, preset, word):
    plan = plan_for(fingerprint, hardware, time_limit=time_limit)
    assert plan.preset == preset
    assert word in plan.reasons["preset"]


@pytest.mark.parametrize("count", [1, 10, 64, 500, 5000])
def test_epochs_spend_the_samples_within_bounds(count):
    from easyseg.plan.presets import load_preset

    budget = load_preset("balanced")["budget"]["cpu"]
    plan = plan_for(facts(count), presets="balanced")
    wanted = round(budget["samples"] / count)
    assert plan.train.epochs == min(max(wanted, budget["min_epochs"]), budget["max_epochs"])
    kept = wanted != plan.train.epochs
    assert kept == ("kept within" in plan.reasons["train.epochs"])


def test_a_time_limit_is_said_with_the_epochs():
    assert "300 s" in plan_for(time_limit=300).reasons["train.epochs"]


@pytest.mark.parametrize(
    ("changes", "share"),
    [
        ({}, 0.3),
        ({"adapter.kind": "none"}, 1.0),
        ({"backbone.prompt": "none"}, 1.0),
        ({"backbone.weights": "random"}, 1.0),
        ({"backbone.name": "vit_b"}, 1.0),
        ({"optim.decoder_lr": 0.5}, 0.5),
    ],
)
def test_a_decoder_that_is_good_from_the_start_takes_smaller_steps(changes, share):
    assert plan_for(overrides=changes).optim.decoder_lr == share


def test_fewer_samples_where_a_cpu_has_no_bf16():
    fast, slow = (
        plan_for(facts(50), hardware=replace(CPU, native_bf16=bf16), presets="balanced")
        for bf16 in (True, False)
    )
    assert (fast.train.epochs, slow.train.epochs) == (20, 15)
    assert "750 samples in all on a CPU in float32" in slow.reasons["train.epochs"]


def test_epochs_reach_the_steps_that_were_set():
    plan = plan_for(facts(10), overrides={"train.max_steps": 100})
    assert (plan.train.batch_size, plan.train.epochs) == (2, 20)


def test_vit_b_is_taken_when_named_only():
    plan = plan_for(overrides={"backbone.name": "vit_b", "backbone.weights": "random"})
    assert (plan.backbone.prompt, plan.backbone.weights) == ("none", "random")
    assert plan.data.size % 16 == 0
    assert "vit_b" in plan_for().reasons["backbone.name"]


def test_memory_decides_how_the_batch_is_made():
    big = {"backbone.name": "vit_b", "data.size": 1024, "train.batch_size": 4}
    roomy = plan_for(hardware=H200, overrides=big)
    assert roomy.train.micro_batch_size == 4
    tight = plan_for(hardware=replace(CPU, memory_gb=17.0), overrides=big)
    assert (tight.train.micro_batch_size, tight.train.accumulation()) == (2, 2)
    assert "added up" in tight.reasons["train.micro_batch_size"]
    small = plan_for(hardware=replace(CPU, memory_gb=4.0), overrides=big)
    assert small.train.micro_batch_size == 1
    assert small.train.gradient_checkpointing
    assert small.train.batch_size == 4


def test_a_batch_of_one_image_that_does_not_fit_is_not_said_to_fit():
    one = {"backbone.name": "vit_b", "data.size": 1024, "train.batch_size": 1}
    plan = plan_for(hardware=replace(CPU, memory_gb=4.0), overrides=one)
    assert plan.train.micro_batch_size == 1
    assert plan.train.gradient_checkpointing
    assert plan.reasons["train.micro_batch_size"].startswith("4 GB take about 0.")


def test_a_backbone_must_fit_in_the_precision_that_was_set():
    first = {}
    for precision in ("32", "bf16"):
        for memory in range(4, 60):
            plan = plan_for(
                hardware=replace(H200, memory_gb=float(memory)),
                presets="best",
                obtainable=("vit_l", "vit_b"),
                overrides={"train.precision": precision},
            )
            if plan.backbone.name == "vit_l":
                assert not plan.train.gradient_checkpointing
                first.setdefault(precision, memory)
    assert first["bf16"] < first["32"]


@pytest.mark.parametrize(("passes", "batch"), [(1, 2), (2, 2), (4, 4), (3, 3)])
def test_the_batch_is_made_of_passes_of_the_size_that_the_user_set(passes, batch):
    plan = plan_for(overrides={"train.micro_batch_size": passes})
    assert (plan.train.batch_size, plan.train.micro_batch_size) == (batch, passes)
    named = f"whole passes of the {passes} images you set"
    assert (plan.reasons["train.batch_size"] == named) == (batch > 2)


def test_devices_share_the_batch():
    two = plan_for(hardware=replace(CPU, devices=2))
    assert (two.train.batch_size, two.train.micro_batch_size) == (2, 1)
    assert two.train.accumulation(2) == 1
    eight = plan_for(hardware=replace(H200, devices=8))
    assert (eight.train.batch_size, eight.train.micro_batch_size) == (8, 1)
    with pytest.raises(OptionError, match="multiple of 2"):
        plan_for(hardware=replace(CPU, devices=2), overrides={"train.batch_size": 3})


def test_nodes_share_the_batch_too():
    machine = replace(H200, devices=2, num_nodes=4)
    plan = plan_for(hardware=machine)
    assert (plan.train.batch_size, plan.train.micro_batch_size) == (8, 1)
    assert plan.train.accumulation(machine.processes) == 1
    with pytest.raises(OptionError, match="multiple of 8"):
        plan_for(hardware=machine, overrides={"train.batch_size": 4})
    with pytest.raises(OptionError, match="on 16 devices"):
        plan.train.accumulation(16)


def test_batch_normalisation_that_learns_sees_more_than_one_image():
    assert plan_for(presets="fast").train.batch_size == 1
    scratch = {"adapter.kind": "full", "backbone.weights": "random"}
    plan = plan_for(presets="fast", overrides=scratch)
    assert (plan.train.batch_size, plan.train.micro_batch_size) == (2, 2)
    assert "not from one" in plan.reasons["train.batch_size"]
    assert plan_for(facts(1), presets="fast", overrides=scratch).train.batch_size == 1


def test_a_batch_is_never_larger_than_the_data():
    assert plan_for(facts(3), hardware=H200).train.batch_size == 3


def test_without_native_bf16_it_is_float32():
    plan = plan_for(hardware=replace(CPU, native_bf16=False))
    assert plan.train.precision == "32"
    assert "Xeon" in plan.reasons["train.precision"]


def test_a_gpu_without_native_bf16_takes_fp16_where_tensor_cores_multiply_it():
    t4 = replace(H200, device_name="Tesla T4", native_bf16=False, tensor_fp16=True)
    plan = plan_for(hardware=t4)
    assert plan.train.precision == "fp16"
    assert "Tesla T4 has no bf16 in hardware, but tensor cores" in plan.reasons["train.precision"]
    assert plan_for(hardware=replace(t4, tensor_fp16=False)).train.precision == "32"
    assert plan_for(hardware=replace(t4, native_bf16=True)).train.precision == "bf16"


def test_a_small_network_gets_its_full_size_on_a_gpu():
    plan = plan_for(hardware=H200, presets="fast", overrides={"backbone.name": "lite_medsam"})
    assert plan.data.size == 256
    assert "little longer than at the preset's 112" in plan.reasons["data.size"]
    small = replace(H200, memory_gb=8.0)
    for other, size, overrides in (
        (replace(H200, accelerator="mps"), 112, {}),
        (replace(H200, memory_gb=6.0), 112, {}),
        (small, 256, {}),
        (small, 112, {"train.precision": "32"}),
        (small, 112, {"train.batch_size": 8}),
    ):
        named = {"backbone.name": "lite_medsam"} | overrides
        assert plan_for(hardware=other, presets="fast", overrides=named).data.size == size


@pytest.mark.parametrize(
    "overrides",
    [
        {"adapter.rank": 6, "data.augment": []},
        {"adapter": {"rank": 6}, "data": {"augment": []}},
        OmegaConf.create({"adapter": {"rank": 6}, "data": {"augment": []}}),
    ],
)
def test_overrides_win_and_are_recorded(overrides):
    plan = plan_for(overrides=overrides)
    assert (plan.adapter.rank, plan.data.augment) == (6, ())
    assert plan.reasons["adapter.rank"] == "set by you"
    assert plan.reasons["adapter.gate"].startswith("preset balanced: ")


@pytest.mark.parametrize("name", list_presets())
def test_a_preset_says_why_for_each_of_its_values_and_nothing_else(name):
    content = load_preset(name)
    parts = [content["plan"], *content["variants"].values()]
    said = [{key for key, value in flatten(part).items() if value != "auto"} for part in parts]
    assert content["because"].keys() == set().union(*said)
    plan = plan_for(presets=name)
    for key in said[0]:
        assert plan.reasons[key].startswith(f"preset {name}: {content['because'][key]}")
    assert len(set(content["because"].values())) > 1


@pytest.mark.parametrize(("name", "patience"), [("fast", 5), ("balanced", 8), ("best", 12)])
def test_the_more_a_preset_takes_the_longer_it_waits(name, patience):
    assert plan_for(presets=name).train.patience == patience


@pytest.mark.parametrize("key", sorted(DOMAINS.keys() - {"loss.class_weights"}))
def test_auto_as_an_override_leaves_the_decision_open(key):
    if key in CHOICES:
        assert plan_for(overrides={key: "auto"}) == plan_for()
        return
    with pytest.raises(OptionError, match=f"{key} = 'auto' is not possible"):
        check_request("paper", {key: "auto"})


def test_a_random_encoder_that_stays_random_is_said():
    told = "leaves the encoder random"
    assert told in plan_for(overrides={"backbone.weights": "random"}).reasons["backbone.weights"]
    scratch = {"backbone.weights": "random", "adapter.kind": "full"}
    assert told not in plan_for(overrides=scratch).reasons["backbone.weights"]
    assert told not in plan_for().reasons["backbone.weights"]


@pytest.mark.parametrize("native", [True, False])
def test_bf16_in_software_is_said(native):
    machine = replace(CPU, native_bf16=native)
    asked = plan_for(hardware=machine, overrides={"train.precision": "bf16"})
    assert asked.train.precision == "bf16"
    assert ("no bf16 in hardware" in asked.reasons["train.precision"]) == (not native)


def test_the_classes_are_told_with_their_shares():
    shares = {"soil": 0.9, "crop": 0.0995, "weed": 0.0005}
    found = replace(facts(names=tuple(shares)), class_shares=shares)
    options = {"problem_type": "multiclass", "num_classes": 3}
    plan = plan_for(found, **options)
    told = "soil 90.0%, crop 9.9%, weed under 0.1% of the pixels; none is ignored"
    assert plan.reasons["num_classes"] in (told, told.replace("9.9%", "10.0%"))
    void = plan_for(replace(found, ignored_share=0.031), **options)
    assert void.reasons["num_classes"].endswith("; 3.1% of all are ignored")


def test_overrides_take_others_along():
    assert plan_for(overrides={"adapter.num_experts": 3}).adapter.scales == (1, 2, 3)
    plan = plan_for(overrides={"adapter.scales": [2, 4]})
    assert plan.adapter.num_experts == 2
    assert "scales you set" in plan.reasons["adapter.num_experts"]
    plan = plan_for(overrides={"loss.kind": "ce_dice"})
    assert (plan.head.kind, plan.loss.kind) == ("softmax", "ce_dice")
    assert plan_for(overrides={"head.kind": "softmax"}).loss.kind == "ce_dice"
    for make, classes in ((plan_for, 2), (multiclass, 3)):
        for overrides in ({"head.kind": "mask_classification"}, {"loss.kind": "mask2former"}):
            plan = make(overrides=overrides)
            assert (plan.head.kind, plan.loss.kind) == ("mask_classification", "mask2former")
            assert plan.head.num_tokens == classes


def test_a_loss_of_several_heads_takes_the_one_of_the_problem():
    for loss in ("balanced_bce", "focal"):
        plan = plan_for(overrides={"loss.kind": loss})
        assert (plan.head.kind, plan.head.num_tokens, plan.loss.kind) == ("binary", 1, loss)
    plan = multiclass(overrides={"loss.kind": "focal"})
    assert (plan.head.kind, plan.head.num_tokens, plan.loss.kind) == ("softmax", 3, "focal")


def test_tokens_may_outnumber_the_classes():
    overrides = {"head.kind": "mask_classification", "head.num_tokens": 7}
    assert multiclass(overrides=overrides).head.num_tokens == 7


def test_many_classes_leave_less_room():
    many = facts(names=tuple(f"class {i}" for i in range(150)))
    hardware, overrides = replace(H200, memory_gb=24.0), {"backbone.name": "vit_b"}
    few = multiclass(hardware=hardware, overrides=overrides)
    assert (few.data.size, few.train.micro_batch_size) == (1024, 4)
    plan = plan_for(many, hardware, overrides=overrides, problem_type="multiclass", num_classes=150)
    assert plan.train.micro_batch_size == 2
    overrides |= {"head.kind": "mask_classification", "head.num_tokens": 150}
    assert multiclass(hardware=hardware, overrides=overrides).train.micro_batch_size == 2


def with_shares(*shares):
    names = ("soil", "crop", "weed")
    return replace(facts(names=names), class_shares=dict(zip(names, shares, strict=True)))


def test_rare_classes_weigh_more_by_default():
    options = {"problem_type": "multiclass", "num_classes": 3}
    plan = plan_for(with_shares(0.9, 0.1, 0.0), **options)
    # 1 / ln(1.1 + share): 1.443, 5.485, 10.492; their mean is 5.807.
    assert plan.loss.class_weights == pytest.approx((0.248, 0.945, 1.807), abs=1e-3)
    assert sum(plan.loss.class_weights) / 3 == pytest.approx(1, abs=1e-3)
    for words in ("ln(1.1 + share", "soil (90.0%", "weed (0.0%)"):
        assert words in plan.reasons["loss.class_weights"]
    focal = plan_for(with_shares(0.9, 0.1, 0), overrides={"loss.kind": "focal"}, **options)
    assert focal.loss.class_weights == plan.loss.class_weights
    auto = {"loss.class_weights": "auto"}
    for overrides in ({}, {"head.kind": "mask_classification"}, auto):
        plan = plan_for(overrides=overrides)
        assert plan.loss.class_weights == "none"
        assert "does not weigh classes" in plan.reasons["loss.class_weights"]
    plan = plan_for(overrides=auto | {"loss.kind": "focal"})
    assert plan.loss.class_weights == "none"
    assert "binary" in plan.reasons["loss.class_weights"]


def test_class_weights_can_be_set():
    plan = multiclass(overrides={"loss.class_weights": [1, 2, 3.5]})
    assert plan.loss.class_weights == (1.0, 2.0, 3.5)
    assert plan.reasons["loss.class_weights"] == "set by you"
    off = multiclass(overrides={"loss.class_weights": "none"})
    assert off.loss.class_weights == "none"


def test_what_has_no_effect_is_said():
    plan = plan_for(overrides={"adapter.kind": "lora", "adapter.num_experts": 2})
    assert "without effect" in plan.reasons["adapter.num_experts"]
    assert "without effect" not in plan.reasons["adapter.rank"]
    for overrides, geometry in (({}, "squash"), ({"data.geometry": "letterbox"}, "letterbox")):
        reason = plan_for(overrides=overrides).reasons["data.scale"]
        assert reason.endswith(f"without effect on geometry '{geometry}'")


def test_tiles_are_taken_when_asked_for_at_the_scale_of_the_images():
    plan = plan_for(overrides={"data.geometry": "tile"})
    assert (plan.data.geometry, plan.data.scale) == ("tile", 1.0)
    assert plan.reasons["data.scale"] == "the images' own pixels"
    plan = plan_for(overrides={"data.geometry": "tile", "data.scale": 0.5})
    assert (plan.data.scale, plan.reasons["data.scale"]) == (0.5, "set by you")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"adapter.rnak": 8}, "Did you mean 'adapter.rank'"),
        ({"adapter": {"rank": {"deep": 1}}}, "unknown key"),
        ({"metric": "iou@image"}, "eval_metric"),
        ({"adapter.rank": "8"}, "whole number"),
        ({"adapter.num_experts": 3, "adapter.scales": [1, 2]}, "one scale an expert"),
        ({"backbone.name": "vitb"}, "Did you mean 'vit_b'"),
        ({"backbone.name": "vit_b", "data.size": 200}, "192 or 208"),
        ({"data.size": 108}, "below the 112 that lite_medsam needs"),
        ({"adapter.blocks": 99}, "at most 10"),
        ({"head.kind": "softmax", "loss.kind": "structure"}, "use 'ce_dice' or 'focal'"),
        ({"head.kind": "softmax", "loss.kind": "balanced_bce"}, "does not go with"),
        (
            {"head.kind": "mask_classification", "loss.kind": "focal"},
            "use 'mask2former', or head.kind = 'binary' or 'softmax'",
        ),
        ({"head.kind": "mask_classification", "head.num_tokens": 1}, "at least 2"),
        ({"head.num_tokens": 4}, "'binary' has 1: leave it out, or use .*mask_classification"),
        ({"loss.class_weights": [1, 2]}, "'structure' does not weigh classes"),
        ({"loss.kind": "focal", "loss.class_weights": [1, 2, 3]}, "3 entries for 2 classes"),
        ({"data.geometry": "tile", "data.scale": 0.04}, "600x600 px 24x24 px.*larger scale"),
        ({"train.precision": "fp16"}, "needs a GPU"),
        ({"train.batch_size": 4, "train.micro_batch_size": 3}, "multiple of 3"),
    ],
)
def test_wrong_overrides_are_refused_with_a_way_out(overrides, message):
    with pytest.raises(OptionError, match=message):
        plan_for(overrides=overrides)


def test_all_contradictions_come_at_once():
    with pytest.raises(OptionError) as caught:
        plan_for(overrides={"train.precision": "fp16", "adapter.blocks": 99})
    assert "fp16" in str(caught.value)
    assert "blocks" in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"presets": "bset"},
        {"presets": ["fast", "best"]},
        {"presets": ["auto", "best"]},
        {"presets": ["best", 3]},
        {"presets": None},
        {"eval_metric": "iou"},
        {"problem_type": "auto"},
        {"num_classes": 3},
        {"problem_type": "multiclass", "num_classes": 1},
        {"problem_type": "multiclass", "num_classes": 3, "overrides": {"head.kind": "binary"}},
    ],
)
def test_wrong_arguments_are_refused(options):
    with pytest.raises(OptionError):
        plan_for(**options)


@pytest.mark.parametrize(
    ("key", "unseen"),
    [
        ("precision@image", "misses"),
        ("precision@dataset", "misses"),
        ("specificity@image", "misses"),
        ("recall@dataset", "false alarms"),
        ("dice@image", None),
        ("ber@dataset", None),
    ],
)
def test_a_metric_that_sees_one_half_is_warned_of(key, unseen):
    reason = plan_for(eval_metric=key).reasons["metric"]
    assert reason.startswith("set by you")
    assert (f"does not see {unseen}" in reason) == (unseen is not None)
    assert (reason == "set by you") == (unseen is None)


def test_of_several_classes_the_recall_of_one_alone_is_warned_of():
    reasons = {
        key: multiclass(eval_metric=key).reasons["metric"]
        for key in ("recall@dataset", "recall@dataset/weed", "precision@image")
    }
    assert reasons.pop("recall@dataset") == "set by you"
    assert all("does not see" in reason for reason in reasons.values())


def test_the_metric_can_be_set():
    plan = plan_for(eval_metric="dice@dataset")
    assert (plan.metric, plan.reasons["metric"]) == ("dice@dataset", "set by you")
    assert multiclass(eval_metric="iou@dataset/weed").metric == "iou@dataset/weed"
