"""Several processes: DDP and FSDP on the CPU, and scripts without a main guard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_sets import make_table

from easyseg import SemanticSegmentor

CHECKOUT = Path(__file__).parents[2]

# Run by each rank from its first line, as a user's script is. All fits in the same two processes:
# to start them takes longer than a fit.
SCRIPT_OF_RANKS = """
import hashlib, json, os, sys
import lightning as L
import pandas as pd
from easyseg import SemanticSegmentor
from easyseg.models.network import trainable_state
from torch.distributed.fsdp import FSDPModule

class Keep(L.Callback):
    def __init__(self):
        self.weights = hashlib.sha256()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.sharded = any(isinstance(part, FSDPModule) for part in module.modules())
        for value in trainable_state(module).values():
            self.weights.update(value.numpy().tobytes())

table = pd.read_csv(sys.argv[1]).set_axis(list("gfedcba"))
for name, strategy, limit in (("ddp", "ddp", None), ("fsdp", "fsdp", None), ("limit", "ddp", 120)):
    keep, out = Keep(), sys.argv[2] + "/" + name
    segmentor = SemanticSegmentor(path=out + "/run", verbosity=0).fit(
        table, accelerator="cpu", devices=2, strategy=strategy, callbacks=[keep], time_limit=limit,
        hyperparameters={"train.max_steps": 2, "train.precision": "32", "data.size": 112,
                         "train.prefix_cache": True, "data.augment": ["hflip"]},
    )
    masks = segmentor.predict(table, batch_size=1)
    paths = segmentor.predict(table, output_dir=out + "/masks", batch_size=1)
    scores = segmentor.evaluate(table)
    rows = segmentor.evaluate(table, per_image=True)
    report = {
        "index": list(masks.index), "sums": [int(m.sum()) for m in masks], "paths": list(paths),
        "there": [os.path.isfile(p) for p in paths], "iou": scores["iou@image"],
        "rows": rows["iou@image"].tolist(), "best": segmentor.best_score_,
        "weights": keep.weights.hexdigest(), "sharded": keep.sharded,
    }
    with open(f"{out}/rank{os.environ['LOCAL_RANK']}.json", "w") as file:
        json.dump(report, file)
"""

# As on Windows and macOS a loader process may import this file again.
UNGUARDED_SCRIPT = """
import sys
from easyseg import SemanticSegmentor
segmentor = SemanticSegmentor(path=sys.argv[2], verbosity=0)
values = {"train.max_steps": 1, "train.batch_size": 1, "data.size": 112}
segmentor.fit(sys.argv[1], hyperparameters=values, accelerator="cpu")
print("epochs", len(segmentor.history_))
"""

# Says at its very end whether it is still in the group.
LEAVING_SCRIPT = """
import atexit, sys
import torch.distributed as dist
from easyseg import SemanticSegmentor
from easyseg.models.registry import register
from tiny_sets import TINY
from tiny_specs import TINY_SAM
register(TINY_SAM)
group = "file://" + sys.argv[2] + "/group"
dist.init_process_group("gloo", init_method=group, rank=0, world_size=1)
atexit.register(lambda: print("in a group:", dist.is_initialized()))
segmentor = SemanticSegmentor(path=sys.argv[2] + "/run", verbosity=0)
if sys.argv[3] == "predict":
    segmentor = SemanticSegmentor.load(sys.argv[2] + "/run", device="cpu")
    segmentor.predict(sys.argv[1])
else:
    segmentor.fit(sys.argv[1], hyperparameters=TINY | {"train.max_steps": 1}, accelerator="cpu")
"""


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of seven pairs: an odd number, so that ranks differ."""
    folder = tmp_path_factory.mktemp("seven")
    make_table(folder / "data", 7).to_csv(folder / "train.csv", index=False)
    return folder / "train.csv"


@pytest.fixture(scope="module")
def runs(seven: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each fit in two processes, and in it what the ranks report."""
    folder = tmp_path_factory.mktemp("runs")
    run_script(SCRIPT_OF_RANKS, folder, seven, folder)
    return folder


def reports(folder: Path) -> list[dict]:
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


def run_script(text: str, folder: Path, *args: object) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(text)
    env = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "RANK", "WORLD_SIZE")}
    env["PYTHONPATH"] = os.pathsep.join(map(str, (CHECKOUT, CHECKOUT / "tests")))
    done = subprocess.run(
        [sys.executable, script, *map(str, args)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=env,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_two_processes_train_score_and_predict_as_one(seven, runs):
    ranks = reports(runs / "limit")
    assert ranks[0] == ranks[1]  # The weights too, although the clocks started at other times.
    report = ranks[0]
    assert report["index"] == list("gfedcba")
    assert all(report["there"])
    assert len(set(report["paths"])) == 7

    alone = SemanticSegmentor.load(runs / "limit" / "run", device="cpu").set_params(verbosity=0)
    masks = alone.predict(seven, batch_size=1)
    for mask, path, total in zip(masks, report["paths"], report["sums"], strict=True):
        with Image.open(path) as image:
            written = np.asarray(image)
        assert written.sum() == total
        # This process computes with another number of threads: a pixel on the threshold may flip.
        assert (written == mask).mean() > 0.999
    assert alone.evaluate(seven)["iou@image"] == pytest.approx(report["iou"], abs=1e-3)
    one_by_one = alone.evaluate(seven, per_image=True)["iou@image"]
    np.testing.assert_allclose(one_by_one, report["rows"], atol=2e-3)
    assert len(alone.history_) == 1
    assert alone.best_score_ == pytest.approx(report["best"])


def test_fsdp_trains_the_weights_of_ddp(runs):
    (ddp, same), (fsdp, other) = reports(runs / "ddp"), reports(runs / "fsdp")
    assert ddp == same
    assert fsdp == other
    assert (ddp["sharded"], fsdp["sharded"]) == (False, True)
    assert fsdp["iou"] == pytest.approx(ddp["iou"], abs=1e-3)
    weights = [load_file(runs / s / "run/model/model.safetensors") for s in ("ddp", "fsdp")]
    # Two steps move them by some 1e-3. Weights that were gathered lie elsewhere in memory, so that
    # products may differ in their last bits, which Adam enlarges where a gradient should be zero.
    torch.testing.assert_close(*weights, rtol=0, atol=1e-4)


def test_a_script_without_main_guard_runs_once_and_silently(seven, tmp_path):
    done = run_script(UNGUARDED_SCRIPT, tmp_path, seven, tmp_path / "run")
    assert done.stdout.split() == ["epochs", "1"]
    assert done.stderr == ""  # No handler of a test runner stands between: verbosity=0 is silent.


def test_a_process_leaves_its_group_before_python_ends(seven, tmp_path):
    for work in ("fit", "predict"):
        done = run_script(LEAVING_SCRIPT, tmp_path, seven, tmp_path, work)
        assert done.stdout.splitlines()[-1] == "in a group: False", work
        (tmp_path / "group").unlink(missing_ok=True)
