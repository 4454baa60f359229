"""The tutorials run from the first cell to the last, and what is committed of them is clean."""

from __future__ import annotations

import base64
import copy
import io
import json
import os
import re
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from fast_tutorials import write_miniatures
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / "tutorials")
    import run

TUTORIALS = run.tutorials()
NAMES = {
    "adapters",
    "leaf_disease",
    "natural_images",
    "polyp",
    "quickstart",
    "road",
    "several_devices",
    "skin_lesion",
    "street_scenes",
    "transparent_objects",
    "your_data",
}
LARGEST = 1_500_000  # bytes
FOLDERS = "tmp|home|root|work|Users|private|var"
MACHINE = re.compile(rf"(?<![\w.])/(?:{FOLDERS})/|site-packages|[A-Z]:\\\\")
# Data sets of which pictures may be published: the archive of this one gives it as CC-0.
FREE_SETS = {"skin_isic", "isic2017"}
# What draws nothing but curves.
CURVES = re.compile(r"plot_history|show_experts|\.plot[.(]")
# What draws the user's images.
PICTURES = re.compile(r"show_predictions|overlay\(|imshow|display\(")

every_tutorial = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def has_picture(cell: nbformat.NotebookNode) -> bool:
    return '"image/' in json.dumps(cell.outputs) or "data:image" in json.dumps(cell.outputs)


def research_sets(notebook: nbformat.NotebookNode) -> set[str]:
    """The data sets that a notebook loads and whose pictures may not be published."""
    code = "\n".join(cell.source for cell in run.code_cells(notebook))
    calls = re.findall(r"datasets\.(?:load|find)\(.*\)", code)
    return set(re.findall(r'"(\w+)"', " ".join(calls))) - FREE_SETS


def test_all_tutorials_are_there():
    assert {path.stem for path in TUTORIALS} == NAMES
    index = (ROOT / "tutorials" / "README.md").read_text(encoding="utf-8")
    assert all(f"({name}.ipynb)" in index for name in NAMES)


@every_tutorial
def test_committed_outputs_are_whole_small_and_of_no_machine(path):
    assert path.stat().st_size < LARGEST
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert run.is_current(notebook), f"python tutorials/run.py {path.stem}"
    cells = run.code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert MACHINE.search(json.dumps(cell.outputs)) is None, cell.source
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", output.text


@every_tutorial
def test_pictures_of_research_sets_are_not_committed(path):
    notebook = read(path)
    for cell in run.code_cells(notebook):
        if run.RESEARCH_ONLY in run.tags(cell):
            assert not has_picture(cell), cell.source
        elif research_sets(notebook) and "free-pictures" not in run.tags(cell):
            assert not PICTURES.search(cell.source), f"a tag is missing: {cell.source}"
            assert CURVES.search(cell.source) or not has_picture(cell), cell.source


@every_tutorial
def test_links_of_a_tutorial_lead_somewhere(path):
    notebook = read(path)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in [heading.replace(" ", "-") for heading in headings]
        elif not target.startswith("https://"):
            assert (path.parent / target.partition("#")[0]).exists(), target


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """One kernel for all: to start it, with PyTorch, takes longer than most tutorials."""
    parent = tmp_path_factory.mktemp("tutorials")
    (parent / "data").mkdir()
    write_miniatures(parent / "data")
    hook = "import fast_tutorials\n\nfast_tutorials.install()\n"
    (parent / "sitecustomize.py").write_text(hook, encoding="utf-8")
    env = {
        "EASYSEG_DATA": str(parent / "data"),
        "PYTHONPATH": os.pathsep.join((str(parent), str(ROOT / "tests"))),
    }
    with run.kernel(parent, env, timeout=120) as client:
        yield client


@pytest.mark.slow
@every_tutorial
def test_a_tutorial_runs_in_its_fast_form(path, kernel, tmp_path):
    fresh = new_code_cell(f"%reset -f\nimport os\nos.chdir({str(tmp_path)!r})")
    notebook = read(path)
    notebook.cells.insert(0, fresh)
    run.run_all(kernel, notebook)
    warned = [
        output.text
        for cell in run.code_cells(notebook)
        for output in cell.outputs
        if output.get("name") == "stderr"
        and "Warning" in output.text
        # Two steps of a random network may end in the same prediction for all images.
        and "ConstantInputWarning" not in output.text
    ]
    assert warned == []


# What follows is about the tool that executes the full forms.


def picture(**more):
    return new_output("display_data", data={"image/png": "aGVsbG8=", "text/plain": "Figure"} | more)


