"""What the documentation says is true: its code runs, its commands parse, its tables are whole.

That its links lead somewhere is checked by MkDocs itself, which warns, and warnings are errors.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
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
from easyseg.metrics.catalogue import METRICS
from easyseg.plan.choices import CHOICES

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = {str(file.relative_to(DOCS).as_posix()): file for file in sorted(DOCS.rglob("*.md"))}
TEXTS = {name: file.read_text(encoding="utf-8") for name, file in PAGES.items()}
BLOCKS = {name: fenced_blocks(text) for name, text in TEXTS.items()}
WITH_CODE = [
    name for name, blocks in BLOCKS.items() if any(block.language == "python" for block in blocks)
]
QUICK = {
    "backbone.name": "tiny_sam",
    "backbone.weights": "random",
    "data.size": 128,
    "train.max_steps": 1,
    "train.batch_size": 1,
    "train.precision": "32",
}
MENTIONS = sorted({text for page in TEXTS.values() for text in commands_within(page)})


@pytest.fixture(scope="session")
def documented_files(page_files, tmp_path_factory, tiny_backbones) -> Path:
    """The files that the pages talk about, with a model in ``lesions``."""
    folder = tmp_path_factory.mktemp("docs") / "files"
    shutil.copytree(page_files, folder)
    SemanticSegmentor(path=tmp_path_factory.mktemp("fit"), verbosity=0).fit(
        folder / "train.csv", hyperparameters=QUICK, accelerator="cpu"
    ).save(folder / "lesions")
    return folder


@pytest.mark.parametrize("name", WITH_CODE)
def test_the_python_blocks_of_a_page_run_in_their_order(
    name, documented_files, tmp_path, monkeypatch
):
    work_in_copy(documented_files, tmp_path / "page", monkeypatch)
    shorten_fits(monkeypatch, QUICK)
    run_python(BLOCKS[name], f"docs/{name}")


def test_a_number_sign_begins_headings_only():
    for name, text in TEXTS.items():
        prose = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)
        signs = re.findall(r"^#+.?", prose, re.MULTILINE)
        assert all(sign.endswith(" ") for sign in signs), name


def test_most_guides_have_code():
    guides = [name for name in TEXTS if name.startswith("guides/")]
    assert len(guides) >= 13
    assert len(set(guides) & set(WITH_CODE)) >= len(guides) - 1


def test_the_commands_of_all_pages_parse(page_files, monkeypatch):
    monkeypatch.chdir(page_files)
    commands = [words for blocks in BLOCKS.values() for words in shell_commands(blocks)]
    assert len(commands) > 40
    for words in commands:
        make_what_it_names(words)
        check_command(words)


@pytest.mark.parametrize("text", MENTIONS)
def test_a_command_within_the_text_has_the_options_it_shows(text):
    check_mention(text)


def test_tests_that_pages_name_exist():
    named = {
        place for text in TEXTS.values() for place in re.findall(r"`(tests/[\w/]+\.py\S*)`", text)
    }
    assert len(named) > 10
    for place in named:
        file, _, test = place.partition("::")
        source = (ROOT / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in source, place


def test_make_targets_extras_and_files_that_pages_name_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for text in TEXTS.values():
        for extra in re.findall(r"easyseg\[(\w+)\]", text):
            assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra
        for target in re.findall(r"(?:^\$ |`)make ([a-z-]+)", text, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
        for place in re.findall(r"`((?:easyseg|benchmarks|presets)/[\w/]+\.(?:py|yaml))`", text):
            assert (ROOT / place).is_file(), place


def test_every_metric_is_defined():
    headings = re.findall(r"^### `(\S+)`$", TEXTS["reference/metrics.md"], re.MULTILINE)
    assert headings == list(METRICS)


def test_every_check_of_the_audit_is_explained():
    constants = [
        node.value
        for file in (ROOT / "easyseg/auditing/checks").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    checks = {word for word in constants if re.fullmatch(r"[a-z]+(-[a-z]+)+|leakage", word)}
    explained = set(re.findall(r"^\| `([a-z-]+)` \|", TEXTS["guides/masks.md"], re.MULTILINE))
    assert explained == checks


@pytest.fixture(scope="module")
def tools():
    """The modules that make parts of pages, found as MkDocs finds them."""
    sys.path.insert(0, str(DOCS / "tools"))
    import excerpts
    import generated
    import hooks
    import plan_rules

    yield {m.__name__: m for m in (excerpts, generated, hooks, plan_rules)}
    sys.path.remove(str(DOCS / "tools"))


def test_every_decision_of_the_plan_has_its_rule_on_the_page(tools):
    keys = [rule.key for rule in tools["plan_rules"].all_rules()]
    assert sorted(keys) == sorted(["preset", *CHOICES])


def test_the_boundaries_of_the_rules_are_where_the_page_has_them(tools):
    edges = 0
    for rule in tools["plan_rules"].all_rules():
        values = [case.plan().values()[rule.key] for case in rule.cases]
        for case, before, value in zip(rule.cases[1:], values, values[1:], strict=False):
            if case.edge:
                edges += 1
                assert value != before, f"{rule.key}: {case.what}"
    assert edges > 20


def test_every_generated_part_is_on_a_page_and_the_other_way_round(tools):
    marks = re.findall(r"^<!-- generated: (\w+)", "\n".join(TEXTS.values()), re.MULTILINE)
    assert set(marks) == set(tools["generated"].PARTS)


def test_a_section_that_is_gone_is_an_error(tools):
    with pytest.raises(LookupError, match="no heading #nowhere"):
        tools["hooks"].fill("<!-- generated: excerpt README.md#nowhere -->")


def test_links_of_excerpts_lead_to_pages_or_are_words(tools):
    text = "[a](benchmarks/README.md#x), [b](#limits), [c](LICENSE), [d](https://e.f)![g](h.png)."
    adapted = tools["excerpts"]._adapted(text)
    assert adapted == "[a](benchmarks.md#x), [b](limits.md), c, [d](https://e.f)."


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("mkdocs") is None and os.environ.get("CI", "").lower() not in ("1", "true"),
    reason="MkDocs is not installed (easyseg[docs])",
)
def test_the_site_builds_without_warnings_and_loads_nothing_from_elsewhere(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {file.relative_to(tmp_path).as_posix(): file for file in tmp_path.rglob("*.html")}
    assert {name.replace(".md", ".html") for name in TEXTS} <= set(pages)
    for name, file in pages.items():
        html = file.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img|link)\b[^>]*(?:src|href)="(?:https?:)?//', html), (
            name
        )
        assert 'class="mermaid"' not in html, name
        assert "<!-- generated" not in html, name
