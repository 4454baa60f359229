"""What tests of pages share: their blocks of code, running them, parsing their commands.

A page tells one story: its Python blocks run in their order and in one namespace, and a ``text``
block right below one of them is what it prints. Its ``console`` blocks are commands behind prompts.
``write_files`` makes the files that the pages talk about, small.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import json
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from layout_trees import TREES
from PIL import Image

from easyseg import SemanticSegmentor, cli
from easyseg.datasets.synthetic import synthetic_scene

OTHER_PROGRAMS = {
    "make",
    "mypy",
    "pip",
    "py",
    "python",
    "python3",
    "ruff",
    "source",
    "srun",
    "torchrun",
}
# What a fit of a page gets instead of its own, so that all of them run in one process of a CPU.
ONE_PROCESS = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto"}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, its first line in the file."""

    language: str
    text: str
    line: int


def fenced_blocks(page: str) -> list[Block]:
    """Return the blocks of a page in their order, those of indented lists and notes too."""
    fence = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)

    def text(match: re.Match[str]) -> str:
        return re.sub(f"^{match[1]}", "", match[3], flags=re.MULTILINE)

    return [Block(m[2], text(m), page.count("\n", 0, m.start(3))) for m in fence.finditer(page)]


def run_python(blocks: Sequence[Block], name: str) -> dict[str, Any]:
    """Run the Python blocks of a page and compare what they print; return their names."""
    names: dict[str, Any] = {"__name__": "page"}
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block.language != "python":
            continue
        printed = io.StringIO()
        code = compile("\n" * block.line + block.text, name, "exec", dont_inherit=True)
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        end = block.line + block.text.count("\n") + 1
        if following is not None and following.language == "text" and following.line <= end + 2:
            assert printed.getvalue() == following.text, f"{name}, line {following.line}"
    return names


def shorten_fits(monkeypatch: pytest.MonkeyPatch, values: Mapping[str, Any]) -> None:
    """Let all fits and plans of a page take these values, in one process of the CPU."""

    def short(method):
        known = inspect.signature(method).parameters

        @functools.wraps(method)
        def shortened(self, *args, **options):
            if options.get("plan") is None:
                options["hyperparameters"] = {**options.get("hyperparameters", {}), **values}
            options |= {name: value for name, value in ONE_PROCESS.items() if name in known}
            return method(self, *args, **options)

        return shortened

    for name in ("plan", "fit"):
        monkeypatch.setattr(SemanticSegmentor, name, short(getattr(SemanticSegmentor, name)))


