"""The command line: the same words as ``SemanticSegmentor``.

Results go to standard output, messages to standard error. Heavy libraries are imported by the
commands, after their first message, so that ``easyseg --help`` and that message come at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from easyseg import cli_options as opt
from easyseg.cli_values import (
    parse_classes,
    parse_count,
    parse_devices,
    parse_overrides,
    parse_raw_value,
)
from easyseg.errors import EasySegError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

    from easyseg.auditing.findings import AuditReport
    from easyseg.segmentor import SemanticSegmentor

__all__ = ["app", "main"]

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class _Commands(TyperGroup):
    """Ends every command's expected failures with one message and an exit code, no traceback."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override, unused-ignore]
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # The reader of our output has gone, as in `easyseg info ... | head`.
        except (EasySegError, OSError) as error:
            _fail(str(error), 1)
        except KeyboardInterrupt:
            _fail("interrupted", _INTERRUPTED)
        except SystemExit as error:  # Lightning turns a Ctrl-C into sys.exit(1).
            if isinstance(error.__context__, KeyboardInterrupt):
                _fail("interrupted", _INTERRUPTED)
            raise


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
        typer.echo(f"easyseg {_version()}")
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


@app.command(
    epilog="Examples:\n\n"
    "easyseg fit train.csv --tuning-data val.csv --path lesions\n\n"
    'easyseg fit train.csv --classes "0=background,255=lesion" --presets best,skin_lesion\n\n'
    "easyseg fit train.csv --set adapter.rank=8 --set data.size=256 --time-limit 600"
)
def fit(
    train_data: opt.Train,
    tuning_data: opt.TuningData = None,
    path: opt.RunFolder = None,
    problem_type: opt.ProblemType = "auto",
    image: opt.ImageColumn = "image",
    label: opt.LabelColumn = "label",
    classes: opt.ClassNames = None,
    ignore_index: opt.IgnoreIndex = None,
    eval_metric: opt.EvalMetric = None,
    data_root: opt.DataRoot = None,
    presets: opt.Presets = None,
    overrides: opt.Overrides = None,
    time_limit: opt.TimeLimit = None,
    holdout_frac: opt.HoldoutFrac = 0.2,
    groups: opt.Groups = None,
    accelerator: opt.Accelerator = "auto",
    devices: opt.Devices = "auto",
    num_nodes: opt.NumNodes = 1,
    strategy: opt.Strategy = "auto",
    num_workers: opt.NumWorkers = "auto",
    seed: opt.Seed = 0,
    verbosity: opt.Verbosity = 1,
    quiet: opt.Quiet = False,
) -> None:
    """Check the data, plan, train, and keep the best epoch.

    Ctrl-C ends the training after the running step, with the best model so far; again: it aborts.
    """
    verbosity = 0 if quiet else verbosity
    named, ignored = parse_classes(classes), parse_raw_value(ignore_index)
    asked = parse_devices(devices)
    workers = parse_count(num_workers, "--num-workers", least=0)
    hyperparameters = parse_overrides(overrides or ())
    _say(verbosity, f"reading {train_data} ...")
    from easyseg.segmentor import SemanticSegmentor

    segmentor = SemanticSegmentor(
        problem_type,  # type: ignore[arg-type]
        image=image,
        label=label,
        classes=named,
        ignore_index=ignored,
        eval_metric=eval_metric,
        data_root=data_root,
        path=path,
        verbosity=verbosity,
    ).fit(
        train_data,
        tuning_data,
        presets=presets or "auto",
        hyperparameters=hyperparameters,
        time_limit=time_limit,
        holdout_frac=holdout_frac,
        groups=groups,
        accelerator=accelerator,
        devices=asked,
        num_nodes=num_nodes,
        strategy=strategy,
        num_workers=workers,  # type: ignore[arg-type]
        seed=seed,
    )
    _print_rows(
        [
            (f"best {segmentor.plan_.metric}", f"{segmentor.best_score_:.4f}"),
            ("run folder", str(segmentor.path_)),
            ("model", str(segmentor.path_ / "model")),
        ]
    )


