"""From tables to the parts of a fit: what belongs together is on one side."""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.model_selection import train_test_split
from tiny_sets import TINY

from easyseg.errors import DataError
from easyseg.plan.hardware import Hardware
from easyseg.preparation import Prepared, prepare

PATIENTS, IMAGES = 10, 4


@pytest.fixture(autouse=True)
def _tiny(tiny_backbones: None) -> None:
    """All plans here may name the tiny backbones."""


def prepared(table, tuning=None, *, seed: int = 0, **options) -> Prepared:
    hardware = Hardware("cpu", 1, "a CPU", memory_gb=16.0, cpu_count=2, native_bf16=False)
    defaults = {
        "problem_type": "auto",
        "image": "image",
        "label": "label",
        "classes": None,
        "ignore_index": None,
        "eval_metric": None,
        "data_root": None,
        "presets": "fast",
        "hyperparameters": TINY,
        "time_limit": None,
        "holdout_frac": 0.2,
        "hardware": hardware,
        "run_folder": Path("nowhere"),
    }
    return prepare(table, tuning, seed=seed, **(defaults | options))


def scene(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    return np.array(coarse.resize((72, 56), Image.Resampling.BICUBIC))


def mask(*values: int) -> np.ndarray:
    ids = np.zeros((56, 72), np.uint8)
    for place, value in enumerate(values):
        ids[4 + 9 * place : 12 + 9 * place, 8:40] = value
    return ids


@pytest.fixture
def films(tmp_path) -> pd.DataFrame:
    """Ten patients with four nearly equal pictures each, in random order."""
    rows = []
    for patient, number in itertools.product(range(PATIENTS), range(IMAGES)):
        noise = np.random.default_rng(100 + number).integers(0, 12, (56, 72, 3), dtype=np.uint8)
        file = tmp_path / f"patient{patient:02}_{number}.png"
        Image.fromarray(np.maximum(scene(patient), noise)).save(file)
        rows.append({"image": str(file), "label": mask(1), "patient": f"p{patient}"})
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def sides(found: Prepared, values) -> tuple[set, set]:
    assert found.split is not None
    train, validation = ({list(values)[i] for i in part} for part in found.split)
    return train, validation


def test_a_naive_split_of_these_films_leaks(films):
    """Or the tests below would show nothing."""
    train, validation = train_test_split(films["patient"], test_size=0.2, random_state=0)
    assert len(set(train) & set(validation)) >= 4


@pytest.mark.parametrize("seed", range(5))
def test_given_groups_are_never_on_both_sides(films, seed):
    films["image"] = [scene(1000 + i) for i in range(len(films))]  # nothing alike, no names
    for groups in ("patient", lambda row: row["patient"]):
        found = prepared(films, groups=groups, seed=seed)
        train, validation = sides(found, films["patient"])
        assert not train & validation
        assert len(validation) == 2
    assert found.fingerprint.split == "10 groups by the function groups="
    assert found.fingerprint.near_duplicates == 0


@pytest.mark.parametrize("seed", range(3))
def test_films_stay_whole_by_their_names(films, seed, caplog):
    with caplog.at_level(logging.INFO, logger="easyseg"):
        found = prepared(films, seed=seed)
    train, validation = sides(found, films["patient"])
    assert not train & validation
    assert len(validation) == 2
    words = "10 groups guessed from the file names (the patient, such as"
    assert found.fingerprint.split.startswith(words)
    assert f"validation part: 8 of 40 images; {words}" in caplog.text
    assert found.fingerprint.near_duplicates == 40


@pytest.mark.parametrize("seed", range(3))
def test_films_without_telling_names_stay_whole_by_their_looks(films, seed):
    films["image"] = [np.array(Image.open(file)) for file in films["image"]]
    found = prepared(films, seed=seed)
    train, validation = sides(found, films["patient"])
    assert not train & validation
    assert found.fingerprint.split == (
        "each image by itself, but 40 that look nearly the same as another one, in 10 clusters"
    )


def test_identical_images_stay_together_even_across_groups(films):
    films["image"] = [scene(1000 + i // 2) for i in range(len(films))]
    digests = [i // 2 for i in range(len(films))]
    for groups in (None, "patient"):
        for seed in range(4):
            found = prepared(films.head(20), groups=groups, seed=seed)
            train, validation = sides(found, digests[:20])
            assert not train & validation
    assert found.fingerprint.duplicates == 20
    assert "because they share identical images" in found.fingerprint.split


def test_names_alone_do_not_make_groups(films):
    films["image"] = [str(file) for file in films["image"]]
    for i, file in enumerate(films["image"]):
        Image.fromarray(scene(1000 + i)).save(file)
    found = prepared(films)
    assert found.fingerprint.split == "each image by itself: no two of them look alike"
    expected = train_test_split(
        np.arange(40), test_size=8, random_state=0, stratify=np.ones(40, int)
    )
    assert found.split == tuple(tuple(sorted(part.tolist())) for part in expected)


def test_a_class_of_one_group_stays_in_training_and_that_is_said(films, caplog):
    films["image"] = [scene(1000 + i) for i in range(len(films))]
    films["label"] = [mask(1, 2) if p == "p3" else mask(1, 0, 3) for p in films["patient"]]
    for seed in range(6):
        found = prepared(films, groups="patient", seed=seed)
        assert "p3" in sides(found, films["patient"])[0]
    assert (
        "class 'class_2' is in no image of the validation part (its 4 images belong together and"
        " stay in training): its quality is not measured"
    ) in caplog.text
    assert "class_3" not in caplog.text


def test_rare_classes_are_on_both_sides():
    labels = [mask(1, 2 if i in (7, 19) else 0, 3 if i in (7, 33) else 0) for i in range(40)]
    table = pd.DataFrame({"image": [scene(i) for i in range(40)], "label": labels})
    for seed in range(4):
        found = prepared(table, seed=seed)
        assert found.split is not None
        for part in found.split:
            assert {1, 2, 3} <= set(np.unique([labels[i] for i in part]))


@pytest.mark.parametrize("own_table", [False, True])
def test_the_planned_number_of_validation_images_is_drawn_with_all_classes(own_table):
    labels = [mask(1, 2 if i % 5 == 3 else 0) for i in range(40)]
    table = pd.DataFrame({"image": [scene(i) for i in range(40)], "label": labels})
    tables = (table[:20], table[20:]) if own_table else (table, None)

    def validated(most, seed=0):
        settings = TINY | {"train.validation_images": most}
        found = prepared(*tables, holdout_frac=0.5, hyperparameters=settings, seed=seed)
        assert len(found.training_samples()) == 20
        return list(found.validation_samples().index)

    whole, part = validated(-1), validated(6)
    assert (len(whole), len(part), len(set(part))) == (20, 6, 6)
    assert set(part) < set(whole)
    assert part == validated(6)
    assert {1, 2} <= set(np.unique([labels[i] for i in part]))
    assert validated(99) == whole
    assert len(validated(1)) == 1
    if own_table:
        assert len({tuple(validated(6, seed)) for seed in range(4)}) > 1


@pytest.mark.parametrize("seed", range(4))
def test_of_the_validation_images_those_that_alone_hold_a_class_are_drawn_first(seed):
    """Of 20 images one holds class 3 and one class 4; then ten do that of a class each."""

    def validated(labels, most):
        table = pd.DataFrame({"image": [scene(i) for i in range(len(labels))], "label": labels})
        settings = TINY | {"train.validation_images": most}
        tables = table[:-20], table[-20:].reset_index(drop=True)
        found = prepared(*tables, hyperparameters=settings, seed=seed)
        return [labels[len(labels) - 20 + i] for i in found.validation_samples().index]

    rare = [mask(1, 3 if i in (3, 24) else 0, 4 if i in (5, 31) else 0) for i in range(40)]
    drawn = validated(rare, 6)
    assert len(drawn) == 6
    assert {1, 3, 4} <= set(np.unique(drawn))
    alone = [mask(1, 2 + i % 20 if i % 20 < 10 else 0) for i in range(40)]
    assert len(validated(alone, 5)) == 5


def test_a_part_that_groups_make_too_large_is_said(films, caplog):
    films["image"] = [scene(1000 + i) for i in range(len(films))]
    films["half"] = [int(p[1]) // 5 for p in films["patient"]]
    found = prepared(films, groups="half")
    assert len(found.validation_samples()) == 20
    assert "holds 50 % of the images instead of 20 %" in caplog.text


def test_with_tuning_data_no_group_may_be_in_both_tables(films):
    films["image"] = [scene(1000 + i) for i in range(len(films))]
    ones = films["patient"].isin(["p1", "p2"])
    found = prepared(films[~ones], films[ones], groups="patient")
    assert found.split is None
    assert found.fingerprint.split == ""
    mixed = films["patient"].isin(["p1", "p2"]) & (np.arange(40) % 2 == 0)
    with pytest.raises(DataError, match=r"of the groups are in the training and in the tuning"):
        prepared(films[~mixed], films[mixed], groups="patient")
    prepared(films[~mixed], films[mixed])


def test_wrong_groups_are_errors_before_anything_else(films):
    with pytest.raises(DataError, match="Did you mean 'patient'"):
        prepared(films, groups="pateint")
    with pytest.raises(DataError, match=r"row \d+, column 'patient': there is no group"):
        prepared(films.assign(patient=[None] + ["p"] * 39), groups="patient")
    with pytest.raises(DataError, match="all 40 samples belong to one group, 'p'"):
        prepared(films.assign(patient="p"), groups="patient")
    with pytest.raises(DataError, match="tuning data: column 'patient' is missing"):
        prepared(films.head(20), films.tail(20).drop(columns="patient"), groups="patient")


def test_other_ranks_take_the_split_of_the_first(films):
    first, other = prepared(films, seed=0), prepared(films, seed=1)
    assert first.split != other.split
    taken = other.with_decisions(replace(first.decisions(), run_folder="elsewhere"))
    assert taken.split == first.split
