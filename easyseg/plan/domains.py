"""What each key of a plan may hold, and the words that say so."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from easyseg.errors import OptionError, nearest
from easyseg.models.registry import list_backbones
from easyseg.plan.adapter_kinds import KINDS

__all__ = ["DOMAINS", "Domain", "flatten", "parse"]


@dataclass(frozen=True)
class Domain:
    """The values a key may have.

    Attributes:
        text: The domain in words, for error messages.
        read: Turns a user's value into the plan's own type; raises ValueError or TypeError.
        words: The words among its values, for a hint at the one that was meant.
    """

    text: str
    read: Callable[[Any], Any]
    words: tuple[str, ...] = ()


def _one_of(*words: str) -> Domain:
    def read(value: Any) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return Domain(f"one of {', '.join(map(repr, words))}", read, words)


def _plain(value: Any) -> Any:
    """Unwrap a numpy scalar."""
    return value.item() if hasattr(value, "item") and not isinstance(value, str) else value


def _read_int(value: Any) -> int:
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        raise TypeError
    return int(value)


def _whole(low: int, *, minus_one: str = "") -> Domain:
    """Return whole numbers, and -1 where it has a meaning."""

    def read(value: Any) -> int:
        number = _read_int(value)
        if number < low and not (minus_one and number == -1):
            raise ValueError
        return number

    extra = f", or -1 for {minus_one}" if minus_one else ""
    return Domain(f"a whole number of at least {low}{extra}", read)


def _real(low: float, high: float = math.inf, *, above: bool = False) -> Domain:
    def read(value: Any) -> float:
        value = _plain(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError
        number = float(value)
        if not (low <= number <= high) or (above and number == low) or math.isinf(number):
            raise ValueError
        return number

    start = f"above {low:g}" if above else f"of at least {low:g}"
    return Domain(f"a number {start}{'' if math.isinf(high) else f', at most {high:g}'}", read)


def _flag() -> Domain:
    def read(value: Any) -> bool:
        value = _plain(value)
        if not isinstance(value, bool):
            raise TypeError
        return value

    return Domain("True or False", read)


def _text() -> Domain:
    def read(value: Any) -> str:
        text = str(value) if hasattr(value, "__fspath__") else value
        if not isinstance(text, str) or not text:
            raise TypeError
        return text

    return Domain("'pretrained', 'random' or the path of a weights file", read)


def _backbone() -> Domain:
    def read(value: Any) -> str:
        if value not in list_backbones():
            raise ValueError
        return str(value)

    names = list_backbones()
    return Domain(f"the name of a backbone: {', '.join(names)}", read, names)


def _many(item: Domain, *, what: str) -> Domain:
    def read(value: Any) -> tuple[Any, ...]:
        if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
            raise TypeError
        return tuple(item.read(each) for each in value)

    return Domain(f"a list of {what}", read, item.words)


def _blocks() -> Domain:
    count = _whole(1)
    return Domain(
        "'all', or k for the last k blocks (a whole number of at least 1)",
        lambda value: "all" if isinstance(value, str) and value == "all" else count.read(value),
        ("all",),
    )


def _layers(*words: str, least: int) -> Domain:
    names = ", ".join(map(repr, words))
    many = _many(_one_of(*words), what=f"layers, {'at least one ' if least else ''}of {names}")

    def read(value: Any) -> tuple[str, ...]:
        given = many.read(value)
        if len(given) < least:
            raise ValueError
        return tuple(word for word in words if word in given)

    return Domain(many.text, read, words)


def _class_weights() -> Domain:
    weights = _many(_real(0, above=True), what="numbers above 0, one a class")
    return Domain(
        f"'none', or {weights.text}",
        lambda value: "none" if isinstance(value, str) and value == "none" else weights.read(value),
        ("none",),
    )


def _precision() -> Domain:
    words = _one_of("32", "bf16", "fp16")
    return Domain(words.text, lambda value: words.read(str(_plain(value))), words.words)


# The keys of AUGMENTATIONS in data/transforms.py, which a plan must not import: it loads torch.
_AUGMENTATIONS = ("crop", "hflip", "vflip", "rot90", "rotate", "colour")

DOMAINS: Mapping[str, Domain] = {
    "backbone.name": _backbone(),
    "backbone.weights": _text(),
    "backbone.prompt": _one_of("none", "box"),
    "adapter.kind": _one_of(*KINDS),
    "adapter.rank": _whole(1),
    "adapter.num_experts": _whole(1),
    "adapter.scales": _many(_whole(1), what="whole numbers of at least 1, one an expert"),
    "adapter.alpha": _real(0, above=True),
    "adapter.gate": _one_of("learned", "constant", "sum"),
    "adapter.routing": _one_of("window", "image"),
    "adapter.identity": _flag(),
    "adapter.targets": _layers("q", "k", "v", "proj", "mlp", least=1),
    "adapter.lora_targets": _layers("proj", "mlp", least=0),
    "adapter.num_prompts": _whole(1),
    "adapter.reduction": _whole(1),
    "adapter.blocks": _blocks(),
    "head.kind": _one_of("binary", "softmax", "mask_classification"),
    "head.num_tokens": _whole(1),
    "loss.kind": _one_of("structure", "balanced_bce", "ce_dice", "focal", "mask2former"),
    "loss.class_weights": _class_weights(),
    "loss.balance_weight": _real(0),
    "optim.kind": _one_of("adamw", "adam"),
    "optim.lr": _real(0, above=True),
    "optim.decoder_lr": _real(0, above=True),
    "optim.weight_decay": _real(0),
    "optim.warmup": _real(0, 1),
    "data.size": _whole(1),
    "data.geometry": _one_of("squash", "letterbox", "tile"),
    "data.scale": _real(0, above=True),
    "data.augment": _many(
        _one_of(*_AUGMENTATIONS),
        what=f"augmentations, each one of {', '.join(map(repr, _AUGMENTATIONS))}",
    ),
    "train.epochs": _whole(1),
    "train.max_steps": _whole(1, minus_one="no cap"),
    "train.batch_size": _whole(1),
    "train.micro_batch_size": _whole(1),
    "train.precision": _precision(),
    "train.gradient_checkpointing": _flag(),
    "train.prefix_cache": _flag(),
    "train.validation_images": _whole(1, minus_one="all"),
    "train.patience": _whole(1),
    "train.average": _real(0, 1),
}
"""Every key of a plan's sections, in the order in which plans show them."""


