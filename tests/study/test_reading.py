"""A study is read from YAML, and all that is wrong with it is said at once."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from study_makers import CONTENT, study_of

from easyseg.datasets import get_spec, list_datasets
from easyseg.errors import OptionError
from easyseg.metrics.catalogue import check_metrics
from easyseg.study.cells import cell_of, places, tuning_cells, unique
from easyseg.study.reading import list_studies, parse_study, read_study
from easyseg.study.spec import Budget


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the content of the tests' study with another value at a place; None takes it out."""
    content = copy.deepcopy(dict(CONTENT))
    *way, last = path.split("/")
    room = content
    for key in way:
        room = room[key]
    if value is None:
        del room[last]
    else:
        room[last] = value
    return content


def test_a_study_holds_what_its_file_says(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "about: two rates\n"
        "budget: {epochs: 3}\n"
        "metrics: iou@image\n"
        "sets:\n"
        "  leaves: {title: Leaves, eval_metric: dice@image, settings: {loss.kind: focal}}\n"
        "  roads: {budget: {seconds: 90}, metrics: [dice@image, iou@dataset]}\n"
        "methods: {lora: {settings: {adapter: {kind: lora, rank: 8}}}}\n"
        "parts:\n"
        "  rates:\n"
        "    method: lora\n"
        "    variants: {1: {optim.lr: 1.0e-4}, 2: {optim.lr: 1e-3}}\n"
        "    sets: {leaves: [0, 1], roads: [3]}\n",
        encoding="utf-8",
    )
    study = read_study(file)
    assert (study.name, study.about, study.presets) == ("mine", "two rates", ("auto",))
    assert study.sets["leaves"].budget == Budget("epochs", 3)
    assert study.sets["roads"].budget == Budget("seconds", 90.0)
    assert study.sets["leaves"].metrics == ("iou@image",)
    assert study.sets["roads"].metrics == ("dice@image", "iou@dataset")
    assert study.sets["leaves"].eval_metric == "dice@image"
    assert study.methods["lora"].settings == {"adapter.kind": "lora", "adapter.rank": 8}
    (part,) = study.parts
    assert part.seeds == {"leaves": (0, 1), "roads": (3,)}
    assert [row.settings for row in part.rows] == [{"optim.lr": 1e-4}, {"optim.lr": 1e-3}]
    assert study.tuning is None


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("bugdet", {}, "unknown key 'bugdet'. Did you mean 'budget'?"),
        ("budget", {"images": 3}, "expected one of samples, epochs, seconds"),
        ("budget", {"samples": 2.5}, "expected one of samples, epochs, seconds"),
        ("budget", {"samples": 0}, "expected one of samples, epochs, seconds"),
        ("budget", {"samples": 2, "epochs": 1}, "expected one of samples, epochs, seconds"),
        ("presets", "fats", "Did you mean 'fast'?"),
        ("metrics", ["iou@imag"], "metrics: 'iou@imag' is not known. Did you mean 'iou@image'?"),
        ("metrics", [], "nothing under metrics"),
        ("sets", {}, "nothing under sets"),
        ("sets/leaves/seeds", [1], "sets.leaves: unknown key 'seeds'"),
        ("sets/leaves/eval_metric", "iuo@image", "Did you mean 'iou@image'?"),
        ("settings", {"adapter.rnak": 3}, "unknown key 'adapter.rnak'"),
        ("settings", {"adapter.rank": 0}, "adapter.rank = 0 is not possible"),
        ("settings", ["adapter.rank"], "settings: expected a mapping"),
        ("settings", {"train.batch_size": 2, "train.epochs": 3}, "follows from the budget"),
        (
            "settings",
            {"adapter.rank": 4},
            "12 places have none, such as methods/leaves/conv_lora/0",
        ),
        ("settings/backbone.name", "lite_medsma", "lite_medsam"),
        ("methods/lora/settings", {"adapter.kind": "lroa"}, "Did you mean 'lora'?"),
        ("methods/lora/name", "LoRA", "methods.lora: unknown key 'name'"),
        ("tuning/key", "optim.rate", "unknown key 'optim.rate'"),
        ("tuning/values", 1e-4, "a list of values to try; found 'optim.lr' and 0.0001"),
        ("tuning/values", [], "a list of values to try; found 'optim.lr' and []"),
        ("tuning/values", [1e-4, -1.0], "optim.lr = -1.0 is not possible"),
        ("tuning/set", "leafs", "tuning.set: 'leafs' is not known. Did you mean 'leaves'?"),
        ("parts/methods/sets", None, "expected seeds by set"),
        ("parts/methods/sets/rodas", [0], "'rodas' is not known. Did you mean 'roads'?"),
        ("parts/methods/sets/leaves", [0, 0], "different whole numbers"),
        ("parts/methods/sets/leaves", [-1], "different whole numbers"),
        ("parts/methods/methods", ["full"], "parts.methods.methods: 'full' is not known"),
        ("parts/methods/method", "lora", "several are methods: [...]"),
        ("parts/methods/experts", "yes", "parts.methods.experts: expected true or false"),
        ("parts/methods/baseline", "conv", "parts.methods.baseline: 'conv' is not known"),
        ("parts/ranks/method", "conv", "parts.ranks.method: 'conv' is not known"),
        ("parts/ranks/methods", ["lora"], "not both"),
        ("parts/ranks/baseline", "rank 3", "Did you mean 'rank"),
    ],
)
def test_what_is_wrong_is_said(path, value, message):
    with pytest.raises(OptionError, match=re.escape(message)) as caught:
        parse_study(changed(path, value), name="test", where="test.yaml")
    assert str(caught.value).startswith("test.yaml is no study that can be run:\n  - ")


