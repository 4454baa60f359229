"""Means, standard errors and differences against scipy; what is missing is said."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats
from study_makers import CONTENT, Pretended, study_of

from easyseg.console import Reporter
from easyseg.errors import OptionError
from easyseg.study import runner
from easyseg.study.markdown import _at_edge, markdown
from easyseg.study.plots import plot_experts, plot_scores
from easyseg.study.progress import progress_of
from easyseg.study.report import write_report
from easyseg.study.runner import Fleet, run_study
from easyseg.study.tables import COLUMNS, columns_of, expert_uses, spread, tidy
from easyseg.views.expert_tables import ExpertUse

SCORES = {
    ("lora", 0): 0.52,
    ("lora", 1): 0.55,
    ("lora", 2): 0.61,
    ("conv_lora", 0): 0.58,
    ("conv_lora", 1): 0.53,
    ("conv_lora", 2): 0.64,
}


def use_of(seed: int) -> dict[str, list]:
    """Return the use of two experts in two blocks: the size decides, each seed turned round."""
    rows = [
        (block, size, expert, expert + 1, 300 if expert == ((size == "large") + seed) % 2 else 0)
        for block in (0, 1)
        for size in ("small", "large")
        for expert in (0, 1)
    ]
    names = ("block", "size", "expert", "scale", "windows")
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def score(job) -> float:
    cell = job.cell
    if cell.set == "roads" and cell.settings["adapter.kind"] == "conv_lora":
        return math.nan
    best = cell.settings["optim.lr"] == 1e-3
    known = SCORES[cell.settings["adapter.kind"], cell.seed]
    return known if best else known - 0.3


class WithExperts(Pretended):
    def run(self, job) -> None:
        super().run(job)
        if job.cell.settings["adapter.kind"] == "conv_lora" and job.cell.set == "leaves":
            import json

            content = json.loads(job.file.read_text())
            chance = {"size": 0.1 * (1 + job.cell.seed), "object": 0.1}
            content["experts"] = {"test": ["test"] * 8, **use_of(job.cell.seed)}
            job.file.write_text(json.dumps(content | {"experts_by_chance": {"test": chance}}))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "find_sets", lambda *args, **options: None)
        run_study(
            study_of(),
            data=None,
            results=folder,
            fleet=Fleet("cpu", (None,), 1),
            reporter=Reporter(0),
            launcher=WithExperts(score),
        )
    return folder


@pytest.fixture(scope="module")
def progress(results):
    return progress_of(study_of(), results)


def section(text: str, title: str) -> str:
    """Return what stands under a heading."""
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def row(text: str, title: str) -> list[str]:
    """Return the entries of the first row of a table with a title."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {title} |"))
    return [entry.strip() for entry in line.strip("|").split("|")][1:]


def changed_results(progress, change):
    """Return the progress with other contents of the finished cells."""
    results = {
        key: replace(result, content=change(dict(result.content))) if result.done else result
        for key, result in progress.results.items()
    }
    return replace(progress, results=results)


@pytest.mark.parametrize("values", [[0.1, 0.4], [0.52, 0.55, 0.61], [0.0, 0.0, 0.0, 1.0]])
def test_the_error_is_that_of_scipy(values):
    mean, error = spread(values)
    assert mean == pytest.approx(np.mean(values))
    assert error == pytest.approx(stats.sem(values))


def test_one_value_has_no_error():
    assert spread([0.3])[0] == 0.3
    assert math.isnan(spread([0.3])[1])


def test_the_tidy_table_has_a_row_for_each_score_of_each_place(progress):
    table = tidy(study_of(), progress)
    assert tuple(table.columns) == COLUMNS
    # Methods: 3 + 3 on leaves, 1 on roads (the other one failed). Ranks: 2 + 2. Two scores each.
    assert len(table) == 2 * (6 + 1 + 4)
    found = table[(table["part"] == "methods") & (table["metric"] == "iou@image")]
    scores = {
        (r, s): v for r, s, v in zip(found["row"], found["seed"], found["score"], strict=True)
    }
    assert {key: value for key, value in scores.items() if key[0] == "conv_lora"} == {
        key: value for key, value in SCORES.items() if key[0] == "conv_lora"
    }
    assert set(table["tuned"]) == {1e-3}
    # Rank 4 is a cell of both parts.
    shared = table[table["part"] == "ranks"]["cell"]
    assert set(shared) & set(found["cell"])


def test_tables_show_means_errors_and_the_best(progress):
    text = section(markdown(study_of(), progress), "Methods")
    lora, conv = ([SCORES[name, seed] for seed in range(3)] for name in ("lora", "conv_lora"))
    leaves, roads, trained, seconds = row(text, "Conv-LoRA")
    assert leaves == f"**{np.mean(conv):.3f} ± {stats.sem(conv):.3f}**"
    assert (roads, trained, seconds) == ("–", "1.500", "90")
    assert row(text, "LoRA")[:2] == [f"{np.mean(lora):.3f} ± {stats.sem(lora):.3f}", "0.520"]


