"""Heads and losses from the table to the masks: void, saving, real sets, two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_sets import TINY, make_table

from easyseg import SemanticSegmentor
from easyseg.models.network import trainable_state

CHECKOUT = Path(__file__).parents[2]
HEADS = pytest.mark.parametrize("head", ["softmax", "mask_classification"])


def fit(table, path, changes, **options) -> SemanticSegmentor:
    segmentor = SemanticSegmentor(path=path, verbosity=0)
    return segmentor.fit(table, hyperparameters=TINY | changes, accelerator="cpu", **options)


@pytest.fixture(scope="module")
def with_void(tmp_path_factory) -> pd.DataFrame:
    """Three classes and ignored pixels; the second image holds nothing else."""
    table = make_table(tmp_path_factory.mktemp("void"), 6, values=(0, 1, 2))
    for number, path in enumerate(table["label"]):
        ids = np.asarray(Image.open(path)).copy()
        ids[:6] = 255
        Image.fromarray(np.full_like(ids, 255) if number == 1 else ids).save(path)
    return table


@HEADS
def test_a_fit_with_ignored_pixels(with_void, tmp_path, head):
    changes = {"head.kind": head, "train.batch_size": 2}
    changes |= {"train.epochs": 12, "train.patience": 12, "optim.warmup": 0.05}
    segmentor = fit(with_void, tmp_path / "run", changes)
    assert segmentor.plan_.head.kind == head
    assert (segmentor.label_map_.values, segmentor.label_map_.ignore) == ((0, 1, 2), 255)
    losses = segmentor.history_["train_loss"]
    assert np.isfinite(losses).all()
    # An epoch's mean moves with the batch that the ignored image falls into: three epochs each.
    assert losses[-3:].mean() < 0.9 * losses[:3].mean()
    masks, probabilities = segmentor.predict(with_void), segmentor.predict_proba(with_void)
    for mask, p in zip(masks, probabilities, strict=True):
        assert set(np.unique(mask)) <= {0, 1, 2}
        assert p.shape == (3, *mask.shape)
        np.testing.assert_allclose(p.sum(axis=0), 1, atol=1e-5)
        np.testing.assert_array_equal(p.argmax(axis=0), mask)
    assert 0 <= segmentor.evaluate(with_void)["miou@dataset"] <= 1
    assert list(segmentor.evaluate(with_void, "paper")) == ["miou@dataset", "accuracy@dataset"]


@HEADS
def test_what_ignored_pixels_show_is_not_learnt(with_void, tmp_path, head):
    """Another class under the ignored pixels, then ignored again: the same weights."""
    first = fit(with_void, tmp_path / "a", {"head.kind": head, "train.max_steps": 2})
    moved = with_void.copy()
    for number, path in enumerate(with_void["label"]):
        ids = np.asarray(Image.open(path)).copy()
        ids[ids == 255] = 9
        moved.loc[number, "label"] = str(tmp_path / f"mask_{number}.png")
        Image.fromarray(ids).save(moved.loc[number, "label"])
    segmentor = SemanticSegmentor(ignore_index=9, path=tmp_path / "b", verbosity=0)
    changes = {"head.kind": head, "train.max_steps": 2}
    second = segmentor.fit(moved, hyperparameters=TINY | changes, accelerator="cpu")
    weights = [trainable_state(one._model.network) for one in (first, second)]
    assert all(value.equal(weights[1][name]) for name, value in weights[0].items())


def test_mask_classification_is_saved_with_its_class_branch(with_void, tmp_path):
    changes = {"head.kind": "mask_classification", "head.num_tokens": 5, "train.max_steps": 3}
    segmentor = fit(with_void, tmp_path / "run", changes)
    saved = segmentor.save(tmp_path / "model")
    loaded = SemanticSegmentor.load(saved, device="cpu").set_params(verbosity=0)
    assert loaded.plan_.head.num_tokens == 5
    ours, theirs = (trainable_state(s._model.network) for s in (segmentor, loaded))
    assert ours["head.class_branch.weight"].shape == (4, 32)
    assert ours["decoder.mask_tokens.weight"].shape == (5, 32)
    assert all(value.equal(theirs[name]) for name, value in ours.items())
    for mine, other in zip(segmentor.predict(with_void), loaded.predict(with_void), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_mask_classification_of_two_classes_and_accumulated_in_bf16(table, tmp_path):
    changes = {
        "head.kind": "mask_classification",
        "train.precision": "bf16",
        "train.micro_batch_size": 1,
        "train.batch_size": 4,
        "train.max_steps": 2,
    }
    segmentor = fit(table, tmp_path / "run", changes)
    assert segmentor.plan_.problem_type == "binary"
    assert "iou@image" in segmentor.evaluate(table)
    assert 0 < segmentor.evaluate(table, "s_measure@image")["s_measure@image"] < 1
    assert np.isfinite(segmentor.history_["train_loss"]).all()
    assert all(set(np.unique(mask)) <= {0, 255} for mask in segmentor.predict(table))


@pytest.mark.parametrize("loss", ["balanced_bce", "focal"])
def test_other_losses_of_the_binary_head_train(table, tmp_path, loss):
    changes = {"loss.kind": loss, "train.epochs": 8, "train.patience": 8}
    losses = fit(table, tmp_path / "run", changes).history_["train_loss"]
    assert losses[-2:].mean() < losses[:2].mean()


@pytest.mark.parametrize("loss", ["ce_dice", "focal"])
def test_class_weights_come_from_the_data_and_are_saved(with_void, tmp_path, loss):
    changes = {"loss.kind": loss, "loss.class_weights": "auto", "train.max_steps": 1}
    segmentor = fit(with_void, tmp_path / "run", changes)
    weights = segmentor.plan_.loss.class_weights
    assert np.mean(weights) == pytest.approx(1, abs=1e-3)
    assert weights[0] == min(weights)  # The background.
    loaded = SemanticSegmentor.load(tmp_path / "run", device="cpu")
    assert loaded.plan_.loss.class_weights == weights
    assert loaded._model.network.head.class_weights.tolist() == pytest.approx(weights)


REAL = {
    "camvid": (tuple(range(11)), 255),
    "cwfid": ((0, 1, 2), None),
    "highway_cdnet": ((0, 1, 2), 255),
}


@HEADS
@pytest.mark.parametrize(
    "name", [pytest.param("camvid", marks=pytest.mark.slow), "cwfid", "highway_cdnet"]
)
def test_real_sets_train_on_the_pretrained_backbone(shared_data, tmp_path, name, head):
    values, ignored = REAL[name]
    folder = shared_data / name
    # Enough images for every class to be there, but three epochs only.
    train = pd.read_csv(folder / "train.csv").iloc[::12].head(6)
    tuning = pd.read_csv(folder / "val.csv").head(2)
    seen = set().union(*(np.unique(Image.open(folder / path)) for path in train["label"]))
    assert seen == {*values} | ({ignored} if ignored else set())
    segmentor = SemanticSegmentor(data_root=folder, path=tmp_path / "run", verbosity=0)
    segmentor.fit(
        train,
        tuning,
        accelerator="cpu",
        hyperparameters={
            "data.size": 112,
            "head.kind": head,
            "train.epochs": 3,
            "train.batch_size": 2,
            "train.precision": "32",
            # What comes before the last two blocks is computed once.
            "adapter.blocks": 2,
            "train.prefix_cache": True,
            "data.augment": [],
        },
    )
    assert segmentor.plan_.head.kind == head
    assert (segmentor.label_map_.values, segmentor.label_map_.ignore) == (values, ignored)
    first, *_, last = segmentor.history_["train_loss"]
    assert last < first
    for path, mask in zip(tuning["image"], segmentor.predict(tuning), strict=True):
        assert mask.shape == Image.open(folder / path).size[::-1]
        assert set(np.unique(mask)) <= set(values)


# One process sees an image that is ignored wholly while the other one trains.
DDP_SCRIPT = """
import hashlib, json, os, sys
import lightning as L
import pandas as pd
from easyseg import SemanticSegmentor
from easyseg.models.network import trainable_state
from easyseg.models.registry import register
from tiny_sets import TINY
from tiny_specs import TINY_SAM

