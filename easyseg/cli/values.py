"""What the command line's words mean: ``0=background,255=lesion``, ``adapter.rank=8``, ``0,1``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import typer

__all__ = [
    "parse_classes",
    "parse_count",
    "parse_devices",
    "parse_overrides",
    "parse_raw_value",
]

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def parse_raw_value(text: str | None) -> int | str | None:
    """Read a mask value: a number, or a colour such as ``#804080``.

    Args:
        text: What the user wrote.

    Raises:
        typer.BadParameter: If it is neither.

    Example:
        >>> parse_raw_value("255"), parse_raw_value("#804080")
        (255, '#804080')
    """
    if text is None or _COLOUR.fullmatch(text):
        return text
    if not text.isdecimal():
        raise typer.BadParameter(
            f"found {text!r}; expected a mask value such as 255, or a colour such as #804080",
            param_hint="--ignore-index",
        )
    return int(text)


def parse_classes(text: str | None) -> dict[int | str, str] | list[str] | None:
    """Read the names of the classes.

    Args:
        text: ``0=background,255=lesion`` or ``#000000=background,#804080=road``, or names in the
            ascending order of the values.

    Raises:
        typer.BadParameter: If it is neither.

    Example:
        >>> parse_classes("0=background, 255=lesion")
        {0: 'background', 255: 'lesion'}
        >>> parse_classes("#000000=background,#804080=road")
        {'#000000': 'background', '#804080': 'road'}
        >>> parse_classes("soil,crop,weed")
        ['soil', 'crop', 'weed']
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if all(parts) and not any("=" in part for part in parts):
        return parts
    classes: dict[int | str, str] = {}
    for part in parts:
        written, equals, name = (word.strip() for word in part.partition("="))
        if not (equals and name and (written.isdecimal() or _COLOUR.fullmatch(written))):
            raise typer.BadParameter(
                f"found {part!r}; expected 'value=name' for each class, as in "
                '"0=background,255=lesion" or "#000000=background,#804080=road", or the names '
                'alone, as in "soil,crop,weed"',
                param_hint="--classes",
            )
        value = int(written) if written.isdecimal() else written.upper()
        if value in classes:
            raise typer.BadParameter(f"value {value} is there twice", param_hint="--classes")
        classes[value] = name
    return classes


def parse_overrides(items: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` pairs; the values are YAML: numbers, words, ``true``, lists.

    Args:
        items: Such as ``adapter.rank=8``, ``optim.lr=1e-4``, ``data.augment=[hflip]``.

    Returns:
        Values by dotted key.

    Raises:
        typer.BadParameter: If an item has no ``=``, or its value is no YAML.

    Example:
        >>> parse_overrides(["adapter.rank=8", "optim.lr=1e-4", "data.augment=[hflip]"])
        {'adapter.rank': 8, 'optim.lr': 0.0001, 'data.augment': ['hflip']}
    """
    if not items:
        return {}
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError  # type: ignore[import-untyped, unused-ignore]

    overrides: dict[str, Any] = {}
    for item in items:
        key, equals, value = (word.strip() for word in item.partition("="))
        if not (key and equals and value):
            raise typer.BadParameter(
                f"found {item!r}; expected key=value, as in adapter.rank=8", param_hint="--set"
            )
        try:
            read = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]), resolve=True)
        except (OmegaConfBaseException, YAMLError) as error:
            reason = str(error).splitlines()[0]
            raise typer.BadParameter(
                f"the value of {key!r} cannot be read as YAML: {value!r} ({reason})",
                param_hint="--set",
            ) from error
        assert isinstance(read, Mapping)
        overrides[key] = read["value"]
    return overrides


def parse_devices(text: str) -> int | str | list[int]:
    """Read a number of devices, their indices, or ``auto``.

    Args:
        text: ``2`` (two devices), ``0,3`` (these two), ``3,`` (the one with index 3), ``auto``.

    Raises:
        typer.BadParameter: If it is none of these.

    Example:
        >>> parse_devices("2"), parse_devices("0,3"), parse_devices("3,"), parse_devices("auto")
        (2, [0, 3], [3], 'auto')
    """
    words = [word.strip() for word in text.split(",")]
    if words == ["auto"]:
        return "auto"
    indices = words[:-1] if len(words) > 1 and not words[-1] else words
    if not all(word.isdecimal() for word in indices):
        raise typer.BadParameter(
            f"found {text!r}; expected 'auto', a number such as 2, or indices such as 0,1",
            param_hint="--devices",
        )
    return int(text) if len(words) == 1 else [int(word) for word in indices]


def parse_count(text: str, option: str, *, least: int) -> int | str:
    """Read a whole number or ``auto``.

    Args:
        text: What the user wrote.
        option: Name of the option, for the message.
        least: The smallest number allowed.

    Raises:
        typer.BadParameter: If it is neither.

    Example:
        >>> parse_count("4", "--num-workers", least=0), parse_count("auto", "--batch-size", least=1)
        (4, 'auto')
    """
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) < least:
        raise typer.BadParameter(
            f"found {text!r}; expected 'auto' or a whole number of at least {least}",
            param_hint=option,
        )
    return int(text)