@app.command(
    epilog="Examples:\n\n"
    "easyseg audit train.csv\n\n"
    "easyseg audit train.csv --tuning-data val.csv --test-data test.csv --html report.html\n\n"
    "easyseg audit train.csv --fix repaired && easyseg fit repaired/train.csv"
)
def audit(
    train_data: opt.Train,
    tuning_data: opt.OtherTuningData = None,
    test_data: opt.TestData = None,
    image: opt.ImageColumn = "image",
    label: opt.LabelColumn = "label",
    classes: opt.ClassNames = None,
    ignore_index: opt.IgnoreIndex = None,
    data_root: opt.DataRoot = None,
    as_json: opt.ReportAsJson = False,
    html: opt.Html = None,
    fix: opt.Fix = None,
    verbosity: opt.Verbosity = 1,
    quiet: opt.Quiet = False,
) -> None:
    """Look at every image and mask: what stops a fit, what costs quality, what is good to know.

    Finds damaged files, masks that do not fit their images, how masks are coded, images in two
    tables (leakage), near duplicates, rare classes, and more. Nothing is changed. Ends with exit
    code 1 if there are errors: a fit refuses such data.
    """
    verbosity = 0 if quiet else verbosity
    named, ignored = parse_classes(classes), parse_raw_value(ignore_index)
    tables = {"train": train_data, "tuning": tuning_data, "test": test_data}
    _say(verbosity, f"reading {', '.join(str(t) for t in tables.values() if t is not None)} ...")
    from functools import partial

    from easyseg.auditing.audit import READING, examine
    from easyseg.console import reporting

    if fix is not None:
        from easyseg.auditing.repair import check_target

        check_target(fix)
    with reporting(verbosity) as reporter:
        examined = examine(
            tables,
            image=image,
            label=label,
            classes=named,
            ignore_index=ignored,
            data_root=data_root,
            watch=partial(reporter.progress, READING),
        )
    report = examined.report()
    _print_report(report, as_json=as_json)
    if html is not None:
        report.write_html(html)
        _say(verbosity, f"report with thumbnails: {html}")
    left = len(report.errors)
    if fix is not None:
        from easyseg.auditing.repair import repair

        repaired = repair(examined, tables, fix, image=image, label=label)
        left = len(repaired.left)
        _say(verbosity, f"{repaired.summary()}: {fix}")
    if left:
        raise typer.Exit(1)


@app.command(
    epilog="Examples:\n\n"
    "easyseg predict lesions photos/ --output-dir predicted --overlays drawn\n\n"
    "easyseg predict lesions test.csv --output-dir predicted --threshold 0.3 --device cpu"
)
def predict(
    model: opt.Model,
    data: opt.Images,
    output_dir: opt.MaskFolder,
    overlays: opt.Overlays = None,
    overwrite: opt.Overwrite = False,
    threshold: opt.Threshold = None,
    batch_size: opt.BatchSize = "auto",
    device: opt.Device = None,
    image: opt.OtherImageColumn = None,
    data_root: opt.DataRoot = None,
    verbosity: opt.Verbosity = 1,
    quiet: opt.Quiet = False,
) -> None:
    """Predict a mask for each image and write it as a PNG; names mirror the input."""
    verbosity = 0 if quiet else verbosity
    size = parse_count(batch_size, "--batch-size", least=1)
    if overlays is not None and overlays.is_dir() and any(overlays.iterdir()):
        raise typer.BadParameter(f"{overlays} is not empty.", param_hint="--overlays")
    segmentor = _load(model, device, verbosity, image=image, data_root=data_root)
    written = segmentor.predict(
        data,
        output_dir=output_dir,
        overwrite=overwrite,
        batch_size=size,  # type: ignore[arg-type]
        threshold=threshold,
    )
    rows = [("masks written", str(len(written))), ("folder", str(output_dir))]
    if overlays is not None:
        _draw(segmentor, data, list(written), output_dir, overlays)
        rows.append(("drawn over their images", str(overlays)))
    _print_rows(rows)