register(TINY_SAM)
weights = hashlib.sha256()
class Keep(L.Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        for value in trainable_state(module).values():
            weights.update(value.numpy().tobytes())

segmentor = SemanticSegmentor(path=sys.argv[2] + "/run", verbosity=0)
table = pd.read_csv(sys.argv[1])
segmentor.fit(
    table, sys.argv[3], accelerator="cpu", devices=2, strategy="ddp", callbacks=[Keep()],
    hyperparameters=TINY | {"head.kind": "mask_classification", "train.max_steps": 3,
                            "train.batch_size": 2},
)
masks = segmentor.predict(table, batch_size=1)
report = {"sums": [int(m.sum()) for m in masks], "best": segmentor.best_score_,
          "weights": weights.hexdigest()}
with open(f"{sys.argv[2]}/rank{os.environ['LOCAL_RANK']}.json", "w") as file:
    json.dump(report, file)
"""


@pytest.mark.slow
def test_mask_classification_trains_in_two_processes(with_void, tmp_path):
    csv, script = tmp_path / "train.csv", tmp_path / "script.py"
    with_void.to_csv(csv, index=False)
    script.write_text(DDP_SCRIPT)
    env = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "RANK", "WORLD_SIZE")}
    env["PYTHONPATH"] = os.pathsep.join(map(str, (CHECKOUT, CHECKOUT / "tests")))
    tuning = tmp_path / "tuning.csv"
    make_table(tmp_path / "tuning", 8, values=(0, 1, 2))[6:].to_csv(tuning, index=False)
    command = [sys.executable, script, csv, tmp_path, tuning]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank{r}.json").read_text()) for r in (0, 1))
    assert first == second
