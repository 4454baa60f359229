"""``easyseg predict``, ``evaluate`` and ``info``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from easyseg.cli import options as opt
from easyseg.cli.app import app
from easyseg.cli.output import is_first, print_rows, print_scores, say
from easyseg.cli.values import parse_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from easyseg.segmentor import SemanticSegmentor

__all__ = ["evaluate", "info", "predict"]

_WORST = 3  # images that are named


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
    output_dir = output_dir.expanduser()
    overlays = None if overlays is None else overlays.expanduser()
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
    print_rows(rows)


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
    if per_image is not None:
        per_image = per_image.expanduser()
        if per_image.exists() and per_image.samefile(data):
            raise typer.BadParameter(f"{per_image} is DATA itself.", param_hint="--per-image")
    segmentor = _load(model, device, verbosity, image=image, label=label, data_root=data_root)
    from easyseg.data.table import read_samples

    scores, rows, bounds = segmentor._score(
        data, metrics or None, threshold, intervals=intervals, groups=groups
    )
    samples = read_samples(data, image=segmentor.image, label=None, data_root=segmentor.data_root)
    rows.insert(0, segmentor.image, list(samples.names))
    say(verbosity, _worst(rows, segmentor.image, [*scores]))
    print_scores(scores, bounds, as_json=as_json)
    if per_image is not None:
        _write_per_image(per_image, rows)
        say(verbosity, f"scores of each image: {per_image}")


@app.command(epilog="Example:\n\neasyseg info lesions")
def info(model: opt.Model) -> None:
    """Tell what a model is: its plan with the reasons, its classes, its scores, its size."""
    from easyseg.artifact import describe_artifact, find_artifact, validation_part

    folder = find_artifact(model)
    about = describe_artifact(folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print_rows([("classes", str(about.label_map))])
    part = validation_part(about.plan.train.validation_images)
    typer.echo(f"scores on {part}:")
    print_scores(about.metrics)
    print_rows([("artifact", str(folder)), ("size", f"{size / 1e6:.1f} MB")])
    typer.echo()
    typer.echo(dataclasses.replace(about.plan, estimate=None))  # Of another machine, perhaps.


def _load(model: Path, device: str | None, verbosity: int, **changes: Any) -> SemanticSegmentor:
    say(verbosity, f"loading {model} ...")
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
    from easyseg.views.colours import raw_background
    from easyseg.visualize import write_overlays

    if not is_first():
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
            background=raw_background(segmentor.label_map_, segmentor.plan_.problem_type),
            ignore=segmentor.label_map_.ignore,
            coloured=segmentor.label_map_.coloured,
            on_picture=advance,
        )


def _worst(rows: pd.DataFrame, image: str, metrics: Sequence[str]) -> str:
    """Return how many images were scored, and which the model does worst on, in words."""
    from easyseg.metrics.catalogue import higher_is_better

    told = f"images: {len(rows)}"
    metric = next((key for key in metrics if key.endswith("@image") and key in rows), None)
    if metric is None:
        return told
    better = higher_is_better(metric)
    worst = rows.dropna(subset=metric).sort_values(metric, ascending=better).head(_WORST)
    if worst.empty:
        return told
    pairs = zip(worst[image], worst[metric], strict=True)
    named = ", ".join(f"{name} {score:.2f}" for name, score in pairs)
    return f"{told} · {'lowest' if better else 'highest'} {metric}: {named}"


def _write_per_image(file: Path, rows: pd.DataFrame) -> None:
    """Write one row per image: its name and its scores."""
    from easyseg.files import write_text

    if is_first():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, rows.to_csv(index=False, lineterminator="\n"))
