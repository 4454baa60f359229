"""The use of experts in training, as ``fit`` writes it into the run folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from easyseg.errors import ArtifactError
from easyseg.views.expert_use import gated_layers

if TYPE_CHECKING:
    from easyseg.segmentor import SemanticSegmentor

__all__ = ["read_training_use"]

_FILE = "experts.csv"


def read_training_use(segmentor: SemanticSegmentor) -> pd.DataFrame:
    """Read which share of the windows of each epoch each expert got.

    Args:
        segmentor: A fitted model with Conv-LoRA adapters that choose between experts.

    Returns:
        A row for each epoch, adapted layer and expert: ``epoch``, ``block`` (from 0, of those with
        attention), ``layer`` (its name), ``scale``, ``share``; the shares of a layer sum to 1, to
        within their four digits.

    Raises:
        OptionError: If the model has no such adapters.
        ArtifactError: If the folder of the model is no run folder with its logs.
        NotFittedError: Before ``fit`` or ``load``.
    """
    layers = gated_layers(segmentor._fitted())
    file = segmentor.path_ / _FILE
    if not file.is_file() or segmentor.history_.empty:
        raise ArtifactError(
            f"{segmentor.path_} holds no {_FILE} and metrics.csv: fit writes them into its run "
            "folder, and a saved model goes without; load the run folder, or give a table with "
            "labels"
        )
    log = pd.read_csv(file)
    rows = log.to_dict("records")
    use = pd.DataFrame(
        {
            "epoch": int(row["epoch"]),
            "block": layers[row["layer"]].block,
            "layer": row["layer"],
            "scale": scale,
            "share": row[f"expert_{expert}"],
        }
        for row in rows
        for expert, scale in enumerate(layers[row["layer"]].scales)
    )
    # A limited fit may validate within its first epoch, too: the mean of both parts.
    whole = use.groupby(["epoch", "block", "layer", "scale"], sort=False)
    return whole["share"].mean().reset_index()
