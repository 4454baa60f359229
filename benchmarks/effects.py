"""What single decisions of the default plan do to the score, on held-out parts of training sets.

    python benchmarks/effects.py --data ../shared/data

The images of train.csv, sorted by name, are cut into three parts: one is held out and scored, two
train, and val.csv chooses the epoch as it would for a user. test.csv is not read. A cell is one
variant on one held-out part, after 5 epochs (a minute or two of two cores) or 15 (what the default
preset plans for some 65 images); finished cells are kept below benchmarks/results/effects/ and not
run again. Nothing is timed, so several of these scripts may run side by side on other sets; the
tables go to standard output, to benchmarks/results/effects.md and into README.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from _record import RESULTS, provenance, put_into_readme, write_json

PARTS = 3
# What the plan takes for the sets of this script by default, whose images may all be turned.
TURNS = ["hflip", "vflip", "rot90"]
DEFAULT = "default"
# Variants by the number of epochs of their fits.
VARIANTS: Mapping[int, Mapping[str, Mapping[str, Any]]] = {
    5: {
        DEFAULT: {},
        "no prompt": {"backbone.prompt": "none"},
        "no average": {"train.average": 0.0},
        "alpha = rank": {"adapter.alpha": 4.0},
        "rate 3e-4": {"optim.lr": 3e-4},
        "horizontal flip only": {"data.augment": ["hflip"]},
        "colours, too": {"data.augment": [*TURNS, "colour"]},
        "192 px": {"data.size": 192},
        "last 2 blocks": {"adapter.blocks": 2},
        "balanced BCE": {"loss.kind": "balanced_bce"},
    },
    15: {
        DEFAULT: {},
        "no colours": {"data.augment": TURNS},
        "crops, too": {"data.augment": ["crop", *TURNS, "colour"]},
    },
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


def run_cell(folder: Path, epochs: int, variant: str, part: int, target: Path) -> None:
    """Fit one variant without one part, score that part, and record it."""
    from easyseg import SemanticSegmentor
    from easyseg.datasets.folder import read_folder

    dataset = read_folder(folder)
    train, held = split(dataset.train, part)
    with tempfile.TemporaryDirectory() as scratch:
        segmentor = SemanticSegmentor(
            classes=dataset.classes, ignore_index=dataset.ignore, path=Path(scratch) / "run"
        ).fit(
            train,
            dataset.val,
            hyperparameters={"train.epochs": epochs, **VARIANTS[epochs][variant]},
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
            "epochs": epochs,
            "variant": variant,
            "part": part,
            "images": {"train": len(train), "held_out": len(held)},
            "score": scores[plan["metric"]],
            "validation": history[plan["metric"]].round(4).tolist(),
            "train_loss": history["train_loss"].round(4).tolist(),
            "plan": plan,
            **provenance(),
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
    for epochs in VARIANTS:
        score = {
            (c["set"], c["variant"], c["part"]): c["score"] for c in cells if c["epochs"] == epochs
        }
        if score:
            parts.append(_table(score, epochs))
    return "\n\n".join(parts)


def _table(score: Mapping[tuple[str, str, int], float], epochs: int) -> str:
    """Return the table of the fits of one length."""
    sets = sorted({name for name, _, _ in score})
    lines = [f"| {epochs} epochs | {' | '.join(sets)} | mean |", "|---" * (len(sets) + 2) + "|"]
    for variant in VARIANTS[epochs]:
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
    parser.add_argument("--sets", nargs="+", default=["skin_isic", "leaf_disease", "road_epfl"])
    parser.add_argument("--epochs", nargs="+", type=int, choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--variants", nargs="+", help="default: all")
    parser.add_argument("--parts", nargs="+", type=int, choices=range(PARTS), default=[0])
    parser.add_argument("--table", action="store_true", help="only write the tables")
    options = parser.parse_args()
    folder = RESULTS / "effects"
    cells = [
        (part, epochs, variant, name)
        for part in options.parts
        for epochs in options.epochs
        for variant in VARIANTS[epochs]
        for name in options.sets
        if not options.variants or variant in options.variants
    ]
    for part, epochs, variant, name in [] if options.table else cells:
        file = folder / f"{name}-{epochs}-{variant.replace(' ', '_')}-{part}.json"
        if not file.exists():
            run_cell((options.data / name).resolve(), epochs, variant, part, file)
    text = table([json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))])
    (RESULTS / "effects.md").write_text(text + "\n", encoding="utf-8")
    put_into_readme(text, "effects")
    print(text)


if __name__ == "__main__":
    main()
