"""``easyseg fit``, ``plan`` and ``demo``."""

from __future__ import annotations

from pathlib import Path

import typer

from easyseg.cli import options as opt
from easyseg.cli.app import app
from easyseg.cli.output import is_first, print_in_colours, print_rows, print_scores, say
from easyseg.cli.values import (
    parse_classes,
    parse_count,
    parse_devices,
    parse_overrides,
    parse_raw_value,
)

__all__ = ["demo", "fit", "plan"]


@app.command(
    epilog="Examples:\n\n"
    "easyseg fit train.csv --tuning-data val.csv --path lesions\n\n"
    'easyseg fit train.csv --classes "0=background,255=lesion" --presets best,skin_lesion\n\n'
    "easyseg fit train.csv --set adapter.rank=8 --set data.size=256 --time-limit 600\n\n"
    "easyseg fit train.csv --image photo --label annotation --path lesions\n\n"
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
    say(verbosity, f"reading {train_data} ...")
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
    print_rows(
        [
            (f"best {segmentor.plan_.metric}", f"{segmentor.best_score_:.4f}"),
            ("run folder", str(segmentor.path_)),
            ("model", str(segmentor.path_ / "model")),
        ]
    )
    say(verbosity, f"next: easyseg evaluate {segmentor.path_} test.csv")


@app.command(
    epilog="Examples:\n\n"
    "easyseg plan train.csv --time-limit 600\n\n"
    "easyseg plan train.csv --presets best --output plan.json && "
    "easyseg fit train.csv --plan plan.json\n\n"
    "easyseg plan train.csv --plan plan.json"
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
    plan: opt.PlanFile = None,
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

    Every decision that has an effect, with its value and its reason, and the time and the memory
    that the fit will take, from a few steps that are timed. The plan that --output writes can be
    edited and handed to fit --plan, or to plan --plan for what it will take.
    """
    verbosity = 0 if quiet else verbosity
    named, ignored = parse_classes(classes), parse_raw_value(ignore_index)
    asked, hyperparameters = parse_devices(devices), parse_overrides(overrides or ())
    output = None if output is None else output.expanduser()
    if output is not None and output.exists():
        raise typer.BadParameter(f"{output} exists.", param_hint="--output")
    say(verbosity, f"reading {train_data} ...")
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
        plan=plan,
    )
    if not is_first():
        return
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        planned.save(output)
        say(verbosity, f"plan: {output}")
    if as_json:
        import json

        typer.echo(json.dumps(planned.to_dict(), indent=2, ensure_ascii=False))
    else:
        print_in_colours(planned)


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
    say(verbosity, "generating a synthetic set ..." if data is None else f"reading {data} ...")
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
    print_scores(result.scores)
    typer.echo("\nwhere everything is:")
    print_rows([(name, str(place)) for name, place in result.places().items()])
    say(verbosity, f"next: easyseg predict {result.model} photos/ --output-dir predicted")
