"""The pure parts of the benchmarks: what is run, what is kept, what the table says; no fit."""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from plan_makers import facts, plan_for

import easyseg
from easyseg.data.label_map import LabelMap
from easyseg.training.fit import ENDED

ROOT = Path(__file__).resolve().parents[1]

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / "benchmarks")
    import _cells as common
    import _eight_sets_table as eight_sets_table
    import _eight_sets_worker as worker
    import _estimates_table as estimates_table
    import _estimates_worker as estimates_worker
    import _plan_grid_table as plan_grid_table
    import _record as record
    import _scoring as scoring
    import _tables as tables
    import audit_many
    import autogluon_step
    import effects
    import eight_sets
    import estimates
    import memory
    import parts
    import plan_grid
    import predict_many
    import profile_step
    import scaling
    import throughput
    import time_to_quality

BINARY = LabelMap((0, 1), ("background", "thing"), None, "uint8")
THREE = LabelMap((0, 1, 2), ("soil", "crop", "weed"), 255, "uint8")


def made_up_cell(name, method, seed, labels, folder, errors):
    """Return a cell as the worker would write it: random masks, some of whose pixels are wrong."""
    rng = np.random.default_rng((seed, len(method), labels.num_classes))
    truths = np.random.default_rng(7).integers(labels.num_classes, size=(12, 6, 8), dtype=np.uint8)
    truths[3] = 0
    wrong = rng.random(truths.shape) < errors
    predicted = np.where(wrong, rng.integers(labels.num_classes, size=truths.shape), truths)
    predicted[3] = 0
    files = [str(folder / f"{number}.png") for number in range(len(truths))]
    for file, truth in zip(files, truths, strict=True):
        Image.fromarray(truth).save(file)
    table = pd.DataFrame({"image": files, "label": files})
    return {
        "set": name,
        "method": method,
        "seed": seed,
        "budget_seconds": 90.0,
        "fit_seconds": 88.8,
        "others_share": 0.024,
        **scoring.score(list(predicted.astype(np.uint8)), table, labels),
        "machine": "a machine",
        "threads": 2,
        "torch": "2.9",
        "commit": "abc1234",
    }


@pytest.fixture(params=[BINARY, THREE], ids=["binary", "multiclass"])
def cells(request, tmp_path):
    plan = [("conv_lora", 0, 0.1), ("conv_lora", 1, 0.2), ("unet", 0, 0.3), ("unet", 1, 0.4)]
    return [made_up_cell("plants", m, s, request.param, tmp_path, e) for m, s, e in plan]


def slow_score(cell, images):
    if cell["metric"] == "iou@image":
        scores = [image["iou@image"] for image in images]
        return statistics.mean(score for score in scores if score is not None)
    classes = range(len(images[0]["union"]))
    pooled = [
        (sum(i["intersection"][k] for i in images), sum(i["union"][k] for i in images))
        for k in classes
    ]
    return statistics.mean(both / union for both, union in pooled if union)


def test_a_resampled_score_is_that_of_the_drawn_images(cells):
    weights = tables.bootstrap_weights(12)[:50]
    assert set(weights.sum(1)) == {12}
    for cell in cells:
        drawn = [[cell["images"][i] for i in np.repeat(np.arange(12), row)] for row in weights]
        expected = [slow_score(cell, images) for images in drawn]
        np.testing.assert_allclose(tables.resample(cell, weights), expected, rtol=1e-12)
        assert tables.resample(cell, np.ones((1, 12)))[0] == pytest.approx(cell["score"], rel=1e-12)


def test_a_difference_is_paired_by_seed_and_lies_within_its_interval(cells):
    ours, theirs = cells[:2], cells[2:]
    difference, low, high = tables.paired_difference(ours, theirs)
    assert difference == pytest.approx(
        statistics.mean(a["score"] - b["score"] for a, b in zip(ours, theirs, strict=True))
    )
    assert 0 < low < difference < high
    assert tables.paired_difference(ours, ours) == (0, 0, 0)
    assert tables.paired_difference(ours, theirs[:1])[0] == ours[0]["score"] - theirs[0]["score"]
    assert tables.paired_difference(ours[:1], theirs[1:]) is None


def test_an_image_without_a_score_is_left_out(cells):
    for cell in cells:
        empty = cell["images"][3]
        assert (empty["iou@image"] is None) == (cell["metric"] == "iou@image")
        assert cell["score"] == pytest.approx(slow_score(cell, cell["images"]), rel=1e-12)


def test_the_table_holds_means_the_best_one_and_what_was_measured(cells):
    text = eight_sets_table.table(
        cells, {"unet": "U-Net", "lora": "LoRA", "conv_lora": "Conv-LoRA"}
    )
    ours, theirs = (
        f"{statistics.mean(cell['score'] for cell in part):.3f}" for part in (cells[:2], cells[2:])
    )
    assert f"| plants | `{cells[0]['metric']}` | {theirs} | – | **{ours}** |" in text
    assert "plants the mean of 2 seeds" in text
    assert "90 seconds of 2 cores" in text
    assert "4 cells. Longest fit: 88.8 s. Other processes took at most 2 % of the cores." in text
    assert "Machine: a machine, torch 2.9. Commit: abc1234." in text
    difference = tables.paired_difference(cells[:2], cells[2:])
    assert "| plants | {:+.3f} ({:+.3f} to {:+.3f}) | – |".format(*difference) in text


