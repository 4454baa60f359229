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
    from easyseg.plan.plan import Plan
    from easyseg.segmentor import SemanticSegmentor
    from easyseg.study.progress import Progress

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
    "easyseg fit train.csv --set adapter.rank=8 --set data.size=256 --time-limit 600\n\n"
    "easyseg fit train.csv --plan plan.json"
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
    plan: opt.PlanFile = None,
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
        plan=plan,
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
    "easyseg plan train.csv --time-limit 600\n\n"
    "easyseg plan train.csv --presets best --output plan.json && "
    "easyseg fit train.csv --plan plan.json"
)
def plan(
    train_data: opt.Train,
    tuning_data: opt.TuningData = None,
    output: opt.PlanTarget = None,
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
    seed: opt.Seed = 0,
    as_json: opt.PlanAsJson = False,
    verbosity: opt.Verbosity = 1,
    quiet: opt.Quiet = False,
) -> None:
    """Show what fit would do with this data on this machine, and why; train nothing.

    Every decision with its value and its reason, and the time and the memory that the fit will
    take, from a few steps that are timed. The plan that --output writes can be edited and handed to
    fit --plan.
    """
    verbosity = 0 if quiet else verbosity
    named, ignored = parse_classes(classes), parse_raw_value(ignore_index)
    asked, hyperparameters = parse_devices(devices), parse_overrides(overrides or ())
    if output is not None and output.exists():
        raise typer.BadParameter(f"{output} exists.", param_hint="--output")
    _say(verbosity, f"reading {train_data} ...")
    from easyseg.segmentor import SemanticSegmentor

    planned = SemanticSegmentor(
        problem_type,  # type: ignore[arg-type]
        image=image,
        label=label,
        classes=named,
        ignore_index=ignored,
        eval_metric=eval_metric,
        data_root=data_root,
        verbosity=verbosity,
    ).plan(
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
        seed=seed,
    )
    if not _is_first():
        return
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        planned.save(output)
        _say(verbosity, f"plan: {output}")
    if as_json:
        import json

        typer.echo(json.dumps(planned.to_dict(), indent=2, ensure_ascii=False))
    else:
        _print_in_colours(planned)


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
        from easyseg.auditing.repair import repair_examined

        repaired = repair_examined(examined, tables, fix, image=image, label=label)
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


@app.command(
    epilog="Examples:\n\n"
    "easyseg datasets\n\n"
    "easyseg datasets isic2017\n\n"
    "easyseg datasets isic2017 --output isic && easyseg fit isic/train.csv"
)
def datasets(
    name: opt.DatasetName = None,
    output: opt.TableFolder = None,
    root: opt.DatasetRoot = None,
    verbosity: opt.Verbosity = 1,
    quiet: opt.Quiet = False,
) -> None:
    """List public data sets, tell about one, or write its tables for the other commands.

    Read the licence before you use a set: easyseg tells what is known of it, and gives no rights.
    """
    verbosity = 0 if quiet else verbosity
    if name is None and output is not None:
        raise typer.BadParameter("expected the name of a data set before it", param_hint="--output")
    from easyseg.datasets import listing

    if name is None:
        _print_rows(listing.overview(root))
        return
    if output is None:
        _print_rows(listing.facts(name, root))
        return
    _say(verbosity, f"looking for {name} ...")
    from easyseg.datasets.export import write_tables
    from easyseg.datasets.loading import load

    dataset = load(name, root, verbosity=verbosity)
    written = write_tables(dataset, output)
    rows = [(file.name, str(file)) for file in written]
    _print_rows([*rows, ("licence", dataset.licence), ("cite", dataset.citation)])
    _say(verbosity, f"next: {listing.fit_command(dataset, output)}")


@app.command(
    epilog="Examples:\n\n"
    "easyseg study small --data sets --dry-run\n\n"
    "easyseg study small --data sets --results study\n\n"
    "easyseg study my-study.yaml --data sets --devices 0,1 --only 'methods/*'\n\n"
    "easyseg study small --results study --table\n\n"
    "A study is a YAML file of methods, data sets, seeds and a budget; presets/studies/small.yaml "
    "is one to start from. What is finished is never run again: stop it with Ctrl-C, and the same "
    "command goes on."
)
def study(
    spec: opt.Study,
    data: opt.StudyData = None,
    only: opt.Only = None,
    accelerator: opt.Accelerator = "auto",
    devices: opt.StudyDevices = "auto",
    results: opt.StudyFolder = None,
    table: opt.OnlyTables = False,
    dry_run: opt.DryRun = False,
    retry: opt.Retry = False,
    verbosity: opt.Verbosity = 1,
    quiet: opt.Quiet = False,
) -> None:
    """Compare methods on data sets: a cell for each method, set and seed, each with equal budget.

    A cell is one fit and its test, in a process of its own: if it fails, that is written down and
    the others go on. Writes one JSON file a cell, a tidy scores.csv, tables.md with means and
    standard errors, and figures (with matplotlib). Ends with exit code 1 if cells failed.
    """
    verbosity = 0 if quiet else verbosity
    workers = parse_devices(devices)
    _say(verbosity, f"reading {spec} ...")
    from easyseg.console import reporting
    from easyseg.study.progress import progress_of
    from easyseg.study.reading import read_study

    found = read_study(spec)
    folder = results or Path("easyseg-studies") / found.name
    if dry_run:
        _print_cells(progress_of(found, folder, only))
        return
    from easyseg.study.report import write_report

    with reporting(verbosity) as reporter:
        if not table:
            from easyseg.study.runner import fleet_of, run_study

            run_study(
                found,
                data=data,
                results=folder,
                fleet=fleet_of(accelerator, workers),
                reporter=reporter,
                only=only,
                retry=retry,
            )
        progress = progress_of(found, folder)
        written = write_report(found, progress, folder)
    _print_rows([(file.name, str(file)) for file in written])
    asked = progress_of(found, folder, only)
    states = {asked.status(cell) for _, cell in asked.cells}
    if not table and states != {"done"}:
        raise typer.Exit(1)


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
    if as_json:
        typer.echo(report.to_json())
    else:
        _print_in_colours(report)


def _print_in_colours(what: AuditReport | Plan) -> None:
    """Print in colours on a terminal, as plain lines into a pipe."""
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        console.print(what)
    else:
        typer.echo(str(what))


def _print_cells(progress: Progress) -> None:
    """Print each label of a study with the state of its cell, and how many cells there are."""
    labelled = progress.labelled()
    waiting = [place.label for place, cell in progress.cells if cell is None]
    _print_rows(
        [
            *((label, progress.status(cell)) for label, cell in labelled),
            *((label, progress.status(None)) for label in waiting),
        ]
    )
    states = [progress.status(cell) for cell in {cell.key: cell for _, cell in labelled}.values()]
    counts = ", ".join(f"{states.count(name)} {name}" for name in ("done", "open", "failed"))
    typer.echo(f"{len(states)} different cells: {counts}")
    if waiting:
        typer.echo(f"{len(waiting)} places wait for the value that is picked for their method")


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