def parse(key: str, value: Any, *, where: str = "hyperparameters") -> Any:
    """Turn a value into the plan's own type.

    Args:
        key: Dotted key.
        value: The value as the user or a file gave it.
        where: What the value comes from, for the error message.

    Returns:
        The value as plans hold it: int, float, str, bool or a tuple of them.

    Raises:
        OptionError: If there is no such key, or the value is outside of its domain.

    Example:
        >>> parse("adapter.scales", [1, 3, 5])
        (1, 3, 5)
    """
    if key not in DOMAINS:
        raise OptionError(f"{where}: unknown key {key!r}. {_nearest_key(key)}")
    try:
        return DOMAINS[key].read(value)
    except (TypeError, ValueError, OverflowError):
        raise OptionError(
            f"{where}: {key} = {value!r} is not possible: expected {DOMAINS[key].text}."
            f"{_nearest_word(value, (*DOMAINS[key].words, *([] if where == 'plan' else ['auto'])))}"
        ) from None


def _nearest_key(key: str) -> str:
    """Return a hint at the key that was meant, also where its section is missing or wrong."""
    section, _, name = key.rpartition(".")
    same = [known for known in DOMAINS if known.rpartition(".")[2] == name]
    if same and not section:
        return f"Did you mean {' or '.join(map(repr, same))}?"
    if same:
        return f"Did you mean {difflib.get_close_matches(key, same, n=1, cutoff=0)[0]!r}?"
    names = {known.rpartition(".")[2] for known in DOMAINS}
    if not section and (close := difflib.get_close_matches(name, names, n=1)):
        return _nearest_key(close[0])
    return nearest(key, DOMAINS)


def _nearest_word(value: Any, words: Iterable[str]) -> str:
    """Return a hint at the word that was meant by the first wrong one, or nothing."""
    words = tuple(words)
    given = [value] if isinstance(value, str) else value
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        return ""
    wrong = [word for word in given if isinstance(word, str) and word not in words]
    hint = nearest(wrong[0], words) if wrong else ""
    return f" {hint}" if hint.startswith("Did you mean") else ""


def flatten(nested: Mapping[str, Any], *, where: str = "hyperparameters") -> dict[str, Any]:
    """Turn nested mappings into dotted keys; dotted keys pass through, OmegaConf objects too.

    Args:
        nested: ``{"adapter": {"rank": 8}}``, ``{"adapter.rank": 8}``, or a mixture.
        where: What the mapping comes from, for the error message.

    Returns:
        Dotted keys and their values.

    Raises:
        OptionError: If a key is no string or given twice, or ``nested`` is no mapping.

    Example:
        >>> flatten({"adapter": {"rank": 8}, "optim.lr": 1e-3})
        {'adapter.rank': 8, 'optim.lr': 0.001}
    """
    from omegaconf import OmegaConf

    if OmegaConf.is_config(nested):
        nested = OmegaConf.to_container(nested, resolve=True)  # type: ignore[assignment]
    if not isinstance(nested, Mapping):
        raise OptionError(f"{where} must be a mapping of keys to values, found {nested!r}.")
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if not isinstance(key, str):
            raise OptionError(f"{where}: keys must be strings, found {key!r}.")
        items = {key: value}
        if isinstance(value, Mapping):
            items = {f"{key}.{k}": v for k, v in flatten(value, where=where).items()}
        for twice in items.keys() & flat.keys():
            raise OptionError(f"{where}: {twice} is given twice, nested and dotted. Keep one.")
        flat.update(items)
    return flat
