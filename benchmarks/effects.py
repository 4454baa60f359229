"""What single decisions of the default plan do to the score, on held-out parts of training sets.

    python benchmarks/effects.py --data ../shared/data

The images of train.csv, sorted by name, are cut into three parts: one is held out and scored, two
train, and val.csv chooses the epoch as it would for a user. test.csv is not read. A cell is one
variant of one study on one set and held-out part. Finished cells are kept below
benchmarks/results/effects/ and not run again. Nothing is timed, so several of these scripts may run
side by side on other sets; the tables go to standard output, to benchmarks/results/effects.md and
into benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from _record import RESULTS, provenance, put_into_page, write_json

PARTS = 3
# What the plan takes for the sets of this script by default, whose images may all be turned.
TURNS = ["hflip", "vflip", "rot90"]
BINARY = ("skin_isic", "leaf_disease", "road_epfl")
FORMER_ADAPTER = {"adapter.lora_targets": [], "optim.warmup": 0.05}
# The default plan before the study "steps".
FORMER = {
    **FORMER_ADAPTER,
    "adapter.rank": 4,
    "data.size": 128,
    "train.batch_size": 4,
    "optim.decoder_lr": 1.0,
}
ALL_LAYERS = {"adapter.rank": 16, "adapter.targets": ["q", "k", "v", "proj", "mlp"]}


class Study(NamedTuple):
    """Variants of a plan on some sets.

    Attributes:
        about: The head of its table.
        sets: Names of the sets.
        base: What is set in all variants; the rest is the default plan.
        variants: What is set in each, by name; the first one is what the others are compared with.
        preset: The preset of the plan.
    """

    about: str
    sets: tuple[str, ...]
    base: Mapping[str, Any]
    variants: Mapping[str, Mapping[str, Any]]
    preset: str = "auto"


STUDIES = {
    "now": Study(
        "the preset `fast`, less one thing, for as many samples",
        (*BINARY, "cwfid"),
        {**FORMER_ADAPTER, "adapter.rank": 3, "train.batch_size": 2},
        {
            "as it is": {},
            "no prompt": {"backbone.prompt": "none"},
            "alpha = rank": {"adapter.alpha": 3.0},
            "rate 3e-4": {"optim.lr": 3e-4},
            "rate 2e-3": {"optim.lr": 2e-3},
            "decoder at the full rate": {"optim.decoder_lr": 1.0},
            "no average": {"train.average": 0.0},
            "horizontal flip only": {"data.augment": ["hflip"]},
            "batches of 4": {"train.batch_size": 4},
            "128 px": {"data.size": 128},
            "adapters in the last 4 blocks": {"adapter.blocks": 4},
        },
        preset="fast",
    ),
    "capacity": Study(
        "the preset `fast` with rank 2, or with more of the encoder to train, for as many samples",
        (*BINARY, "cwfid"),
        {**FORMER_ADAPTER, "adapter.rank": 2, "optim.lr": 1e-3, "train.batch_size": 2},
        {
            "as it was": {},
            "rank 16": {"adapter.rank": 16},
            "rank 32": {"adapter.rank": 32},
            "rank 16, proj, too": {
                "adapter.rank": 16,
                "adapter.targets": ["q", "k", "v", "proj"],
            },
            "rank 16, all layers": ALL_LAYERS,
            "rank 16, all layers, rate 5e-4": {**ALL_LAYERS, "optim.lr": 5e-4},
            "rank 16, all layers, long warm-up": {**ALL_LAYERS, "optim.warmup": 0.3},
            "rank 12, LoRA in the other layers, long warm-up": {
                "adapter.rank": 12,
                "adapter.lora_targets": ["proj", "mlp"],
                "optim.warmup": 0.3,
            },
            "rank 16, LoRA in the other layers, long warm-up": {
                "adapter.rank": 16,
                "adapter.lora_targets": ["proj", "mlp"],
                "optim.warmup": 0.3,
            },
        },
        preset="fast",
    ),
    # What 90 seconds of two cores pay for; a step of one image takes 0.6 of a step of two.
    "few_steps": Study(
        "the preset `fast`, 60 steps of two images or 100 of one",
        (*BINARY, "cwfid"),
        {"train.max_steps": 60, "train.batch_size": 2, "data.augment": TURNS},
        {
            "as it is": {},
            "rate 2e-3": {"optim.lr": 2e-3},
            "batches of 1": {"train.batch_size": 1, "train.max_steps": 100},
            "batches of 1, rate 2e-3": {
                "train.batch_size": 1,
                "train.max_steps": 100,
                "optim.lr": 2e-3,
            },
        },
        preset="fast",
    ),
    "batch": Study(
        "the preset `fast`, 225 samples in batches of 2 or as many seconds of 1",
        (*BINARY, "cwfid"),
        {},
        {
            "batches of 2": {"train.batch_size": 2},
            "batches of 1": {"train.batch_size": 1, "train.max_steps": 190},
        },
        preset="fast",
    ),
    # About what 90 seconds of two cores pay for; the last variant takes no longer on small sets.
    "few_epochs": Study(
        "the preset `fast`, 100 steps, images that may be turned",
        (*BINARY, "glass_gdd", "cwfid"),
        {"train.max_steps": 100},
        {
            "flips and turns": {"data.augment": TURNS},
            "images as they are": {"data.augment": []},
            "images as they are, adapters in the last 4 blocks, 210 steps": {
                "data.augment": [],
                "adapter.blocks": 4,
                "train.max_steps": 210,
            },
        },
        preset="fast",
    ),
    "few_epochs_upright": Study(
        "the preset `fast`, 100 steps, images that may be mirrored only",
        ("polyp_cvc", "camvid", "highway_cdnet"),
        {"train.max_steps": 100},
        {
            "left-right flips": {"data.augment": ["hflip"]},
            "images as they are": {"data.augment": []},
        },
        preset="fast",
    ),
    "short": Study(
        "5 epochs of 128 px, batches of 4",
        BINARY,
        {**FORMER, "train.epochs": 5},
        {
            "default": {},
            "no prompt": {"backbone.prompt": "none"},
            "no average": {"train.average": 0.0},
            "alpha = rank": {"adapter.alpha": 4.0},
            "rate 3e-4": {"optim.lr": 3e-4},
            "rate 2e-3": {"optim.lr": 2e-3},
            "horizontal flip only": {"data.augment": ["hflip"]},
            "colours, too": {"data.augment": [*TURNS, "colour"]},
            "last 2 blocks": {"adapter.blocks": 2},
            "balanced BCE": {"loss.kind": "balanced_bce"},
        },
    ),
    "longer": Study(
        "10 epochs of 128 px, batches of 4, with colours",
        BINARY,
        {**FORMER, "train.epochs": 10},
        {
            "default": {},
            "rate 3e-4": {"optim.lr": 3e-4},
            "no colours": {"data.augment": TURNS},
            "crops, too": {"data.augment": ["crop", *TURNS, "colour"]},
        },
    ),
    # As many epochs as the seconds of a step at each size make of the same time.
    "steps": Study(
        "8 epochs of 112 px or 5 of 128 px",
        (*BINARY, "cwfid"),
        {**FORMER, "data.size": 112, "train.epochs": 8},
        {
            "112 px, batches of 4": {"train.batch_size": 4},
            "128 px, batches of 4": {**FORMER, "train.epochs": 5},
            "112 px, batches of 2": {"train.batch_size": 2},
            "112 px, batches of 1": {"train.batch_size": 1},
            "112 px, batches of 2, decoder at 0.3": {
                "train.batch_size": 2,
                "optim.decoder_lr": 0.3,
            },
            "112 px, batches of 2, crops": {
                "train.batch_size": 2,
                "data.augment": ["crop", *TURNS],
            },
        },
    ),
    "classes": Study(
        "several classes, 5 epochs of 128 px, batches of 4",
        ("camvid", "cwfid", "highway_cdnet"),
        {**FORMER, "train.epochs": 5},
        {"default": {}, "no class weights": {"loss.class_weights": "none"}},
    ),
}


def split(train: pd.DataFrame, part: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what trains and what is held out: neighbours by name stay together.

    Args:
        train: The table of train.csv.
        part: Which part is held out, from 0.
    """
    ordered = train.sort_values("image", ignore_index=True)
    held = (ordered.index * PARTS // len(ordered)) == part
    return ordered[~held], ordered[held]


def run_cell(folder: Path, study: str, variant: str, part: int, target: Path) -> None:
    """Fit one variant without one part, score that part, and record it."""
    from easyseg import SemanticSegmentor
    from easyseg.datasets.folder import read_folder

    measured = provenance()
    dataset = read_folder(folder)
    train, held = split(dataset.train, part)
    with tempfile.TemporaryDirectory() as scratch:
        segmentor = SemanticSegmentor(
            classes=dataset.classes, ignore_index=dataset.ignore, path=Path(scratch) / "run"
        ).fit(
            train,
            dataset.val,
            presets=STUDIES[study].preset,
            hyperparameters={**STUDIES[study].base, **STUDIES[study].variants[variant]},
            accelerator="cpu",
            seed=part,
        )
    scores = segmentor.evaluate(held)
    plan = segmentor.plan_.to_dict()
    plan.pop("reasons")
    history = segmentor.history_
    write_json(
        target,
        {
            "set": folder.name,
            "study": study,
            "variant": variant,
            "part": part,
            "images": {"train": len(train), "held_out": len(held)},
            "score": scores[plan["metric"]],
            "validation": history[plan["metric"]].round(4).tolist(),
            "train_loss": history["train_loss"].round(4).tolist(),
            "plan": plan,
            **measured,
        },
    )


def table(cells: Sequence[Mapping[str, Any]]) -> str:
    """Return the scores of each study's first variant, and the differences of the others to it.

    Args:
        cells: Finished cells.
    """
    parts = [
        "Held-out score of the first variant (`iou@image`, `miou@dataset` for several classes); "
        "below it the mean difference of each other one, over the parts that both have (how many)."
    ]
    for study in STUDIES:
        score = {
            (c["set"], c["variant"], c["part"]): c["score"] for c in cells if c["study"] == study
        }
        if score:
            parts.append(_table(score, STUDIES[study]))
    return "\n\n".join(parts)


def _table(score: Mapping[tuple[str, str, int], float], study: Study) -> str:
    """Return the table of one study."""
    sets = sorted({name for name, _, _ in score})
    lines = [f"| {study.about} | {' | '.join(sets)} | mean |", "|---" * (len(sets) + 2) + "|"]
    first = next(iter(study.variants))
    for variant in study.variants:
        means = [_mean_difference(score, name, variant, first) for name in sets]
        known = [mean for mean, _ in means if mean is not None]
        if not known:
            continue
        sign = "" if variant == first else "+"
        texts = ["" if mean is None else f"{mean:{sign}.3f} ({n})" for mean, n in means]
        lines.append(f"| {variant} | {' | '.join(texts)} | {statistics.mean(known):{sign}.3f} |")
    return "\n".join(lines)


def _mean_difference(
    score: Mapping[tuple[str, str, int], float], name: str, variant: str, first: str
) -> tuple[float | None, int]:
    """Return the mean over parts of a variant less the first, of the first itself; how many."""
    found = []
    for part in range(PARTS):
        own, base = score.get((name, variant, part)), score.get((name, first, part))
        if own is not None and base is not None:
            found.append(own - (0.0 if variant == first else base))
    return (statistics.mean(found) if found else None), len(found)


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--studies", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--sets", nargs="+", help="of those of the studies; default: all")
    parser.add_argument("--variants", nargs="+", help="of those of the studies; default: all")
    parser.add_argument("--parts", nargs="+", type=int, choices=range(PARTS), default=[0])
    parser.add_argument("--table", action="store_true", help="only write the tables")
    options = parser.parse_args()
    folder = RESULTS / "effects"
    cells = [
        (part, study, variant, name)
        for part in options.parts
        for study in options.studies
        for variant in STUDIES[study].variants
        for name in STUDIES[study].sets
        if name in (options.sets or [name]) and variant in (options.variants or [variant])
    ]
    for part, study, variant, name in [] if options.table else cells:
        file = folder / f"{name}-{study}-{variant.replace(' ', '_')}-{part}.json"
        if not file.exists():
            run_cell((options.data / name).resolve(), study, variant, part, file)
    text = table([json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))])
    (RESULTS / "effects.md").write_text(text + "\n", encoding="utf-8")
    put_into_page(Path(__file__).with_name("README.md"), text, "effects")
    print(text)


if __name__ == "__main__":
    main()
