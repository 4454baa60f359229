"""The only reader of ``presets/``: packaged inside a wheel, beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from easyseg.errors import OptionError, nearest

__all__ = ["list_presets", "load_preset", "presets_folder"]

_PACKAGE = Path(__file__).resolve().parent.parent


def presets_folder(package: Path = _PACKAGE) -> Path:
    """Find the folder of the presets.

    Args:
        package: Folder of the package ``easyseg``.

    Returns:
        ``easyseg/presets`` of an installed wheel, else ``presets`` beside the package, which is
        where a checkout, an editable install and an unpacked sdist have it.

    Raises:
        OptionError: If neither holds a preset.
    """
    places = (package / "presets", package.parent / "presets")
    for folder in places:
        if any(folder.glob("*.yaml")):
            return folder
    looked = " and ".join(str(folder) for folder in places)
    raise OptionError(
        f"no preset was found: looked for *.yaml in {looked}. The installation is incomplete; "
        "install easyseg again (`pip install --force-reinstall easyseg`)."
    )


def list_presets() -> tuple[str, ...]:
    """Return the names of all presets, sorted.

    Example:
        >>> list_presets()
        ('balanced', 'best', 'fast', 'paper', 'paper_3e-4', 'reference')
    """
    return tuple(sorted(file.stem for file in presets_folder().glob("*.yaml")))


def load_preset(name: str) -> dict[str, Any]:
    """Read a preset.

    Args:
        name: One of :func:`list_presets`.

    Returns:
        Plain Python values under ``about`` (a sentence), ``plan`` (nested; a value or ``"auto"``
        for every key of a plan), ``budget`` (what ``"auto"`` may spend on ``cpu`` and ``gpu``) and
        ``variants`` (values instead of the plan's for ``multiclass`` problems or on a ``gpu``). A
        file that names a ``base`` holds only what differs from that preset.

    Raises:
        OptionError: If there is no preset of that name, or its file is not such a mapping.

    Example:
        >>> load_preset("fast")["plan"]["optim"]["warmup"]
        0.05
    """
    from omegaconf import OmegaConf

    known = list_presets()
    if name not in known:
        raise OptionError(f"presets={name!r} is not known. {nearest(str(name), (*known, 'auto'))}")
    file = presets_folder() / f"{name}.yaml"
    content = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    if isinstance(content, dict) and "base" in content:
        own = {key: value for key, value in content.items() if key != "base"}
        content = OmegaConf.to_container(OmegaConf.merge(load_preset(content["base"]), own))
    if not isinstance(content, dict) or content.keys() - {"variants"} != {
        "about",
        "plan",
        "budget",
    }:
        raise OptionError(
            f"preset {file} must hold the keys about, plan and budget, and may hold variants."
        )
    content.setdefault("variants", {})
    return cast("dict[str, Any]", content)
