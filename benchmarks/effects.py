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
DEFAULT = "default"
BINARY = ("skin_isic", "leaf_disease", "road_epfl")


class Study(NamedTuple):
    """Variants of the default plan on some sets."""

    about: str
    epochs: int
    sets: tuple[str, ...]
    variants: Mapping[str, Mapping[str, Any]]


STUDIES = {
    "short": Study(
        "5 epochs, some 60 steps",
        5,
        BINARY,
        {
            DEFAULT: {},
            "no prompt": {"backbone.prompt": "none"},
            "no average": {"train.average": 0.0},
            "alpha = rank": {"adapter.alpha": 4.0},
            "rate 3e-4": {"optim.lr": 3e-4},
            "rate 2e-3": {"optim.lr": 2e-3},
            "horizontal flip only": {"data.augment": ["hflip"]},
            "colours, too": {"data.augment": [*TURNS, "colour"]},
            "192 px": {"data.size": 192},
            "last 2 blocks": {"adapter.blocks": 2},
            "balanced BCE": {"loss.kind": "balanced_bce"},
        },
    ),
    "longer": Study(
        "10 epochs, from which on the plan takes colours",
        10,
        BINARY,
        {
            DEFAULT: {},
            "rate 3e-4": {"optim.lr": 3e-4},
            "no colours": {"data.augment": TURNS},
            "crops, too": {"data.augment": ["crop", *TURNS, "colour"]},
        },
    ),
    "classes": Study(
        "several classes, 5 epochs",
        5,
        ("camvid", "cwfid", "highway_cdnet"),
        {DEFAULT: {}, "no class weights": {"loss.class_weights": "none"}},
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
    _, epochs, _, variants = STUDIES[study]
    dataset = read_folder(folder)
    train, held = split(dataset.train, part)
    with tempfile.TemporaryDirectory() as scratch:
        segmentor = SemanticSegmentor(
            classes=dataset.classes, ignore_index=dataset.ignore, path=Path(scratch) / "run"
        ).fit(
            train,
            dataset.val,
            hyperparameters={"train.epochs": epochs, **variants[variant]},
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
    """Return the scores of the default, and the differences of the other variants to it.

    Args:
        cells: Finished cells.
    """
    parts = [
        "Held-out score of the default (`iou@image`, `miou@dataset` for several classes); below it "
        "the mean difference of each variant over the parts that both have (how many)."
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
    for variant in study.variants:
        means = [_mean_difference(score, name, variant) for name in sets]
        known = [mean for mean, _ in means if mean is not None]
        if not known:
            continue
        sign = "" if variant == DEFAULT else "+"
        texts = ["" if mean is None else f"{mean:{sign}.3f} ({n})" for mean, n in means]
        lines.append(f"| {variant} | {' | '.join(texts)} | {statistics.mean(known):{sign}.3f} |")
    return "\n".join(lines)


def _mean_difference(
    score: Mapping[tuple[str, str, int], float], name: str, variant: str
) -> tuple[float | None, int]:
    """Return the mean over parts of a variant less the default, of the default itself; how many."""
    found = []
    for part in range(PARTS):
        own, default = score.get((name, variant, part)), score.get((name, DEFAULT, part))
        if own is not None and default is not None:
            found.append(own - (0.0 if variant == DEFAULT else default))
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
