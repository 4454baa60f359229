"""The command line: the words of the API, messages apart from results, exit codes."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import easyseg.segmentor
from easyseg import SemanticSegmentor, cli, overlay
from easyseg.cli.inference import _worst
from easyseg.cli.values import (
    parse_classes,
    parse_count,
    parse_devices,
    parse_overrides,
    parse_raw_value,
)
from easyseg.datasets.synthetic import make_synthetic
from easyseg.errors import OptionError
from easyseg.metrics import evaluate as evaluation
from easyseg.metrics.catalogue import METRICS
from easyseg.plan.presets import list_domains, list_presets

ROOT = Path(__file__).resolve().parent.parent
SHORT = ("--set", "train.max_steps=2", "--set", "adapter.blocks=1")
TINY = (  # for the backbones that conftest registers
    *("--set", "backbone.name=tiny_sam", "--set", "backbone.weights=random"),
    *("--set", "data.size=128", "--set", "train.max_steps=1"),
)


def python(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python in another folder, where easyseg comes from the checkout if not installed."""
    paths = (str(ROOT), os.environ.get("PYTHONPATH", ""))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "COLUMNS": "100",
        "PYTHONIOENCODING": "utf-8",
    }
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, encoding="utf-8", timeout=300
    )


def invoke(*arguments: str | Path):
    """Run a command in this process."""
    return CliRunner().invoke(cli.app, [*map(str, arguments)], env={"COLUMNS": "100"})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six training images of 64 px, two for validation and two for the test, masks of 0 and 255."""
    folder = tmp_path_factory.mktemp("data")
    make_synthetic(folder, num_train=6, num_val=2, num_test=2, size=(64, 64))
    return folder


@pytest.fixture(scope="module")
def fitted(dataset: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run folder, and what ``python -m easyseg fit`` printed."""
    folder = dataset.parent / f"{dataset.name}-runs"
    folder.mkdir()
    done = python(
        *("-m", "easyseg", "fit", dataset / "train.csv", "--tuning-data", dataset / "val.csv"),
        *("--path", "run", "--classes", "0=background,255=pad", *SHORT),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder / "run", done


# What each word means.


@pytest.mark.parametrize(
    "text",
    ["0=a,1", "0=a,0=b", "x=a", "=a", "a,,b", "0=", "", "#80408=a", "#ff0000=a,#FF0000=b"],
)
def test_classes_that_make_no_sense_are_usage_errors(text):
    with pytest.raises(typer.BadParameter):
        parse_classes(text)


@pytest.mark.parametrize(("text", "value"), [("255", 255), ("#80a080", "#80a080"), (None, None)])
def test_an_ignored_value_is_a_number_or_a_colour(text, value):
    assert parse_raw_value(text) == value


@pytest.mark.parametrize("text", ["-1", "black", "#80", ""])
def test_ignored_values_that_make_no_sense_are_usage_errors(text):
    with pytest.raises(typer.BadParameter, match="such as #804080"):
        parse_raw_value(text)


@pytest.mark.parametrize(
    ("item", "value"),
    [
        ("k.v=8", 8),
        ("k.v=1e-4", 1e-4),
        ("k.v=true", True),
        ("k.v=[1,2,4]", [1, 2, 4]),
        ("k.v=[]", []),
        ("k.v=a=b", "a=b"),
        ("k.v=C:/weights/vit_b.pth", "C:/weights/vit_b.pth"),
    ],
)
def test_overrides_are_yaml(item, value):
    assert parse_overrides([item]) == {"k.v": value}


@pytest.mark.parametrize("item", ["rank", "=8", "adapter.rank=", "a.b=[1,2"])
def test_overrides_without_a_value_are_usage_errors(item):
    with pytest.raises(typer.BadParameter):
        parse_overrides([item])


@pytest.mark.parametrize("text", ["two", "-1", ",", "0,,1", "1.5", ""])
def test_devices_that_make_no_sense_are_usage_errors(text):
    with pytest.raises(typer.BadParameter):
        parse_devices(text)


def test_counts_below_the_least_are_usage_errors():
    assert parse_count("0", "--num-workers", least=0) == 0
    with pytest.raises(typer.BadParameter):
        parse_count("0", "--batch-size", least=1)


# The same words as the API.


def test_fit_has_the_words_of_the_api():
    api = {
        *inspect.signature(SemanticSegmentor).parameters,
        *list(inspect.signature(SemanticSegmentor.fit).parameters)[1:],
    }
    command = inspect.signature(cli.fit).parameters
    assert api - set(command) == {"hyperparameters", "callbacks", "logger"}
    assert set(command) - api == {"overrides", "quiet"}
    for name, parameter in inspect.signature(SemanticSegmentor.fit).parameters.items():
        if name in command and parameter.default is not inspect.Parameter.empty:
            default = command[name].default
            assert (default or "auto" if name == "presets" else default) == parameter.default, name


def test_fit_hands_every_option_on(dataset, tmp_path, monkeypatch):
    seen: dict[str, object] = {}

    class Recorder:
        def __init__(self, *arguments: object, **options: object) -> None:
            seen.update(options, problem_type=arguments[0])

        def fit(self, *arguments: object, **options: object) -> None:
            seen.update(options, train_data=arguments[0], tuning_data=arguments[1])
            raise OptionError("enough seen")

    monkeypatch.setattr(easyseg.segmentor, "SemanticSegmentor", Recorder)
    train = dataset / "train.csv"
    done = invoke(
        *("fit", train, "--tuning-data", dataset / "val.csv", "--path", tmp_path / "run"),
        *("--problem-type", "multiclass", "--image", "photo", "--label", "mask"),
        *("--classes", "soil,crop", "--ignore-index", "255", "--eval-metric", "dice@image"),
        *("--data-root", dataset, "--presets", "best", "--set", "adapter.rank=8"),
        *("--presets", "polyp,street"),
        *("--set", "adapter.scales=[1,2]", "--time-limit", "60", "--holdout-frac", "0.3"),
        *("--groups", "patient", "--plan", dataset / "val.csv"),
        *("--accelerator", "cpu", "--devices", "0,1", "--num-nodes", "2", "--strategy", "ddp"),
        *("--num-workers", "3", "--seed", "7", "-q"),
    )
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", "error: enough seen\n")
    assert seen == {
        "train_data": train,
        "tuning_data": dataset / "val.csv",
        "path": tmp_path / "run",
        "problem_type": "multiclass",
        "image": "photo",
        "label": "mask",
        "classes": ["soil", "crop"],
        "ignore_index": 255,
        "eval_metric": "dice@image",
        "data_root": dataset,
        "presets": ["best", "polyp,street"],
        "hyperparameters": {"adapter.rank": 8, "adapter.scales": [1, 2]},
        "time_limit": 60.0,
        "holdout_frac": 0.3,
        "groups": "patient",
        "plan": dataset / "val.csv",
        "accelerator": "cpu",
        "devices": [0, 1],
        "num_nodes": 2,
        "strategy": "ddp",
        "num_workers": 3,
        "seed": 7,
        "verbosity": 0,
    }


def test_help_names_every_preset_and_domain():
    said = inspect.get_annotations(cli.fit, eval_str=True)["presets"].__metadata__[0].help
    for name in (*list_presets(), *list_domains()):
        assert re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said), name