def test_missing_seeds_are_told_and_nothing_is_in_bold_then(progress):
    def gone(content):
        if content["cell"]["settings"]["adapter.kind"] == "lora" and content["cell"]["seed"] == 1:
            content["tests"] = {"test": {**content["tests"]["test"], "iou@image": None}}
            content["errors"] = {"test: iou@image": "MemoryError: too\nlarge"}
        return content

    text = markdown(study_of(), changed_results(progress, gone))
    two, three = (
        [SCORES[name, s] for s in seeds]
        for name, seeds in (("lora", (0, 2)), ("conv_lora", (0, 1, 2)))
    )
    methods = section(text, "Methods")
    assert row(methods, "LoRA")[0] == f"{np.mean(two):.3f} ± {stats.sem(two):.3f} (2 of 3)"
    assert row(methods, "Conv-LoRA")[0] == f"{np.mean(three):.3f} ± {stats.sem(three):.3f}"
    pairs = [SCORES["conv_lora", seed] - SCORES["lora", seed] for seed in (0, 2)]
    difference = f"{np.mean(pairs):+.3f} ± {stats.sem(pairs):.3f} (2 of 3)"
    assert row(methods.split("| minus LoRA |")[1], "Conv-LoRA")[0] == difference
    assert section(text, "Not scored").strip() == (
        "- `methods/leaves/lora/1`: test: iou@image: MemoryError: too large"
    )


def test_as_many_seeds_but_others_are_no_comparison(progress):
    def gone(content):
        seed = {"lora": 1, "conv_lora": 2}[content["cell"]["settings"]["adapter.kind"]]
        if content["cell"]["seed"] == seed:
            content["tests"] = {"test": {**content["tests"]["test"], "iou@image": None}}
        return content

    methods = section(markdown(study_of(), changed_results(progress, gone)), "Methods")
    for title in ("LoRA", "Conv-LoRA"):
        assert row(methods, title)[0].endswith(" (2 of 3)")


def test_a_metric_that_came_later_is_named_where_it_is_missing(progress):
    assert "## Not scored" not in markdown(study_of(), progress)
    study = study_of(metrics=["iou@image", "ber@dataset"])
    later = replace(
        progress,
        cells=[
            (replace(place, set=study.sets[place.set.name]), cell) for place, cell in progress.cells
        ],
    )
    lines = section(markdown(study, later), "Not scored").strip().splitlines()
    # 7 of the methods are finished, and 2 of the ranks that are no cell of the methods.
    assert len(lines) == len({result.key for result in finished(later)}) == 9
    ((place, cell), *_) = later.cells
    assert lines[0] == (
        f"- `{place.label}`: ber@dataset: not asked for when the cell was run; remove its file, "
        f"`{cell.stem}.json`, to run it again"
    )


def finished(progress):
    found = [progress.result(cell) for _, cell in progress.cells]
    return [result for result in found if result is not None]


def test_seconds_are_a_median_and_sizes_a_range(progress):
    """One cell that waited for others does not decide; heads of other sets may be larger."""

    def other(content):
        cell = content["cell"]
        content["fit_seconds"] = 9000.0 if cell["seed"] == 2 else 90.0 + cell["seed"]
        content["trained_parameters"] = 2_500_000 if cell["set"] == "roads" else 1_500_000
        return content

    text = section(markdown(study_of(), changed_results(progress, other)), "Methods")
    # LoRA: 90, 91, 9000 and, on the roads, 90. Conv-LoRA has failed on the roads.
    assert row(text, "LoRA")[2:] == ["1.500 to 2.500", "90"]
    assert row(text, "Conv-LoRA")[2:] == ["1.500", "91"]
    assert "cells may run side by side" in text


def test_differences_are_of_equal_seeds(progress):
    text = section(markdown(study_of(), progress), "Methods").split("| minus LoRA |")[1]
    pairs = [SCORES["conv_lora", seed] - SCORES["lora", seed] for seed in range(3)]
    assert row(text, "Conv-LoRA")[0] == f"{np.mean(pairs):+.3f} ± {stats.sem(pairs):.3f}"


def test_of_errors_the_lowest_is_the_best(progress):
    sets = {name: {"metrics": ["mae@image"]} for name in CONTENT["sets"]}
    study = study_of(sets=sets)
    # The same cells, scored by an error.
    turned = changed_results(
        progress,
        lambda content: {
            **content,
            "tests": {"test": {"mae@image": content["tests"]["test"]["iou@image"]}},
        },
    )
    text = section(markdown(study, turned), "Methods")
    assert row(text, "LoRA")[0].startswith("**")
    assert not row(text, "Conv-LoRA")[0].startswith("**")