def work_in_copy(files: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the files of pages to a new folder and make it the working folder; return it."""
    shutil.copytree(files, folder)
    monkeypatch.setenv("EASYSEG_DATA", str(folder / "public"))
    monkeypatch.chdir(folder)
    return folder


def shell_commands(blocks: Sequence[Block]) -> Iterator[list[str]]:
    """Yield the words of every command in the console blocks, without prompts and comments."""
    for block in blocks:
        if block.language not in ("console", "powershell"):
            continue
        for line in block.text.replace("\\", "/").splitlines():
            prompt, _, command = line.partition(" ")
            assert prompt in ("$", ">"), f"a console line without a prompt: {line}"
            for part in command.split(" && "):
                yield shlex.split(part, comments=True)


def commands_within(page: str) -> list[str]:
    """Return the commands of easyseg that stand in the text of a page."""
    return re.findall(r"`(easyseg \w+[^`]*)`", page)


def program(words: Sequence[str]) -> str:
    """Return the program that a command starts: its first word that sets no variable."""
    return next(word for word in words if not re.match(r"[A-Z_]+=", word)).rpartition("/")[2]


def check_command(words: Sequence[str]) -> None:
    """Parse a command of easyseg as the command line does; of others know the program."""
    started = program(words)
    if started != "easyseg":
        assert started in OTHER_PROGRAMS
        return
    arguments = list(words[[word.rpartition("/")[2] for word in words].index("easyseg") + 1 :])
    if arguments[0].startswith("-"):
        assert arguments[0] in known_options(typer.main.get_command(cli.app))
        return
    command_named(arguments[0]).make_context(arguments[0], arguments[1:])


def make_what_it_names(words: list[str]) -> None:
    """Make the folders and files of earlier commands that a command's parser wants to find."""
    for word in words:
        if word.startswith(("runs/", "shared/", "first-run")):
            Path(word).mkdir(parents=True, exist_ok=True)
        if word == "repaired/train.csv":
            Path("repaired").mkdir(exist_ok=True)
            Path(word).touch()


def check_mention(text: str) -> None:
    """Check that a command within a text exists and has the options it shows."""
    words = shlex.split(text)
    given = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert given <= known_options(command_named(words[1]))


def known_options(command: Any) -> set[str]:
    """Return the options of a command."""
    return {name for option in command.params for name in option.opts} | {"--help"}


def command_named(name: str) -> Any:
    """Return a command of easyseg."""
    commands = typer.main.get_command(cli.app).commands
    assert name in commands, f"easyseg {name}"
    return commands[name]


def write_files(folder: Path) -> None:
    """Write what the pages talk about into an empty folder; ``public`` is for ``EASYSEG_DATA``."""
    for name in ("new_photos", "my-set", "lesions", "sets"):
        (folder / name).mkdir()
    table = _write_set(folder, "photos", "masks", "jpg", {0: 0, 1: 255}, 8)
    table["patient"] = [f"p{number // 2}" for number in range(len(table))]
    for name, part in {"train": table[:5], "val": table[5:6], "test": table[6:]}.items():
        part.to_csv(folder / f"{name}.csv", index=False)
    Image.open(folder / table["image"][0]).save(folder / "new_photos" / "a.jpg")
    (folder / "plan.json").write_text("{}", encoding="utf-8")
    _write_polygons(folder / "polygons")
    next(tree for tree in TREES if tree.name == "isic2017").write(folder / "public")
    fields = _write_set(folder, "fields", "fields", "png", {0: 0, 1: 1, 2: 2}, 4, void=255)
    fields.to_csv(folder / "fields.csv", index=False)
    colours = {0: (0, 0, 0), 1: (128, 64, 128), 2: (0, 0, 192)}
    _write_set(folder, "streets", "streets", "png", colours, 4).to_csv(
        folder / "streets.csv", index=False
    )
    _write_set(folder, "aerial", "aerial", "png", {0: 0, 1: 255}, 3, side=240).to_csv(
        folder / "aerial.csv", index=False
    )
    _write_damaged_set(folder)


def _write_set(
    folder: Path,
    images: str,
    masks: str,
    suffix: str,
    values: Mapping[int, Any],
    count: int,
    *,
    void: int | None = None,
    side: int = 64,
) -> pd.DataFrame:
    """Write images and masks in which each class id has a value or colour; return their table."""
    rows = []
    for place in (images, masks):
        (folder / place).mkdir(exist_ok=True)
    for number in range(1, count + 1):
        generator = np.random.default_rng(number)
        picture, ids = synthetic_scene(generator, (side, side), multiclass=max(values) > 1)
        coded = np.array(list(values.values()), np.uint8)[ids]
        if void is not None:
            coded[:, :2] = void
        name = f"mask_{number:03d}" if images == masks else f"{number:03d}"
        rows.append((f"{images}/{number:03d}.{suffix}", f"{masks}/{name}.png"))
        Image.fromarray(picture).save(folder / rows[-1][0])
        Image.fromarray(coded).save(folder / rows[-1][1])
    return pd.DataFrame(rows, columns=["image", "label"])


def _write_polygons(folder: Path) -> None:
    """Write what labelme writes of an image in which one triangle was drawn."""
    folder.mkdir()
    shape = {"label": "lesion", "shape_type": "polygon", "points": [[8, 8], [50, 12.5], [30, 55]]}
    drawing = {"imageHeight": 64, "imageWidth": 64, "shapes": [shape]}
    (folder / "001.json").write_text(json.dumps(drawing), encoding="utf-8")


def _write_damaged_set(folder: Path) -> None:
    """Write a set of other column names, with a mask that is too small and a damaged image."""
    table = _write_set(folder, "scans", "drawn", "png", {0: 0, 1: 255}, 6)
    small = Image.open(folder / table["label"][1]).crop((0, 0, 63, 64))
    small.save(folder / table["label"][1])
    whole = (folder / table["image"][3]).read_bytes()
    (folder / table["image"][3]).write_bytes(whole[: len(whole) // 2])
    table = table.rename(columns={"image": "scan", "label": "drawn_mask"})
    table.to_csv(folder / "found.csv", index=False)