# At once, and in the right place.


def test_help_names_the_commands_without_heavy_imports(tmp_path):
    script = (
        "import sys; from typer.testing import CliRunner; from easyseg import cli; "
        "print(CliRunner().invoke(cli.app, ['--help']).stdout); "
        "print('imported:', *sorted({'torch', 'lightning', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    done = python("-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("fit", "plan", "predict", "evaluate", "info"))
    assert done.stdout.rstrip().endswith("imported:")


COMMANDS = ("fit", "plan", "audit", "predict", "evaluate", "info", "demo", "datasets")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_an_example(command):
    done = invoke(command, "--help")
    assert done.exit_code == 0
    assert f"easyseg {command}" in done.stdout.split("Example")[1]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("fit", "train.csv"), "reading train.csv ..."),
        (("demo",), "generating a synthetic set ..."),
        (("audit", "train.csv"), "reading train.csv ..."),
        (("predict", ".", "x.png", "--output-dir", "out"), "loading . ..."),
    ],
)
def test_the_first_message_comes_before_heavy_imports(command, message, tmp_path):
    (tmp_path / "train.csv").write_text("image,label\n", encoding="utf-8")
    barred = "import sys; sys.modules |= dict.fromkeys(['torch', 'pandas', 'numpy', 'lightning'])"
    done = python("-c", f"{barred}\nfrom easyseg.cli import main\nmain()", *command, cwd=tmp_path)
    assert "ImportError" in done.stderr or "ModuleNotFoundError" in done.stderr
    assert done.stderr.startswith("easyseg ")
    assert done.stderr.splitlines()[0].endswith(f"· {message}")
    assert done.stdout == ""


