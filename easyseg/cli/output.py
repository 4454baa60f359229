"""What commands print: results to standard output, messages to standard error."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from easyseg.auditing.findings import AuditReport
    from easyseg.plan.plan import Plan

__all__ = ["is_first", "print_in_colours", "print_rows", "print_scores", "say", "version"]


def version() -> str:
    """Return the version of easyseg."""
    import easyseg

    return easyseg.__version__


def say(verbosity: int, message: str) -> None:
    """Print a message to standard error, at once, from the first process on a machine only."""
    if verbosity > 0 and os.environ.get("LOCAL_RANK", "0") == "0":
        typer.echo(f"easyseg {version()} · {message}", err=True)


def is_first() -> bool:
    """Return whether this process is the one that prints results."""
    from easyseg.ranks import is_first_process

    return is_first_process()


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values below each other, aligned; only the first process does."""
    if not is_first():
        return
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        typer.echo(f"{name:<{width}}  {value}")


def print_scores(
    scores: Mapping[str, float],
    bounds: Mapping[str, tuple[float, float]] | None = None,
    *,
    as_json: bool = False,
) -> None:
    """Print scores, and the bounds of those that have any."""
    from easyseg.metrics.streaming import EMPTY_KEY

    bounds = bounds or {}
    if as_json:
        import json

        def plain(value: float) -> float | None:
            return None if value != value else value

        told: dict[str, Any] = {key: plain(value) for key, value in scores.items()}
        for key, (low, high) in bounds.items():
            told[key] = {"score": told[key], "low": plain(low), "high": plain(high)}
        if is_first():
            typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return

    def text(key: str, value: float) -> str:
        if key == EMPTY_KEY:
            return f"{value:.0f}"
        between = f"  ({bounds[key][0]:.4f} to {bounds[key][1]:.4f})" if key in bounds else ""
        return f"{value:.4f}{between}"

    print_rows((key, text(key, value)) for key, value in scores.items())


def print_in_colours(what: AuditReport | Plan) -> None:
    """Print in colours on a terminal, as plain lines into a pipe."""
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        console.print(what)
    else:
        typer.echo(str(what))
