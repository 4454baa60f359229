"""Segmentors that cost little: a fitted one, and ones around an untrained network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tiny_sets import TINY, make_table

from easyseg import SemanticSegmentor
from easyseg.data.label_map import LabelMap


@pytest.fixture(scope="session")
def binary_table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Six pairs of different sizes, masks 0/255, on an index of letters."""
    return make_table(tmp_path_factory.mktemp("binary"), 6).set_axis(list("abcdef"))


@pytest.fixture(scope="session")
def binary(
    tiny_backbones: tuple[str, ...], binary_table: pd.DataFrame, tmp_path_factory
) -> SemanticSegmentor:
    """A fitted segmentor; not to be changed."""
    path = tmp_path_factory.mktemp("fitted") / "run"
    return SemanticSegmentor(path=path, verbosity=0).fit(
        binary_table, hyperparameters=TINY, accelerator="cpu", num_workers=0
    )


@pytest.fixture(scope="session")
def untrained(tiny_plan, fill_weights_that_matter) -> Callable[..., SemanticSegmentor]:
    """Return a maker of segmentors whose network predicts something, but not what is there."""
    import torch

    from easyseg.artifact import TrainedModel
    from easyseg.models.network import build_network

    def make(
        label_map: LabelMap,
        overrides: Mapping[str, Any] | None = None,
        path: Path = Path("nowhere"),
        **metrics: float,
    ) -> SemanticSegmentor:
        plan = tiny_plan(overrides, num_classes=label_map.num_classes)
        network = fill_weights_that_matter(build_network(plan, seed=0))
        model = TrainedModel(
            plan=plan, label_map=label_map, seed=0, network=network, metrics=metrics
        )
        segmentor = SemanticSegmentor(verbosity=0)
        segmentor._adopt(model, path, torch.device("cpu"))
        return segmentor

    return make