def test_version():
    done = invoke("--version")
    assert (done.exit_code, done.stdout) == (0, f"easyseg {easyseg.__version__}\n")


# The way from a table to scores.


def test_fit_prints_results_apart_from_messages(fitted):
    run, done = fitted
    assert done.stderr.splitlines()[0].endswith("train.csv ...")
    assert "Plan" in done.stderr
    assert "FutureWarning" not in done.stderr
    rows = dict(line.split("  ", 1) for line in done.stdout.splitlines())
    assert {name: value.strip() for name, value in rows.items()} == {
        "best iou@image": rows["best iou@image"].strip(),
        "run folder": "run",
        "model": str(Path("run", "model")),
    }
    assert 0 <= float(rows["best iou@image"]) <= 1
    assert (run / "model" / "model.safetensors").is_file()


def test_predict_writes_masks_in_the_labels_values(fitted, dataset, tmp_path):
    folder = tmp_path / "masks"
    done = invoke("predict", fitted[0], dataset / "test.csv", "--output-dir", folder, "-q")
    assert done.exit_code == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.split() == ["masks", "written", "2", "folder", str(folder)]
    masks = [np.asarray(Image.open(file)) for file in sorted(folder.rglob("*.png"))]
    assert [mask.shape for mask in masks] == [(64, 64)] * 2
    assert set(np.unique(masks).tolist()) <= {0, 255}


def test_predict_draws_the_masks_over_their_images(fitted, dataset, tmp_path):
    words = ("predict", fitted[0], dataset / "images", "--output-dir", tmp_path / "masks")
    drawn = tmp_path / "drawn"
    done = invoke(*words, "--overlays", drawn, "-q")
    assert done.exit_code == 0, done.stderr
    assert str(drawn) in done.stdout
    masks = sorted((tmp_path / "masks").rglob("*.png"))
    pictures = sorted(drawn.rglob("*"))
    assert [picture.name for picture in pictures] == [f"{mask.stem}.jpg" for mask in masks]
    expected = tmp_path / "expected.jpg"
    overlay(dataset / "images" / pictures[0].name, masks[0]).save(expected, quality=90)
    assert pictures[0].read_bytes() == expected.read_bytes()
    again = invoke(*words, "--overwrite", "--overlays", drawn)
    assert again.exit_code == 2
    assert "is not empty" in again.stderr


def test_predict_replaces_masks_only_if_told(fitted, dataset, tmp_path):
    words = ("predict", fitted[0], dataset / "test.csv", "--output-dir", tmp_path, "-q")
    assert invoke(*words).exit_code == 0
    again = invoke(*words)
    assert again.exit_code == 1
    assert "--overwrite" in again.stderr
    assert invoke(*words, "--overwrite").exit_code == 0


