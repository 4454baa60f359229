"""Where progress bars are drawn."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from easyseg.console import Reporter


@pytest.fixture
def colours_asked_for(monkeypatch):
    """As the kernel of a notebook does for all that it starts, and users of some terminals."""
    monkeypatch.setenv("FORCE_COLOR", "1")


def draw(capsys) -> str:
    with Reporter(1).progress("scoring", 3) as advance:
        advance(3)
    return capsys.readouterr().err


def test_a_console_with_colours_gets_bars(colours_asked_for, capsys):
    assert "scoring" in draw(capsys)


def test_a_notebook_without_widgets_gets_none_and_keeps_its_colours(
    colours_asked_for, capsys, monkeypatch
):
    shell = SimpleNamespace(kernel=None)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr("easyseg.console.find_spec", lambda name: None)
    assert draw(capsys) == ""
    reporter = Reporter(1)
    assert not reporter.live
    reporter.console.print("[red]done")
    assert "\x1b[31mdone" in capsys.readouterr().err


def test_silence_draws_nothing(colours_asked_for, capsys):
    assert not Reporter(0).live
    with Reporter(0).progress("scoring", 3) as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")
