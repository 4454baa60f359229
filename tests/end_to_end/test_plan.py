"""Planning without training, and a fit that follows a plan that was given."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_sets import TINY, make_table

from easyseg import SemanticSegmentor
from easyseg.errors import OptionError, WeightsError
from easyseg.models.network import trainable_state
from easyseg.plan.plan import Plan

SHORT = TINY | {"train.max_steps": 1}


@pytest.fixture(scope="module")
def planned(table) -> Plan:
    segmentor = SemanticSegmentor(verbosity=0)
    return segmentor.plan(table, hyperparameters=SHORT, accelerator="cpu")


def test_planning_writes_nothing_and_tells_what_the_fit_takes(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    segmentor = SemanticSegmentor(path=tmp_path / "run", verbosity=0)
    plan = segmentor.plan(table, hyperparameters=SHORT, accelerator="cpu")
    assert list(tmp_path.iterdir()) == []
    assert not hasattr(segmentor, "plan_")
    assert plan.estimate.seconds > 0
    assert "expected: about" in str(plan)
    assert plan.reasons["adapter.rank"]


def test_a_limit_too_short_for_a_probe_plans_as_the_fit_does(table, tmp_path):
    options = {"hyperparameters": SHORT, "time_limit": 30.0, "accelerator": "cpu"}
    segmentor = SemanticSegmentor(path=tmp_path / "run", verbosity=0)
    plan = segmentor.plan(table, **options)
    assert plan.estimate is None
    assert segmentor.fit(table, **options).plan_ == plan


def test_a_fit_follows_its_own_plan_to_the_last_bit(table, planned, tmp_path):
    kept = tmp_path / "plan.json"
    planned.save(kept)
    weights = []
    for name, options in (
        ("a", {"hyperparameters": SHORT}),
        ("b", {"plan": planned}),
        ("c", {"plan": kept}),
    ):
        segmentor = SemanticSegmentor(path=tmp_path / name, verbosity=0)
        segmentor.fit(table, accelerator="cpu", **options)
        assert segmentor.plan_.values() == planned.values()
        weights.append(trainable_state(segmentor._model.network))
    for others in weights[1:]:
        assert all(value.equal(others[key]) for key, value in weights[0].items())


def test_an_edited_file_is_what_runs(table, planned, tmp_path):
    file = tmp_path / "plan.json"
    planned.save(file)
    record = json.loads(file.read_text(encoding="utf-8"))
    record["adapter"]["rank"] = 5
    record["metric"] = "dice@image"
    file.write_text(json.dumps(record), encoding="utf-8")
    segmentor = SemanticSegmentor(path=tmp_path / "run", verbosity=0)
    segmentor.fit(table, plan=str(file), accelerator="cpu")
    assert segmentor.plan_.adapter.rank == 5
    assert segmentor.plan_.metric == "dice@image"
    assert "from the plan you gave; easyseg would take" in segmentor.plan_.reasons["adapter.rank"]
    ranks = {
        value.shape[0]
        for key, value in trainable_state(segmentor._model.network).items()
        if key.endswith("lora_A")
    }
    assert ranks == {5}
    assert Plan.load(tmp_path / "run" / "plan.json") == segmentor.plan_


def test_an_edited_plan_is_estimated_before_it_runs(table, planned):
    edited = replace(planned, train=replace(planned.train, max_steps=7))
    assert "expected: not known" in str(edited)
    segmentor = SemanticSegmentor(verbosity=0)
    again = segmentor.plan(table, plan=edited, accelerator="cpu")
    assert again.values() == edited.values()
    assert "expected: about" in str(again)
    with pytest.raises(OptionError, match="plan= holds every decision"):
        segmentor.plan("nowhere.csv", plan=planned, presets="fast")


def test_a_plan_says_how_its_masks_are_read(table, tmp_path):
    """Of two values, which read as a background and an object unless the problem says otherwise."""
    two = {"problem_type": "multiclass", "eval_metric": "iou@dataset/class_255"}
    plan = SemanticSegmentor(**two, verbosity=0).plan(
        table, hyperparameters=SHORT, accelerator="cpu", time_limit=30
    )
    run = SemanticSegmentor(path=tmp_path / "run", verbosity=0)
    run.fit(table, plan=plan, accelerator="cpu")
    assert run.plan_.metric == "iou@dataset/class_255"
    assert run.classes_ == ("class_0", "class_255")


def test_weights_of_a_plan_are_found_from_any_folder(table, planned, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = replace(planned, backbone=replace(planned.backbone, weights="own.pth"))
    with pytest.raises(WeightsError) as error:
        SemanticSegmentor(path=tmp_path / "run", verbosity=0).fit(table, plan=plan)
    assert str(tmp_path / "own.pth") in str(error.value)


def test_a_wrong_request_ends_before_any_image_is_read(planned, tmp_path):
    segmentor = SemanticSegmentor(path=tmp_path / "run", verbosity=0)
    with pytest.raises(OptionError, match="plan= holds every decision"):
        segmentor.fit("nowhere.csv", plan=planned, presets="fast")
    with pytest.raises(OptionError, match="of type dict, expected a Plan"):
        segmentor.fit("nowhere.csv", plan=planned.to_dict())
    with pytest.raises(OptionError, match="cannot be read as a plan"):
        segmentor.fit("nowhere.csv", plan=tmp_path / "nowhere.json")
    edited = replace(planned, train=replace(planned.train, epochs=0))  # which checks nothing
    with pytest.raises(OptionError, match=r"train\.epochs = 0 is not possible"):
        segmentor.fit("nowhere.csv", plan=edited)
    assert not (tmp_path / "run").exists()


def test_other_classes_than_the_plan_is_for_are_refused(planned, tmp_path: Path):
    three = make_table(tmp_path / "three", 5, values=(0, 1, 2))
    segmentor = SemanticSegmentor(path=tmp_path / "run", verbosity=0)
    with pytest.raises(OptionError, match=r"for 2 classes \(binary\), the masks hold 3"):
        segmentor.fit(three, plan=planned)
    assert not (tmp_path / "run").exists()