def test_threshold_moves_the_masks(fitted, dataset, tmp_path):
    sizes = []
    for threshold in ("0", "1"):
        folder = tmp_path / threshold
        image = dataset / "images" / "test_0000.jpg"
        done = invoke(
            *("predict", fitted[0] / "model", image, "--output-dir", folder),
            *("--threshold", threshold, "--batch-size", "1", "--device", "cpu"),
        )
        assert done.exit_code == 0, done.stderr
        sizes.append(int((np.asarray(Image.open(folder / "test_0000.png")) == 255).sum()))
    assert sizes == [64 * 64, 0]


def test_evaluate_prints_scores_and_writes_those_of_each_image_from_one_pass(
    fitted, dataset, tmp_path, monkeypatch
):
    table, file = dataset / "test.csv", tmp_path / "scores.csv"
    score, passes = evaluation.score, []
    monkeypatch.setattr(evaluation, "score", lambda *a, **k: passes.append(1) or score(*a, **k))
    done = invoke("evaluate", fitted[0], table, "--json", "--per-image", file)
    assert done.exit_code == 0, done.stderr
    assert passes == [1]
    scores = json.loads(done.stdout)
    assert set(scores) > {"iou@image", "dice@image", "miou@dataset", "empty@image"}
    rows = pd.read_csv(file)
    assert list(rows["image"]) == list(pd.read_csv(table)["image"])
    assert rows["iou@image"].mean() == pytest.approx(scores["iou@image"])
    worst = rows.sort_values("iou@image").iloc[0]
    told = f"images: 2 · lowest iou@image: {worst['image']} {worst['iou@image']:.2f}, "
    assert told in done.stderr

    pooled = ("--metrics", "miou@dataset", "--per-image", file, "-q")
    assert invoke("evaluate", fitted[0], table, *pooled).exit_code == 0
    assert pd.read_csv(file).equals(rows)  # Not without columns: no image has a pooled score.

    some = invoke("evaluate", fitted[0], table, "--metrics", "dice@image", "-q")
    assert some.stdout == f"dice@image  {scores['dice@image']:.4f}\n"


def test_evaluate_gives_intervals_and_the_metrics_of_the_paper(fitted, dataset, tmp_path):
    file = tmp_path / "scores.csv"
    table = pd.read_csv(dataset / "test.csv").assign(patient=["a", "b"])
    table.to_csv(tmp_path / "test.csv", index=False)
    words = ("evaluate", fitted[0], tmp_path / "test.csv", "--data-root", dataset, "-q")
    asked = ("--metrics", "paper", "--metrics", "hd95@image", "--intervals")
    done = invoke(*words, *asked, "--groups", "patient", "--json", "--per-image", file)
    assert done.exit_code == 0, done.stderr
    scores = json.loads(done.stdout)
    assert {"s_measure@image", "ber@dataset", "hd95@image"} <= scores.keys()
    assert all(s["low"] <= s["score"] <= s["high"] for s in scores.values())
    assert {"image", "s_measure@image", "hd95@image"} <= set(pd.read_csv(file).columns)
    done = invoke(*words, "--metrics", "dice@image", "--intervals")
    number = r"\d\.\d{4}"
    assert re.fullmatch(rf"dice@image  {number}  \({number} to {number}\)\n", done.stdout)
    assert "intervals=True" in invoke(*words, "--groups", "patient").stderr


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        (["iou@image"], "images: 3 · lowest iou@image: b 0.10, a 0.50"),
        (["miou@dataset", "hd95@image"], "images: 3 · highest hd95@image: c 9.00, a 2.00, b 1.00"),
        (["dice@image"], "images: 3"),
        (["miou@dataset"], "images: 3"),
    ],
)
def test_evaluate_names_the_images_that_a_model_does_worst_on(metrics, told):
    nan = float("nan")
    rows = pd.DataFrame(
        {
            "photo": ["a", "b", "c"],
            "iou@image": [0.5, 0.1, nan],
            "hd95@image": [2.0, 1.0, 9.0],
            "dice@image": [nan, nan, nan],
        }
    )
    assert _worst(rows, "photo", metrics) == told


