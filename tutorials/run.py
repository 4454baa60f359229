"""Execute the tutorials and write what comes out into them.

    python tutorials/run.py                    those whose code has changed since they were run
    python tutorials/run.py polyp road         these two, whatever there is of them
    python tutorials/run.py --all              every one

Each notebook runs from its first cell to its last in a fresh kernel of this Python and in an empty
folder that is removed afterwards. It is written back only if all of it went well, so a run that was
interrupted goes on where it ended. What the notebook keeps:

- tables, texts and figures (large ones as JPEG), without paths of this machine. What goes to
  standard error (progress, messages) is for the reader who runs the cells, and is not kept.
- no picture of a data set that may be used for research only: cells with the tag
  ``research-only-pictures`` keep a line of text in its place.
- ``metadata.easyseg``: commit, machine, versions, seconds, and a hash of the code.

Data sets are taken from ``EASYSEG_DATA``, else from ``../shared/data`` beside the checkout, else
they are downloaded where that can be done (see `easyseg.datasets.load`). Needs
``pip install -e '.[dev]'``.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
LONGEST = 360  # seconds that a tutorial may take on two cores

RESEARCH_ONLY = "research-only-pictures"
NOT_KEPT = (
    "[The pictures of this cell are not kept in the notebook: the terms of the data set allow "
    "research only. Run the cell to see them.]"
)
LARGE = 200_000  # characters of a PNG from which a picture is kept as JPEG
_INLINE_PICTURE = re.compile(r"data:image/[\w.+-]+;base64,[A-Za-z0-9+/=]+")
_PROGRESS = re.compile(r"^.*\r(?!\n)", re.MULTILINE)  # a line that a later one has written over


def tutorials() -> list[Path]:
    """Return the notebooks in the order of their names."""
    return sorted(FOLDER.glob("*.ipynb"))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the cells that are executed."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell: NotebookNode) -> list[str]:
    """Return the tags of a cell."""
    return list(cell.metadata.get("tags", ()))


@contextmanager
def kernel(folder: Path, env: Mapping[str, str], timeout: int) -> Iterator[NotebookClient]:
    """Start a kernel of this very Python, whatever kernels are installed, in a folder.

    Args:
        folder: Its working folder.
        env: What its environment has beside that of this process.
        timeout: Seconds that a cell may take.

    Yields:
        A client that executes cells, with `run_all`.
    """
    manager = AsyncKernelManager(
        kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[])
    )
    client = NotebookClient(
        nbformat.v4.new_notebook(), km=manager, timeout=timeout, record_timing=False
    )
    paths = filter(None, (env.get("PYTHONPATH"), str(ROOT), os.environ.get("PYTHONPATH")))
    places = {**os.environ, **env, "PYTHONPATH": os.pathsep.join(paths)}
    with client.setup_kernel(cwd=str(folder), env=places, cleanup_kc=True):
        yield client


def run_all(client: NotebookClient, notebook: NotebookNode) -> None:
    """Execute all cells of a notebook; their outputs are put into it.

    Raises:
        CellExecutionError: Of the first cell that fails.
    """
    client.nb = notebook
    for index, cell in enumerate(notebook.cells):
        client.execute_cell(cell, index)


def clean(notebook: NotebookNode, places: Mapping[str, str]) -> None:
    """Leave in the outputs what may be published and says nothing of this machine, in place.

    Args:
        notebook: The executed notebook.
        places: What to write instead of each path; longer ones are replaced first.
    """
    for cell in code_cells(notebook):
        cell.metadata.pop("execution", None)
        outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
        if RESEARCH_ONLY in tags(cell):
            outputs = [_without_pictures(each) for each in outputs]
        cell.outputs = [_cleaned(each, places) for each in outputs]


def _without_pictures(output: NotebookNode) -> NotebookNode:
    data = output.get("data", {})
    pictured = any(kind.startswith("image/") for kind in data) or any(
        _INLINE_PICTURE.search(str(value)) for value in data.values()
    )
    if pictured:
        output.data = NotebookNode({"text/plain": NOT_KEPT})
        output.metadata = NotebookNode()
    return output


def _cleaned(output: NotebookNode, places: Mapping[str, str]) -> NotebookNode:
    if "text" in output:
        output.text = _without_places(_PROGRESS.sub("", output.text), places)
    for kind, value in output.get("data", {}).items():
        if kind.startswith("text/"):
            output.data[kind] = _without_places(value, places)
    png = output.get("data", {}).get("image/png", "")
    if "image/jpeg" in output.get("data", {}):  # Pillow shows a picture in both forms
        output.data.pop("image/png", None)
    elif len(png) > LARGE:
        output.data["image/jpeg"] = _as_jpeg(output.data.pop("image/png"))
    return output


def _as_jpeg(png: str) -> str:
    """Return a picture in base64 as a JPEG, which photos are much smaller in."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        picture.convert("RGB").save(buffer, "JPEG", quality=88, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _without_places(text: str, places: Mapping[str, str]) -> str:
    for place in sorted(places, key=len, reverse=True):
        text = text.replace(place + os.sep, places[place] + "/" if places[place] else "")
        text = text.replace(place, places[place] or ".")
    return text