@pytest.mark.parametrize("room", ["sets", "parts"])
@pytest.mark.parametrize(
    "name",
    ["a/b", "a\\b", "a:b", "what?", "a*", 'a"b', "a|b", "<a>", "..", ".a", "a.", "a ", "\n", ""],
)
def test_names_that_no_file_can_have_are_refused(room, name):
    content = changed(room, {**CONTENT[room], name: next(iter(CONTENT[room].values()))})
    with pytest.raises(OptionError, match=re.escape(f"{room}.{name}: {name!r} is part of")):
        parse_study(content, name="test")


def test_names_may_have_words_of_any_language():
    title = "Blätter, 2. Ernte (früh)"
    part = {"title": title, "sets": {title: [0]}}
    study = study_of(sets={title: {}}, parts={title: part}, tuning=None)
    assert list(study.sets) == [part.name for part in study.parts] == [title]


def test_all_problems_are_said_at_once():
    content = changed("presets", "fats") | {"metrics": ["iou"], "speed": 3}
    with pytest.raises(OptionError) as caught:
        parse_study(content, name="test")
    assert str(caught.value).count("\n  - ") == 3


def test_a_study_is_a_mapping():
    with pytest.raises(OptionError, match="expected a mapping"):
        parse_study(["methods"], name="test")


def test_a_file_that_is_no_yaml_is_an_error(tmp_path):
    file = tmp_path / "broken.yaml"
    file.write_text("about: [", encoding="utf-8")
    with pytest.raises(OptionError, match=r"broken\.yaml cannot be read as YAML"):
        read_study(file)


def test_a_study_that_is_not_there_names_the_nearest():
    with pytest.raises(OptionError, match=r"'smal': neither a file nor .* mean 'small'"):
        read_study("smal")


def test_a_method_may_set_what_is_tuned_and_is_left_alone():
    methods = {
        **CONTENT["methods"],
        "lora": {"settings": {"adapter.kind": "lora", "optim.lr": 5e-4}},
    }
    study = study_of(methods=methods)
    assert list(tuning_cells(study)) == ["conv_lora"]
    cell = cell_of(study, places(study)[0], {})
    assert cell is not None
    assert cell.settings["optim.lr"] == 5e-4


def all_cells(name: str):
    """Return the places of a study that comes with easyseg, and its cells for a middle value."""
    study = read_study(name)
    tuning = tuning_cells(study)
    picked = {method: study.tuning.values[1] for method in tuning if study.tuning is not None}
    cells = [cell_of(study, place, picked) for place in places(study)]
    assert None not in cells
    return study, [cell for each in tuning.values() for cell in each], cells


def test_the_small_study_shares_what_is_equal():
    study, tuning, cells = all_cells("small")
    # Six methods with three seeds on two sets and one on two; 11 rows of ablations, two seeds.
    assert len(cells) == 6 * (3 + 3 + 1 + 1) + 11 * 2
    assert len(tuning) == 6 * 3
    # New in the ablations: 1 and 8 experts, scales 2 and 4, ranks 2 and 16. What is picked is one
    # of the three that were tried.
    assert len(unique(cells)) == 6 * 8 + 6 * 2
    assert len(unique([*tuning, *cells])) == 6 * 8 + 6 * 2 + 6 * 2
    assert {cell.budget for cell in cells} == {Budget("samples", 210)}
    assert {cell.set for cell in tuning} == {"leaf_disease"}
    kinds = [method.settings["adapter.kind"] for method in study.methods.values()]
    assert kinds == ["none", "bitfit", "lora", "conv_lora", "conv_lora", "full"]


def test_the_papers_study_has_its_rates_epochs_and_seeds():
    study, tuning, cells = all_cells("paper")
    assert tuning == []
    assert study.presets == ("paper",)
    methods = next(part for part in study.parts if part.name == "methods")
    assert set(methods.seeds.values()) == {(0, 1, 2)}
    # PAPER.md, section 2.
    epochs = {name: found.budget.amount for name, found in study.sets.items()}
    assert epochs == {
        "polyp": 30,
        "isic2017": 30,
        "camo": 20,
        "sbu_shadow": 10,
        "leaf_disease_segmentation": 30,
        "road_segmentation": 20,
        "trans10k_v1": 30,
        "trans10k_v2": 30,
    }
    fast = {name for name, found in study.sets.items() if found.settings.get("optim.lr") == 3e-4}
    assert fast == {"leaf_disease_segmentation", "road_segmentation"}
    assert len({method.settings["adapter.kind"] for method in study.methods.values()}) == 10
    assert len(cells) > len(unique(cells))


def test_the_papers_study_scores_as_its_code_does_too():
    # The columns of the paper's table, PAPER.md, section 4; E beside S where both are taken.
    asked = {
        "polyp": {"s_measure", "e_measure_mean"},
        "isic2017": {"iou"},
        "camo": {"s_measure", "e_measure_mean", "weighted_f_0.3"},
        "sbu_shadow": {"ber"},
        "leaf_disease_segmentation": {"iou"},
        "road_segmentation": {"iou"},
        "trans10k_v1": {"miou"},
        "trans10k_v2": {"miou"},
    }
    for name, found in read_study("paper").sets.items():
        keys = {f"{metric}@reference" for metric in asked[name]}
        assert {key for key in found.metrics if key.endswith("@reference")} == keys
        binary = get_spec(name).problem_type == "binary"
        assert check_metrics(found.metrics, binary, tuple(get_spec(name).classes)) == found.metrics


def test_the_sets_of_the_papers_study_have_names():
    assert set(read_study("paper").sets) <= set(list_datasets())
    assert set(read_study("small").sets) <= set(list_datasets())


def test_studies_that_come_with_easyseg_are_listed():
    assert list_studies() == ("paper", "small")
