"""The rules of the plan, shown by what `decide` says on both sides of their boundaries.

Words are written here; boundaries, values and reasons come from the code that decides.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from markdown_tables import table
from plan_makers import CPU, H200, facts, plan_for

from easyseg.auditing.fingerprint import Percentiles
from easyseg.plan import adapter_choices, choices, input_choices, lengths, preset_choice
from easyseg.plan import optimizer_choices as optimizer
from easyseg.plan.choices import CHOICES
from easyseg.plan.costs import Costs
from easyseg.plan.domains import DOMAINS, flatten
from easyseg.plan.plan import Plan, in_words
from easyseg.plan.presets import load_preset

FLOAT32_CPU = replace(CPU, device_name="a CPU without bf16", native_bf16=False)
OBTAINABLE = ("vit_h", "vit_l", "vit_b", "mobile_sam")
TINY = 1e-6


@dataclass(frozen=True)
class Case:
    """A set, a machine and a request that a rule is shown by.

    Attributes:
        what: What is special about it, in words.
        plan: Decides.
        edge: Whether a boundary of the rule lies between it and the case before it.
    """

    what: str
    plan: Callable[[], Plan]
    edge: bool = False


@dataclass(frozen=True)
class Rule:
    """How a key of the plan is decided.

    Attributes:
        key: The key, or ``preset``.
        looks_at: The figures that move it.
        text: What it does with them.
        cases: Examples.
    """

    key: str
    looks_at: str
    text: str
    cases: tuple[Case, ...]


def case(
    what: str,
    *,
    edge: bool = False,
    count: int = 64,
    side: float = 600.0,
    classes: int = 2,
    machine: Any = CPU,
    found: Mapping[str, Any] | None = None,
    presets: str = "balanced",
    **options: Any,
) -> Case:
    """Return a case: ``count`` images of ``side`` pixels, of which ``found`` is known."""
    names = ("background", *(f"class {number}" for number in range(1, classes)))
    fingerprint = replace(facts(count, side, names), **(found or {}))
    if classes > 2:
        options |= {"problem_type": "multiclass", "num_classes": classes}
    if machine.accelerator != "cpu":
        options = {"obtainable": OBTAINABLE, **options}
    plan = functools.partial(plan_for, fingerprint, machine, presets=presets, **options)
    return Case(what, plan, edge)


def gpu(memory_gb: float, **changes: Any) -> Any:
    """Return a machine with a GPU of so much memory."""
    return replace(H200, device_name="a GPU", memory_gb=memory_gb, **changes)


def sizes(times: float) -> dict[str, Any]:
    """Return objects of which the large ones are so many times as long as the small ones."""
    return {"object_sizes": Percentiles(0.001, 0.002, 0.001 * times**2)}


def _preset() -> Rule:
    few, mega = preset_choice.CPU_FAST_ABOVE_IMAGES, preset_choice.CPU_FAST_ABOVE_MEGAPIXELS
    seconds, best = preset_choice.CPU_FAST_BELOW_SECONDS, preset_choice.GPU_BEST_UP_TO_IMAGES
    many = preset_choice.GPU_FAST_ABOVE_IMAGES
    short, long = preset_choice.GPU_FAST_BELOW_SECONDS, preset_choice.GPU_BEST_FROM_SECONDS
    side = math.isqrt(round(mega * 1e6 / 500))
    auto = functools.partial(case, presets="auto")
    return Rule(
        "preset",
        "the machine, the time limit, the number of images and their size",
        f"On a CPU `balanced`; `fast` with a limit below {seconds:g} s, with more than {few} "
        f"images, or with more than {mega:g} megapixels in all. On a GPU `best` up to {best} "
        f"images, `fast` above {many} or with a limit below {short:g} s, else `balanced`; below "
        f"{long:g} s never `best`. Only if you leave the preset to `auto`.",
        (
            auto(f"CPU, {few} images", count=few),
            auto(f"CPU, {few + 1} images", count=few + 1, edge=True),
            auto(f"CPU, a limit of {seconds:g} s", time_limit=seconds),
            auto(f"CPU, a limit of {seconds - 1:g} s", time_limit=seconds - 1, edge=True),
            auto(f"CPU, 500 images of {side} px", count=500, side=float(side)),
            auto(f"CPU, 500 images of {side + 1} px", count=500, side=side + 1.0, edge=True),
            auto(f"GPU, {best} images", count=best, machine=gpu(80)),
            auto(f"GPU, {best + 1} images", count=best + 1, machine=gpu(80), edge=True),
            auto(f"GPU, {many} images", count=many, machine=gpu(80)),
            auto(f"GPU, {many + 1} images", count=many + 1, machine=gpu(80), edge=True),
            auto(f"GPU, a limit of {long:g} s", machine=gpu(80), time_limit=long),
            auto(
                f"GPU, a limit of {long - 1:g} s", machine=gpu(80), time_limit=long - 1, edge=True
            ),
            auto(
                f"GPU, a limit of {short - 1:g} s",
                machine=gpu(80),
                time_limit=short - 1,
                edge=True,
            ),
        ),
    )


def _backbone() -> tuple[Rule, ...]:
    best = functools.partial(case, presets="best")
    return (
        Rule(
            "backbone.name",
            "the machine, its memory, and which weights can be had",
            "On a CPU the one that is installed. On a GPU the first of the preset's list that fits "
            "into memory with one image, whose weights are here or can be downloaded, and that "
            "takes the adapter. The memory is an estimate.",
            (
                best("CPU"),
                best("GPU of 80 GB", machine=gpu(80)),
                best("GPU of 12 GB", machine=gpu(12)),
                best("GPU of 4 GB", machine=gpu(4)),
                best("GPU, no weights can be had", machine=gpu(80), obtainable=()),
            ),
        ),
        Rule(
            "backbone.prompt",
            "the backbone",
            "The constant prompt that the pretrained decoder has seen.",
            (
                case("the default of a CPU"),
                case("`backbone.name=vit_b`", overrides={"backbone.name": "vit_b"}),
            ),
        ),
    )


def _adapter() -> tuple[Rule, ...]:
    few, many = adapter_choices.FEW_IMAGES, adapter_choices.MANY_IMAGES
    classes = adapter_choices.MANY_CLASSES
    steps = ", ".join(map(str, adapter_choices.RANKS))
    most, paper = load_preset("balanced")["budget"]["cpu"]["experts"], adapter_choices.PAPERS_SCALES
    less = paper * (most - 1) / most
    lst, sam = ({"adapter.kind": kind, "backbone.name": "vit_b"} for kind in ("lst", "sam_adapter"))
    return (
        Rule(
            "adapter.rank",
            "`num_images`, and the number of classes",
            "The preset's rank, for LoRA and Conv-LoRA of a small backbone "
            f"{adapter_choices.SMALL_BACKBONE_RANK}; a step less (of {steps}) below {few} images, "
            f"a step more from {many} images on, and a step more from {classes} classes on.",
            (
                case(f"{few - 1} images", count=few - 1),
                case(f"{few} images", count=few, edge=True),
                case(f"{many - 1} images", count=many - 1),
                case(f"{many} images", count=many, edge=True),
                case(f"{classes - 1} classes", classes=classes - 1),
                case(f"{classes} classes", classes=classes, edge=True),
            ),
        ),
        Rule(
            "adapter.num_experts",
            "`object_sizes`: the 10th and the 90th percentile of the objects' areas",
            "How many times as long as small objects are large ones (the root of the ratio of "
            f"areas)? The preset's number times that, divided by {paper}, rounded up; at most the "
            "preset's, at least half of it. As many as you give `adapter.scales`.",
            (
                case(f"{less + 0.1:g} times", found=sizes(less + 0.1)),
                case(f"{less:g} times", found=sizes(less - TINY), edge=True),
                case("twice", found=sizes(2)),
                case("no objects at all", found={"object_sizes": None}),
                case("`adapter.scales=[1,3,5]`", overrides={"adapter.scales": [1, 3, 5]}),
            ),
        ),
        Rule(
            "adapter.scales",
            "the number of experts",
            "Scales 1, 2, ..., one per expert, as in the paper.",
            (
                case("8 experts"),
                case("`adapter.num_experts=3`", overrides={"adapter.num_experts": 3}),
            ),
        ),
        Rule(
            "adapter.lora_targets",
            "the backbone, `adapter.targets`",
            "In a small backbone (`lite_medsam`, `mobile_sam`) `proj` and `mlp`, if "
            "`adapter.targets` has `q`, `k` and `v` (and not these); none in SAM's "
            "ViTs, as in the paper.",
            (
                case("`lite_medsam`"),
                case("`backbone.name=vit_b`", overrides={"backbone.name": "vit_b"}),
                case("`adapter.targets=[proj]`", overrides={"adapter.targets": ["proj"]}),
            ),
        ),
        Rule(
            "adapter.alpha",
            "the rank",
            f"{adapter_choices.ALPHA_PER_RANK:g} times the rank, so that the adapter counts the "
            "same whatever its rank.",
            (case("rank 4"), case("`adapter.rank=8`", overrides={"adapter.rank": 8})),
        ),
        Rule(
            "adapter.num_prompts",
            "the rank",
            f"{adapter_choices.PROMPTS_PER_RANK} times the rank: as many parameters as LoRA has. "
            "Only `vpt` uses it.",
            (case("`adapter.kind=vpt`", overrides={"adapter.kind": "vpt"}),),
        ),
        Rule(
            "adapter.reduction",
            "the kind of adapter",
            "What the authors of the method take. Only `lst` and `sam_adapter` use it.",
            (
                case("`adapter.kind=lst` on `vit_b`", overrides=lst),
                case("`adapter.kind=sam_adapter` on `vit_b`", overrides=sam),
            ),
        ),
    )


def _head_and_loss() -> tuple[Rule, ...]:
    matched = {"loss.kind": "mask2former"}
    shares = {"class_shares": {"soil": 0.8, "crop": 0.17, "weed": 0.03}}
    return (
        Rule(
            "head.kind",
            "the number of classes",
            "`binary` for two classes, `softmax` for more; another one if a loss you set needs it.",
            (
                case("2 classes"),
                case("3 classes", classes=3, edge=True),
                case("3 classes, `loss.kind=mask2former`", classes=3, overrides=matched, edge=True),
            ),
        ),
        Rule(
            "head.num_tokens",
            "the head and the number of classes",
            "One mask for a binary problem, else one per class.",
            (case("2 classes"), case("3 classes", classes=3, edge=True)),
        ),
        Rule(
            "loss.kind",
            "the head",
            "The first of the losses that the head can use.",
            (
                case("2 classes"),
                case("3 classes", classes=3, edge=True),
                case(
                    "3 classes, `head.kind=mask_classification`",
                    classes=3,
                    overrides={"head.kind": "mask_classification"},
                    edge=True,
                ),
            ),
        ),
        Rule(
            "loss.class_weights",
            "`class_shares`: the share of the pixels of each class",
            f"Several classes: `1 / ln({choices.WEIGHT_OFFSET} + share)`, divided by the mean, so "
            "that rare classes weigh more. Only losses that weigh classes use it.",
            (
                case("80 %, 17 % and 3 % of the pixels", classes=3, found=shares),
                case("2 classes"),
            ),
        ),
        Rule(
            "loss.balance_weight",
            "binary or several classes",
            "The paper's weight of the balance loss of the experts.",
            (case("2 classes"), case("3 classes", classes=3, edge=True)),
        ),
    )


def _rates() -> tuple[Rule, ...]:
    steps, rank = optimizer.HIGHEST_LR_UP_TO_STEPS, optimizer.HIGHEST_LR_UP_TO_RANK
    full = {"adapter.kind": "full"}
    low, high = optimizer.WARMUP_SHARES
    return (
        Rule(
            "optim.lr",
            "`num_images`, batch and epochs: the number of steps; the rank",
            f"{optimizer.HIGHEST_LR:g} up to {steps} steps, then falling with the square root of "
            f"their number; above rank {rank} falling with the root of the rank; for full "
            f"fine-tuning of pretrained weights times {optimizer.PRETRAINED_ENCODER_LR:g}.",
            (
                case(f"{steps} steps", overrides={"train.max_steps": steps}),
                case(f"{4 * steps} steps", overrides={"train.max_steps": 4 * steps}, edge=True),
                case(
                    f"{steps} steps, rank {2 * rank}",
                    overrides={"train.max_steps": steps, "adapter.rank": 2 * rank},
                ),
                case(
                    f"{steps} steps, `adapter.kind=full`",
                    overrides={"train.max_steps": steps, **full},
                ),
            ),
        ),
        Rule(
            "optim.warmup",
            "`num_images`, batch and epochs: the number of steps",
            f"{optimizer.WARMUP_STEPS} steps with a rising rate, at least {low:.0%} and at most "
            f"{high:.0%} of all.",
            tuple(
                case(f"{n} steps", overrides={"train.max_steps": n})
                for n in (
                    optimizer.WARMUP_STEPS,
                    round(optimizer.WARMUP_STEPS / 0.1),
                    2000,
                )
            ),
        ),
        Rule(
            "optim.decoder_lr",
            "the backbone, its prompt, and what else is trained",
            "The rate of the decoder as a share of `optim.lr`: smaller where it is good from the "
            "start, because it has the prompt that it was trained with.",
            (
                case("`lite_medsam`"),
                case("`backbone.name=vit_b`", overrides={"backbone.name": "vit_b"}),
                case("`adapter.kind=none`", overrides={"adapter.kind": "none"}),
                case("`adapter.kind=full`", overrides=full),
            ),
        ),
    )


def _input() -> tuple[Rule, ...]:
    thin, limit = input_choices.THIN_BELOW_PIXELS, input_choices.CPU_FAST_BELOW_SECONDS
    usual = case("").plan().data.size
    border = thin / usual
    above, below = ({"thickness": {"vessel": border + each}} for each in (TINY, -0.1 / usual))
    upright, known = input_choices.UPRIGHT_ABOVE, input_choices.UPRIGHT_KNOWN_FROM_IMAGES
    more = upright + 0.1
    colours, crops = input_choices.COLOURS_FROM_TIMES, input_choices.CROPS_FROM_TIMES
    turns = input_choices.TURNS_FROM_TIMES
    costs = Costs(step=0.5, image=0.1, build=2.0, before=5.0, memory_gb=None)

    def small(memory: str, **options: Any) -> Case:
        named = {"backbone.name": "lite_medsam"}
        label = f"GPU of {memory}, preset `fast`, `lite_medsam`"
        return case(label, presets="fast", overrides=named, **options)

    return (
        Rule(
            "data.size",
            "`thickness`: how thick the objects are; the preset; the backbone; the device and its "
            "memory; the time limit",
            "The preset's share of the size the backbone was trained with, in whole attention "
            f"windows; with CUDA at least {input_choices.GPU_AT_LEAST_PIXELS}, or the backbone's "
            f"own, where a batch of that fits into memory. Where objects are less than {thin:g} "
            "pixels thick in it, the preset's larger size, unless a CPU has less than "
            f"{limit:g} s.",
            (
                case(f"objects {thin:g} px thick at {usual}", found=above),
                case(f"objects {thin - 0.1:g} px thick at {usual}", found=below, edge=True),
                case(
                    f"the same with a limit of {limit - 1:g} s", found=below, time_limit=limit - 1
                ),
                case("preset `best`", presets="best"),
                small("80 GB", machine=gpu(80)),
                small("6 GB", machine=gpu(6), edge=True),
                case("GPU, `vit_l`", machine=gpu(80)),
            ),
        ),
        Rule(
            "data.scale",
            "nothing",
            "1: large images are looked at in their own pixels. Only windows "
            "(`data.geometry=tile`) use it.",
            (case("`data.geometry=tile`", overrides={"data.geometry": "tile"}),),
        ),
        Rule(
            "data.augment",
            "how often a fit sees each image, by its epochs or by a limit whose steps were timed; "
            "`uprightness`: how much upper and lower halves differ; a domain you name",
            f"Flips and quarter turns if the uprightness is at most {upright:g}, else only left "
            f"and right are swapped; so, too, below {known} images, which do not tell. Nothing of "
            f"it where images are seen less than {turns} times; colours from {colours} times on, "
            f"crops from {crops} on.",
            (
                case(f"uprightness {upright:g}", found={"uprightness": upright}),
                case(f"uprightness {more:g}", found={"uprightness": more}, edge=True),
                case(f"{known} images", count=known),
                case(f"{known - 1} images", count=known - 1, edge=True),
                case(f"{turns} epochs", overrides={"train.epochs": turns}),
                case(f"{turns - 1} epochs", overrides={"train.epochs": turns - 1}, edge=True),
                case(
                    "60 s, steps of half a second",
                    presets="fast",
                    time_limit=60.0,
                    costs=costs,
                ),
                case(f"{colours - 1} epochs", overrides={"train.epochs": colours - 1}),
                case(f"{colours} epochs", overrides={"train.epochs": colours}, edge=True),
                case(f"{crops} epochs", overrides={"train.epochs": crops}, edge=True),
                case("the domain `text`", presets="balanced,text"),
            ),
        ),
    )


def _portions() -> tuple[Rule, ...]:
    scratch = {"adapter.kind": "full", "backbone.weights": "random"}
    best = functools.partial(case, presets="best")
    vit_l = {"backbone.name": "vit_l"}
    return (
        Rule(
            "train.batch_size",
            "the preset, `num_images`, the number of devices",
            "The preset's batch, not more than there are images, and a share for each device; "
            f"where batch normalisation learns, {choices.LEAST_NORMALISED} images at least.",
            (
                case("CPU"),
                case("CPU, `fast`", presets="fast"),
                case("CPU, `fast`, from scratch", presets="fast", overrides=scratch, edge=True),
                case("GPU", machine=gpu(80)),
                case("1 image", count=1),
                case("3 GPUs", machine=gpu(80, devices=3)),
            ),
        ),
        Rule(
            "train.precision",
            "the device",
            "`bf16` where the hardware computes it, else `fp16` on a GPU with tensor cores, else "
            "`32`.",
            (
                case("CPU with bf16"),
                case("CPU without", machine=FLOAT32_CPU, edge=True),
                case("GPU with bf16", machine=gpu(80)),
                case(
                    "GPU without, with tensor cores",
                    machine=gpu(15, native_bf16=False, tensor_fp16=True),
                    edge=True,
                ),
            ),
        ),
        Rule(
            "train.micro_batch_size",
            "the memory of the device, the backbone, the input size, the number of classes",
            "The largest even part of the batch that fits; the gradients of the parts are added "
            "up. The memory is an estimate.",
            (
                best("CPU"),
                best("`vit_l` on 80 GB", machine=gpu(80), overrides=vit_l),
                best("`vit_l` on 40 GB", machine=gpu(40), overrides=vit_l),
                best("`vit_l` on 16 GB", machine=gpu(16), overrides=vit_l),
            ),
        ),
        Rule(
            "train.gradient_checkpointing",
            "the same",
            "Activations are recomputed where not even one image fits.",
            (
                best("`vit_l` on 16 GB", machine=gpu(16), overrides=vit_l),
                best("`vit_l` on 8 GB", machine=gpu(8), overrides=vit_l),
            ),
        ),
        _prefix_cache(),
        _validation_images(),
        _epochs(),
        _patience(),
    )


def _prefix_cache() -> Rule:
    decoder = {"adapter.kind": "none", "data.augment": ["hflip", "vflip", "rot90"]}
    last = {"adapter.blocks": 2, "data.augment": ["hflip"], "train.epochs": 10}
    return Rule(
        "train.prefix_cache",
        "how much of the encoder is frozen, and how often an image comes again turned the same way",
        "What the frozen first blocks make of an image is kept where the share of their work that "
        f"is saved is at least {choices.CACHE_FROM_SHARE:.0%}: the share of frozen blocks times "
        "the share of inputs that were seen before.",
        (
            case("the default: adapters in all blocks"),
            case("adapters in the last two blocks, 10 epochs of flips", overrides=last),
            case("the decoder alone, 2 epochs", overrides={**decoder, "train.epochs": 2}),
            case(
                "the decoder alone, 3 epochs", overrides={**decoder, "train.epochs": 3}, edge=True
            ),
            case("crops", overrides={**last, "data.augment": ["crop"]}),
            case("windows", overrides={**last, "data.geometry": "tile"}),
        ),
    )


def _validation_images() -> Rule:
    def limited(seconds: float, image: float) -> Case:
        costs = Costs(step=0.5, image=image, build=2.0, before=5.0, memory_gb=None)
        what = f"{seconds:g} s, {image:g} s an image"
        return case(what, time_limit=seconds, costs=costs)

    return Rule(
        "train.validation_images",
        "the time limit, the number of validation images and what one of them costs here",
        "All of them, where no limit is set or nothing was timed. Else as many as "
        f"{choices.VALIDATION_SHARE:.0%} of the limit pay for, or {choices.LEAST_VALIDATED} if "
        f"those take no more than {choices.LARGEST_VALIDATION_SHARE:.0%}: a short fit has few "
        "epochs to choose from. They are drawn as the validation part itself is, with all classes "
        "if possible.",
        (
            case("no limit"),
            limited(60.0, 0.2),
            limited(60.0, 0.4),
            limited(60.0, 1.0),
            limited(60.0, 10.0),
        ),
    )


def _epochs() -> Rule:
    budget = load_preset("balanced")["budget"]["cpu"]
    samples, most = budget["samples"], budget["max_epochs"]
    of_gpu = load_preset("balanced")["budget"]["gpu"]
    a_step = of_gpu["batch_size"]
    enough = a_step * (math.ceil(lengths.LEAST_STEPS / of_gpu["epochs"]) - 1) + 1
    costs = Costs(step=0.5, image=0.2, build=2.0, before=5.0, memory_gb=None)
    return Rule(
        "train.epochs",
        "`num_images`, the preset, the precision; the time limit and what a step costs here",
        "On a CPU the preset's images in all, divided by the number of images, within its bounds; "
        f"{lengths.FLOAT32_SAMPLES:.0%} of them in float32. On a GPU the preset's epochs, or as "
        f"many as make {lengths.LEAST_STEPS} steps. Under a time limit, after a short probe, "
        f"{lengths.SPARE_STEPS:g} times what the limit pays for, "
        "so that the clock ends the fit, not the plan: at most the preset's largest number, or "
        f"{lengths.LEAST_STEPS_WITHIN} steps if those are more.",
        (
            case(f"CPU, {samples // 20} images", count=samples // 20),
            case(
                f"CPU without bf16, {samples // 20} images",
                count=samples // 20,
                machine=FLOAT32_CPU,
                edge=True,
            ),
            case(f"CPU, {samples // most // 2} images", count=samples // most // 2),
            case(f"CPU, {samples} images", count=samples),
            case(f"GPU, {enough} images", count=enough, machine=gpu(80)),
            case(f"GPU, {enough - 1} images", count=enough - 1, machine=gpu(80), edge=True),
            case("600 s, steps of half a second", time_limit=600.0, costs=costs),
            case("600 s, steps of half a second, 8 images", count=8, time_limit=600.0, costs=costs),
            case("`train.max_steps=100`", overrides={"train.max_steps": 100}),
        ),
    )


def _patience() -> Rule:
    budget = load_preset("balanced")["budget"]["gpu"]
    wait, batch = budget["patience"], budget["batch_size"]
    enough = batch * (math.ceil(lengths.LEAST_PATIENCE_STEPS / wait) - 1) + 1
    return Rule(
        "train.patience",
        "`num_images`, the preset, the batch",
        "The preset's epochs, or as many as make "
        f"{lengths.LEAST_PATIENCE_STEPS} steps, three times those of the warm-up.",
        (
            case(f"GPU, {enough} images", count=enough, machine=gpu(80)),
            case(f"GPU, {enough - 1} images", count=enough - 1, machine=gpu(80), edge=True),
            case("GPU, 8 images", count=8, machine=gpu(80)),
        ),
    )


def all_rules() -> tuple[Rule, ...]:
    """Return the rules in the order of the page."""
    return (
        _preset(),
        *_backbone(),
        *_adapter(),
        *_head_and_loss(),
        *_rates(),
        *_input(),
        *_portions(),
    )


def rules() -> str:
    """Return a section for each rule: what it looks at, what it does, and cases of it."""
    parts = []
    for rule in all_rules():
        rows = []
        for each in rule.cases:
            plan = each.plan()
            value = in_words(plan.values()[rule.key])
            rows.append((each.what, f"`{value}`", plan.reasons[rule.key]))
        parts.append(
            f"### `{rule.key}`\n\n**Looks at** {rule.looks_at}.\n\n{rule.text}\n\n"
            + table(("case", "value", "because, in the words of the plan"), rows)
        )
    return "\n\n".join(parts)


def fixed_keys() -> str:
    """Return the keys that no rule decides: the presets hold their values."""
    names = ("fast", "balanced", "best")
    plans = [flatten(load_preset(name)["plan"]) for name in names]
    rows = [
        (f"`{key}`", *(f"`{_shown(plan[key])}`" for plan in plans))
        for key in DOMAINS
        if key not in CHOICES
    ]
    return table(("key", *(f"`{name}`" for name in names)), rows)


def _shown(value: Any) -> str:
    return in_words(tuple(value) if isinstance(value, list) else value)
