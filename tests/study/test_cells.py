"""Equal settings are one cell, whatever they are called; the budget is what the plan is told."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_makers import CONTENT, study_of

from easyseg.study.cells import (
    Cell,
    budget_settings,
    cell_of,
    pick_values,
    places,
    settings_of,
    tuning_cells,
    unique,
)
from easyseg.study.spec import Budget

CELL = Cell(
    "leaves",
    1,
    ("fast",),
    {"adapter.scales": (1, 2), "optim.lr": 1e-3, "adapter.alpha": "auto"},
    None,
    Budget("samples", 8),
)
PICKED = {"lora": 1e-4, "conv_lora": 1e-3}


def cells(study, picked=PICKED):
    return {place.label: cell_of(study, place, picked) for place in places(study)}


def test_a_cell_is_the_same_after_a_trip_through_json():
    again = Cell.from_dict(json.loads(json.dumps(CELL.to_dict())))
    assert again == CELL
    assert again.key == CELL.key


@pytest.mark.parametrize(
    "change",
    [
        {"set": "roads"},
        {"seed": 2},
        {"presets": ("best",)},
        {"settings": {"optim.lr": 1e-3}},
        {"eval_metric": "dice@image"},
        {"budget": Budget("samples", 9)},
        {"budget": Budget("epochs", 8)},
    ],
)
def test_whatever_changes_the_outcome_changes_the_key(change):
    assert replace(CELL, **change).key != CELL.key


def test_the_order_of_settings_does_not():
    other = replace(CELL, settings=dict(reversed(CELL.settings.items())))
    assert other.key == CELL.key


def test_keys_are_the_same_in_another_process():
    code = (
        "import json, sys; from easyseg.study.cells import Cell;"
        "print(Cell.from_dict(json.load(sys.stdin)).key)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(CELL.to_dict()),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == CELL.key


def test_the_first_seed_of_everything_comes_first():
    labels = [place.label for place in places(study_of())]
    assert labels[:3] == [
        "methods/leaves/lora/0",
        "methods/leaves/conv_lora/0",
        "methods/roads/lora/0",
    ]
    assert [label.rsplit("/", 1)[1] for label in labels] == sorted(
        label.rsplit("/", 1)[1] for label in labels
    )
    assert len(labels) == 2 * 4 + 2 * 2


def test_equal_settings_are_one_cell():
    found = cells(study_of())
    assert found["ranks/leaves/rank 4/0"].key == found["methods/leaves/conv_lora/0"].key
    assert found["ranks/leaves/rank 2/0"].key != found["methods/leaves/conv_lora/0"].key
    assert len(unique(list(found.values()))) == len(found) - 2


def test_one_expert_is_one_of_scale_one():
    variants = {
        "one": {"adapter.num_experts": 1},
        "first": {"adapter.num_experts": 1, "adapter.scales": [1]},
        "second": {"adapter.num_experts": 1, "adapter.scales": [2]},
        "auto": {"adapter.num_experts": "auto", "adapter.scales": [1]},
    }
    part = {"method": "conv_lora", "variants": variants, "sets": {"leaves": [0]}}
    found = cells(study_of(parts={"scales": part}))
    keys = {label.split("/")[2]: cell.key for label, cell in found.items()}
    assert keys["one"] == keys["first"] == keys["auto"] != keys["second"]


def test_later_layers_win():
    sets = {"leaves": {"settings": {"adapter.rank": 6, "optim.lr": 9e-4, "data.size": 128}}}
    methods = {"lora": {"settings": {"adapter.rank": 8, "adapter.kind": "lora"}}}
    part = {"method": "lora", "variants": {"x": {"data.size": 64}}, "sets": {"leaves": [0]}}
    study = study_of(sets=sets, methods=methods, parts={"p": part})
    (place,) = places(study)
    settings = settings_of(study, place, {"lora": 2e-4})
    # The study says rank 4, the set 6, the method 8; the set's rate gives way to the picked one.
    assert settings["adapter.rank"] == 8
    assert settings["optim.lr"] == 2e-4
    assert settings["data.size"] == 64
    assert settings["train.batch_size"] == 2


def test_methods_wait_until_all_their_values_are_tried():
    study = study_of()
    tuning = tuning_cells(study)
    assert list(tuning) == ["lora", "conv_lora"]
    assert set(cells(study, {}).values()) == {None}
    goodness = {cell.key: 0.5 for cell in tuning["lora"]} | {tuning["conv_lora"][0].key: 0.7}
    assert pick_values(study, goodness) == {"lora": 1e-4}
    assert cell_of(study, places(study)[1], {"lora": 1e-4}) is None


@pytest.mark.parametrize(
    ("scores", "picked"),
    [((0.4, 0.6), 1e-3), ((0.6, 0.4), 1e-4), ((0.5, 0.5), 1e-4), ((math.nan, 0.1), 1e-3)],
)
def test_the_best_value_is_picked_and_the_first_of_equals(scores, picked):
    study = study_of()
    goodness = {
        cell.key: score for cell, score in zip(tuning_cells(study)["lora"], scores, strict=True)
    }
    assert pick_values(study, goodness) == {"lora": picked}


def test_the_picked_cell_of_the_tuning_is_one_of_the_study():
    study = study_of()
    first, second = tuning_cells(study)["conv_lora"]
    found = cells(study)
    assert found["methods/leaves/conv_lora/0"] == second != first


def test_a_study_without_tuning_waits_for_nothing():
    content = {key: value for key, value in CONTENT.items() if key != "tuning"}
    from easyseg.study.reading import parse_study

    study = parse_study(content, name="test")
    assert tuning_cells(study) == {}
    assert None not in cells(study, {}).values()


@given(
    samples=st.integers(1, 2000),
    batch=st.integers(1, 16),
    num_train=st.integers(1, 500),
)
def test_epochs_are_enough_for_all_steps_and_no_more(samples, batch, num_train):
    settings = budget_settings(Budget("samples", samples), {"train.batch_size": batch}, num_train)
    steps, epochs = settings["train.max_steps"], settings["train.epochs"]
    an_epoch = math.ceil(num_train / batch)
    assert abs(steps * batch - samples) <= batch
    assert (epochs - 1) * an_epoch < steps <= epochs * an_epoch
    assert settings["train.patience"] == epochs


def test_a_patience_of_the_settings_stays():
    settings = {"train.batch_size": 2, "train.patience": 1}
    assert budget_settings(Budget("samples", 80), settings, 10)["train.patience"] == 1
