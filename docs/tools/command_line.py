"""The page of the command line, from the commands themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer
from markdown_tables import table

from easyseg import cli


def command_line() -> str:
    """Return a section for each command: what it does, its arguments and options, examples."""
    group: Any = typer.main.get_command(cli.app)
    names = group.list_commands(typer.Context(group))
    return "\n\n".join("\n\n".join(_section(name, group.commands[name])) for name in names)


def _section(name: str, command: Any) -> Iterator[str]:
    context = command.make_context(name, [], resilient_parsing=True)
    yield f"## easyseg {name}"
    yield inspect.cleandoc(command.help or "")
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\neasyseg {name} {usage}\n```"
    panels: dict[str, list[Any]] = {}
    for parameter in command.params:
        panel = getattr(parameter, "rich_help_panel", None) or "Arguments"
        panels.setdefault(panel, []).append(parameter)
    for panel, parameters in panels.items():
        yield f"**{panel}**"
        yield table(("", "what it is"), (_row(each, context) for each in parameters))
    examples = [
        line for line in re.split(r"\n+", command.epilog or "") if line.startswith("easyseg ")
    ]
    if examples:
        yield "**Examples**"
        yield "```console\n" + "".join(f"$ {line}\n" for line in examples) + "```"


def _row(parameter: Any, context: Any) -> tuple[str, str]:
    name, about = parameter.get_help_record(context)
    # What stands in angle brackets is no HTML.
    return f"`{name}`", " ".join(about.split()).replace("<", "&lt;")
