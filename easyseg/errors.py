"""The exceptions of easyseg: a message says where, what was found, what to expect, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = [
    "ArtifactError",
    "DataError",
    "DownloadError",
    "EasySegError",
    "NotFittedError",
    "OptionError",
    "WeightsError",
    "closest",
    "nearest",
]


class EasySegError(Exception):
    """Base of all errors that easyseg raises on purpose."""


class DataError(EasySegError, ValueError):
    """The user's table, images or masks cannot be used as they are.

    All problems of a table are reported at once.

    Args:
        problems: One line for each problem: file or column, found, expected, remedy.
        title: The sentence above the list.
        advice: The sentence below it: what helps with several of them at once.

    Attributes:
        problems: The lines, all of them (the message shows the first ``SHOWN``).
    """

    SHOWN = 50

    def __init__(
        self, problems: Sequence[str] | str, title: str | None = None, advice: str | None = None
    ) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        self.title, self.advice = title, advice
        count = len(self.problems)
        below = [] if advice is None else [advice]
        if title is None and count == 1:
            super().__init__("\n".join([self.problems[0], *below]))
            return
        title = title or f"{count} problems in the data, found before anything was done:"
        lines = [f"  - {line}" for line in self.problems[: self.SHOWN]]
        if count > self.SHOWN:
            lines.append(f"  ... and {count - self.SHOWN} more (see `error.problems`)")
        super().__init__("\n".join([title, *lines, *below]))

    def __reduce__(self) -> tuple[type[DataError], tuple[Any, ...]]:
        """Rebuild from the arguments, so that the error survives a process boundary."""
        return (type(self), (self.problems, self.title, self.advice))


class OptionError(EasySegError, ValueError):
    """An argument, preset, override or metric name that easyseg does not know or cannot honour."""


class WeightsError(EasySegError):
    """Pretrained weights are missing, damaged or not the ones that are needed."""


class DownloadError(EasySegError):
    """A file cannot be had from the network, or what came is not the file that is needed."""


class ArtifactError(EasySegError):
    """A saved model cannot be written or read."""


class NotFittedError(EasySegError, AttributeError):
    """A method that needs a trained model was called before ``fit`` or ``load``."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint that names the known word closest to ``word``, or lists all.

    Args:
        word: What the user wrote.
        known: The words that would have been right.

    Returns:
        A sentence for an error message.

    Example:
        >>> nearest("adapter.rnak", ["adapter.rank", "optim.lr"])
        "Did you mean 'adapter.rank'?"
        >>> nearest("x", ["b", "a"])
        'Known: a, b.'
    """
    known = sorted(known)
    close = closest(word, known)
    return f"Known: {', '.join(known)}." if close is None else f"Did you mean {close!r}?"


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is most like ``word``, or None if none is like it.

    Args:
        word: What the user wrote.
        known: The words that would have been right.

    Example:
        >>> closest("lable", ["image", "label"])
        'label'
    """
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), None)