def test_what_was_picked_and_what_failed_is_shown(progress):
    text = markdown(study_of(), progress)
    picked = section(text, "optim.lr, picked once")
    assert row(picked, "LoRA") == ["0.220", "**0.520** †"]  # Of two values each is at an edge.
    assert "`methods/roads/conv_lora/0`: OptionError: no luck in two lines" in section(
        text, "Failed"
    )
    # 8 of the methods, 2 of the ranks, 2 rates that were not picked.
    assert "11 of 12 cells are finished." in text


@pytest.mark.parametrize(
    ("value", "values", "edge"),
    [
        (1e-3, (1e-3, 1e-4, 1e-2), False),  # In whatever order they are tried.
        (1e-4, (1e-3, 1e-4, 1e-2), True),
        (1e-2, (1e-3, 1e-4, 1e-2), True),
        (1e-3, (1e-3,), False),
        ("focal", ("dice", "focal"), False),
    ],
)
def test_the_lowest_and_the_highest_value_are_edges(value, values, edge):
    assert _at_edge(value, values) == edge


def test_a_study_that_has_not_begun_is_a_report_too(tmp_path):
    progress = progress_of(study_of(), tmp_path / "nothing")
    text = markdown(study_of(), progress)
    assert "0 of 4 cells are finished; 12 places wait for a picked value." in text
    files = write_report(study_of(), progress, tmp_path / "out")
    assert [file.name for file in files] == ["scores.csv", "tables.md"]
    assert pd.read_csv(files[0]).columns.tolist() == list(COLUMNS)


def test_experts_of_seeds_that_do_the_opposite_are_not_summed(progress):
    uses = expert_uses(study_of().parts[0], progress)
    assert list(uses) == [("leaves", "test", "conv_lora")]
    use = uses["leaves", "test", "conv_lora"].counts
    assert use.groupby("seed")["windows"].sum().to_dict() == dict.fromkeys(range(3), 4 * 300)
    text = section(markdown(study_of(), progress), "Methods")
    assert row(text, "Leaves: Conv-LoRA") == ["50%", "50%", "1.00 (0.20)", "0.00 (0.10)"]


def test_cells_that_know_no_chance_are_shown_without(progress):
    def earlier(content):
        if "experts" in content:
            content.pop("experts_by_chance")
            content["experts"] = {k: v for k, v in content["experts"].items() if k != "test"}
        return content

    text = section(markdown(study_of(), changed_results(progress, earlier)), "Methods")
    assert row(text, "Leaves: Conv-LoRA") == ["50%", "50%", "1.00 (–)", "0.00 (–)"]
    assert "a cell of an earlier version has no chance" in text


def test_each_test_table_has_its_own_use_of_experts(progress):
    def twice(content):
        content["tests"] = dict.fromkeys(("easy", "hard"), content["tests"]["test"])
        if "experts" in content:
            easy = content["experts"]
            hard = {**easy, "test": ["hard"] * 8, "scale": [1] * 8}
            easy = {**easy, "test": ["easy"] * 8}
            content["experts"] = {key: [*easy[key], *hard[key]] for key in easy}
        return content

    text = section(markdown(study_of(), changed_results(progress, twice)), "Methods")
    assert row(text, "Leaves: easy: Conv-LoRA")[:2] == ["50%", "50%"]
    assert row(text, "Leaves: hard: Conv-LoRA")[:2] == ["100%", "–"]


def test_figures_are_drawn_where_matplotlib_is(progress, tmp_path):
    pytest.importorskip("matplotlib", reason="figures need matplotlib: the extra 'plots'")
    files = write_report(study_of(), progress, tmp_path)
    names = ["scores-methods.png", "experts-methods.csv", "experts-methods.png", "scores-ranks.png"]
    assert [file.name for file in files[2:]] == names
    assert {file.name for file in tmp_path.iterdir()} == {"scores.csv", "tables.md", *names}
    use = pd.read_csv(tmp_path / "experts-methods.csv")
    assert use.columns[:4].tolist() == ["set", "test", "row", "seed"]
    assert use["windows"].sum() == 3 * 4 * 300
    for file in (file for file in files if file.suffix == ".png"):
        with Image.open(file) as picture:
            assert len(picture.convert("L").getcolors()) > 10


def test_without_matplotlib_the_message_says_what_to_install(progress, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    study = study_of()
    table = tidy(study, progress)
    columns = columns_of(study.parts[0], study.sets, table)
    with pytest.raises(OptionError, match=r"pip install matplotlib"):
        plot_scores(study.parts[0], columns, table, tmp_path / "scores.png")
    with pytest.raises(OptionError, match=r"pip install matplotlib"):
        plot_experts(
            {"a": ExpertUse(pd.DataFrame(use_of(0)), {"size": 0.0, "object": 0.0})},
            tmp_path / "experts.png",
        )
    with pytest.raises(OptionError, match="at least one model with experts"):
        plot_experts({}, tmp_path / "experts.png")
