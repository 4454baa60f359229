"""The public names cost nothing until they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "pandas", "sklearn", "lightning", "omegaconf", "matplotlib")


def loaded_after(statement: str) -> list[str]:
    """Return which of the heavy packages a fresh interpreter has loaded after the statement."""
    code = f"{statement}\nimport sys\nprint(*[n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    "statement",
    [
        "import easyseg",
        "from easyseg import SemanticSegmentor",
        "from easyseg import SemanticSegmentor; SemanticSegmentor(problem_type='binary')",
        "import easyseg.cli",
        "import easyseg.models.registry",
        "import easyseg.plan.presets",
        "import easyseg.ranks",
        "import easyseg.views.figures",
        "from easyseg import datasets; datasets.list_datasets(); datasets.find('polyp', 'nowhere')",
    ],
)
def test_import_loads_nothing_heavy(statement):
    assert loaded_after(statement) == []


def test_every_public_name_is_there():
    import easyseg

    for name in easyseg.__all__:
        assert getattr(easyseg, name) is not None
    assert set(easyseg.__all__) <= set(dir(easyseg))


def test_an_unknown_name_is_an_attribute_error():
    import easyseg

    with pytest.raises(AttributeError, match="no attribute 'SemanticSegmenter'"):
        easyseg.SemanticSegmenter  # noqa: B018
