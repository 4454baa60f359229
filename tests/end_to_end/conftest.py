"""A set on disk and a fitted segmentor, made once."""

from __future__ import annotations

import pandas as pd
import pytest
from tiny_sets import TINY, make_table


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Six binary pairs, masks 0/255."""
    return make_table(tmp_path_factory.mktemp("binary"), 6)


@pytest.fixture(scope="session")
def fitted(table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory):
    """A fitted tiny binary segmentor; not to be changed."""
    from easyseg import SemanticSegmentor

    path = tmp_path_factory.mktemp("fitted") / "run"
    segmentor = SemanticSegmentor(path=path, verbosity=0)
    return segmentor.fit(table, hyperparameters=TINY, accelerator="cpu", seed=0)


@pytest.fixture(scope="session", autouse=True)
def _tiny(tiny_backbones: None) -> None:
    """All fits here may name the tiny backbones."""
