"""Domains: what they hold, how they combine, and what a plan makes of them."""

from __future__ import annotations

import pytest
from plan_makers import CPU, H200, facts, plan_for

from easyseg.errors import OptionError
from easyseg.metrics.catalogue import check_metrics, metric_keys
from easyseg.plan.domains import DOMAINS, flatten, parse
from easyseg.plan.presets import (
    SYMMETRIES,
    Asked,
    list_domains,
    list_presets,
    load_domain,
    parse_presets,
)
from easyseg.preparation import _obtainable

NAMES = {
    "industrial": "all",
    "leaf_disease": "all",
    "microscopy": "all",
    "natural_camouflage": "left-right",
    "polyp": "all",
    "road": "all",
    "shadow": "left-right",
    "skin_lesion": "all",
    "street": "left-right",
    "text": "none",
    "transparent": "left-right",
}


def multiclass(**options):
    names = ("a", "b", "c")
    return plan_for(facts(names=names), problem_type="multiclass", num_classes=3, **options)


def test_domains_are_these():
    assert list_domains() == tuple(sorted(NAMES))
    assert not set(list_domains()) & {*list_presets(), "auto"}


@pytest.mark.parametrize("name", NAMES)
def test_a_domain_says_why_for_each_possible_value_and_nothing_else(name):
    content = load_domain(name)
    assert content["symmetries"] == NAMES[name]
    said = {key for key in ("symmetries", "metric") if content[key] is not None}
    assert set(content["variants"]) <= {"binary", "multiclass", "cpu", "gpu"}
    for part in (content["plan"], *content["variants"].values()):
        for key, value in flatten(part).items():
            assert value == "auto" or parse(key, value) is not None
            said.add(key)
    assert content["because"].keys() == said
    assert all(content["because"].values())
    if content["metric"] is not None:
        check_metrics(content["metric"], True, ("background", "foreground"))
    check_metrics(content["paper"], True, ("background", "foreground"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("preset", ["fast", "balanced", "best", "paper", "auto"])
@pytest.mark.parametrize("make", [plan_for, multiclass])
@pytest.mark.parametrize("hardware", [CPU, H200])
def test_every_domain_goes_with_every_preset_problem_and_machine(name, preset, make, hardware):
    plan = make(presets=[preset, name], hardware=hardware)
    whole = make(presets=preset, hardware=hardware)
    content = load_domain(name)
    changed = {
        key
        for key, value in plan.values().items()
        if value != whole.values()[key] and key not in ("preset", "metric")
    }
    assert changed <= {"data.augment", "loss.kind", "optim.lr"}
    assert plan.preset == f"{whole.preset},{name}"
    assert (
        plan.reasons["preset"]
        == f"{whole.reasons['preset']}; {name} set by you ({content['about']})"
    )
    if preset != "paper":
        turns = SYMMETRIES[NAMES[name]]
        assert tuple(each for each in plan.data.augment if each not in ("crop", "colour")) == turns
        assert plan.reasons["data.augment"].startswith(
            f"preset {name}: {content['because']['symmetries']}"
        )


def test_a_domain_alone_starts_from_auto():
    plan = plan_for(presets="polyp")
    assert plan.preset == "balanced,polyp"
    assert plan == plan_for(presets=["polyp"]) == plan_for(presets=["auto", "polyp"])
    values, auto = plan.values(), plan_for().values()
    assert {key for key in values if values[key] != auto[key]} == {"preset", "metric"}
    assert plan_for(presets="fast,polyp").preset == "fast,polyp"


def test_what_is_recorded_can_be_asked_for_again():
    plan = plan_for(presets=["best", "polyp"])
    assert plan_for(presets=plan.preset) == plan


def test_later_domains_win():
    street_last, road_last = (plan_for(presets=p) for p in ("road,street", "street,road"))
    assert street_last.data.augment[-2:] == ("hflip", "colour")
    assert "rot90" in road_last.data.augment
    assert street_last.metric == road_last.metric == "iou@dataset"
    assert plan_for(presets="road,polyp").metric == "dice@image"


def test_any_metric_can_be_the_validation_metric():
    keys = metric_keys(True, ("background", "lesion"))
    assert [plan_for(eval_metric=key).metric for key in keys] == [*keys]
    assert plan_for(presets="shadow").metric == "ber@dataset"


def test_the_metric_of_a_domain_is_for_binary_problems_and_users_win():
    plan = plan_for(presets="polyp")
    assert plan.metric == "dice@image"
    assert plan.reasons["metric"].startswith("preset polyp: ")
    assert multiclass(presets="polyp").metric == "miou@dataset"
    plan = plan_for(presets="polyp", eval_metric="iou@image")
    assert (plan.metric, plan.reasons["metric"]) == ("iou@image", "set by you")


def test_shadows_have_the_papers_loss_if_they_are_all_there_is():
    plan = plan_for(presets="shadow")
    assert (plan.loss.kind, plan.head.kind) == ("balanced_bce", "binary")
    assert plan.reasons["loss.kind"].startswith("preset shadow: the paper's loss")
    assert multiclass(presets="shadow").loss.kind == "ce_dice"
    assert plan_for(presets="shadow", overrides={"loss.kind": "focal"}).loss.kind == "focal"
    assert plan_for(presets="paper,shadow", hardware=H200).loss.kind == "balanced_bce"


@pytest.mark.parametrize("name", ["leaf_disease", "road"])
def test_fields_and_aerial_views_have_the_papers_higher_rate_on_a_gpu(name):
    assert plan_for(presets=["best", name], hardware=H200).optim.lr == 3e-4
    on_cpu = plan_for(presets=["best", name])
    assert on_cpu.optim.lr == plan_for(presets="best").optim.lr
    paper = plan_for(presets=["paper", name], hardware=H200)
    assert paper.optim.lr == plan_for(presets="paper_3e-4", hardware=H200).optim.lr


def test_letters_are_never_mirrored():
    paper = plan_for(presets=["paper", "text"], hardware=H200)
    assert paper.data.augment == ()
    assert "without hflip; preset text: mirrored" in paper.reasons["data.augment"]
    assert plan_for(presets="text", overrides={"train.epochs": 3}).data.augment == ()
    assert plan_for(presets="text", overrides={"train.epochs": 30}).data.augment == (
        "crop",
        "colour",
    )


def test_auto_and_values_of_the_user_win_over_domains():
    plan = plan_for(presets="shadow", overrides={"loss.kind": "auto"})
    assert plan.loss.kind == "structure"
    plan = plan_for(presets="street", overrides={"data.augment": ["vflip"]})
    assert (plan.data.augment, plan.reasons["data.augment"]) == (("vflip",), "set by you")


@pytest.mark.parametrize(
    ("presets", "asked"),
    [
        ("auto", Asked("auto", ())),
        ([], Asked("auto", ())),
        ("best", Asked("best", ())),
        ("best, polyp", Asked("best", ("polyp",))),
        (("polyp", "best"), Asked("best", ("polyp",))),
        (["road,street", "fast", "road"], Asked("fast", ("road", "street"))),
    ],
)
def test_names_may_be_a_list_or_separated_by_commas(presets, asked):
    assert parse_presets(presets) == asked


@pytest.mark.parametrize(
    ("presets", "message"),
    [
        (["fast", "best"], "'fast' and 'best' are whole presets"),
        ("auto,best", "'auto' and 'best' are whole presets"),
        ("best,", "'' is not known"),
        (3, "a list of names"),
        ({"best": 1}, "a list of names"),
        (None, "a list of names"),
    ],
)
def test_what_cannot_be_combined_says_so(presets, message):
    with pytest.raises(OptionError, match=message):
        parse_presets(presets)


def test_domains_name_no_backbone_so_the_whole_preset_says_if_there_is_a_choice(monkeypatch):
    for name in list_domains():
        content = load_domain(name)
        for part in (content["plan"], *content["variants"].values()):
            assert "backbone.name" not in flatten(part)
    monkeypatch.setattr("easyseg.preparation.is_obtainable", lambda spec: spec.name == "vit_l")
    assert _obtainable(H200, "polyp", {}) == ("vit_l",)
    assert _obtainable(H200, ["paper", "polyp"], {}) == ()


def test_a_file_with_other_keys_is_refused(tmp_path, monkeypatch):
    (tmp_path / "domains").mkdir()
    for name in ("fast", "domains/odd", "domains/odder"):
        (tmp_path / f"{name}.yaml").write_text("about: x\nbecause: {}\n")
    monkeypatch.setattr("easyseg.plan.presets.presets_folder", lambda: tmp_path)
    assert load_domain("odd")["plan"] == {}
    (tmp_path / "domains" / "odd.yaml").write_text("about: x\nbecause: {}\nbudget: {}\n")
    with pytest.raises(OptionError, match=r"odd\.yaml must hold"):
        load_domain("odd")
    (tmp_path / "domains" / "odder.yaml").write_text("about: x\nbecause: {}\nsymmetries: some\n")
    with pytest.raises(OptionError, match="symmetries is one of all, left-right, none"):
        load_domain("odder")
    with pytest.raises(OptionError, match="Did you mean 'odder'"):
        load_domain("oddr")
    assert "data.augment" in DOMAINS
