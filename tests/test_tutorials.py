"""The tutorials run from the first cell to the last, and what is committed of them is clean."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
TUTORIALS = sorted((ROOT / "tutorials").glob("*.ipynb"))
LARGEST = 1_500_000  # bytes
FOLDERS = "tmp|home|root|work|Users|private|var"
MACHINE = re.compile(rf"(?<![\w.])/(?:{FOLDERS})/|site-packages|[A-Z]:\\\\")

every_tutorial = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_is_a_quickstart():
    assert "quickstart" in [path.stem for path in TUTORIALS]


@every_tutorial
def test_committed_outputs_are_whole_small_and_of_no_machine(path):
    assert path.stat().st_size < LARGEST
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert MACHINE.search(json.dumps(cell.outputs)) is None, cell.source
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", output.text


@every_tutorial
def test_links_of_a_tutorial_lead_somewhere(path):
    notebook = nbformat.read(path, as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in [heading.replace(" ", "-") for heading in headings]
        elif not target.startswith("https://"):
            assert (path.parent / target.partition("#")[0]).exists(), target


@pytest.mark.slow
@every_tutorial
def test_a_tutorial_runs_in_its_fast_form(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    # No folder of kernels: "python3" is this very Python, whatever else is installed.
    kernels = KernelSpecManager(kernel_dirs=[])
    client = NotebookClient(
        notebook,
        km=AsyncKernelManager(kernel_name="python3", kernel_spec_manager=kernels),
        timeout=300,
        resources={"metadata": {"path": str(tmp_path)}},
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    found = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
    client.execute(env={**os.environ, **places, "EASYSEG_FAST": "1", "PYTHONPATH": found})
    errors = [
        output.text
        for cell in code_cells(notebook)
        for output in cell.outputs
        if output.get("name") == "stderr"
    ]
    assert errors == []
    assert [child for child in tmp_path.iterdir() if child != temporary] == []
