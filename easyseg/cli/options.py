"""The options and arguments of the command line: what each is called, takes and means.

Options of one panel are shown together in ``--help``: the data, the training, the machine, output.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def _in(panel: str, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


_DATA, _TRAINING, _MACHINE, _OUTPUT = "The data", "The training", "The machine", "Output"
_FOLDER: dict[str, Any] = {"exists": True, "file_okay": False}
_FILE: dict[str, Any] = {"exists": True, "dir_okay": False}
_TABLE = "CSV with a column of image paths and one of mask paths."

# What a command works on.

Train = Annotated[Path, typer.Argument(metavar="TRAIN", help=_TABLE, show_default=False, **_FILE)]
Labelled = Annotated[Path, typer.Argument(metavar="DATA", help=_TABLE, show_default=False, **_FILE)]
Images = Annotated[
    Path,
    typer.Argument(
        metavar="DATA", help="A CSV, a folder of images, or one image.", show_default=False
    ),
]
Model = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="Run folder of a fit, or its model folder.",
        show_default=False,
        **_FOLDER,
    ),
]
DatasetName = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="Such as isic2017; default: list all.", show_default=False),
]

# The data.

TuningData = Annotated[
    Path | None,
    _in(_DATA, "CSV that chooses the best epoch; default: a part of TRAIN.", **_FILE),
]
OtherTuningData = Annotated[
    Path | None, _in(_DATA, "CSV of the data that choose the best epoch.", "--tuning-data", **_FILE)
]
TestData = Annotated[
    Path | None, _in(_DATA, "CSV of the data that the model is scored on.", **_FILE)
]
ProblemType = Annotated[str, _in(_DATA, "binary, multiclass, or auto: found from the masks.")]
ImageColumn = Annotated[str, _in(_DATA, "Column of images.", "--image")]
LabelColumn = Annotated[str, _in(_DATA, "Column of masks.", "--label")]
OtherImageColumn = Annotated[
    str | None, _in(_DATA, "Column of images; default: the one of the fit.", "--image")
]
OtherLabelColumn = Annotated[
    str | None, _in(_DATA, "Column of masks; default: the one of the fit.", "--label")
]
ClassNames = Annotated[
    str | None,
    _in(
        _DATA,
        'Names of the mask values or colours, "0=background,255=lesion" or '
        '"#000000=background,#804080=road", or names alone in their order; '
        "default: found from the masks.",
        metavar="NAMES",
    ),
]
IgnoreIndex = Annotated[
    str | None,
    _in(_DATA, "Mask value or colour of pixels that neither train nor score.", metavar="VALUE"),
]
DataRoot = Annotated[
    Path | None,
    _in(_DATA, "Folder that relative paths start from; default: the CSV's folder.", **_FOLDER),
]
DemoData = Annotated[
    Path | None,
    _in(_DATA, "Folder with train.csv and test.csv; default: a synthetic set is made.", **_FOLDER),
]
DatasetRoot = Annotated[
    Path | None,
    _in(
        _DATA,
        "Folder of the set, or one that holds a folder of it; default: the folder that the "
        "variable EASYSEG_DATA names, then the cache. A set that is not there is downloaded to it.",
        "--root",
        file_okay=False,
    ),
]

Study = Annotated[
    str,
    typer.Argument(
        metavar="SPEC",
        help="YAML file of a study, or one that comes with easyseg: small, paper.",
        show_default=False,
    ),
]
StudyData = Annotated[
    Path | None,
    _in(
        _DATA,
        "Folder that holds a folder of each data set; default: public sets, where `easyseg "
        "datasets` finds them.",
        "--data",
        **_FOLDER,
    ),
]
Only = Annotated[
    str | None,
    _in(
        _DATA,
        "Only cells whose label part/set/row/seed fits, as in 'methods/*/lora/0' or lora.",
        metavar="PATTERN",
    ),
]

# The training.

EvalMetric = Annotated[
    str | None,
    _in(
        _TRAINING,
        "Validation metric, any that evaluate knows; of errors such as ber@dataset the lowest is "
        "the best; default: iou@image (binary), miou@dataset (multi-class).",
    ),
]
_DOMAINS = (
    "industrial, leaf_disease, microscopy, natural_camouflage, polyp, road, shadow, skin_lesion, "
    "street, text, transparent"
)
Presets = Annotated[
    list[str] | None,
    _in(
        _TRAINING,
        "fast, balanced, best, or auto (the default): by device, number and size of the images; "
        "paper, paper_3e-4, reference: as published. Added to it, or alone, what is known of a "
        f"domain: {_DOMAINS}; as in best,polyp.",
        metavar="NAMES",
    ),
]
DemoPresets = Annotated[
    list[str] | None,
    _in(
        _TRAINING,
        "As for fit; default: fast for the synthetic set, auto for a folder.",
        metavar="NAMES",
    ),
]
Overrides = Annotated[
    list[str] | None,
    _in(
        _TRAINING,
        "Override a decision of the plan, as in adapter.rank=8; repeat it for more.",
        "--set",
        metavar="KEY=VALUE",
    ),
]
PlanFile = Annotated[
    Path | None,
    _in(
        _TRAINING,
        "A whole plan, as plan --output or a run folder's plan.json has it, perhaps edited: what "
        "it says is what runs, instead of --presets and --set. Give --time-limit again.",
        "--plan",
        metavar="FILE",
        **_FILE,
    ),
]
TimeLimit = Annotated[
    float | None, _in(_TRAINING, "Wall-clock seconds that the fit may take.", metavar="SECONDS")
]
HoldoutFrac = Annotated[
    float, _in(_TRAINING, "Share of TRAIN that chooses the best epoch, without --tuning-data.")
]
Groups = Annotated[
    str | None,
    _in(
        _TRAINING,
        "Column such as patient: what it groups is held out as one; default: images that look "
        "alike, or groups in the file names.",
        metavar="COLUMN",
    ),
]
Seed = Annotated[int, _in(_TRAINING, "Seed of all that is random.", min=0)]

# The machine.

Accelerator = Annotated[str, _in(_MACHINE, "auto, cpu, gpu or mps.")]
Devices = Annotated[str, _in(_MACHINE, "Number of devices, indices such as 0,3, or auto.")]
NumNodes = Annotated[int, _in(_MACHINE, "Number of machines.", min=1)]
Strategy = Annotated[
    str,
    _in(_MACHINE, "A Lightning strategy such as ddp; fsdp (not run on GPUs yet); or auto."),
]
NumWorkers = Annotated[str, _in(_MACHINE, "Loader processes of each device, or auto.")]
StudyDevices = Annotated[
    str,
    _in(
        _MACHINE,
        "How many cells at once, or indices of GPUs such as 0,3; auto: one a GPU, or one on a CPU.",
        "--devices",
    ),
]
Device = Annotated[
    str | None, _in(_MACHINE, "Where to predict, such as cpu or cuda:1; default: the best here.")
]
BatchSize = Annotated[str, _in(_MACHINE, "Images (tiles: windows) a forward pass, or auto.")]

# Output.

RunFolder = Annotated[
    Path | None,
    _in(_OUTPUT, "Run folder, new or empty; default: easyseg-runs/<UTC time>.", "--path"),
]
PlanTarget = Annotated[
    Path | None,
    _in(
        _OUTPUT,
        "Also write the plan to this file, a new one: edit it, and hand it to fit --plan.",
        "--output",
        dir_okay=False,
        metavar="FILE",
    ),
]
MaskFolder = Annotated[
    Path,
    _in(
        _OUTPUT,
        "Folder of the masks: PNGs at each image's own size, in the labels' own values, in the "
        "subfolders of the images.",
        "--output-dir",
        file_okay=False,
        show_default=False,
    ),
]
TableFolder = Annotated[
    Path | None,
    _in(
        _OUTPUT,
        "Write train.csv, val.csv, test.csv, classes.txt and SOURCE.md of the set to this folder, "
        "new or empty; a set that is not here is downloaded.",
        "--output",
        file_okay=False,
    ),
]
Overlays = Annotated[
    Path | None,
    _in(
        _OUTPUT,
        "Also draw the masks over their images, as JPEGs in this folder, new or empty.",
        "--overlays",
        file_okay=False,
    ),
]
Overwrite = Annotated[
    bool,
    _in(
        _OUTPUT,
        "Let masks replace files that are there; never images or labels of DATA.",
        "--overwrite",
    ),
]
StudyFolder = Annotated[
    Path | None,
    _in(
        _OUTPUT,
        "Folder of the cells and tables, old or new; default: easyseg-studies/<name of the study>.",
        "--results",
        file_okay=False,
    ),
]
Retry = Annotated[bool, _in(_OUTPUT, "Run cells that failed once more.", "--retry")]
OnlyTables = Annotated[
    bool, _in(_OUTPUT, "Run nothing: only write tables and figures of what is there.", "--table")
]
DryRun = Annotated[
    bool, _in(_OUTPUT, "Run nothing: list the cells, and which are done.", "--dry-run")
]
DemoFolder = Annotated[
    Path,
    _in(
        _OUTPUT,
        "All is written to a new folder in this one, named after the time.",
        "--output-dir",
        file_okay=False,
    ),
]
Threshold = Annotated[
    float | None,
    _in(_OUTPUT, "Probability above which a pixel is foreground, binary only; default: 0.5."),
]
Metrics = Annotated[
    list[str] | None,
    _in(
        _OUTPUT,
        "A score such as iou@image, or several at once: paper (what the Conv-LoRA paper reports of "
        "such images), reference (as its code scores) or all; repeat it for more; default: a "
        "short report.",
        metavar="KEY",
    ),
]
Intervals = Annotated[
    bool,
    _in(_OUTPUT, "Also give 95 % intervals: the bootstrap over the images.", "--intervals"),
]
ScoredGroups = Annotated[
    str | None,
    _in(
        _OUTPUT,
        "With --intervals, a column such as patient: images that it groups are drawn together.",
        "--groups",
        metavar="COLUMN",
    ),
]
PerImage = Annotated[
    Path | None,
    _in(
        _OUTPUT,
        "Also write the scores of each image to this file.",
        metavar="CSV",
        dir_okay=False,
    ),
]
Html = Annotated[
    Path | None,
    _in(
        _OUTPUT,
        "Also write the report as one HTML file, with thumbnails of what was found.",
        "--html",
        dir_okay=False,
        metavar="FILE",
    ),
]
Fix = Annotated[
    Path | None,
    _in(
        _OUTPUT,
        "Write tables without the rows that cannot be read, and with repaired copies of masks, to "
        "this folder, new or empty; your files stay as they are.",
        "--fix",
        file_okay=False,
        metavar="FOLDER",
    ),
]
ReportAsJson = Annotated[bool, _in(_OUTPUT, "Print the report as JSON.", "--json")]
PlanAsJson = Annotated[bool, _in(_OUTPUT, "Print the plan as JSON.", "--json")]
AsJson = Annotated[bool, _in(_OUTPUT, "Print the scores as JSON.", "--json")]
Verbosity = Annotated[
    int,
    _in(
        _OUTPUT,
        "0 is silent but for results, 1 shows plan and progress, 2 debugging messages.",
        min=0,
    ),
]
Quiet = Annotated[bool, _in(_OUTPUT, "The same as --verbosity 0.", "--quiet", "-q")]
