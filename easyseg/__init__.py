"""easyseg: semantic segmentation from a DataFrame of image and mask paths.

The public names are loaded when first used (PEP 562), so that ``import easyseg`` and the command
line start at once, without torch or pandas.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from easyseg import datasets
    from easyseg.auditing.audit import audit
    from easyseg.auditing.repair import repair
    from easyseg.models.adapters import ConvLoRALinear, LoRALinear, inject_adapters
    from easyseg.segmentor import SemanticSegmentor
    from easyseg.visualize import overlay

_PUBLIC = {
    "ConvLoRALinear": "easyseg.models.adapters",
    "LoRALinear": "easyseg.models.adapters",
    "SemanticSegmentor": "easyseg.segmentor",
    "audit": "easyseg.auditing.audit",
    "inject_adapters": "easyseg.models.adapters",
    "overlay": "easyseg.visualize",
    "repair": "easyseg.auditing.repair",
}

__all__ = [
    "ConvLoRALinear",
    "LoRALinear",
    "SemanticSegmentor",
    "__version__",
    "audit",
    "datasets",
    "inject_adapters",
    "overlay",
    "repair",
]


# A library stays silent unless it is asked to talk (`verbosity`, or handlers of the application).
logging.getLogger("easyseg").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("easyseg")
        except PackageNotFoundError:
            return "0+unknown"  # a checkout that is not installed
    if name == "datasets":
        return importlib.import_module("easyseg.datasets")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'easyseg' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
