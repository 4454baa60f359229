"""Figures: new ones belong to nobody, names in them are names, files are whole."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from easyseg.errors import OptionError
from easyseg.views.figures import new_figure, plain, save_figure

needs_matplotlib = pytest.mark.usefixtures("matplotlib")


@pytest.fixture
def matplotlib():
    return pytest.importorskip("matplotlib", reason="figures need the extra 'plots'")


@given(st.text(max_size=60), st.integers(3, 30))
@example("_hidden", 20)
def test_a_name_is_whole_or_has_its_two_ends(text, most):
    shown = plain(text, most).replace(r"\$", "$")
    assert not shown.startswith("_")
    if text.startswith("_"):
        assert shown.startswith(" ")
        shown = shown[1:]
    if len(text) <= most:
        assert shown == text
        return
    assert len(shown) == most
    kept = most - 1
    assert any(
        shown == f"{text[:left]}…{text[len(text) - (kept - left) :]}"
        for left in (kept // 2, kept - kept // 2)
    )


@needs_matplotlib
@pytest.mark.parametrize("name", ["$x^{", "a $\\frac$ b", "$$", "50 % & <b>_y_"])
def test_a_name_is_no_formula(name):
    from matplotlib.cbook import is_math_text

    figure = new_figure(2, 1)
    assert not is_math_text(plain(name))
    figure.subplots().set_title(plain(name))
    figure.draw_without_rendering()


@needs_matplotlib
def test_a_notebook_shows_a_figure_without_pyplot():
    figure = new_figure(2, 1)
    figure.subplots().plot([0, 1])
    with Image.open(io.BytesIO(figure._repr_png_())) as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("L").getcolors()) > 10


@needs_matplotlib
def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    figure = new_figure(2, 1)
    save_figure(figure, tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]

    def break_off(file, **options):
        file.write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(figure, "savefig", break_off)
    with pytest.raises(OSError, match="the disk is full"):
        save_figure(figure, tmp_path / "b.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_without_matplotlib_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(OptionError, match=r"pip install matplotlib"):
        new_figure(2, 1)