@app.command(
    epilog="Examples:\n\n"
    "easyseg evaluate lesions test.csv\n\n"
    "easyseg evaluate lesions test.csv --metrics iou@image --metrics dice@image --json\n\n"
    "easyseg evaluate lesions test.csv --metrics paper --intervals --groups patient\n\n"
    "easyseg evaluate lesions test.csv --metrics hd95@image --per-image scores.csv"
)
def evaluate(
    model: opt.Model,
    data: opt.Labelled,
    metrics: opt.Metrics = None,
    intervals: opt.Intervals = False,
    groups: opt.ScoredGroups = None,
    per_image: opt.PerImage = None,
    threshold: opt.Threshold = None,
    as_json: opt.AsJson = False,
    device: opt.Device = None,
    image: opt.OtherImageColumn = None,
    label: opt.OtherLabelColumn = None,
    data_root: opt.DataRoot = None,
    verbosity: opt.Verbosity = 1,
    quiet: opt.Quiet = False,
) -> None:
    """Score a model on labelled images, at each image's own size.

    A score is METRIC@AVERAGING: @image is the mean over images, @dataset pools
    all pixels, @dataset/CLASS those of a class, @reference scores as the code of
    the Conv-LoRA paper does, squashed to 1024 x 1024.

    Of masks: iou, dice, miou, fwiou, accuracy, precision, recall, specificity,
    boundary_iou; errors, better when lower: ber, hd95 (pixels).

    Of probabilities, binary only: s_measure, e_measure_adaptive (_mean, _max),
    f_measure_adaptive (_mean, _max), weighted_f, weighted_f_0.3, auc, ap; mae,
    which is an error.
    """
    verbosity = 0 if quiet else verbosity
    segmentor = _load(model, device, verbosity, image=image, label=label, data_root=data_root)
    scores, rows, bounds = segmentor._score(
        data, metrics or None, threshold, intervals=intervals, groups=groups
    )
    if per_image is not None:
        _write_per_image(segmentor, data, per_image, rows)
        _say(verbosity, f"scores of each image: {per_image}")
    _print_scores(scores, bounds, as_json=as_json)


