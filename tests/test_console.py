"""Where progress bars are drawn."""

from __future__ import annotations

import copy
import sys
from types import SimpleNamespace

import pytest

from easyseg.clock import Clock
from easyseg.console import Reporter
from easyseg.training.callbacks import Progress


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


@pytest.mark.parametrize(("limit", "shares"), [(None, [0.25, 0.5]), (10, [0.25, 0.75])])
def test_the_bar_of_a_fit_shows_steps_or_time(colours_asked_for, monkeypatch, limit, shares):
    now = [100.0]
    monkeypatch.setattr("easyseg.clock.time.monotonic", lambda: now[0])
    trainer = SimpleNamespace(
        is_global_zero=True, num_training_batches=2, max_epochs=2, current_epoch=0
    )
    bar = Progress(Reporter(1), "iou@image", Clock(100.0, limit))
    now[0] = 102.0
    bar.on_train_start(trainer, None)
    seen = []
    for now[0] in (103.0, 108.0):  # 1 of 8 seconds that are left, 6 of 8
        bar.on_train_batch_end(trainer, None, None, None, 0)
        seen.append(bar._bar.tasks[0].completed)
    bar.on_train_end(trainer, None)
    assert seen == shares


def test_a_console_that_was_used_goes_into_a_spawned_process():
    reporter = Reporter(1)
    assert reporter.console is reporter.console
    assert copy.deepcopy(reporter).verbosity == 1