def test_the_help_of_evaluate_knows_every_metric():
    said = invoke("evaluate", "--help").stdout
    for metric in METRICS:
        assert metric.removesuffix("_mean").removesuffix("_max") in said, metric


def test_evaluate_reads_the_columns_it_is_told(fitted, dataset, tmp_path):
    table = pd.read_csv(dataset / "test.csv").rename(columns={"image": "photo", "label": "truth"})
    table.to_csv(tmp_path / "test.csv", index=False)
    words = ("evaluate", fitted[0], tmp_path / "test.csv", "--image", "photo")
    assert "'label' is missing" in invoke(*words, "--data-root", dataset).stderr
    done = invoke(*words, "--data-root", dataset, "--label", "truth")
    assert done.exit_code == 0, done.stderr
    assert "iou@image" in done.stdout


def test_info_tells_plan_reasons_classes_scores_and_size(fitted):
    done = invoke("info", fitted[0])
    assert done.exit_code == 0, done.stderr
    for text in ("adapter.rank", "train.max_steps", "set by you", "255", "pad", "iou@image", " MB"):
        assert text in done.stdout
    assert invoke("info", fitted[0] / "model").stdout == done.stdout


def test_info_asks_for_no_weights(fitted, monkeypatch):
    from easyseg import artifact

    monkeypatch.setattr(artifact, "build_network", None)
    assert invoke("info", fitted[0]).exit_code == 0


# Failures.


def test_expected_failures_are_one_message_without_a_traceback(fitted, dataset, tmp_path):
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    words = ("evaluate", fitted[0], dataset / "test.csv")
    photo, file = dataset / "images" / "test_0000.jpg", dataset / "train.csv"
    for arguments, message in (
        (("info", nothing), "is no saved model"),
        (("predict", fitted[0], nothing, "--output-dir", nothing / "out"), "no image"),
        ((*words, "--metrics", "iou"), "Unknown metric 'iou'"),
        (("fit", file, "--path", dataset), "is not an empty folder"),
        (("predict", fitted[0], photo, "--output-dir", file / "out"), "Not a directory"),
    ):
        done = invoke(*arguments)
        assert done.exit_code == 1, arguments
        assert "error: " in done.stderr
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("fit",),
        ("fit", "no-such-file.csv"),
        ("fits",),
        ("fit", __file__, "--classes", "0=a,1"),
        ("fit", __file__, "--set", "rank"),
        ("fit", __file__, "--seed", "-1"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments):
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""


def test_scores_do_not_replace_the_table_they_are_of(tmp_path):
    table = tmp_path / "test.csv"
    table.write_text("image,label\n", encoding="utf-8")
    done = invoke("evaluate", tmp_path, table, "--per-image", table)
    assert done.exit_code == 2
    assert "itself" in done.stderr  # one word: lines are broken where they fit
    assert table.read_text(encoding="utf-8") == "image,label\n"


def test_ctrl_c_is_exit_code_130(tmp_path, monkeypatch):
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SemanticSegmentor, "load", interrupted)
    done = invoke("predict", tmp_path, tmp_path, "--output-dir", tmp_path / "out", "-q")
    assert (done.exit_code, done.stderr) == (130, "error: interrupted\n")


# The demonstration.


def test_demo_on_a_folder_twice(dataset, tiny_backbones, tmp_path):
    out = tmp_path / "out"
    for _ in range(2):
        done = invoke("demo", "--data", dataset, "--output-dir", out, *TINY)
        assert done.exit_code == 0, done.stderr
    assert "2 test images" in done.stdout
    assert "iou@image" in done.stdout
    folders = sorted(out.iterdir())
    assert len(folders) == 2
    for folder in folders:
        names = {path.name for path in folder.iterdir()}
        assert names == {"run", "masks", "overlays", "contact_sheet.png", "scores.json"}
        masks = {file.stem for file in (folder / "masks").rglob("*.png")}
        assert masks == {"test_0000", "test_0001"}
        assert {file.stem for file in (folder / "overlays").rglob("*.jpg")} == masks
        assert 0 <= json.loads((folder / "scores.json").read_text())["iou@image"] <= 1
    assert str(folders[1] / "run" / "model") in done.stdout


