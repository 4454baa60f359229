"""The benchmark of the experts: both gates are fitted or taken, and told apart."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from study_makers import make_sets

pytest.importorskip("matplotlib", reason="figures need matplotlib: the extra 'plots'")

ROOT = Path(__file__).resolve().parents[1]

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / "benchmarks")
    import expert_use as benchmark

TINY = {
    "backbone.name": "tiny_sam",
    "backbone.weights": "random",
    "data.size": 128,
    "adapter.rank": 2,
    "adapter.num_experts": 3,
}


@pytest.fixture
def run(tiny_backbones, tmp_path, monkeypatch):
    """Return a function that runs the benchmark on one tiny set."""
    make_sets(tmp_path / "data", "leaf_disease")
    monkeypatch.setattr(benchmark, "SETTINGS", {**benchmark.SETTINGS, **TINY})

    def main(*more: str) -> Path:
        results = tmp_path / "results"
        words = ["--data", tmp_path / "data", "--sets", "leaf_disease", "--steps", "1"]
        words += ["--results", results, "--models", tmp_path / "models", *more]
        monkeypatch.setattr("sys.argv", ["expert_use.py", *map(str, words)])
        benchmark.main()
        return results

    return main


def test_both_gates_are_fitted_kept_and_drawn(run, tmp_path, monkeypatch, capsys):
    results = run()
    cells = {}
    for gate in ("learned", "constant"):
        cell = json.loads((results / f"expert_use/leaf_disease-{gate}.json").read_text())
        assert cell["plan"]["adapter"]["gate"] == cell["gate"] == gate
        use = pd.DataFrame(cell["use"])
        assert use["windows"].sum() == 3 * cell["images"]  # 128 pixels are one window
        assert set(use["scale"]) == {1, 2, 3}
        assert cell["commit"]
        cells[gate] = cell
    assert sorted(file.name for file in (tmp_path / "models").iterdir()) == [
        "leaf_disease-constant",
        "leaf_disease-learned",
    ]
    with Image.open(results / "expert_use" / "leaf_disease.png") as picture:
        assert len(picture.convert("L").getcolors()) > 10
    lines = (results / "expert_use.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == (
        "| set | gate | score | scale 1 | scale 2 | scale 3 | most used "
        "| by size | by chance | object or none | by chance |"
    )
    assert [line.split(" | ")[1] for line in lines[2:4]] == ["constant", "learned"]
    assert f"| {cells['constant']['score']:.3f} |" in lines[2]
    assert lines[0] in capsys.readouterr().out

    # What is finished is not run again; with --again the saved models are taken.
    monkeypatch.setattr("easyseg.SemanticSegmentor.fit", lambda *args, **options: 1 / 0)
    run()
    run("--again")
    for gate, cell in cells.items():
        again = json.loads((results / f"expert_use/leaf_disease-{gate}.json").read_text())
        assert again["use"] == cell["use"]
        assert again["score"] == cell["score"]

    (tmp_path / "models" / "leaf_disease-learned").rename(tmp_path / "learned")
    (tmp_path / "models" / "leaf_disease-constant").rename(
        tmp_path / "models" / "leaf_disease-learned"
    )
    with pytest.raises(SystemExit, match=r"adapter\.gate is 'constant', expected 'learned'"):
        run("--again")


def test_the_table_holds_shares_and_says_where_it_comes_from():
    use = {
        "block": [0, 0, 0, 0, 1, 1, 1, 1],
        "size": ["none", "none", "large", "large"] * 2,
        "expert": [0, 1] * 4,
        "scale": [1, 2] * 4,
        "windows": [3, 1, 1, 3, 0, 4, 0, 4],
    }
    cell = {
        "set": "leaves",
        "gate": "learned",
        "score": 0.51234,
        "dependence": {"size": 0.123, "object": 0.456},
        "by_chance": {"size": 0.0321, "object": 0.0654},
        "use": use,
        "machine": "a machine",
        "torch": "2",
        "commit": "abc",
    }
    lines = benchmark.table([cell]).splitlines()
    assert lines[2] == "| leaves | learned | 0.512 | 25% | 75% | 75% | 0.12 | 0.03 | 0.46 | 0.07 |"
    assert lines[-1] == "Machine: a machine, torch 2. Commit: abc."
