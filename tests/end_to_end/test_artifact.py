"""Saving and loading: the same masks in another process, offline, from a small file."""

from __future__ import annotations

import json
import os
import pickletools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from plan_makers import facts, plan_for
from tiny_sets import TINY

from easyseg import SemanticSegmentor
from easyseg.artifact import read_artifact, write_artifact
from easyseg.errors import ArtifactError, WeightsError
from easyseg.models.network import build_network, trainable_state

CHECKOUT = Path(__file__).parents[2]

OFFLINE_PREDICTION = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("the network was used")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import numpy as np
from easyseg import SemanticSegmentor
segmentor = SemanticSegmentor.load(sys.argv[1], device="cpu")
segmentor.set_params(verbosity=0)
np.savez(sys.argv[2], *segmentor.predict(sys.argv[3]))
"""


@pytest.fixture(scope="module")
def lite(table, tmp_path_factory) -> SemanticSegmentor:
    """A segmentor on the embedded pretrained weights, after one step."""
    path = tmp_path_factory.mktemp("lite") / "run"
    hyperparameters = {"train.max_steps": 1, "train.batch_size": 2, "data.size": 112}
    segmentor = SemanticSegmentor(path=path, verbosity=0)
    return segmentor.fit(table, hyperparameters=hyperparameters, accelerator="cpu")


def test_masks_are_the_same_in_a_new_process_without_network(lite, table, tmp_path):
    saved = lite.save(tmp_path / "model")
    csv = tmp_path / "images.csv"
    table[["image"]].to_csv(csv, index=False)
    command = [sys.executable, "-c", OFFLINE_PREDICTION, saved, tmp_path / "masks.npz", csv]
    env = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    subprocess.run(command, check=True, cwd=tmp_path, env=env, timeout=120)
    with np.load(tmp_path / "masks.npz") as masks:
        for ours, theirs in zip(lite.predict(table), masks.values(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def holds_pickle(content: bytes) -> bool:
    """Say whether bytes are a zip (torch.save), or a pickle that can be read to its end."""
    if content[:2] == b"PK":
        return True
    if content[:1] != b"\x80":
        return False
    try:
        list(pickletools.genops(content))
    except ValueError:
        return False
    return True


def test_the_artifact_is_small_and_holds_no_pickle(lite, tmp_path):
    files = list(lite.save(tmp_path / "model").rglob("*"))
    assert sum(f.stat().st_size for f in files) <= 16e6
    assert not any(holds_pickle(f.read_bytes()) for f in files)
    torch.save({"x": torch.zeros(2)}, tmp_path / "torch.pt")
    assert holds_pickle((tmp_path / "torch.pt").read_bytes())


def test_each_further_class_adds_its_hypernetwork_to_the_artifact():
    def size_of(classes: int) -> int:
        names = tuple(f"class {number}" for number in range(classes))
        plan = plan_for(
            facts(names=names),
            problem_type="multiclass",
            num_classes=classes,
            overrides={
                "backbone.name": "lite_medsam",
                "backbone.weights": "random",
                "adapter.rank": 4,
                "adapter.lora_targets": [],
            },
        )
        state = trainable_state(build_network(plan, seed=0))
        return sum(value.numel() * value.element_size() for value in state.values())

    sizes = {classes: size_of(classes) for classes in (3, 4, 11)}
    assert sizes[11] - sizes[4] == 7 * (sizes[4] - sizes[3])
    assert 0.55e6 < sizes[4] - sizes[3] < 0.57e6
    assert sizes[11] < 20e6


@pytest.mark.parametrize("preset", ["fast", "balanced", "best"])
def test_the_artifact_is_small_in_every_preset(preset):
    """With as many images as are neither few nor many."""
    overrides = {"backbone.name": "lite_medsam", "backbone.weights": "random"}
    plan = plan_for(facts(), presets=preset, overrides=overrides | {"adapter.kind": "conv_lora"})
    state = trainable_state(build_network(plan, seed=0))
    about = 50e3  # segmentor.json and the model card; the pretrained base is never saved
    assert sum(v.numel() * v.element_size() for v in state.values()) <= 16e6 - about


def test_the_artifact_of_vit_b_is_small(table, tmp_path):
    hyperparameters = {
        "backbone.name": "vit_b",
        "backbone.weights": "random",
        "data.size": 128,
        "train.max_steps": 1,
        "train.batch_size": 1,
    }
    segmentor = SemanticSegmentor(path=tmp_path / "run", verbosity=0)
    segmentor.fit(table, hyperparameters=hyperparameters, accelerator="cpu")
    files = list(segmentor.save(tmp_path / "model").iterdir())
    assert sum(f.stat().st_size for f in files) <= 16e6


def test_a_run_folder_and_a_copy_load_alike(fitted, table, tmp_path):
    saved = fitted.save(tmp_path / "copy")
    for path in (fitted.path_, fitted.path_ / "model", saved):
        loaded = SemanticSegmentor.load(path, device="cpu").set_params(verbosity=0)
        assert loaded.classes_ == fitted.classes_
        assert loaded.plan_ == fitted.plan_
        assert loaded.best_score_ == pytest.approx(fitted.best_score_)
        for ours, theirs in zip(fitted.predict(table), loaded.predict(table), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_saving_over_a_model_replaces_it_but_not_other_folders(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    fitted.save(tmp_path / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    with pytest.raises(ArtifactError, match="is not a saved model"):
        fitted.save(tmp_path / "photos")
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"x"


def test_a_failed_save_leaves_the_old_model(fitted, tmp_path, monkeypatch):
    saved = fitted.save(tmp_path / "model")
    before = {f.name: f.read_bytes() for f in saved.iterdir()}

    def full(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr("easyseg.artifact.save_file", full)
    with pytest.raises(ArtifactError, match="no space left"):
        fitted.save(saved)
    assert {f.name: f.read_bytes() for f in saved.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_another_base_is_refused(fitted, tmp_path):
    saved = fitted.save(tmp_path / "model")
    about = json.loads((saved / "segmentor.json").read_text())
    about["backbone"]["sha256"] = "0" * 64
    (saved / "segmentor.json").write_text(json.dumps(about))
    with pytest.raises(ArtifactError, match="sha256 0000"):
        SemanticSegmentor.load(saved)


def test_a_weights_file_that_moved_is_found_by_its_hash(table, tmp_path, monkeypatch):
    from easyseg.models.registry import get_spec
    from easyseg.models.weights import find_weights

    file = tmp_path / "here" / "my_weights.pth"
    file.parent.mkdir()
    state = torch.load(find_weights(get_spec("lite_medsam")), weights_only=True)
    state["image_encoder.neck.0.weight"] *= 1.01  # Not the official file.
    torch.save(state, file)
    monkeypatch.chdir(tmp_path)  # The path may be relative: it is kept so that it holds anywhere.
    weights = os.path.relpath(file)
    hyperparameters = {"train.max_steps": 1, "train.batch_size": 1, "data.size": 112}
    hyperparameters["backbone.weights"] = weights
    segmentor = SemanticSegmentor(path=tmp_path / "run", verbosity=0)
    segmentor.fit(table, hyperparameters=hyperparameters, accelerator="cpu")
    assert segmentor.plan_.backbone.weights == str(file)
    moved = file.rename(tmp_path / "moved.pth")
    monkeypatch.setenv("EASYSEG_WEIGHTS", str(moved))
    assert SemanticSegmentor.load(tmp_path / "run").plan_ == segmentor.plan_
    monkeypatch.delenv("EASYSEG_WEIGHTS")
    with pytest.raises(WeightsError, match=r"lite_medsam\.pth is not the file"):
        SemanticSegmentor.load(tmp_path / "run")


def test_a_score_that_is_none_is_written_as_json_has_it(fitted, tmp_path):
    metrics = {"iou@image": float("nan"), "iou@dataset": 0.5}
    write_artifact(replace(fitted._model, metrics=metrics), tmp_path / "model")
    text = (tmp_path / "model" / "segmentor.json").read_text()
    assert json.loads(text)["metrics"] == {"iou@image": None, "iou@dataset": 0.5}
    assert "NaN" not in text
    assert "| iou@image | none |" in (tmp_path / "model" / "README.md").read_text()
    read = read_artifact(tmp_path / "model").metrics
    assert read == pytest.approx(metrics, nan_ok=True)


def test_saving_onto_a_run_folder_says_where_its_model_is(fitted):
    with pytest.raises(ArtifactError, match="run folder, whose model is in"):
        fitted.save(fitted.path_)


@pytest.mark.parametrize("others", [["notes.txt", "segmentor.json"], ["README.md"]])
def test_saving_deletes_nothing_of_the_users(fitted, tmp_path, others):
    for name in others:
        (tmp_path / name).write_text("mine")
    with pytest.raises(ArtifactError, match="not a saved model alone"):
        fitted.save(tmp_path)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == dict.fromkeys(others, "mine")


def test_an_interrupted_save_leaves_the_earlier_model(fitted, tmp_path, monkeypatch):
    saved = fitted.save(tmp_path / "model")
    before = {p.name: p.read_bytes() for p in saved.iterdir()}
    rename, calls = Path.rename, []

    def interrupted(self, target):
        calls.append(target)
        if len(calls) == 2:  # The old folder is aside, the new one not yet in its place.
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fitted.save(saved)
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def damage_json(folder: Path) -> None:
    (folder / "segmentor.json").write_text("{")


def damage_format(folder: Path) -> None:
    (folder / "segmentor.json").write_text('{"format": 99}')


def damage_content(folder: Path) -> None:
    (folder / "segmentor.json").write_text('{"format": 4, "plan": {}}')


def cut_tensors(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def remove_tensors(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    "damage", [damage_json, damage_format, damage_content, cut_tensors, remove_tensors]
)
def test_a_damaged_artifact_is_an_error_that_names_the_file(fitted, tmp_path, damage):
    saved = fitted.save(tmp_path / "model")
    damage(saved)
    with pytest.raises(ArtifactError, match=r"segmentor\.json|model\.safetensors"):
        SemanticSegmentor.load(saved)


def test_no_model_there_is_an_error(tmp_path):
    with pytest.raises(ArtifactError, match="no such folder"):
        SemanticSegmentor.load(tmp_path / "nothing")
    with pytest.raises(ArtifactError, match=r"holds no segmentor\.json"):
        SemanticSegmentor.load(tmp_path)


def test_the_model_card_names_base_licence_classes_and_scores(fitted):
    card = (fitted.path_ / "model" / "README.md").read_text()
    for words in ("tiny_sam", "Apache-2.0", "| 255 | foreground |", "iou@image", "sha256"):
        assert words in card


def test_tiny_overrides_are_recorded_in_the_artifact(fitted):
    about = json.loads((fitted.path_ / "model" / "segmentor.json").read_text())
    assert about["plan"]["adapter"]["rank"] == TINY["adapter.rank"]
    assert about["plan"]["reasons"]["adapter.rank"] == "set by you"