def test_demo_without_data_generates_a_synthetic_set(tiny_backbones, tmp_path, monkeypatch):
    from easyseg import demo

    for name, value in {"_TRAIN": 4, "_VAL": 2, "_TEST": 2, "_SIZE": (64, 64)}.items():
        monkeypatch.setattr(demo, name, value)
    done = invoke("demo", "--output-dir", tmp_path, "--seed", "3", *TINY)
    assert done.exit_code == 0, done.stderr
    assert "synthetic" in done.stdout
    (folder,) = tmp_path.iterdir()
    assert len(pd.read_csv(folder / "data" / "train.csv")) == 4
    assert "seed: 3" in (folder / "data" / "SOURCE.md").read_text(encoding="utf-8")
    assert Image.open(folder / "contact_sheet.png").height > 64


def test_demo_needs_a_test_table(dataset, tmp_path):
    from easyseg.datasets.folder import read_folder

    source = read_folder(dataset)
    source.train.to_csv(tmp_path / "train.csv", index=False)
    done = invoke("demo", "--data", tmp_path, "--output-dir", tmp_path / "out")
    assert done.exit_code == 1
    assert "test.csv: missing" in done.stderr
    assert not (tmp_path / "out").exists()


# The audit.


def test_audit_has_the_words_of_the_api():
    api = inspect.signature(easyseg.audit).parameters
    command = inspect.signature(cli.audit).parameters
    assert set(api) <= set(command)
    assert set(command) - set(api) == {"as_json", "html", "fix", "quiet"}
    for name, parameter in api.items():
        if parameter.default is not inspect.Parameter.empty:
            assert command[name].default == parameter.default, name


def test_audit_prints_the_report_and_ends_with_0_without_errors(dataset, tmp_path):
    page = tmp_path / "report.html"
    done = invoke(
        *("audit", dataset / "train.csv", "--tuning-data", dataset / "val.csv"),
        *("--test-data", dataset / "test.csv", "--html", page),
    )
    assert done.exit_code == 0, done.stderr
    assert "6 train, 2 tuning, 2 test samples: 0 errors" in done.stdout
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert str(page) in done.stderr
    record = json.loads(invoke("audit", dataset / "train.csv", "--json", "-q").stdout)
    assert record["num_samples"] == {"train": 6}


def test_audit_ends_with_1_on_errors_and_repairs_them(dataset, tmp_path):
    table = pd.read_csv(dataset / "train.csv")
    table.loc[2, "label"] = "gone.png"
    table.to_csv(tmp_path / "train.csv", index=False)
    words = ("audit", tmp_path / "train.csv", "--data-root", dataset)
    done = invoke(*words, "-q")
    assert (done.exit_code, done.stderr) == (1, "")
    assert "missing-file" in done.stdout
    fixed = invoke(*words, "--fix", tmp_path / "fixed")
    assert fixed.exit_code == 0, fixed.stderr
    assert "1 dropped row" in fixed.stderr
    assert f"next: easyseg fit {tmp_path / 'fixed' / 'train.csv'}\n" in fixed.stderr
    refused = invoke(
        "fit", tmp_path / "train.csv", "--data-root", dataset, "--path", tmp_path / "r"
    )
    assert "easyseg audit TABLE --fix FOLDER" in refused.stderr
    again = invoke("audit", tmp_path / "fixed" / "train.csv", "-q")
    assert (again.exit_code, len(pd.read_csv(tmp_path / "fixed" / "train.csv"))) == (0, 5)
    assert invoke(*words, "--fix", tmp_path / "fixed").exit_code == 1


