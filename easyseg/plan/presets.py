"""The only reader of ``presets/``: packaged inside a wheel, beside the package in a checkout.

There are two kinds: whole presets, which hold every key of a plan, and domains, which add to one
what is known of such images beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from easyseg.errors import OptionError, nearest

__all__ = [
    "SYMMETRIES",
    "Asked",
    "list_domains",
    "list_presets",
    "load_domain",
    "load_preset",
    "parse_presets",
    "presets_folder",
]

_PACKAGE = Path(__file__).resolve().parent.parent

SYMMETRIES: Mapping[str, tuple[str, ...]] = {
    "all": ("hflip", "vflip", "rot90"),
    "left-right": ("hflip",),
    "none": (),
}
"""The augmentations by which an image becomes another one that there may be, too."""

_DOMAIN_KEYS = {"symmetries", "metric", "paper", "plan", "variants"}


@dataclass(frozen=True)
class Asked:
    """The presets that a user asked for.

    Attributes:
        base: ``"auto"``, or the name of a whole preset.
        domains: Names of domains; later ones win.
    """

    base: str
    domains: tuple[str, ...]


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
    """Return the names of all whole presets, sorted.

    Example:
        >>> list_presets()
        ('balanced', 'best', 'fast', 'paper', 'paper_3e-4', 'reference')
    """
    return tuple(sorted(file.stem for file in presets_folder().glob("*.yaml")))


def list_domains() -> tuple[str, ...]:
    """Return the names of all domains, sorted.

    Example:
        >>> list_domains()[:3]
        ('industrial', 'leaf_disease', 'microscopy')
    """
    return tuple(sorted(file.stem for file in presets_folder().glob("domains/*.yaml")))


def parse_presets(presets: str | Sequence[str]) -> Asked:
    """Read what a user asked for.

    Args:
        presets: A name or several, ``"best"``, ``"polyp"``, ``["best", "polyp"]`` or
            ``"best,polyp"``: at most one whole preset (or ``"auto"``), and domains.

    Returns:
        The whole preset, which is ``"auto"`` if none is named, and the domains in their order.

    Raises:
        OptionError: If a name is not known, or two whole presets are named.

    Example:
        >>> parse_presets(["best", "polyp"])
        Asked(base='best', domains=('polyp',))
        >>> parse_presets("street")
        Asked(base='auto', domains=('street',))
    """
    whole, domains = ("auto", *list_presets()), list_domains()
    items = [presets] if isinstance(presets, str) else presets
    if not isinstance(items, Sequence) or not all(isinstance(item, str) for item in items):
        raise OptionError(
            f"presets={presets!r}: expected a name or a list of names of {', '.join(whole)}; "
            f"domains: {', '.join(domains)}."
        )
    names = dict.fromkeys(name.strip() for item in items for name in item.split(","))
    for name in names:
        if name not in whole and name not in domains:
            raise OptionError(f"presets={name!r} is not known. {nearest(name, (*whole, *domains))}")
    bases = [name for name in names if name in whole]
    if len(bases) > 1:
        raise OptionError(
            f"presets={presets!r}: {' and '.join(map(repr, bases))} are whole presets, of which "
            f"one can be taken. What can be added to it are domains: {', '.join(domains)}."
        )
    added = tuple(name for name in names if name in domains)
    return Asked(bases[0] if bases else "auto", added)


def load_preset(name: str) -> dict[str, Any]:
    """Read a whole preset.

    Args:
        name: One of :func:`list_presets`.

    Returns:
        Plain Python values under ``about`` (a sentence), ``plan`` (nested; a value or ``"auto"``
        for every key of a plan), ``budget`` (what ``"auto"`` may spend on ``cpu`` and ``gpu``),
        ``variants`` (values instead of the plan's for ``multiclass`` problems or on a ``gpu``) and
        ``because`` (why, by dotted key). A file that names a ``base`` holds only what differs from
        that preset.

    Raises:
        OptionError: If there is no preset of that name, or its file is not such a mapping.

    Example:
        >>> load_preset("fast")["plan"]["train"]["average"]
        0.1
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
    optional = {"variants", "because"}
    if not isinstance(content, dict) or content.keys() - optional != {"about", "plan", "budget"}:
        raise OptionError(
            f"preset {file} must hold the keys about, plan and budget, and may hold variants and "
            "because."
        )
    content.setdefault("variants", {})
    content.setdefault("because", {})
    return cast("dict[str, Any]", content)


def load_domain(name: str) -> dict[str, Any]:
    """Read what is known of a domain. No value of ours was tuned on a data set.

    Args:
        name: One of :func:`list_domains`.

    Returns:
        Plain Python values under ``about`` (what the images show), ``symmetries`` (a key of
        :data:`SYMMETRIES`, or None: the plan goes by the images themselves), ``metric`` (the
        validation metric of binary problems, or None), ``paper`` (the metrics by which the
        Conv-LoRA paper scores such images, if it does), ``plan`` (nested; values that differ from
        a whole preset), ``variants`` (values for ``binary`` or ``multiclass`` problems, on a
        ``cpu`` or a ``gpu``) and ``because`` (why, for each value, by dotted key).

    Raises:
        OptionError: If there is no domain of that name, or its file is not such a mapping.

    Example:
        >>> load_domain("road")["because"]["symmetries"]
        'from above no side is up'
    """
    from omegaconf import OmegaConf

    if name not in list_domains():
        raise OptionError(f"presets={name!r} is not known. {nearest(str(name), list_domains())}")
    file = presets_folder() / "domains" / f"{name}.yaml"
    content = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    if not isinstance(content, dict) or content.keys() - _DOMAIN_KEYS != {"about", "because"}:
        raise OptionError(
            f"domain {file} must hold the keys about and because, and may hold "
            f"{', '.join(sorted(_DOMAIN_KEYS))}."
        )
    if content.setdefault("symmetries", None) not in (None, *SYMMETRIES):
        raise OptionError(f"domain {file}: symmetries is one of {', '.join(SYMMETRIES)}.")
    content.setdefault("metric", None)
    content.setdefault("paper", [])
    content.setdefault("plan", {})
    content.setdefault("variants", {})
    return cast("dict[str, Any]", content)