def test_all_cells_are_planned_the_first_seed_first():
    cells = eight_sets.plan_cells(list(eight_sets.SETS), list(eight_sets.METHODS))
    assert len(cells) == len(set(cells)) == 8 + 4 * (6 + 2 * 3)
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    assert eight_sets.plan_cells(["camvid"], ["constant", "unet"], [3, 4]) == [
        ("camvid", "constant", 3),
        ("camvid", "unet", 3),
        ("camvid", "unet", 4),
    ]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that calls the script, and says which cells it ran."""
    ran = []

    def run_cell(cell, data, results, budget, busy):
        if cell.name == "camvid":
            return False
        ran.append(cell)
        content = made_up_cell(*cell, BINARY, tmp_path, 0.2)
        record.write_json(cell.file(results), content | {"budget_seconds": budget})
        return True

    def call(*words):
        ran.clear()
        options = ["--results", str(tmp_path / "results"), "--methods", "unet", *words]
        monkeypatch.setattr("sys.argv", ["eight_sets.py", *options])
        eight_sets.main()
        return [cell.name for cell in ran]

    monkeypatch.setattr(eight_sets, "run_cell", run_cell)
    return call


def test_only_what_is_missing_is_run(run, tmp_path):
    page = tmp_path / "results" / "eight_sets.md"
    assert run("--sets", "cwfid", "--table") == []
    assert not page.exists()
    assert run("--sets", "cwfid") == ["cwfid"]
    assert run("--sets", "cwfid", "polyp_cvc") == ["polyp_cvc"]
    assert run("--sets", "cwfid", "--again") == ["cwfid"]
    text = page.read_text(encoding="utf-8")
    assert text.index("polyp_cvc") < text.index("cwfid")
    assert run("--sets", "cwfid", "--budget", "15") == ["cwfid"]
    assert "15 seconds" in page.read_text(encoding="utf-8")


def test_a_failed_cell_stops_no_other_one(run, tmp_path):
    with pytest.raises(SystemExit, match="failed: camvid unet 0"):
        run("--sets", "camvid", "cwfid")
    assert (tmp_path / "results" / "eight_sets" / "cwfid-unet-0.json").exists()


def grid_cell(name, setting, seed, score, images=12):
    """Return a cell of plan_grid.py, all of whose images have one score."""
    return {
        "set": name,
        "setting": setting,
        "seed": seed,
        "budget_seconds": 60.0,
        "fit_seconds": 58.8,
        "others_share": 0.01,
        "metric": "iou@image",
        "score": score,
        "images": [{"iou@image": score} for _ in range(images)],
        "plan": {"data": {"size": 112}, "optim": {"lr": 0.00086 if setting == "auto" else 0.001}},
        "machine": "a machine",
        "threads": 2,
        "torch": "2.9",
        "commit": "abc1234",
    }


GRID = {"slow": "112 px, 3e-4", "fast": "112 px, 1e-3"}
HALVES = (("a", "c"), ("b", "d"))
# On a and c "fast" is ahead, on b "slow" is.
GRID_SCORES = {
    "a": {"auto": 0.7, "slow": 0.5, "fast": 0.6},
    "b": {"auto": 0.6, "slow": 0.65, "fast": 0.63},
    "c": {"auto": 0.4, "slow": 0.46, "fast": 0.5},
}


def grid_cells(seeds=(0, 1)):
    return [
        grid_cell(name, setting, seed, score + (-1) ** seed * 0.01)
        for name, scores in GRID_SCORES.items()
        for setting, score in scores.items()
        for seed in seeds
    ]


def test_each_half_chooses_the_best_setting_for_the_other_one():
    scores = plan_grid_table.mean_scores(grid_cells())
    assert scores == {name: pytest.approx(own) for name, own in GRID_SCORES.items()}
    assert plan_grid_table.choose(scores, ("a", "c"), list(GRID)) == (
        "fast",
        ("a", "c"),
        pytest.approx(0.55),
    )
    assert plan_grid_table.choose(scores, ("d",), list(GRID)) is None
    chosen = plan_grid_table.choose_for(scores, HALVES, list(GRID))
    assert {name: choice.setting for name, choice in chosen.items()} == {
        "a": "slow",
        "b": "fast",
        "c": "slow",
    }
    del scores["b"]
    assert plan_grid_table.choose_for(scores, HALVES, list(GRID)) == {}


def test_what_not_all_settings_have_does_not_count():
    cells = [c for c in grid_cells() if (c["set"], c["setting"], c["seed"]) != ("a", "slow", 1)]
    used = plan_grid_table.whole(cells, ("auto", *GRID))
    assert {(c["set"], c["seed"]) for c in used} == {
        ("a", 0),
        ("b", 0),
        ("b", 1),
        ("c", 0),
        ("c", 1),
    }
    assert len(used) == 3 * 5
    assert plan_grid_table.whole(cells, ("auto", "other")) == []


def test_the_table_of_the_grid_says_what_was_chosen_and_who_is_ahead():
    text = plan_grid_table.table(grid_cells(), "auto", GRID, HALVES)
    row_of_a = (
        "| a | `iou@image` | 0.700 (112 px, 0.00086) | **0.500** | 0.600 "
        "| +0.200 (+0.200 to +0.200) |"
    )
    assert row_of_a in text
    assert "| c | `iou@image` | 0.400 (112 px, 0.00086) | **0.460** | 0.500 | -0.060 " in text
    assert "| mean |  | 0.567 | 0.537 | 0.577 | +0.037 |" in text
    assert "Best on a, c: 112 px, 1e-3 (mean 0.550); applied to b." in text
    assert "Best on b: 112 px, 3e-4 (mean 0.650); applied to a, c." in text
    assert "0.567 by the automatic plan, 0.530 by the chosen settings (+0.037)" in text
    assert "**higher, and more than 0.05 lower on c** (its worst set: c, -0.060)" in text
    assert "mean over 2 seeds" in text
    assert "18 cells." in text
    without_c = [cell for cell in grid_cells((0,)) if cell["set"] != "c"]
    text = plan_grid_table.table(without_c, "auto", GRID, HALVES)
    assert "**higher, and on no set more than 0.05 lower** (its worst set: b, -0.030)" in text
    assert "mean over 1 seed;" in text
    only_a = [cell for cell in grid_cells() if cell["set"] == "a"]
    assert "has all its cells yet" in plan_grid_table.table(only_a, "auto", GRID, HALVES)


def test_further_seeds_of_the_plan_and_of_what_was_chosen_stand_in_a_table_of_their_own():
    chosen = {"a": "slow", "b": "fast", "c": "slow"}
    further = [
        grid_cell(name, setting, 2, GRID_SCORES[name][setting] + (setting == "auto") * 0.03)
        for name in ("a", "c")
        for setting in ("auto", chosen[name])
    ]
    alone = [grid_cell("b", "auto", 2, 0.9)]
    two = plan_grid_table.table(grid_cells(), "auto", GRID, HALVES)
    text = plan_grid_table.table([*grid_cells(), *further, *alone], "auto", GRID, HALVES)
    assert "with 2 or 3 seeds:" in text
    assert "seeds:" not in two
    assert text.startswith(two[: two.index("18 cells.")])
    assert "| c | 0.410 | 0.460 (112 px, 3e-4) | -0.050 | -0.060 | -0.060 | -0.030 |" in text
    assert "| b | 0.600 | 0.630 (112 px, 1e-3) | -0.030 | -0.030 | -0.030 |  |" in text
    assert "**higher, and on no set more than 0.05 lower** (its worst set: c, -0.050)" in text
    assert "22 cells." in text


def test_a_grid_is_two_sizes_by_two_rates_and_its_halves_are_all_sets():
    for grid, rates in zip(plan_grid.GRIDS.values(), [(1e-4, 3e-4), (3e-4, 1e-3)], strict=True):
        assert [sorted(values.items()) for values in grid.values()] == [
            [("data.size", size), ("optim.lr", rate)] for size in (128, 256) for rate in rates
        ]
    for values in plan_grid.SETTINGS.values():
        planned = plan_for(overrides=values).values()
        assert {key: planned[key] for key in values} == values
    first, second = plan_grid.HALVES
    assert len(first) == len(second) == 4
    assert set(first) | set(second) == set(common.SETS)
    cells = plan_grid.plan_cells(common.SETS, list(plan_grid.SETTINGS), plan_grid.SEEDS)
    assert len(cells) == len(set(cells)) == 8 * 7 * 2
    assert [cell.seed for cell in cells] == [0] * 56 + [1] * 56


def test_each_grid_has_a_table_of_its_own():
    cells = [
        grid_cell(name, setting, 0, 0.9 if setting == "128px-1e-3" else 0.5)
        for name in common.SETS
        for setting in plan_grid.SETTINGS
    ]
    paper, own = plan_grid.tables(cells).split("**A grid of ")[1:]
    assert paper.startswith("128 and 256 px and the rates of the paper:**")
    assert "128 px, 1e-4" in paper
    assert "1e-3" not in paper
    assert own.startswith("128 and 256 px and the higher rate of the paper and that of the plan:**")
    assert "(mean 0.900)" in own
    without = [cell for cell in cells if cell["setting"] != "256px-1e-4"]
    assert plan_grid.tables(without) == "**A grid of " + own


def test_finished_cells_of_the_grid_are_read_in_order_and_not_run_again(tmp_path, monkeypatch):
    ran = []

    def run_cell(cell, data, results, budget, busy):
        ran.append(cell)
        record.write_json(cell.file(results), grid_cell(*cell, 0.5) | {"budget_seconds": budget})
        return cell.setting != "128px-3e-4"

    def call(*words):
        ran.clear()
        monkeypatch.setattr("sys.argv", ["plan_grid.py", "--results", str(tmp_path), *words])
        plan_grid.main()
        return [cell.setting for cell in ran]

    monkeypatch.setattr(plan_grid, "run_cell", run_cell)
    two = ("--sets", "skin_isic", "--seeds", "0", "--settings", "256px-1e-3", "automatic")
    assert call(*two) == ["256px-1e-3", "automatic"]
    assert call(*two) == []
    assert call(*two, "--budget", "5") == ["256px-1e-3", "automatic"]
    found = plan_grid.read_cells(tmp_path, 5.0)
    assert [cell.setting for cell in found] == ["automatic", "256px-1e-3"]
    with pytest.raises(SystemExit, match="failed: skin_isic 128px-3e-4 0"):
        call("--sets", "skin_isic", "leaf_disease", "--seeds", "0", "--budget", "5")
    text = (tmp_path / "plan_grid.md").read_text(encoding="utf-8")
    assert "| skin_isic | `iou@image` |" in text
    assert "Best on leaf_disease: 128 px, 3e-4 (mean 0.500); applied to skin_isic." in text


def estimated_cell(name, case, seconds, memory=2.0, **other):
    """Return a cell of estimates.py whose fit took 50 s and 2 GB, by default."""
    limited = case == estimates.LIMITED
    return {
        "set": name,
        "case": case,
        "backbone": "lite_medsam" if limited else case,
        "weights": "pretrained",
        "asked_seconds": 120.0 if limited else 50.0,
        "limit": 120.0 if limited else None,
        "estimate": {"seconds": seconds, "memory_gb": memory},
        "fit_seconds": 50.0,
        "peak_gb": 2.0,
        "others_share": 0.01,
        "ended": "all planned steps are done",
        "steps": 61,
        "metric": "iou@image",
        "score": 0.5,
        "plan": {"data": {"size": 112}},
        "machine": "a machine",
        "torch": "2.9",
        "commit": "abc1234",
        **other,
    }


def test_estimates_are_judged_by_what_was_measured():
    cells = [
        estimated_cell("camvid", "lite_medsam", 60.0, 1.5),
        estimated_cell("camvid", "mobile_sam", 62.5, None, weights="random"),
        estimated_cell("cwfid", "lite_medsam", 35.0, 2.4),
        estimated_cell("cwfid", "mobile_sam", None, None, estimate=None),
    ]
    text = estimates_table.table(cells)
    ours = "| {} | `{}` | 112 px | 61 | {} s | 50.0 s | {} | {} | 2.00 GB | {} |"
    rows = [
        ours.format("camvid", "lite_medsam", "60.0", "+20%", "1.50 GB", "-25%"),
        ours.format("camvid", "mobile_sam", "62.5", "+25%", "–", "–"),
        ours.format("cwfid", "lite_medsam", "35.0", "-30%", "2.40 GB", "+20%"),
        ours.format("cwfid", "mobile_sam", "–", "–", "–", "–").replace("– s", "–"),
    ]
    assert [line for line in text.splitlines() if line.startswith("| c")] == rows
    assert "Time: 2 of 4 within 25%, farthest -30% (cwfid, lite_medsam)." in text
    assert "Memory: 1 of 4 within 20%, farthest -25% (camvid, lite_medsam)." in text
    assert "Random weights, as none were at hand: mobile_sam." in text
    assert "time limit" not in text
    assert "Memory: not estimated." in estimates_table.table(cells[1:2])


def test_fits_in_limited_time_end_within_their_bounds_unless_they_stop_early():
    early = {"ended": "no better validation score in 5 epochs"}
    cells = [
        estimated_cell(name, estimates.LIMITED, 100.0, fit_seconds=seconds, **other)
        for name, seconds, other in (
            ("on_time", 119.0, {}),
            ("early", 60.0, early),
            ("sooner", 89.0, {}),
            ("late", 131.0, early),
        )
    ]
    assert [estimates_table.ended_in_time(cell) for cell in cells] == [True, True, False, False]
    assert estimates_table.ended_in_time(cells[0] | {"fit_seconds": 90.0})
    assert estimates_table.ended_in_time(cells[0] | {"fit_seconds": 130.0})
    assert not estimates_table.ended_in_time(cells[2] | {"ended": None})
    text = estimates_table.table(cells)
    assert (
        "| early | 120 s | 100.0 s | 60.0 s | +67% | 2.00 GB | 2.00 GB | +0% | 61 "
        "| no better validation score in 5 epochs | `iou@image` | 0.500 |"
    ) in text
    assert "2 of 4 fits ended between 90 and 130 s, or sooner by early stopping." in text
    assert "Outside: sooner, late." in text
    assert "Early stopping ended early, late." in text


def test_the_reason_why_a_fit_ended_is_heard_in_its_log():
    words = estimates_worker.LastWords()
    log = logging.getLogger("easyseg.of.a.test")
    log.addHandler(words)
    log.warning("epoch %d", 1)
    assert words.reason is None
    log.warning(ENDED, 3, 8, "no better validation score in 5 epochs")
    assert words.reason == "no better validation score in 5 epochs"


def test_steps_are_planned_that_take_about_as_long_as_asked():
    assert estimates.steps_for(60, 42.0, 50.0) == 60
    assert estimates.steps_for(60, 59.0, 50.0) == 60
    assert estimates.steps_for(60, 100.0, 50.0) == 30
    assert estimates.steps_for(60, 25.0, 50.0) == 120
    assert estimates.steps_for(1, 1000.0, 50.0) == 1


def test_estimates_are_written_down_with_the_plan_that_was_fitted(tmp_path, monkeypatch):
    calls = []

    def run_worker(script, work, folder, *arguments):
        calls.append(work)
        told = dict(zip(arguments[::2], arguments[1::2], strict=True))
        if work == "plan":
            steps = json.loads(told["--hyperparameters"])["train.max_steps"]
            estimate = {"seconds": 10 + 1.5 * steps, "memory_gb": 1.5}
            record.write_json(told["--target"], {"steps": steps, "estimate": estimate})
            return True
        limited = "--time-limit" in told
        plan = {} if limited else json.loads(told["--plan"].read_text(encoding="utf-8"))
        own = {"seconds": 118.0, "memory_gb": 1.2} if limited else plan.get("estimate")
        fitted = estimated_cell("", "", 0)
        kept = ("fit_seconds", "peak_gb", "others_share", "ended", "metric", "score")
        values = {"data": {"size": 112}, "backbone": {"name": "lite_medsam"}, "estimate": own}
        steps = plan.get("steps", 140)
        content = {key: fitted[key] for key in kept} | {"steps": steps, "plan": values}
        record.write_json(told["--target"], content)
        return folder.name != "cwfid"

    monkeypatch.setattr(common, "run_worker", run_worker)
    monkeypatch.setattr(estimates, "weights_of", lambda backbone: "random")

    def call(*words):
        calls.clear()
        monkeypatch.setattr("sys.argv", ["estimates.py", "--results", str(tmp_path), *words])
        estimates.main()
        return list(calls)

    with pytest.raises(SystemExit, match="failed: cwfid lite_medsam"):
        call("--sets", "camvid", "cwfid", "--cases", "lite_medsam")
    assert calls == ["plan", "plan", "fit"] * 2  # 60 steps would have taken 100 s.
    assert call("--sets", "camvid", "--cases", "time_limit", "lite_medsam") == ["fit"]
    planned, limited = estimates.read_cells(tmp_path).values()
    assert (planned["steps"], planned["estimate"]["seconds"]) == (30, 55.0)
    assert (limited["limit"], limited["estimate"]["seconds"]) == (120.0, 118.0)
    text = (tmp_path / "estimates.md").read_text(encoding="utf-8")
    assert "| camvid | `lite_medsam` | 112 px | 30 | 55.0 s | 50.0 s | +10% |" in text
    assert "0 of 1 fits ended between 90 and 130 s" in text


def test_a_measurement_is_dirty_if_code_changed_but_not_if_results_did(tmp_path, monkeypatch):
    for file in ("easyseg/a.py", "presets/a.yaml", "benchmarks/a.py", "benchmarks/results/a.json"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("1")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "a"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(record, "__file__", str(tmp_path / "benchmarks" / "_record.py"))
    with pytest.raises(SystemExit, match="set PYTHONPATH="):
        record.provenance()
    monkeypatch.setattr(easyseg, "__file__", str(tmp_path / "easyseg" / "__init__.py"))
    (tmp_path / "benchmarks/results/a.json").write_text("2")
    clean = record.provenance()["commit"]
    assert clean != "unknown"
    assert not clean.endswith("-dirty")
    for file in ("easyseg/a.py", "presets/a.yaml", "benchmarks/a.py"):
        (tmp_path / file).write_text("2")
        assert record.provenance()["commit"] == f"{clean}-dirty"
        (tmp_path / file).write_text("1")


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("README.md", "eight_sets"),
        ("README.md", "memory"),
        ("README.md", "real_sets"),
        ("benchmarks/README.md", "autogluon_step"),
        ("benchmarks/README.md", "effects"),
        ("benchmarks/README.md", "estimates"),
        ("benchmarks/README.md", "parts"),
        ("benchmarks/README.md", "plan_grid"),
    ],
)
def test_a_page_has_a_place_for_the_table(page, name):
    page = (ROOT / page).read_text(encoding="utf-8")
    changed = record.put_between(page, "NEW", name)
    assert f"<!-- {name} -->\n\nNEW\n\n<!-- /{name} -->\n" in changed
    assert record.put_between(changed, "NEW", name) == changed
    with pytest.raises(ValueError, match="no place marked <!-- other -->"):
        record.put_between(page, "NEW", "other")


def test_the_mean_mask_is_the_most_frequent_class_of_each_pixel():
    masks = np.array([[[1, 1, 255, 255]], [[1, 0, 2, 255]], [[0, 255, 2, 255]]], np.uint8)
    assert worker.most_frequent(list(masks), 3).tolist() == [[1, 0, 2, 0]]
    halves = [np.array([[1, 1, 0]], np.uint8), np.array([[1, 0, 0]], np.uint8)]
    assert worker.most_frequent(halves, 2).tolist() == [[1, 0, 0]]


def test_a_result_is_written_whole_with_lists_of_whole_numbers_on_one_line(tmp_path):
    content = {"counts": [1, 22], "scores": [0.5, 1.5], "text": "a [1]", "rows": [{"n": [3]}, {}]}
    record.write_json(tmp_path / "new" / "a.json", content)
    text = (tmp_path / "new" / "a.json").read_text(encoding="utf-8")
    assert '"counts": [1, 22]' in text
    assert json.loads(text) == content
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.json"]


def effect(variant, part, score, name="a", study="short"):
    return {"set": name, "variant": variant, "part": part, "score": score, "study": study}


def test_effects_are_differences_over_common_parts_of_one_study():
    cells = [effect("default", 0, 0.5), effect("default", 1, 0.7), effect("no prompt", 1, 0.6)]
    cells += [effect("default", 0, 0.4, "b"), effect("no prompt", 0, 0.5, "b")]
    cells += [effect("no prompt", 2, 0.9)]  # The default has not been there.
    cells += [
        effect("default", 0, 0.8, study="longer"),
        effect("no colours", 0, 0.7, study="longer"),
    ]
    _, short, long = effects.table(cells).split("\n\n")
    assert short.splitlines() == [
        f"| {effects.STUDIES['short'].about} | a | b | mean |",
        "|---|---|---|---|",
        "| default | 0.600 (2) | 0.400 (1) | 0.500 |",
        "| no prompt | -0.100 (1) | +0.100 (1) | +0.000 |",
    ]
    assert long.splitlines() == [
        f"| {effects.STUDIES['longer'].about} | a | mean |",
        "|---|---|---|",
        "| default | 0.800 (1) | 0.800 |",
        "| no colours | -0.100 (1) | -0.100 |",
    ]


def test_the_variants_of_effects_are_plans_that_can_be_made():
    for study in effects.STUDIES.values():
        options = {}
        if study.sets != effects.BINARY:
            three = facts(names=("soil", "crop", "weed"))
            options = {"fingerprint": three, "problem_type": "multiclass", "num_classes": 3}
        for overrides in study.variants.values():
            values = {**study.base, **overrides}
            planned = plan_for(overrides=values, presets=study.preset, **options).values()
            for key, value in values.items():
                assert planned[key] == (tuple(value) if isinstance(value, list) else value)


def test_the_tables_of_parts_are_ratios_to_their_yardsticks():
    step = {"backbone": "tiny", "size": 64, "batch": 2, "precision": "32"}
    ways = {"plain": [1.0, 2.0], "ours": [2.0, 3.0], "literal": [4.0, 12.0]}
    experts = parts.experts_table({"scales": [1, 2], "milliseconds": {"maps": ways}})
    assert "| maps, ours / plain | 2.00 | 1.50 | 1.67 |" in experts
    assert "| maps, ours / literal | 0.50 | 0.25 | 0.31 |" in experts
    seconds = {"theirs, float32": 2.0, "ours, float32": 1.0}
    assert "| ours, float32 | 1.000 | 0.50 |" in parts.encoder_table(
        {"size": 64, "seconds": seconds}
    )
    adapters = parts.adapters_table(
        step
        | {
            "seconds": {"none": 2.0, "lora": 2.5},
            "gflops_of_a_product": 100.0,
            "seconds_of_its_products_at_that_speed": 1.0,
        }
    )
    assert "| a step of tiny, 64 px, batch 2, 32 |" in adapters
    assert "| lora | 2.50 | 1.25 |" in adapters
    assert "| products of `none` at 100 GFLOP/s | 1.00 | 0.50 |" in adapters
    prefix = parts.prefix_table(
        step
        | {
            "blocks": 3,
            "seconds": {"full": 2.0, "cached": 1.2},
            "share_of_flops_left": 0.5,
            "seconds_by_flops": 1.0,
        }
    )
    assert "| from the prefix cache | 1.20 | 0.60 |" in prefix
    assert "| 50% of the operations are left | 1.00 | 0.50 |" in prefix


def test_cases_take_turns_and_the_first_round_does_not_count():
    order = []
    cases = {name: lambda name=name: order.append(name) for name in "ab"}
    assert parts.medians(cases, 2).keys() == {"a", "b"}
    assert order == list("ababab")


def test_throughput_is_in_images_a_second_and_leaves_out_what_does_not_fit():
    cell = {"backbone": "vit_b", "size": 1024, "batch": 1, "precision": "32", "peak_gb": 4.56}
    both = {"seconds": {"predict": 2.0, "train": 8.0}}
    both["share_of_its_speed"] = {"predict": 0.5, "train": 0.625}
    one = {"seconds": {"predict": 2.0}, "share_of_its_speed": {"predict": 0.5}}
    lines = throughput.table([cell | both, cell | one]).splitlines()[2:]
    assert lines == [
        "| cpu | `vit_b` | 1024 | 1 | 32 | 0.12 | 62% | 0.5 | 50% | 4.6 GB |",
        "| cpu | `vit_b` | 1024 | 1 | 32 | – | – | 0.5 | 50% | 4.6 GB |",
    ]


def test_a_cell_of_throughput(tiny_backbones, monkeypatch):
    monkeypatch.setattr(throughput, "images_that_fit", lambda *args, **kwargs: 2)
    found = throughput.measure(tiny_backbones[0], 128, throughput.CPU)
    assert found["batch"] == 2
    assert found["seconds"].keys() == found["gflop"].keys() == {"predict", "train"}
    assert found["gflop"]["train"] > 1.5 * found["gflop"]["predict"] > 0
    assert all(share > 0 for share in found["share_of_its_speed"].values())
    monkeypatch.setattr(throughput, "images_that_fit", lambda *args, **kwargs: 1.9)
    found = throughput.measure(tiny_backbones[0], 128, throughput.CPU)
    assert found["seconds"].keys() == {"predict"}


def test_scaling_changes_one_thing_at_a_time():
    base, *changed = found = scaling.variants(112)
    assert base == {"data.size": 112, **scaling.BASE}
    assert all(sum(v[axis] != base[axis] for axis in base) == 1 for v in changed)
    assert [v["data.size"] for v in changed if v["data.size"] != 112] == [224, 336]
    steps = [{"values": v, "seconds": 1.0 + number} for number, v in enumerate(found)]
    text = scaling.table({"backbone": "tiny", "precision": "32", "steps": steps})
    assert "| side of the input | 112: 1.00 · 224: 2.00 · 336: 3.00 |" in text
    assert "| batch | 1: 4.00 · 2: 1.00 · 4: 5.00 · 8: 6.00 |" in text


def test_the_steps_of_scaling_are_what_they_are_called(tiny_backbones):
    values = {"data.size": 128, "train.batch_size": 4, "adapter.rank": 2, "adapter.num_experts": 4}
    step = scaling.step_of(tiny_backbones[1], values)
    assert step.images.shape == (4, 3, 128, 128)
    layer = next(module for _, module in step.network.adapters())
    assert (len(layer.lora_A), len(layer.experts)) == (2, 4)


def test_predictions_of_many_images_are_measured(tmp_path):
    predict_many.write_images(tmp_path / "images", 3)
    predict_many.write_model(tmp_path / "model")
    command = [sys.executable, predict_many.__file__, "--here", tmp_path / "model"]
    done = subprocess.run(
        [*map(str, command), str(tmp_path / "images"), str(tmp_path / "masks")],
        capture_output=True,
        text=True,
        check=True,
    )
    run = json.loads(done.stdout)
    assert run["images"] == len(list((tmp_path / "masks").glob("*.png"))) == 3
    assert 0 < run["reading_seconds"] < run["seconds"]
    assert 0 < run["checking_seconds"] < run["seconds"] - run["reading_seconds"]
    assert 0 < run["peak_gb_before"] <= run["peak_gb"]
    run |= {"seconds": 6.0, "checking_seconds": 1.0, "reading_seconds": 0.5, "peak_gb": 1.0}
    row = predict_many.table({"runs": [run]}).splitlines()[-1]
    assert row == "| 3 | 1.00 GB | 2.000 | 10% of the prediction | 17% of all |"


def test_time_to_quality_is_that_of_the_first_epoch_that_reaches_the_mark():
    seconds, scores = [10.0, 20.0, 30.0], [0.4, 0.6, 0.5]
    assert time_to_quality.reached(seconds, scores, 0.5) == 20.0
    assert time_to_quality.reached(seconds, scores, 0.7) is None
    cell = {"device": "cpu", "set": "leaf_disease", "seconds": seconds, "scores": scores}
    cell |= {"steps": 90, "test": 0.5123}
    row = time_to_quality.table([cell]).splitlines()[-1]
    assert row == "| cpu | leaf_disease | 0.50 | 20 s | 0.600 | 30 s | 90 | 0.512 |"


def test_the_literal_expert_of_parts_is_the_one_of_the_library():
    torch.manual_seed(0)
    z = torch.randn(2, parts.RANK, 7, 9)
    for scale in parts.SCALES:
        expert = parts.ConvExpert(parts.RANK, scale)
        torch.testing.assert_close(parts.literal_expert(expert, z), expert(z), rtol=0, atol=1e-5)


def test_the_parts_of_effects_are_all_images_once_and_neighbours_stay_together():
    table = pd.DataFrame({"image": list("gacebdf"), "label": list("GACEBDF")})
    held = []
    for part in range(effects.PARTS):
        train, out = effects.split(table, part)
        assert sorted([*train["image"], *out["image"]]) == list("abcdefg")
        assert "".join(out["image"]) in "abcdefg"
        held += list(out["image"])
    assert held == list("abcdefg")


def test_processes_take_turns_and_say_how_long_they_took(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from _turns import Turns\n"
        "for work in ('step', 'prediction'):\n"
        "    turns = Turns(work)\n"
        "    for number in range(3):\n"
        "        turns.begin(); print('noise', end=''); time.sleep(float(sys.argv[2]))\n"
        "        turns.end()\n"
    )
    runners = {
        name: autogluon_step.Runner(
            [sys.executable, script, ROOT / "benchmarks", str(seconds)], tmp_path / name
        )
        for name, seconds in (("AutoGluon, float32", 0.2), ("easyseg, float32", 0.1))
    }
    try:
        found = autogluon_step.measure(runners, rounds=2)
    finally:
        for runner in runners.values():
            runner.end()
    theirs, ours = found.values()
    assert theirs["step"] >= 0.2
    assert ours["step"] >= 0.1
    assert theirs["prediction"] >= 0.2
    assert (tmp_path / "easyseg, float32").read_text().count("noise") == 6


def test_the_table_beside_autogluon_shows_ratios():
    theirs = {"step": 36.0, "prediction": 11.0, "step_peak_gb": 9.6}
    ours = {"step": 18.0, "prediction": 5.5, "step_peak_gb": 4.8}
    found = {"AutoGluon, float32": theirs, "easyseg, float32": ours}
    text = autogluon_step.table({"found": found, "machine": "here", "commit": "abc"})
    assert "| easyseg, float32 | 18.0 s (0.50) | 5.50 s (0.50) | 4.80 GB (0.50) |" in text


def test_operators_are_added_up_by_kind():
    operators = {
        "aten::addmm": ("matrix products and convolutions", 2.0),
        "aten::convolution_backward": ("matrix products and convolutions", 1.0),
        "aten::_scaled_dot_product_flash_attention_for_cpu": ("attention", 0.5),
        "aten::_cudnn_attention_backward": ("attention", 0.125),
        "aten::_softmax_backward_data": ("attention", 0.125),
        "aten::gelu_backward": ("GELU", 0.5),
        "aten::native_layer_norm": ("normalisation", 0.5),
        "aten::_to_copy": ("copies, casts, changes of layout", 0.5),
        "aten::_fused_adamw_": ("update", 0.5),
        "aten::add_": ("sums, products by element", 0.5),
        "aten::sort": (profile_step.OTHER, 0.125),
    }
    assert {name: profile_step.kind_of(name) for name in operators} == {
        name: kind for name, (kind, _) in operators.items()
    }
    found = profile_step.by_kind((name, seconds) for name, (_, seconds) in operators.items())
    assert next(iter(found.items())) == ("matrix products and convolutions", 3.0)
    assert found["attention"] == 0.75
    assert sum(found.values()) == sum(seconds for _, seconds in operators.values())


def test_a_profile_holds_the_time_of_the_step(tiny_backbones):
    options = argparse.Namespace(
        backbone=tiny_backbones[0], size=128, batch=1, precision="32", device=parts.CPU, rounds=1
    )
    found = profile_step.measure(options)
    assert found["seconds_by_kind"]["matrix products and convolutions"] > 0
    assert found["seconds"] > 0
    other = found | {"seconds": 2.0, "device": "cuda", "gflops_of_a_product": 10.0}
    other |= {"gflop": 15.0, "gflop_of_attention": 5.0, "commit": "b"}
    lines = profile_step.table([found | {"commit": "a"}, other])
    assert lines.splitlines()[-1].endswith("| 2.00 (100%) |")
    assert "batch 1, 32, cuda |" in lines.splitlines()[0]
    bounds = {line.split(" | ")[0]: line for line in lines.splitlines() if "speed of" in line}
    assert {line.split(" | ")[-1] for line in bounds.values()} == {"1.00 (50%) |", "0.500 (25%) |"}


def test_the_operations_of_attention_are_counted_apart():
    plan = {"backbone.name": "vit_b", "backbone.weights": "random", "data.size": 224}
    options = {"adapter.rank": 3, "train.batch_size": 1, "train.precision": "32"}
    step = parts.TrainingStep(parts.binary_plan(plan | options))
    own = parts.flops_of(step) - parts.flops_of(step, attention=False)
    # Two products forward and four backward, 8 blocks of windows and 4 of the whole grid.
    plain = 12 * 6 * 2 * 64 * (14 * 14) ** 2 * 12
    assert plain <= own < 1.3 * plain


def test_the_images_of_the_comparison_are_readable_and_their_masks_differ(tmp_path):
    table = pd.read_csv(autogluon_step.write_images(tmp_path, 2))
    masks = [np.asarray(Image.open(path)) for path in table["label"]]
    assert all(mask.shape == (1024, 1024) and set(np.unique(mask)) == {0, 255} for mask in masks)
    assert not np.array_equal(*masks)
    assert Image.open(table["image"][0]).size == (1024, 1024)


def test_the_table_of_memory_is_what_the_plan_decides():
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert record.put_between(page, memory.table(), "memory") == page
    assert memory.decided("vit_b", 40) == "4"
    assert memory.decided("vit_h", 8) == "1, recomputed"


def test_a_table_goes_to_its_place_with_where_it_comes_from(tmp_path, monkeypatch, capsys):
    page = tmp_path / "README.md"
    page.write_text("a\n<!-- new -->\nold\n<!-- /new -->\nb\n", encoding="utf-8")
    monkeypatch.setattr(record, "__file__", str(tmp_path / "_record.py"))
    results = [{"machine": "m", "commit": "2"}, {"machine": "m", "commit": "1"}] * 2
    record.publish("| t |", results, "new")
    assert capsys.readouterr().out == "| t |\n\nm, commit 1 / m, commit 2.\n"
    lines = page.read_text(encoding="utf-8").split("\n")
    table = ["| t |", "m, commit 1 / m, commit 2."]
    assert [line for line in lines if line] == ["a", "<!-- new -->", *table, "<!-- /new -->", "b"]


def test_many_images_are_audited_in_a_process_of_their_own(tmp_path):
    table = audit_many.write_set(tmp_path / "set", 3)
    command = [sys.executable, audit_many.__file__, "--here", table]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    run = json.loads(done.stdout)
    assert run["images"] == 3
    assert run["seconds"] > 0
    assert run["findings"] == ["mask-encoding"]
    row = audit_many.table_of({"runs": [run | {"seconds": 0.03, "peak_gb": 0.2}]}).splitlines()[-1]
    assert row.startswith("| 3 | 0.0 | 10.0 | 0.20 GB |")