@app.command(epilog="Example:\n\neasyseg info lesions")
def info(model: opt.Model) -> None:
    """Tell what a model is: its plan with the reasons, its classes, its scores, its size."""
    from easyseg.artifact import describe_artifact, find_artifact

    folder = find_artifact(model)
    about = describe_artifact(folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    typer.echo(about.plan)
    typer.echo()
    _print_rows([("classes", str(about.label_map))])
    typer.echo("scores on the validation part:")
    _print_scores(about.metrics)
    _print_rows([("artifact", str(folder)), ("size", f"{size / 1e6:.1f} MB")])


@app.command(
    epilog="Examples:\n\n"
    "easyseg demo\n\n"
    "easyseg demo --data my-set --presets fast\n\n"
    "A folder for --data holds train.csv (columns image,label), test.csv, and if you like val.csv "
    "and classes.txt with lines such as '255 lesion'."
)
def demo(
    data: opt.DemoData = None,
    output_dir: opt.DemoFolder = Path("easyseg-demo"),
    seed: opt.Seed = 0,
    presets: opt.DemoPresets = None,
    overrides: opt.Overrides = None,
    time_limit: opt.TimeLimit = None,
    accelerator: opt.Accelerator = "auto",
    verbosity: opt.Verbosity = 1,
    quiet: opt.Quiet = False,
) -> None:
    """Fit, score and draw: on a generated, synthetic set, or on a data set of yours."""
    verbosity = 0 if quiet else verbosity
    hyperparameters = parse_overrides(overrides or ())
    _say(verbosity, "generating a synthetic set ..." if data is None else f"reading {data} ...")
    from easyseg.demo import run_demo

    result = run_demo(
        data,
        output_dir=output_dir,
        seed=seed,
        presets=presets,
        hyperparameters=hyperparameters,
        time_limit=time_limit,
        accelerator=accelerator,
        verbosity=verbosity,
    )
    typer.echo(f"scores on {result.num_test} test images of {result.name}:")
    _print_scores(result.scores)
    typer.echo("\nwhere everything is:")
    _print_rows([(name, str(place)) for name, place in result.places().items()])
    _say(verbosity, f"next: easyseg predict {result.model} photos/ --output-dir predicted")


def main() -> None:
    """Run the command line; the entry point of the script ``easyseg``."""
    try:
        app(prog_name="easyseg")
    except KeyboardInterrupt:  # Outside of any command.
        raise SystemExit(_INTERRUPTED) from None


# What follows is private.


def _version() -> str:
    import easyseg

    return easyseg.__version__


def _say(verbosity: int, message: str) -> None:
    """Print a message to standard error, at once, from the first process on a machine only."""
    if verbosity > 0 and os.environ.get("LOCAL_RANK", "0") == "0":
        typer.echo(f"easyseg {_version()} · {message}", err=True)


def _is_first() -> bool:
    """Return whether this process is the one that prints results."""
    from easyseg.ranks import is_first_process

    return is_first_process()


def _load(model: Path, device: str | None, verbosity: int, **changes: Any) -> SemanticSegmentor:
    _say(verbosity, f"loading {model} ...")
    from easyseg.segmentor import SemanticSegmentor

    segmentor = SemanticSegmentor.load(model, device, verbosity=verbosity)
    given = {name: value for name, value in changes.items() if value is not None}
    return segmentor.set_params(**given)


def _draw(
    segmentor: SemanticSegmentor, data: Path, masks: list[str], masks_in: Path, folder: Path
) -> None:
    """Draw the masks that were written over their images."""
    from easyseg.console import reporting
    from easyseg.data.table import read_samples
    from easyseg.visualize import write_overlays

    if not _is_first():
        return
    samples = read_samples(data, image=segmentor.image, label=None, data_root=segmentor.data_root)
    with (
        reporting(segmentor.verbosity) as reporter,
        reporter.progress("drawing", len(masks)) as advance,
    ):
        write_overlays(
            samples.images,
            masks,
            masks_in=masks_in,
            folder=folder,
            ignore=segmentor.label_map_.ignore,
            coloured=segmentor.label_map_.coloured,
            on_picture=advance,
        )


def _write_per_image(
    segmentor: SemanticSegmentor, data: Path, file: Path, rows: pd.DataFrame
) -> None:
    """Write one row an image: its name and its scores."""
    from easyseg.data.table import read_samples
    from easyseg.files import write_text

    samples = read_samples(data, image=segmentor.image, label=None, data_root=segmentor.data_root)
    rows.insert(0, segmentor.image, list(samples.names))
    if _is_first():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, rows.to_csv(index=False, lineterminator="\n"))


def _print_report(report: AuditReport, *, as_json: bool) -> None:
    """Print a report: in colours on a terminal, as plain lines into a pipe."""
    from rich.console import Console

    console = Console()
    if as_json:
        typer.echo(report.to_json())
    elif console.is_terminal:
        console.print(report)
    else:
        typer.echo(str(report))


def _print_scores(
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
        if _is_first():
            typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return

    def text(key: str, value: float) -> str:
        if key == EMPTY_KEY:
            return f"{value:.0f}"
        between = f"  ({bounds[key][0]:.4f} to {bounds[key][1]:.4f})" if key in bounds else ""
        return f"{value:.4f}{between}"

    _print_rows((key, text(key, value)) for key, value in scores.items())


def _print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values below each other, aligned; only the first process does."""
    if not _is_first():
        return
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        typer.echo(f"{name:<{width}}  {value}")
