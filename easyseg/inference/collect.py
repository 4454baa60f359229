"""The results of all ranks as one series on the user's index, and the files they go to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from easyseg.data.label_map import LabelMap
from easyseg.data.table import Samples
from easyseg.errors import OptionError
from easyseg.inference.writers import PNG_MAX, find_conflict, output_names
from easyseg.ranks import Ranks

__all__ = ["on_index", "output_paths"]


def output_paths(
    folder: Path,
    samples: Samples,
    ranks: Ranks,
    label_map: LabelMap,
    *,
    labels: Sequence[Path] = (),
    overwrite: bool,
) -> list[Path]:
    """Return where the masks go, one path a sample.

    Args:
        folder: The folder of all masks.
        samples: What is predicted.
        ranks: This process among others.
        label_map: The raw values of the masks.
        labels: The labels that the table of the samples names.
        overwrite: Whether files that are there may be replaced; images and labels never are.

    Raises:
        OptionError: On every rank, if masks would replace what they must not, or if the files
            cannot hold their values.
    """
    largest = max(label_map.values)
    if not label_map.coloured and largest > PNG_MAX:
        raise OptionError(
            f"output_dir={str(folder)!r}: the masks of this model hold values up to {largest}, a"
            f" PNG holds 0 to {PNG_MAX}: predict without an output folder (in Python), and store"
            " the arrays; or number the classes from 0 and fit anew"
        )
    paths = [folder / name for name in output_names(samples.names)]
    # All ranks look before any of them writes.
    found = find_conflict(paths, samples.images, labels, overwrite=overwrite)
    for conflict in ranks.gather(found):
        if conflict is not None:
            raise OptionError(
                f"output_dir={str(folder)!r}: {conflict}; choose another folder, or replace "
                "what is no image or label of the data with overwrite=True (--overwrite)"
            )
    return paths


def on_index(
    samples: Samples, ranks: Ranks, values: dict[int, Any], name: str, dtype: np.dtype[Any]
) -> pd.Series:
    """Bring the results of all ranks into the order of the samples, on their index.

    Args:
        samples: What was predicted.
        ranks: This process among others.
        values: This rank's results by position.
        name: Name of the series.
        dtype: Its type.
    """
    merged: dict[int, Any] = {}
    for part in ranks.gather(values):
        merged |= part
    column = np.empty(len(samples), dtype=dtype)
    for position, value in merged.items():
        column[position] = value
    return pd.Series(column, index=samples.index, name=name)