def test_the_command_after_a_repair_has_all_that_the_audit_was_told(dataset, tmp_path):
    for name in ("train", "val"):
        table = pd.read_csv(dataset / f"{name}.csv")
        table = table.rename(columns={"image": "a photo", "label": "truth"})
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    words = ("audit", tmp_path / "train.csv", "--tuning-data", tmp_path / "val.csv")
    options = ("--image", "a photo", "--label", "truth", "--classes", "0=none,255=pad")
    fixed = invoke(*words, "--data-root", dataset, *options, "--fix", tmp_path / "fixed")
    assert fixed.exit_code == 0, fixed.stderr
    told = next(line for line in fixed.stderr.splitlines() if "next: " in line)
    assert shlex.split(told.partition("next: ")[2]) == [
        *("easyseg", "fit", str(tmp_path / "fixed" / "train.csv")),
        *("--tuning-data", str(tmp_path / "fixed" / "tuning.csv"), *options),
    ]


def test_no_command_is_told_after_a_repair_that_leaves_errors(dataset, tmp_path):
    train = dataset / "train.csv"
    words = ("audit", train, "--tuning-data", train, "--fix", tmp_path / "fixed")
    left = invoke(*words)
    assert (left.exit_code, "leakage" in left.stdout) == (1, True)
    assert "next:" not in left.stderr


def test_audit_hands_every_option_on(dataset, tmp_path):
    table = pd.read_csv(dataset / "train.csv").rename(columns={"image": "photo", "label": "truth"})
    table.to_csv(tmp_path / "train.csv", index=False)
    words = ("audit", tmp_path / "train.csv", "--data-root", dataset, "--image", "photo", "-q")
    assert "'label' is missing" in invoke(*words).stderr
    done = invoke(*words, "--label", "truth", "--classes", "0=none,255=pad", "--json")
    assert json.loads(done.stdout)["label_map"]["names"] == ["none", "pad"]
    done = invoke(*words, "--label", "truth", "--ignore-index", "255")
    assert done.exit_code == 1
    assert "in masks of 0 and 255, 255 is the foreground" in done.stdout


def test_plan_has_the_words_of_the_api():
    api = set(inspect.signature(SemanticSegmentor.plan).parameters)
    api |= set(inspect.signature(SemanticSegmentor).parameters)
    command = set(inspect.signature(cli.plan).parameters)
    assert api - command == {"self", "path", "hyperparameters"}
    assert command - api == {"overrides", "output", "as_json", "quiet"}


def test_a_plan_is_shown_written_edited_and_followed(dataset, tiny_backbones, tmp_path):
    file = tmp_path / "new" / "plan.json"
    train = (dataset / "train.csv", "--tuning-data", dataset / "val.csv")
    shown = invoke("plan", *train, *TINY, "--output", file)
    assert shown.exit_code == 0, shown.output
    assert re.search(r"^data\.size +128 +set by you$", shown.stdout, re.MULTILINE)
    assert "expected: about" in shown.stdout
    assert str(file) in shown.stderr
    record = json.loads(file.read_text(encoding="utf-8"))
    record["adapter"]["rank"] = 7
    file.write_text(json.dumps(record), encoding="utf-8")
    run = tmp_path / "run"
    done = invoke("fit", *train, "--plan", file, "--path", run)
    assert done.exit_code == 0, done.output
    assert json.loads((run / "plan.json").read_text(encoding="utf-8"))["adapter"]["rank"] == 7
    again = invoke("plan", *train, *TINY, "--output", file)
    assert again.exit_code == 2
    assert "exists" in again.stderr
    both = invoke("fit", *train, "--plan", file, "--presets", "fast")
    assert both.exit_code == 1
    assert "plan= holds every decision" in both.stderr


def test_plan_prints_json(dataset, tiny_backbones):
    shown = invoke("plan", dataset / "train.csv", *TINY, "--json", "--quiet")
    assert shown.exit_code == 0, shown.output
    assert shown.stderr == ""
    record = json.loads(shown.stdout)
    assert record["estimate"]["seconds"] > 0
    assert record["data"]["size"] == 128
