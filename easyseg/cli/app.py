"""The app that the commands belong to: what all of them share."""

from __future__ import annotations

from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from easyseg.cli.output import version
from easyseg.errors import EasySegError

__all__ = ["app", "main"]

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

# As they follow each other in use.
_ORDER = ("audit", "plan", "fit", "evaluate", "predict", "info", "demo", "datasets", "study")


class _Commands(TyperGroup):
    """Ends every command's expected failures with one message and an exit code, no traceback."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override, unused-ignore]
        return sorted(super().list_commands(ctx), key=_ORDER.index)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override, unused-ignore]
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # The reader of our output has gone, as in `easyseg info ... | head`.
        except (EasySegError, OSError) as error:
            _fail(str(error), 1)
        except KeyboardInterrupt:
            _fail("interrupted", _INTERRUPTED)


def _fail(message: str, code: int) -> NoReturn:
    typer.secho("error: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
    typer.echo(message, err=True)
    raise typer.Exit(code) from None


app = typer.Typer(
    name="easyseg",
    cls=_Commands,
    help="Semantic segmentation from a table of image and mask paths.",
    epilog="First steps:\n\n"
    "easyseg demo\n\n"
    "easyseg audit train.csv\n\n"
    "easyseg plan train.csv\n\n"
    "easyseg fit train.csv --path lesions\n\n"
    "easyseg predict lesions photos/ --output-dir predicted",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"easyseg {version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Takes the options that stand before a command."""


def main() -> None:
    """Run the command line; the entry point of the script ``easyseg``."""
    try:
        app(prog_name="easyseg")
    except KeyboardInterrupt:  # Outside of any command.
        raise SystemExit(_INTERRUPTED) from None
