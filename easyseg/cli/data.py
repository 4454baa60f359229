"""``easyseg audit`` and ``datasets``."""

from __future__ import annotations

import shlex

import typer

from easyseg.cli import options as opt
from easyseg.cli.app import app
from easyseg.cli.output import print_in_colours, print_rows, say
from easyseg.cli.values import parse_classes, parse_raw_value

__all__ = ["audit", "datasets"]


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
    tables (leakage), near duplicates, rare classes, and more. Your files are never changed. Ends
    with exit code 1 if there are errors: a fit refuses such data; with --fix if some are left.
    """
    verbosity = 0 if quiet else verbosity
    named, ignored = parse_classes(classes), parse_raw_value(ignore_index)
    tables = {"train": train_data, "tuning": tuning_data, "test": test_data}
    say(verbosity, f"reading {', '.join(str(t) for t in tables.values() if t is not None)} ...")
    from functools import partial

    from easyseg.auditing.audit import READING, examine
    from easyseg.console import reporting

    if fix is not None:
        from easyseg.auditing.repair import check_target

        fix = fix.expanduser()
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
    if as_json:
        typer.echo(report.to_json())
    else:
        print_in_colours(report)
    advice = report.how_to_repair()
    if fix is None and advice is not None:
        say(verbosity, advice)
    if html is not None:
        report.write_html(html)
        say(verbosity, f"report with thumbnails: {html}")
    left = len(report.errors)
    if fix is not None:
        from easyseg.auditing.repair import repair_examined

        repaired = repair_examined(examined, tables, fix, image=image, label=label)
        left = len(repaired.left)
        written = [fix / file.name for file in repaired.tables.values()]
        say(verbosity, f"{repaired.summary()}; written: {', '.join(map(str, written))}")
        if not left:
            words = ["easyseg", "fit", str(fix / repaired.tables["train"].name)]
            if "tuning" in repaired.tables:
                words += ["--tuning-data", str(fix / repaired.tables["tuning"].name)]
            words += [] if image == "image" else ["--image", image]
            words += [] if label == "label" else ["--label", label]
            words += [] if classes is None else ["--classes", classes]
            words += [] if ignore_index is None else ["--ignore-index", ignore_index]
            say(verbosity, f"next: {shlex.join(words)}")
    if left:
        raise typer.Exit(1)


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
        print_rows(listing.overview(root))
        return
    if output is None:
        print_rows(listing.facts(name, root))
        return
    say(verbosity, f"looking for {name} ...")
    from easyseg.datasets.export import write_tables
    from easyseg.datasets.loading import load

    dataset = load(name, root, verbosity=verbosity)
    written = write_tables(dataset, output)
    rows = [(file.name, str(file)) for file in written]
    print_rows([*rows, ("licence", dataset.licence), ("cite", dataset.citation)])
    say(verbosity, f"next: {listing.fit_command(dataset, output)}")
