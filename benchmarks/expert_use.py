"""What the experts of Conv-LoRA do, with the learned gate and with that of the reference code.

    python benchmarks/expert_use.py --data ../shared/data

A cell is one gate on one set: a fit by the preset `fast`, the same for both gates, for a number of
steps, and which expert each window of the test images was sent to, by block and by the size of the
object in it. With --models FOLDER a model that is saved as FOLDER/SET-GATE is taken instead of a
fit, and what is fitted is saved there. Nothing is timed. Finished cells are kept as JSON below
benchmarks/results/expert_use/, with a figure for each set; the table goes to
benchmarks/results/expert_use.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import _cells
import pandas as pd
from _record import provenance, write_json
from _tables import row

if TYPE_CHECKING:
    from easyseg import SemanticSegmentor
    from easyseg.datasets.folder import FolderDataset
    from easyseg.views.expert_tables import ExpertUse

SETS = ("skin_isic", "leaf_disease")
GATES = ("learned", "constant")
STEPS = 150
SETTINGS: Mapping[str, Any] = {
    "backbone.name": "lite_medsam",
    "data.size": 112,
    "train.batch_size": 2,
    "adapter.kind": "conv_lora",
    "adapter.rank": 4,
    "adapter.num_experts": 4,
    "adapter.routing": "window",
    "adapter.lora_targets": [],
    "optim.warmup": 0.05,
}


class Cell(NamedTuple):
    """One gate on one set."""

    name: str
    gate: str

    def file(self, results: Path) -> Path:
        """Return where its result is kept."""
        return results / "expert_use" / f"{self.name}-{self.gate}.json"


def model_of(
    cell: Cell, dataset: FolderDataset, steps: int, models: Path | None
) -> SemanticSegmentor:
    """Return the saved model of a cell, or fit one.

    Args:
        cell: The cell.
        dataset: Its set.
        steps: Optimizer steps of a fit.
        models: Folder of saved models; None: there are none, and none is saved.
    """
    from easyseg import SemanticSegmentor

    saved = None if models is None else models / f"{cell.name}-{cell.gate}"
    if saved is not None and saved.exists():
        segmentor = SemanticSegmentor.load(saved, "cpu")
        gate = segmentor.plan_.adapter.gate
        if gate != cell.gate:
            sys.exit(f"{saved}: adapter.gate is {gate!r}, expected {cell.gate!r}")
        return segmentor
    with tempfile.TemporaryDirectory() as scratch:
        segmentor = SemanticSegmentor(
            classes=dataset.classes, ignore_index=dataset.ignore, path=Path(scratch) / "run"
        ).fit(
            dataset.train,
            dataset.val,
            presets="fast",
            hyperparameters={**SETTINGS, "adapter.gate": cell.gate, "train.max_steps": steps},
            accelerator="cpu",
            seed=0,
        )
    if saved is not None:
        segmentor.save(saved)
    return segmentor


def run_cell(cell: Cell, options: argparse.Namespace) -> bool:
    """Fit or take a model, look at its experts, and write down what they do."""
    from easyseg.datasets.folder import read_folder
    from easyseg.views.expert_tables import QUESTIONS, count_use, dependence
    from easyseg.views.expert_use import expert_choices

    measured = provenance()
    dataset = read_folder(options.data / cell.name)
    segmentor = model_of(cell, dataset, options.steps, options.models)
    use = count_use(expert_choices(segmentor, dataset.test))
    metric = segmentor.plan_.metric
    plan = segmentor.plan_.to_dict()
    plan.pop("reasons")
    write_json(
        cell.file(options.results),
        {
            "set": cell.name,
            "gate": cell.gate,
            "images": len(dataset.test),
            "metric": metric,
            "score": segmentor.evaluate(dataset.test, metric)[metric],
            "dependence": {of: round(dependence(use.counts, of), 4) for of in QUESTIONS},
            "by_chance": {of: round(value, 4) for of, value in use.chance.items()},
            "use": use.counts.to_dict(orient="list"),
            "plan": plan,
            **measured,
        },
    )
    return True


def use_of(cell: Mapping[str, Any]) -> ExpertUse:
    """Return the use of experts of a finished cell."""
    from easyseg.views.expert_tables import ExpertUse

    return ExpertUse(pd.DataFrame(cell["use"]), cell["by_chance"])


def table(cells: Sequence[Mapping[str, Any]]) -> str:
    """Return what the experts of each cell do, in a row each.

    Args:
        cells: Finished cells.
    """
    from easyseg.views.expert_tables import shares

    uses = [use_of(cell) for cell in cells]
    scales = sorted({scale for use in uses for scale in use.counts["scale"]})
    head = (
        "set",
        "gate",
        "score",
        *(f"scale {scale}" for scale in scales),
        "most used",
        *("by size", "by chance"),
        *("object or none", "by chance"),
    )
    lines = [row(*head), "|---" * len(head) + "|"]
    for cell, use in zip(cells, uses, strict=True):
        by_block = shares(use.counts)
        each = [f"{by_block[s].mean():.0%}" if s in by_block else "–" for s in scales]
        most = f"{by_block.max(axis=1).mean():.0%}"
        score = f"{cell['score']:.3f}"
        depends = (
            f"{value:.2f}"
            for of in cell["dependence"]
            for value in (cell["dependence"][of], cell["by_chance"][of])
        )
        lines.append(row(cell["set"], cell["gate"], score, *each, most, *depends))
    machines = " / ".join(sorted({f"{c['machine']}, torch {c['torch']}" for c in cells}))
    commits = ", ".join(sorted({cell["commit"] for cell in cells}))
    about = (
        "Share of the windows of the test images that each expert gets, mean over the blocks; that "
        "of the most used expert of each block, mean over the blocks; Cramér's V of the chosen "
        "expert and the size of the object in the window, among windows with an object, and of the "
        "expert and whether there is an object, means over the blocks: 1 where the choice follows "
        "from it. Beside each what chance gives, the objects of whole images exchanged at random: "
        "windows of one image are alike, so this is above 0."
    )
    where = f"Machine: {machines}. Commit: {commits}."
    return "\n".join([*lines, "", about, "", where])


def draw(cells: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Draw a figure for each set, the gates below each other.

    Args:
        cells: Finished cells.
        folder: Where the figures go.
    """
    from easyseg.views.experts import plot_use
    from easyseg.views.figures import save_figure

    files = []
    for name in sorted({cell["set"] for cell in cells}):
        uses = {
            f"{name}, {cell['gate']} gate": use_of(cell)
            for cell in sorted(cells, key=lambda cell: GATES.index(cell["gate"]))
            if cell["set"] == name
        }
        files.append(folder / f"{name}.png")
        save_figure(plot_use(uses), files[-1])
    return files


def main() -> None:
    """Run what is missing; draw, and write the table."""
    parser = _cells.parser(__doc__)
    parser.set_defaults(sets=list(SETS))
    parser.add_argument("--steps", type=int, default=STEPS, help="optimizer steps of a fit")
    parser.add_argument("--models", type=Path, help="folder of saved models, SET-GATE each")
    options = parser.parse_args()
    cells = [Cell(name, gate) for name in options.sets for gate in GATES]
    missing = [c for c in cells if options.again or not c.file(options.results).is_file()]
    failed = _cells.run_cells([] if options.table else missing, lambda c: run_cell(c, options))
    folder = options.results / "expert_use"
    finished = _cells.read_results(folder)
    if finished:
        text = table(finished)
        (options.results / "expert_use.md").write_text(text + "\n", encoding="utf-8")
        print(text)
        print(*draw(finished, folder), sep="\n")
    _cells.exit_if(failed)


if __name__ == "__main__":
    main()
