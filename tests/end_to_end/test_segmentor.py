"""The facade: what a user calls, on tiny fits."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import numpy as np
import pandas as pd
import pytest
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from PIL import Image
from sklearn.base import clone
from tiny_sets import TINY, make_table
from torch import nn

from easyseg import SemanticSegmentor, threads
from easyseg.auditing.fingerprint import Fingerprint
from easyseg.errors import DataError, NotFittedError, OptionError
from easyseg.inference import predict as predicting
from easyseg.inference import writers as writing
from easyseg.metrics.catalogue import metric_keys
from easyseg.metrics.curves import e_measure_curve, f_measure_curve
from easyseg.metrics.paper import paper_metrics
from easyseg.metrics.reference import Squashed
from easyseg.metrics.streaming import SegmentationScores

BINARY = ("background", "foreground")
ALL = metric_keys(True, BINARY)


def fit(table, path, **options) -> SemanticSegmentor:
    options = {"hyperparameters": TINY, "accelerator": "cpu"} | options
    return SemanticSegmentor(path=path, verbosity=0).fit(table, **options)


def test_the_constructor_only_stores_and_clone_copies():
    classes = {0: "background", 255: "lesion"}
    segmentor = SemanticSegmentor("binary", classes=classes, path="somewhere", verbosity=0)
    assert clone(segmentor).get_params() == segmentor.get_params()
    assert clone(segmentor).classes == classes
    assert segmentor.set_params(image="photo") is segmentor
    assert segmentor.image == "photo"
    with pytest.raises(OptionError, match="Did you mean 'verbosity'"):
        segmentor.set_params(verbose=1)


@pytest.mark.parametrize("call", ["predict", "predict_proba", "predict_iter", "evaluate", "save"])
def test_using_it_before_fit_says_what_to_do(call, table):
    with pytest.raises(NotFittedError, match=r"call fit\(train_data\)"):
        getattr(SemanticSegmentor(), call)(table)


def test_a_fit_leaves_its_attributes_and_files(fitted):
    assert fitted.classes_ == ("background", "foreground")
    assert fitted.label_map_.values == (0, 255)
    assert list(fitted.history_["epoch"]) == [1, 2]
    assert fitted.best_score_ == fitted.history_[fitted.plan_.metric].max()
    names = {p.name for p in fitted.path_.iterdir()}
    assert names == {"plan.json", "fingerprint.json", "metrics.csv", "experts.csv", "model"}
    assert {p.name for p in (fitted.path_ / "model").iterdir()} == {
        "model.safetensors",
        "segmentor.json",
        "README.md",
    }
    assert json.loads((fitted.path_ / "plan.json").read_text()) == fitted.plan_.to_dict()


def test_the_split_is_a_fifth_and_the_rest_is_trained_on(fitted):
    found = json.loads((fitted.path_ / "fingerprint.json").read_text())
    assert (found["num_images"], found["num_tuning"]) == (5, 1)
    assert found["hardware"]["accelerator"] == "cpu"
    assert found["object_sizes"]["p10"] > 0
    assert Fingerprint.from_dict(found).num_images == 5


def test_groups_are_held_out_whole_and_the_fingerprint_says_so(table, tmp_path):
    seen = []

    class Watcher(L.Callback):
        def on_fit_start(self, trainer, module):
            parts = module.prepared.training_samples(), module.prepared.validation_samples()
            seen.extend(set(part.groups) for part in parts)

    patients = table.assign(patient=["a", "b", "c", "a", "b", "c"])
    segmentor = fit(patients, tmp_path / "run", groups="patient", callbacks=[Watcher()])
    train, validation = seen
    assert (len(train), len(validation), train & validation) == (2, 1, set())
    found = json.loads((segmentor.path_ / "fingerprint.json").read_text())
    assert (found["num_images"], found["num_tuning"]) == (4, 2)
    assert found["split"] == "3 groups of the column 'patient'"


def test_the_use_of_experts_is_logged_for_each_layer(fitted):
    use = pd.read_csv(fitted.path_ / "experts.csv")
    experts = [name for name in use.columns if name.startswith("expert_")]
    assert len(experts) == TINY["adapter.num_experts"]
    assert np.allclose(use[experts].sum(axis=1), 1, atol=1e-3)
    assert use["entropy"].between(0, 1).all()
    assert use["layer"].nunique() == 3
    assert fitted.history_["routing_entropy"].between(0, 1).all()


def test_masks_come_in_own_size_values_and_dtype(fitted, table):
    masks = fitted.predict(table)
    for path, mask in zip(table["image"], masks, strict=True):
        with Image.open(path) as image:
            assert mask.shape == (image.height, image.width)
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, 255}


@pytest.mark.parametrize(
    "index",
    [list("fedcba"), [10, 10, 3, 3, 7, 7], pd.MultiIndex.from_product([["x", "y"], [1, 2, 3]])],
    ids=["strings", "duplicates", "levels"],
)
def test_results_are_on_the_index_of_the_table(fitted, table, index):
    other = table.set_axis(index)
    masks, scores = fitted.predict(other), fitted.evaluate(other, per_image=True)
    assert masks.index.equals(other.index)
    assert scores.index.equals(other.index)
    for ours, plain in zip(masks, fitted.predict(table), strict=True):
        np.testing.assert_array_equal(ours, plain)


def test_a_filtered_and_shuffled_table_gets_its_own_rows(fitted, table):
    whole = fitted.predict(table, batch_size=1)
    part = table.iloc[[4, 1, 4]]
    for (label, mask), position in zip(
        fitted.predict_iter(part, batch_size=1), (4, 1, 4), strict=True
    ):
        assert label == position
        np.testing.assert_array_equal(mask, whole[position])


def test_all_kinds_of_input_give_the_same_mask(fitted, table, tmp_path):
    path = table["image"][0]
    expected = fitted.predict(table.head(1))[0]
    table.head(1)[["image"]].to_csv(tmp_path / "one.csv", index=False)
    with Image.open(path) as image:
        image.load()
        image.save(tmp_path / "folder.png")
        for data in (path, image, np.asarray(image), [path], tmp_path / "one.csv", tmp_path):
            np.testing.assert_array_equal(fitted.predict(data).iloc[0], expected)


def test_probabilities_are_of_all_classes_and_agree_with_the_masks(fitted, table):
    for p, mask in zip(fitted.predict_proba(table), fitted.predict(table), strict=True):
        assert p.dtype == np.float32
        assert p.shape == (2, *mask.shape)
        np.testing.assert_allclose(p.sum(axis=0), 1, atol=1e-6)
        np.testing.assert_array_equal(p[1] > 0.5, mask == 255)


def test_the_threshold_moves_the_border(fitted, table):
    everything = fitted.predict(table, threshold=0.0)
    shares = [(np.asarray(Image.open(path)) == 255).mean() for path in table["label"]]
    scores = fitted.evaluate(table, "iou@image", threshold=0.0)
    assert scores["iou@image"] == pytest.approx(np.mean(shares))
    nothing = fitted.predict(table, threshold=1.0)
    assert all((mask == 255).all() for mask in everything)
    assert all((mask == 0).all() for mask in nothing)
    with pytest.raises(OptionError, match="between 0 and 1"):
        fitted.predict(table, threshold=128)


@pytest.mark.parametrize("number", [0, 3])
def test_a_mask_that_cannot_be_written_ends_the_prediction(
    fitted, table, tmp_path, monkeypatch, number
):
    """Although the error, which somebody may keep, holds what was going on."""
    ended, stream = [], SemanticSegmentor._stream

    def noted(self, *arguments):
        try:
            yield from stream(self, *arguments)
        finally:
            ended.append(True)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SemanticSegmentor, "_stream", noted)
    monkeypatch.setattr(writing, "write_mask", full)
    for module in (threads, predicting):
        monkeypatch.setattr(module, "threads_beside", lambda *arguments: number)
    with pytest.raises(OSError, match="No space left") as kept:
        fitted.predict(table, output_dir=tmp_path / "masks")
    assert ended == [True]
    assert kept.value.__traceback__ is not None


def test_threads_that_read_and_write_beside_a_gpu_change_nothing(
    fitted, table, tmp_path, monkeypatch
):
    alone = fitted.predict(table, output_dir=tmp_path / "alone"), fitted.evaluate(table)
    writers, write = set(), writing.write_mask

    def noted(*arguments):
        writers.add(threading.current_thread().name)
        write(*arguments)

    monkeypatch.setattr(writing, "write_mask", noted)
    for module in (threads, predicting):
        monkeypatch.setattr(module, "threads_beside", lambda *arguments: 3)
    paths = fitted.predict(table, output_dir=tmp_path / "ahead")
    assert writers
    assert writers <= {"easyseg_0", "easyseg_1"}
    assert fitted.evaluate(table) == alone[1]
    assert list(paths.index) == list(table.index)
    for one, other in zip(alone[0], paths, strict=True):
        assert Path(one).read_bytes() == Path(other).read_bytes()


def test_masks_written_to_files_are_the_ones_returned(fitted, table, tmp_path):
    paths = fitted.predict(table, output_dir=tmp_path / "out")
    assert paths.index.equals(table.index)
    assert paths.nunique() == len(table)
    for path, mask in zip(paths, fitted.predict(table), strict=True):
        with Image.open(path) as written:
            np.testing.assert_array_equal(np.asarray(written), mask)


def test_masks_never_replace_what_is_there_unasked(fitted, table, tmp_path):
    photos, predicted = tmp_path / "photos", tmp_path / "predicted"
    for folder in (photos, predicted):
        folder.mkdir()
    for number, path in enumerate(table["image"]):
        Image.open(path).save(photos / f"{number}.png")
        (predicted / f"{number}.png").write_bytes(b"a label drawn by hand")
    before = {p: p.read_bytes() for folder in (photos, predicted) for p in folder.iterdir()}
    with pytest.raises(OptionError, match=r"already there: .*0\.png.*6 in all.*overwrite=True"):
        fitted.predict(photos, output_dir=predicted)
    for overwrite in (False, True):
        with pytest.raises(OptionError, match=r"images they are made from: .*6 in all"):
            fitted.predict(photos, output_dir=photos, overwrite=overwrite)
    (tmp_path / "link").symlink_to(photos)
    with pytest.raises(OptionError, match="images they are made from"):
        fitted.predict(photos, output_dir=tmp_path / "link", overwrite=True)
    assert all(path.read_bytes() == content for path, content in before.items())
    written = fitted.predict(photos, output_dir=predicted, overwrite=True)
    assert set(map(str, predicted.iterdir())) == set(written)
    assert all(Image.open(path).format == "PNG" for path in written)


def test_masks_never_replace_the_labels_of_the_table(fitted, table, tmp_path):
    labels = tmp_path / "labels"
    labels.mkdir()
    rows = []
    for number, (image, label) in enumerate(zip(table["image"], table["label"], strict=True)):
        Image.open(image).convert("RGB").save(tmp_path / f"{number}.jpg")
        Image.open(label).save(labels / f"{number}.png")
        rows.append((f"{number}.jpg", f"labels/{number}.png"))
    own = pd.DataFrame(rows, columns=["image", "label"])
    own.loc[1, "label"] = None
    own.to_csv(tmp_path / "own.csv", index=False)
    before = {path: path.read_bytes() for path in labels.iterdir()}
    with pytest.raises(OptionError, match=r"table's own labels: .*0\.png.*5 in all"):
        fitted.predict(tmp_path / "own.csv", output_dir=labels, overwrite=True)
    assert {path: path.read_bytes() for path in labels.iterdir()} == before
    images = own[["image"]].map(tmp_path.__truediv__)
    fitted.predict(images, output_dir=labels, overwrite=True)
    assert {path: path.read_bytes() for path in labels.iterdir()} != before


def test_images_of_one_name_in_two_folders_do_not_collide(fitted, table, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for suffix in ("png", "jpg"):
            Image.open(table["image"][0]).convert("RGB").save(tmp_path / folder / f"x.{suffix}")
    paths = fitted.predict(tmp_path, output_dir=tmp_path / "masks")
    assert len({str(p).lower() for p in paths}) == 4


def test_a_folder_is_indexed_by_its_file_names(fitted, table, tmp_path):
    for name in ("b.png", "a.png"):
        Image.open(table["image"][0]).save(tmp_path / name)
    assert list(fitted.predict(tmp_path).index) == ["a.png", "b.png"]


def test_unknown_options_are_refused_before_any_image_is_read(tmp_path):
    nothing = pd.DataFrame({"image": ["x.png"], "label": ["y.png"]})
    with pytest.raises(OptionError, match=r"Did you mean 'adapter\.rank'"):
        fit(nothing, tmp_path / "run", hyperparameters={"adapter.rnak": 3})
    with pytest.raises(OptionError, match="presets='quick'"):
        fit(nothing, tmp_path / "run", presets="quick")


@pytest.mark.parametrize(
    "option",
    [
        {"num_workers": -1},
        {"num_workers": "two"},
        {"seed": 2**32},
        {"holdout_frac": 2},
        {"num_nodes": 0},
        {"time_limit": 0},
        {"time_limit": float("inf")},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused_at_once(tmp_path, option):
    with pytest.raises(OptionError, match=f"{next(iter(option))} is"):
        fit(None, tmp_path / "run", **option)


@pytest.mark.parametrize("devices", [-1, [0]], ids=str)
def test_a_cpu_may_be_named_as_gpus_are(table, tmp_path, devices):
    hyperparameters = TINY | {"train.max_steps": 1}
    segmentor = fit(table, tmp_path, hyperparameters=hyperparameters, devices=devices)
    assert len(segmentor.history_) == 1


def test_checkpoints_and_another_progress_bar_of_lightning(table, tmp_path):
    checkpoint = ModelCheckpoint(tmp_path / "checkpoints")
    hyperparameters = TINY | {"train.max_steps": 1}
    callbacks = [checkpoint, TQDMProgressBar()]
    fit(table, tmp_path / "run", hyperparameters=hyperparameters, callbacks=callbacks)
    assert list((tmp_path / "checkpoints").iterdir())


def test_scores_are_those_of_the_predicted_masks(fitted, table):
    def iou(mask, truth) -> float:
        union = ((mask == 255) | (truth == 255)).sum()
        return float(((mask == 255) & (truth == 255)).sum() / union)

    truths = [np.asarray(Image.open(path)) for path in table["label"]]
    by_hand = [iou(m, t) for m, t in zip(fitted.predict(table), truths, strict=True)]
    np.testing.assert_allclose(fitted.evaluate(table, per_image=True)["iou@image"], by_hand)
    assert fitted.evaluate(table)["iou@image"] == pytest.approx(np.mean(by_hand))
    assert list(fitted.evaluate(table, "dice@dataset")) == ["dice@dataset"]
    with pytest.raises(OptionError, match="Did you mean 'iou@image'"):
        fitted.evaluate(table, "iou@imag")


def test_scores_of_all_images_are_none_of_one(fitted, table, monkeypatch):
    monkeypatch.setattr(type(fitted), "_score", None)  # Nothing is predicted first.
    with pytest.raises(OptionError, match="end in @image"):
        fitted.evaluate(table, "miou@dataset", per_image=True)


def test_every_metric_is_that_of_the_predicted_probabilities(fitted, table):
    table = table[4:]
    truths = [(np.asarray(Image.open(path)) == 255).astype(np.uint8) for path in table["label"]]
    expected = SegmentationScores(BINARY, True, ALL)
    for p, t in zip(fitted.predict_proba(table), truths, strict=True):
        mask = (p[1] > 0.5).astype(np.uint8)
        expected.update(mask, t, p[1], Squashed(mask, t, p[1]))  # of no use for @reference
    found = fitted.evaluate(table, "all")
    assert found.keys() == set(ALL)
    for key, value in expected.compute(ALL).items():
        if not key.endswith("@reference"):
            assert found[key] == pytest.approx(value, abs=1e-6), key
    assert found["iou@reference"] == pytest.approx(found["iou@image"], abs=0.05)
    rows = fitted.evaluate(table, ["hd95@image", "ber@dataset", "mae@image"], per_image=True)
    assert list(rows.columns) == ["hd95@image", "mae@image"]
    assert rows.index.equals(table.index)
    assert rows["mae@image"].mean() == pytest.approx(found["mae@image"])


def test_curves_are_those_of_the_predicted_probabilities(fitted, table, monkeypatch):
    truths = [(np.asarray(Image.open(path)) == 255).astype(np.uint8) for path in table["label"]]
    pairs = [(p[1], t) for p, t in zip(fitted.predict_proba(table), truths, strict=True)]
    found = fitted.evaluate_curves(table)
    assert found.index.name == "threshold"
    np.testing.assert_allclose(found.index, np.arange(256) / 255)
    for name, curve in (("e_measure", e_measure_curve), ("f_measure", f_measure_curve)):
        expected = np.mean([curve(*pair) for pair in pairs], axis=0)
        np.testing.assert_allclose(found[name], expected, atol=1e-6)
        key = f"{name}_max@dataset"
        assert found[name].max() == pytest.approx(fitted.evaluate(table, key)[key])
    model = SimpleNamespace(plan=SimpleNamespace(problem_type="multiclass"))
    monkeypatch.setattr(fitted, "_model", model)
    with pytest.raises(OptionError, match="of binary problems; this model's is 'multiclass'"):
        fitted.evaluate_curves(table)


def test_the_metrics_of_the_paper(fitted, table):
    keys = paper_metrics(fitted.plan_.preset, binary=True)
    assert list(fitted.evaluate(table, "paper")) == list(keys)
    assert "s_measure@image" in keys


def test_intervals_hold_their_scores_and_groups_widen_them(fitted, table):
    keys = ["iou@image", "ber@dataset", "f_measure_max@dataset"]
    found = fitted.evaluate(table, keys, intervals=True)
    assert list(found.columns) == ["score", "low", "high"]
    assert list(found.index) == keys
    assert found["score"].to_dict() == fitted.evaluate(table, keys)
    assert (found["low"] <= found["score"]).all()
    assert (found["score"] <= found["high"]).all()
    assert (found["low"] < found["high"]).all()
    report = fitted.evaluate(table, intervals=True)
    assert report.loc["empty@image", ["low", "high"]].isna().all()
    grouped = table.assign(patient=[*"aabbcc"])
    by_column = fitted.evaluate(grouped, keys, intervals=True, groups="patient")
    assert not by_column.equals(found)
    by_function = fitted.evaluate(grouped, keys, intervals=True, groups=lambda row: row["patient"])
    assert by_column.equals(by_function)


def test_options_of_evaluate_that_exclude_each_other(fitted, table, monkeypatch):
    with pytest.raises(OptionError, match="intervals=True"):
        fitted.evaluate(table, groups="patient")
    with pytest.raises(OptionError, match="one image has no interval"):
        fitted.evaluate(table, intervals=True, per_image=True)
    with pytest.raises(DataError, match="'patient' is missing"):
        fitted.evaluate(table, intervals=True, groups="patient")


def test_damaged_images_are_all_named_before_any_is_predicted(fitted, table, tmp_path):
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(Path(table["image"][0]).read_bytes()[:200])
    wrong = table.copy()
    wrong.loc[[1, 4], "image"] = str(damaged)
    for call in (fitted.predict, fitted.predict_proba):
        with pytest.raises(DataError) as caught:
            call(wrong)
        assert [line[:5] for line in caught.value.problems] == ["row 1", "row 4"]
    with pytest.raises(DataError):
        fitted.predict(wrong, output_dir=tmp_path / "masks")
    assert not (tmp_path / "masks").exists()


def test_masks_go_below_the_home_folder(fitted, table, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    [mask] = fitted.predict(table[:1], output_dir="~/masks")
    assert Path(mask).is_relative_to(tmp_path / "masks")


def test_values_that_were_not_trained_on_are_named(fitted, table, tmp_path):
    odd = tmp_path / "odd.png"
    with Image.open(table["label"][0]) as mask:
        values = np.asarray(mask).copy()
    values[0, 0] = 7
    Image.fromarray(values).save(odd)
    wrong = table.assign(label=[str(odd), *table["label"][1:]])
    with pytest.raises(DataError, match=r"odd\.png.*7"):
        fitted.evaluate(wrong)


def test_all_problems_of_the_data_come_at_once_and_cost_nothing(table, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    wrong = table.copy()
    wrong.loc[0, "image"] = str(tmp_path / "missing.png")
    wrong.loc[1, "label"] = None
    wrong.loc[2, "image"] = str(broken)
    wrong.loc[3, "label"] = table["label"][4]
    with pytest.raises(DataError, match=r"missing\.png") as caught:
        fit(wrong, tmp_path / "run", tuning_data=table.drop(columns="label"))
    found = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 5
    for words in ("missing.png", "row 1, column 'label'", "broken.png", "mask_4.png", "is missing"):
        assert words in found
    assert not (tmp_path / "run").exists()


def test_a_run_folder_in_use_is_left_alone(table, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match="not an empty folder"):
        fit(table, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_runs_of_the_same_second_get_their_own_folders(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = {"hyperparameters": TINY | {"train.max_steps": 1}}
    segmentor = fit(table, None, **short)
    first = segmentor.path_
    assert segmentor.fit(table, accelerator="cpu", **short).path_ != first
    assert {p.parent.name for p in (first, segmentor.path_)} == {"easyseg-runs"}
    assert not (tmp_path / "lightning_logs").exists()


def test_a_fit_that_writes_nothing_leaves_no_folder(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (None, tmp_path / "run"):
        with pytest.raises(OptionError, match="Lightning refuses"):
            fit(table, path, strategy="no such strategy")
        with pytest.raises(DataError):
            fit(table.drop(columns="label"), path)
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "easyseg-runs").iterdir())


def test_several_classes_gaps_and_ignored_pixels(tmp_path):
    table = make_table(tmp_path / "data", 5, values=(2, 5, 9))
    for path in table["label"]:
        values = np.asarray(Image.open(path)).copy()
        values[:4] = 77
        Image.fromarray(values).save(path)
    segmentor = SemanticSegmentor(ignore_index=77, path=tmp_path / "run", verbosity=0)
    segmentor.fit(table, hyperparameters=TINY, accelerator="cpu")
    assert segmentor.plan_.problem_type == "multiclass"
    assert segmentor.label_map_.values == (2, 5, 9)
    assert all(set(np.unique(m)) <= {2, 5, 9} for m in segmentor.predict(table))
    p = segmentor.predict_proba(table.head(1))[0]
    assert p.shape[0] == 3
    scores = segmentor.evaluate(table)
    assert {"miou@dataset", "iou@dataset/class_5"} <= scores.keys()
    with pytest.raises(OptionError, match="binary"):
        segmentor.predict(table, threshold=0.3)


def test_a_silent_fit_says_nothing(table, tmp_path, capfd):
    fit(table, tmp_path / "run", hyperparameters=TINY | {"train.max_steps": 1})
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_a_talking_fit_shows_the_plan_with_reasons(table, tmp_path, capfd):
    segmentor = SemanticSegmentor(path=tmp_path / "run", verbosity=1)
    segmentor.fit(table, hyperparameters=TINY | {"train.max_steps": 1}, accelerator="cpu")
    captured = capfd.readouterr()
    assert captured.out == ""
    for words in ("adapter.rank", "set by you", "because", "best"):
        assert words in captured.err
    assert [type(h) for h in logging.getLogger("easyseg").handlers] == [logging.NullHandler]


def test_two_fits_of_one_segmentor_start_anew(table, tmp_path):
    segmentor = fit(table, tmp_path / "first")
    state = {k: v.clone() for k, v in segmentor._model.network.state_dict().items()}
    segmentor.set_params(path=tmp_path / "second")
    segmentor.fit(table, hyperparameters=TINY, accelerator="cpu")
    again = segmentor._model.network
    assert isinstance(again, nn.Module)
    assert all(v.equal(state[k]) for k, v in again.state_dict().items())
