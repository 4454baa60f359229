"""What the README says is true: its code runs, its commands parse, its tables and links hold."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from layout_trees import TREES
from PIL import Image

from easyseg import SemanticSegmentor, cli
from easyseg.datasets.synthetic import synthetic_scene
from easyseg.models.registry import list_backbones
from easyseg.plan.domains import DOMAINS
from easyseg.plan.presets import load_preset

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "benchmarks/README.md")
OTHER_PROGRAMS = {"make", "mypy", "pip", "py", "python", "python3", "ruff", "torchrun"}
QUICK = {"train.max_steps": 1, "train.batch_size": 1, "data.size": 112}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, its first line in the file."""

    language: str
    text: str
    line: int


def fenced_blocks(page: str) -> list[Block]:
    fence = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
    return [Block(m[2], m[3], page.count("\n", 0, m.start(3))) for m in fence.finditer(page)]


BLOCKS = fenced_blocks(README)


def shell_commands() -> Iterator[list[str]]:
    """Yield the words of every command in the console blocks, without prompts and comments."""
    for block in BLOCKS:
        if block.language not in ("console", "powershell"):
            continue
        for line in block.text.replace("\\", "/").splitlines():
            prompt, _, command = line.partition(" ")
            assert prompt in ("$", ">"), f"a console line without a prompt: {line}"
            for part in command.split(" && "):
                yield shlex.split(part, comments=True)


def program(words: list[str]) -> str:
    return words[0].rpartition("/")[2]


def group_of_commands():
    return typer.main.get_command(cli.app)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the README talks about, small; also the working folder."""
    for name in ("photos", "masks", "new_photos", "my-set", "lesions", "sets"):
        (tmp_path / name).mkdir()
    rows = []
    for number in range(1, 9):
        picture, ids = synthetic_scene(np.random.default_rng(number), (64, 64))
        rows.append((f"photos/{number:03d}.jpg", f"masks/{number:03d}.png"))
        Image.fromarray(picture).save(tmp_path / rows[-1][0])
        Image.fromarray(ids * np.uint8(255)).save(tmp_path / rows[-1][1])
    Image.fromarray(picture).save(tmp_path / "new_photos" / "a.jpg")
    table = pd.DataFrame(rows, columns=["image", "label"])
    for name, part in {"train": table[:5], "val": table[5:6], "test": table[6:]}.items():
        part.to_csv(tmp_path / f"{name}.csv", index=False)
    (tmp_path / "plan.json").write_text("{}", encoding="utf-8")
    next(tree for tree in TREES if tree.name == "isic2017").write(tmp_path / "public")
    monkeypatch.setenv("EASYSEG_DATA", str(tmp_path / "public"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_python_blocks_run_in_their_order(folder, monkeypatch):
    def short(method):
        @functools.wraps(method)
        def shortened(self, *args, **options):
            if "plan" not in options:
                options["hyperparameters"] = {**options.get("hyperparameters", {}), **QUICK}
            return method(self, *args, accelerator="cpu", **options)

        return shortened

    for name in ("plan", "fit"):
        monkeypatch.setattr(SemanticSegmentor, name, short(getattr(SemanticSegmentor, name)))
    names: dict[str, object] = {"__name__": "readme"}
    for block, following in zip(BLOCKS, [*BLOCKS[1:], None], strict=True):
        if block.language != "python":
            continue
        printed = io.StringIO()
        code = compile("\n" * block.line + block.text, "README.md", "exec", dont_inherit=True)
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        end = block.line + block.text.count("\n") + 1
        if following is not None and following.language == "text" and following.line <= end + 2:
            assert printed.getvalue() == following.text, f"README.md, line {following.line}"
    segmentor = names["segmentor"]
    assert isinstance(segmentor, SemanticSegmentor)
    assert str(segmentor.label_map_) in README
    assert (folder / "first.png").is_file()


def test_the_python_blocks_were_found():
    assert sum(block.language == "python" for block in BLOCKS) >= 5


@pytest.mark.parametrize("words", list(shell_commands()), ids=" ".join)
def test_a_command_parses(words, folder):
    if program(words) != "easyseg":
        assert program(words) in OTHER_PROGRAMS
        return
    commands = group_of_commands().commands
    assert words[1] in commands
    commands[words[1]].make_context(words[1], words[2:])


@pytest.mark.parametrize("text", re.findall(r"`(easyseg \w+[^`]*)`", README))
def test_a_command_within_the_text_has_the_options_it_shows(text):
    words = shlex.split(text)
    command = group_of_commands().commands[words[1]]
    known = {name for option in command.params for name in option.opts} | {"--help"}
    assert {word for word in words if word.startswith("-")} <= known


def test_make_targets_and_extras_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^\$ |`)make ([a-z-]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for extra in re.findall(r"-e '\.\[(\w+)\]'", README):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra


def test_the_table_of_hyperparameters_holds_every_key():
    rows = re.findall(r"^\| `(\w+\.\w+)` \| (.*?) \|", README, re.MULTILINE)
    assert [key for key, _ in rows] == list(DOMAINS)
    assert set(re.findall(r"`(\w+)`", dict(rows)["backbone.name"])) == {
        name for name in list_backbones() if not name.startswith("tiny_")
    }
    for key, domain in DOMAINS.items():
        if domain.text.startswith("one of "):
            words = set(re.findall(r"'(\w+)'", domain.text))
            assert set(re.findall(r"`(\w+)`", dict(rows)[key])) == words, key


def test_the_table_of_presets_says_what_the_presets_hold():
    for name in ("fast", "balanced", "best"):
        preset = load_preset(name)
        plan, cpu, gpu = preset["plan"], preset["budget"]["cpu"], preset["budget"]["gpu"]
        patience = plan["train"]["patience"]
        assert (cpu["rank"], cpu["experts"]) == (gpu["rank"], gpu["experts"])
        cells = [f"`{name}`", cpu["rank"], cpu["experts"]]
        cells += [f"{100 * cpu['size_share']:g} %", cpu["samples"]]
        cells += [f"{100 * gpu['size_share']:g} %", gpu["epochs"], patience]
        assert f"| {' | '.join(map(str, cells))} |" in README


def heading_anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("name", PAGES)
def test_links_within_the_project_lead_somewhere(name):
    page = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", page):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        linked = (ROOT / name).parent / file if file else ROOT / name
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(heading_anchor, headings), target


def test_the_architecture_page_names_every_room_and_only_files_that_exist():
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rooms = [file.parent for file in (ROOT / "easyseg").glob("*/__init__.py")]
    for room in rooms:
        assert f"{room.name}/" in page, room.name
    named = set(re.findall(r"(?<![\w/.])((?:[a-z_]+/)*[a-z_]+\.(?:py|yaml))\b", page))
    assert len(named) > 20
    for file in named:
        places = (ROOT / file, ROOT / "easyseg" / file)
        assert any(place.is_file() for place in places), file
