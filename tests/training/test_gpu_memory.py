"""A GPU without memory left: an error of ours, which says what needs less."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from tiny_sets import TINY, make_table

from easyseg import SemanticSegmentor
from easyseg.errors import OptionError
from easyseg.models.network import Network
from easyseg.training.gpu_memory import explained_shortage

SHORTAGE = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee docs.")


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"train.batch_size": 4, "train.micro_batch_size": 4}, "train.micro_batch_size=2 "),
        ({"train.batch_size": 9, "train.micro_batch_size": 9}, "train.micro_batch_size=3 "),
        ({"train.micro_batch_size": 1}, "train.gradient_checkpointing=true "),
        (
            {"train.micro_batch_size": 1, "train.gradient_checkpointing": True},
            "Set a smaller data.size, or another backbone.name.",
        ),
    ],
)
def test_the_error_names_what_needs_less(tiny_plan, settings, remedy):
    with pytest.raises(OptionError) as caught, explained_shortage(tiny_plan(settings), "work"):
        raise SHORTAGE
    message = str(caught.value)
    assert remedy in message
    assert "too little memory for work" in message
    assert message.endswith("(CUDA out of memory. Tried to allocate 2 GiB.)")


def test_what_the_failed_work_held_is_let_go(tiny_plan):
    held = []

    def work():
        activations = torch.zeros(3)
        held.append(weakref.ref(activations))
        raise SHORTAGE

    with pytest.raises(OptionError), explained_shortage(tiny_plan({}), "work"):
        work()
    gc.collect()
    assert held[0]() is None


@pytest.mark.usefixtures("tiny_backbones")
@pytest.mark.parametrize("limit", [None, 60])
def test_a_fit_or_its_probe_that_finds_no_memory_says_so(tmp_path, monkeypatch, limit):
    def none(self, *arguments):
        raise SHORTAGE

    monkeypatch.setattr(Network, "forward", none)
    segmentor = SemanticSegmentor(path=tmp_path / "run", verbosity=0)
    with pytest.raises(OptionError, match=r"too little memory for (training|the first steps)"):
        segmentor.fit(
            make_table(tmp_path / "set", 6),
            hyperparameters=TINY,
            accelerator="cpu",
            time_limit=limit,
        )
    assert not (tmp_path / "run" / "model").exists()
