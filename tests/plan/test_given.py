"""A whole plan that is given: its values are what runs, its reasons say what easyseg would take."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from plan_makers import H200, OTHER, facts, plan_for

from easyseg.errors import OptionError
from easyseg.plan.costs import Costs
from easyseg.plan.decisions import check_given
from easyseg.plan.plan import Plan

FREE = {"presets": "auto", "hyperparameters": None, "problem_type": "auto", "eval_metric": None}


def changed(plan: Plan, section: str, **values) -> Plan:
    return replace(plan, **{section: replace(getattr(plan, section), **values)})


@pytest.mark.parametrize("presets", ["auto", "fast", ["best", "polyp"], "paper", "reference"])
def test_an_unchanged_plan_keeps_values_and_reasons(presets):
    plan = plan_for(presets=presets)
    again = plan_for(given=plan)
    assert again.values() == plan.values()
    sections = {key: why for key, why in plan.reasons.items() if "." in key}
    assert {key: why for key, why in again.reasons.items() if "." in key} == sections
    assert again.reasons["preset"] == again.reasons["metric"] == "from the plan you gave"


@pytest.mark.parametrize("key", OTHER)
def test_what_was_edited_is_what_runs_and_is_told(key):
    value, others = OTHER[key], {}
    if isinstance(value, tuple) and isinstance(value[-1], dict):
        value, others = value
    edited = plan_for(overrides={key: value, **others})
    again = plan_for(given=edited)
    assert again.values() == edited.values()
    assert again.reasons[key].startswith("from the plan you gave; easyseg would take ")


def test_a_plan_from_another_machine_stays_as_it_is():
    far = plan_for(hardware=H200, obtainable=("vit_h",), presets="best")
    assert far.backbone.name == "vit_h"
    here = plan_for(given=far)
    assert here.values() == far.values()
    assert "easyseg would take lite_medsam" in here.reasons["backbone.name"]


def test_on_a_gpu_nobody_asks_which_weights_could_be_had_instead():
    far = plan_for(hardware=H200, obtainable=("vit_h",), presets="best")
    there = plan_for(hardware=H200, given=far)
    assert there.values() == far.values()
    assert there.reasons["backbone.name"] == "from the plan you gave"


def test_on_a_gpu_nothing_is_said_of_weights_that_nobody_looked_for():
    """Without weights to choose from easyseg would take the same, and say that there are none."""
    there = plan_for(hardware=H200, given=plan_for(hardware=H200))
    assert there.backbone.name == "lite_medsam"
    assert there.reasons["backbone.name"] == "from the plan you gave"


@pytest.mark.parametrize("edited", [False, True])
def test_what_a_limit_pays_for_is_not_known_without_a_probe(edited):
    found, limit = replace(facts(), num_tuning=500), {"time_limit": 120.0}
    plan = plan_for(found, **limit, costs=Costs(0.7, 0.5, 1.0, 5.0, 2.0))
    if edited:
        plan = changed(plan, "train", epochs=2)
    again = plan_for(found, **limit, given=plan)
    assert again.values() == plan.values()
    for key in ("train.epochs", "train.validation_images", "data.augment", "train.prefix_cache"):
        assert again.reasons[key] == "from the plan you gave"
    kept = Costs(None, 0.5, 1.0, 5.0, None)
    untimed = plan_for(found, **limit, given=plan, costs=kept)
    for key in ("train.epochs", "data.augment", "train.prefix_cache"):
        assert untimed.reasons[key] == "from the plan you gave"
    known = plan_for(found, **limit, given=plan, costs=Costs(0.7, 0.5, 1.0, 5.0, 2.0))
    assert ("easyseg would take" in known.reasons["train.epochs"]) == edited


def test_the_estimate_is_that_of_the_new_probe():
    plan = plan_for(costs=Costs(1.0, 0.1, 1.0, 5.0, 2.0))
    assert plan.estimate is not None
    assert plan_for(given=plan).estimate is None
    assert plan_for(given=plan, costs=Costs(9.0, 0.1, 1.0, 5.0, 3.0)).estimate.memory_gb == 3.0


def test_contradictions_are_found():
    plan = changed(plan_for(), "adapter", scales=(1, 2), num_experts=3)
    with pytest.raises(OptionError, match=r"adapter\.scales has 2 entries"):
        plan_for(given=plan)


def test_a_plan_for_another_problem_is_refused():
    names = ("soil", "crop", "weed")
    with pytest.raises(OptionError, match=r"for 2 classes \(binary\), the masks hold 3"):
        plan_for(facts(names=names), problem_type="multiclass", num_classes=3, given=plan_for())


def test_a_metric_that_does_not_exist_is_refused():
    with pytest.raises(OptionError, match="iou@images"):
        plan_for(given=replace(plan_for(), metric="iou@images"))


def test_nothing_else_may_be_asked_for():
    plan = plan_for()
    check_given(plan, **FREE)
    check_given(plan, **FREE | {"presets": ["auto"]})
    check_given(plan, **FREE | {"problem_type": "binary", "eval_metric": plan.metric})
    asked = {
        "presets": "fast",
        "hyperparameters": {"adapter": {"rank": 4}},
        "problem_type": "multiclass",
        "eval_metric": "dice@image",
    }
    with pytest.raises(OptionError) as error:
        check_given(plan, **asked)
    for words in ("presets='fast'", "adapter.rank", "problem_type='multi", "eval_metric='dice@im"):
        assert words in str(error.value)


def test_an_edited_file_is_read_with_its_mistakes_named(tmp_path):
    file = tmp_path / "plan.json"
    plan = plan_for()
    plan.save(file)
    record = json.loads(file.read_text(encoding="utf-8"))
    record["adapter"]["ranks"] = record["adapter"].pop("rank")
    file.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(OptionError, match=r"plan\.json.*Did you mean 'adapter\.rank'"):
        Plan.load(file)
    plan.save(file)
    text = file.read_text(encoding="utf-8")
    file.write_text(text[:-2] + ', "estimate": {"hours": 1}}', encoding="utf-8")
    with pytest.raises(OptionError, match="leave it out"):
        Plan.load(file)
    with pytest.raises(OptionError, match=r"nowhere\.json cannot be read"):
        Plan.load(tmp_path / "nowhere.json")
