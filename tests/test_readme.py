"""What the README says is true: its code runs, its commands parse, its tables and links hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import (
    check_command,
    check_mention,
    commands_within,
    fenced_blocks,
    make_what_it_names,
    run_python,
    shell_commands,
    shorten_fits,
    work_in_copy,
)

from easyseg import SemanticSegmentor
from easyseg.models.registry import list_backbones
from easyseg.plan.domains import DOMAINS
from easyseg.plan.presets import load_preset

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "benchmarks/README.md")
QUICK = {"train.max_steps": 1, "train.batch_size": 1, "data.size": 112}
BLOCKS = fenced_blocks(README)


@pytest.mark.slow
def test_the_python_blocks_run_in_their_order(page_files, tmp_path, monkeypatch):
    folder = work_in_copy(page_files, tmp_path / "page", monkeypatch)
    shorten_fits(monkeypatch, QUICK)
    segmentor = run_python(BLOCKS, "README.md")["segmentor"]
    assert isinstance(segmentor, SemanticSegmentor)
    assert str(segmentor.label_map_) in README
    assert (folder / "first.png").is_file()


def test_the_python_blocks_were_found():
    assert sum(block.language == "python" for block in BLOCKS) >= 5


@pytest.mark.parametrize("words", list(shell_commands(BLOCKS)), ids=" ".join)
def test_a_command_parses(words, page_files, monkeypatch):
    monkeypatch.chdir(page_files)
    make_what_it_names(words)
    check_command(words)


@pytest.mark.parametrize("text", commands_within(README))
def test_a_command_within_the_text_has_the_options_it_shows(text):
    check_mention(text)


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
        assert plan["train"]["patience"] == "auto"
        patience = cpu["patience"]
        assert gpu["patience"] == patience
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
