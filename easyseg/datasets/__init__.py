"""Data sets: public ones by name, folders on disk, and a generated, synthetic one.

The public names are loaded when first used, so that listing costs nothing.

Example:
    >>> from easyseg import datasets
    >>> "camvid" in datasets.list_datasets()
    True
    >>> datasets.get_spec("camvid").ignore_index
    255
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from easyseg.datasets.catalog import get_spec, list_datasets
    from easyseg.datasets.export import write_tables
    from easyseg.datasets.loading import Dataset, find, load
    from easyseg.datasets.spec import DatasetSpec

_PUBLIC = {
    "Dataset": "easyseg.datasets.loading",
    "DatasetSpec": "easyseg.datasets.spec",
    "find": "easyseg.datasets.loading",
    "get_spec": "easyseg.datasets.catalog",
    "list_datasets": "easyseg.datasets.catalog",
    "load": "easyseg.datasets.loading",
    "write_tables": "easyseg.datasets.export",
}

__all__ = [
    "Dataset",
    "DatasetSpec",
    "find",
    "get_spec",
    "list_datasets",
    "load",
    "write_tables",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'easyseg.datasets' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
