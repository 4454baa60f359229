"""Fits by other methods than Conv-LoRA: trained, saved and read again as they were."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_sets import TINY, make_table

from easyseg import SemanticSegmentor
from easyseg.errors import OptionError
from easyseg.models.network import build_network, running_statistics, trainable_state
from easyseg.plan.adapter_kinds import KINDS
from easyseg.training.module import SegmentationModule, new_optimizer


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make_table(tmp_path_factory.mktemp("data"), 4)


@pytest.mark.usefixtures("tiny_backbones")
@pytest.mark.parametrize(
    "changes",
    [
        {"backbone.name": "tiny_vit", "adapter.kind": "full"},
        {"adapter.kind": "lst", "train.prefix_cache": True, "data.augment": []},
        {"adapter.gate": "sum", "adapter.targets": ["v", "mlp"]},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_a_fit_is_saved_as_it_is(table, tmp_path, changes):
    segmentor = SemanticSegmentor(path=tmp_path / "run", verbosity=0).fit(
        table, hyperparameters=TINY | {"data.size": 112} | changes, accelerator="cpu"
    )
    before = build_network(segmentor.plan_, seed=0)
    trained = trainable_state(segmentor._model.network)
    assert trained.keys() == trainable_state(before).keys()
    moved = [n for n, v in trained.items() if not torch.equal(v, trainable_state(before)[n])]
    assert any(name.startswith("backbone.") for name in moved)
    if changes.get("adapter.kind") == "full":
        assert {n for n in moved if "running_" in n} == {n for n in trained if "running_" in n}
    assert not (segmentor.path_ / "experts.csv").exists()
    loaded = SemanticSegmentor.load(segmentor.save(tmp_path / "saved"))
    for name, value in trainable_state(loaded._model.network).items():
        assert torch.equal(value, trained[name]), name
    for mask, same in zip(segmentor.predict(table), loaded.predict(table), strict=True):
        np.testing.assert_array_equal(mask, same)
    card = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    assert (", rank 2" in card) == ("adapter.kind" not in changes)


FITS = [name for name, kind in KINDS.items() if "tiny_vit" in kind.families]
SCRATCH = {"adapter.kind": "full", "backbone.weights": "random"}


@pytest.mark.parametrize(
    "changes", [*({"adapter.kind": kind} for kind in FITS), SCRATCH], ids=[*FITS, "scratch"]
)
def test_every_method_trains_on_photographs(shared_data, tmp_path, changes):
    table = photographs(shared_data)
    segmentor = SemanticSegmentor(path=tmp_path / "run", verbosity=0).fit(
        table.iloc[:4],
        table.iloc[4:],
        hyperparameters={"backbone.name": "lite_medsam", "data.size": 112, "train.epochs": 2}
        | changes,
        accelerator="cpu",
    )
    losses = segmentor.history_["train_loss"].dropna()
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    before = trainable_state(build_network(segmentor.plan_, seed=0))
    trained = trainable_state(segmentor._model.network)
    moved = {name for name, value in trained.items() if not torch.equal(value, before[name])}
    assert any(name.startswith("backbone.") for name in moved) == (
        changes["adapter.kind"] != "none"
    )
    score = segmentor.evaluate(table)["iou@image"]
    assert 0 <= score < 1
    # A few steps from random weights may find nothing.
    assert score > 0 or segmentor.plan_.backbone.weights == "random"


@pytest.mark.parametrize("kind", [name for name in KINDS if name not in FITS])
def test_a_method_that_does_not_fit_the_backbone_says_why(shared_data, tmp_path, kind):
    with pytest.raises(OptionError, match=rf"{kind}.*lite_medsam.*{KINDS[kind].why_not[:20]}"):
        SemanticSegmentor(path=tmp_path / "run", verbosity=0).fit(
            photographs(shared_data),
            hyperparameters={"backbone.name": "lite_medsam", "adapter.kind": kind},
            accelerator="cpu",
        )
    assert not (tmp_path / "run").exists()


def photographs(shared_data):
    """Return a table of six photographs of skin lesions."""
    folder = shared_data / "skin_isic"
    return pd.read_csv(folder / "train.csv").iloc[:6].map(lambda path: str(folder / path))


def test_statistics_of_all_ranks_become_their_mean(tiny_plan):
    plan = tiny_plan({"backbone.name": "tiny_vit", "adapter.kind": "full"})
    ranks = [build_network(plan, seed=0) for _ in range(2)]
    for rank, network in enumerate(ranks):
        network(torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(rank)))
    sent = [torch.cat(list(running_statistics(network).values())) for network in ranks]
    expected = {
        name: (value + running_statistics(ranks[1])[name]) / 2
        for name, value in running_statistics(ranks[0]).items()
    }
    assert not torch.equal(sent[0], sent[1])
    for rank, network in enumerate(ranks):

        def reduce(own, reduce_op, rank=rank):
            assert reduce_op == "mean"
            assert torch.equal(own, sent[rank])
            return (sent[0] + sent[1]) / 2

        trainer = SimpleNamespace(strategy=SimpleNamespace(reduce=reduce))
        module = SimpleNamespace(network=network, trainer=trainer)
        SegmentationModule._share_statistics(module)
        for name, value in running_statistics(network).items():
            torch.testing.assert_close(value, expected[name])


def test_matrices_of_a_trained_encoder_decay_but_nothing_of_an_adapter(tiny_plan):
    def decaying(kind, **options):
        plan = tiny_plan({"adapter.kind": kind} | options)
        network = build_network(plan, seed=0)
        names = {id(p): name for name, p in network.named_parameters()}
        groups = new_optimizer(network, plan, torch.device("cpu")).param_groups
        found = {names[id(p)] for g in groups if g["weight_decay"] for p in g["params"]}
        return {name for name in found if name.startswith("backbone.")}

    for kind in ("bitfit", "adapter", "vpt", "ssf", "lora", "conv_lora", "lst", "sam_adapter"):
        assert not decaying(kind), kind
    leaves = {name.split(".", 1)[1] for name in decaying("full")}
    assert "patch_embed.proj.weight" in leaves
    assert "blocks.0.attn.qkv.weight" in leaves
    assert not any("pos" in name or "norm" in name for name in leaves)
    vit = decaying("full", **{"backbone.name": "tiny_vit"})
    assert not any("attention_biases" in name or ".bn." in name for name in vit)