def source_hash(notebook: NotebookNode) -> str:
    """Return a hash of what the outputs depend on: the code and its tags, not the text around."""
    cells = [(cell.source, tags(cell)) for cell in code_cells(notebook)]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()[:16]


def is_current(notebook: NotebookNode) -> bool:
    """Return whether the outputs are those of the code as it is now."""
    return notebook.metadata.get("easyseg", {}).get("code") == source_hash(notebook)


def record(notebook: NotebookNode, seconds: float) -> None:
    """Write down in the metadata what the outputs come from, in place."""
    import torch

    import easyseg
    from easyseg.plan.hardware import detect_hardware

    notebook.metadata["easyseg"] = {
        "code": source_hash(notebook),
        "commit": _commit(),
        "easyseg": easyseg.__version__,
        "machine": detect_hardware().describe(),
        "python": platform.python_version(),
        "seconds": round(seconds),
        "torch": torch.__version__,
    }


def _commit() -> str:
    """Return the commit; a star marks changes to the library since."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "easyseg", "presets")
        return git("rev-parse", "--short", "HEAD") + ("*" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def data_folder() -> Path | None:
    """Return where the data sets are; None: where easyseg looks by itself."""
    if named := os.environ.get("EASYSEG_DATA"):
        return Path(named).expanduser().absolute()
    beside = ROOT.parent / "shared" / "data"
    return beside.resolve() if beside.is_dir() else None


def execute(path: Path) -> float:
    """Execute a tutorial and write it back with its outputs.

    Returns:
        The seconds that it took.

    Raises:
        CellExecutionError: Of the first cell that fails; the file is as it was then.
    """
    from easyseg.files import write_text

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory(prefix="easyseg-", ignore_cleanup_errors=True) as parent:
        folder, temporary = Path(parent).resolve() / "here", Path(parent).resolve() / "temporary"
        folder.mkdir()
        temporary.mkdir()
        env = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
        places = {str(folder): "", str(temporary): "temporary", str(Path.home()): "~"}
        places |= {str(ROOT): "easyseg", sys.prefix: "python"}
        if data := data_folder():
            env["EASYSEG_DATA"] = str(data)
            places[str(data)] = "data"
        started = time.monotonic()
        with kernel(folder, env, timeout=4 * LONGEST) as client:
            run_all(client, notebook)
        seconds = time.monotonic() - started
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if output.get("name") == "stderr" and "Warning" in output.text:
                print(f"{path.name}: {output.text}", file=sys.stderr)
    clean(notebook, places)
    record(notebook, seconds)
    nbformat.validate(notebook)
    write_text(path, nbformat.writes(notebook) + "\n")
    return seconds


def chosen(names: Sequence[str], every: bool) -> list[Path]:
    """Return the notebooks to run.

    Args:
        names: Their names, with or without the ending; none: those that have changed.
        every: Run all of them.
    """
    there = {path.stem: path for path in tutorials()}
    asked = [Path(name).stem for name in names]
    unknown = [name for name in asked if name not in there]
    if unknown:
        sys.exit(f"no tutorial is called {', '.join(unknown)}; there are {', '.join(there)}")
    if asked or every:
        return [there[name] for name in asked or there]
    return [path for path in there.values() if not is_current(nbformat.read(path, as_version=4))]


def main() -> None:
    """Run what is asked for; ends with 1 if a tutorial failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="notebooks, without .ipynb")
    parser.add_argument("--all", action="store_true", help="also those that have not changed")
    options = parser.parse_args()
    failed = False
    for path in chosen(options.names, options.all):
        print(f"{path.stem:<20}", end="", flush=True)
        try:
            seconds = execute(path)
        except CellExecutionError as error:
            failed = True
            print(f"FAILED, the file is as it was\n{error}", flush=True)
        else:
            slow = f", more than {LONGEST} s" if seconds > LONGEST else ""
            print(f"{seconds:6.0f} s{slow}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