def test_a_clean_notebook_has_no_places_no_messages_and_no_pictures_for_research_only(tmp_path):
    here = str(tmp_path)
    html = f'<p>{here}{os.sep}a.png</p><img src="data:image/png;base64,aGVsbG8=">'
    closed = new_code_cell(metadata={"tags": [run.RESEARCH_ONLY], "execution": {"start": "now"}})
    closed.outputs = [
        picture(),
        new_output("execute_result", data={"text/html": html}, execution_count=1),
        new_output("stream", name="stdout", text=f"in {here}\n"),
        new_output("stream", name="stderr", text="UserWarning: careful\n"),
    ]
    free = copy.deepcopy(closed)
    free.id = "free"
    free.metadata.tags = []
    free.outputs[2].text = "10 %\r100 %\rdone\r\n"
    notebook = new_notebook(cells=[new_markdown_cell(here), closed, free])
    run.clean(notebook, {here: "", str(tmp_path.parent): "above"})

    kept = {"text/plain": run.NOT_KEPT}
    assert [o.get("data") for o in closed.outputs] == [kept, kept, None]
    assert closed.outputs[2].text == "in .\n"
    assert closed.metadata == {"tags": [run.RESEARCH_ONLY]}
    assert free.outputs[0] == picture()
    assert free.outputs[1].data["text/html"] == html.replace(here + os.sep, "")
    assert free.outputs[2].text == "done\r\n"
    nbformat.validate(notebook)


def test_large_pictures_are_kept_as_jpeg_and_small_ones_as_they_are():
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (300, 300, 3), dtype=np.uint8))
    kept = {}
    for size in (300, 30):
        buffer = io.BytesIO()
        noise.crop((0, 0, size, size)).save(buffer, "PNG")
        png = base64.b64encode(buffer.getvalue()).decode()
        cell = new_code_cell(outputs=[picture(**{"image/png": png})])
        run.clean(new_notebook(cells=[cell]), {})
        kept[size] = cell.outputs[0].data
        assert (kept[size].get("image/png") == png) == (size == 30)
    with Image.open(io.BytesIO(base64.b64decode(kept[300]["image/jpeg"]))) as jpeg:
        assert (jpeg.format, jpeg.size) == ("JPEG", (300, 300))
    assert len(kept[300]["image/jpeg"]) < run.LARGE
    both = new_code_cell(outputs=[picture(**{"image/jpeg": "aGVsbG8="})])
    run.clean(new_notebook(cells=[both]), {})
    assert set(both.outputs[0].data) == {"image/jpeg", "text/plain"}


def test_outputs_are_current_until_a_cell_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "FOLDER", tmp_path)
    done, changed = new_notebook(cells=[new_code_cell("1")]), new_notebook()
    run.record(done, 61.6)
    recorded = done.metadata["easyseg"]
    assert recorded["seconds"] == 62
    assert re.fullmatch(r"[0-9a-f]{7,}\*?", recorded["commit"])
    assert recorded["machine"]
    done.cells[0].outputs = [picture()]
    assert run.is_current(done)
    changed = copy.deepcopy(done)
    changed.cells[0].source = "2"
    for name, notebook in (("done", done), ("changed", changed)):
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    assert [path.stem for path in run.chosen([], every=False)] == ["changed"]
    assert [path.stem for path in run.chosen([], every=True)] == ["changed", "done"]
    assert [path.stem for path in run.chosen(["done.ipynb"], every=False)] == ["done"]
    with pytest.raises(SystemExit, match="no tutorial is called dune; there are changed, done"):
        run.chosen(["dune"], every=False)


def test_a_notebook_is_written_whole_or_not_at_all(tmp_path, monkeypatch, capsys):
    notebook = new_notebook(
        cells=[
            new_code_cell("import os, sys\nprint(os.getcwd(), sys.executable)\nopen('x', 'w')"),
            new_code_cell("import warnings\nwarnings.warn('look out')"),
        ]
    )
    broken = new_notebook(cells=[new_code_cell("1 / 0")])
    for name, each in (("good", notebook), ("broken", broken)):
        nbformat.write(each, tmp_path / f"{name}.ipynb")
    before = (tmp_path / "broken.ipynb").read_bytes()
    monkeypatch.setattr(run, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["run.py"])
    with pytest.raises(SystemExit) as ended:
        run.main()
    assert ended.value.code == 1
    assert (tmp_path / "broken.ipynb").read_bytes() == before
    good = read(tmp_path / "good.ipynb")
    assert good.cells[0].execution_count == 1
    assert MACHINE.search(json.dumps(good.cells[0].outputs)) is None
    assert good.cells[1].outputs == []
    shown = capsys.readouterr()
    assert "ZeroDivisionError" in shown.out
    assert "look out" in shown.err
    assert {path.name for path in tmp_path.iterdir()} == {"good.ipynb", "broken.ipynb"}
