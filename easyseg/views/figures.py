"""New figures, and figures as files; matplotlib is loaded when one is drawn."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from easyseg.errors import OptionError
from easyseg.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["new_figure", "plain", "save_figure"]

_DPI = 150


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure; nothing of a user's own plots is touched.

    Args:
        width: In inches.
        height: In inches.

    Raises:
        OptionError: If matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise OptionError("figures need matplotlib, which is not installed: pip install matplotlib")
    from easyseg.views.picture import Picture

    return Picture(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, file: Path) -> None:
    """Write a figure that is whole or not there.

    Args:
        figure: The figure.
        file: The PNG; its folder exists.
    """
    with whole_file(file) as beside:
        figure.savefig(beside, dpi=_DPI)


def plain(text: str, most: int = 40) -> str:
    """Return a name as a figure shows it: no formula, and shortened in its middle if it is long.

    Args:
        text: A name that a user gave.
        most: How many characters there is room for.

    Example:
        >>> plain("images/2024-05-17/patient_0042/left_eye_03.png", 24)
        'images/2024…t_eye_03.png'
    """
    if len(text) > most:
        head = (most - 1) // 2
        text = f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"
    if text.startswith("_"):  # A legend leaves out what starts with an underscore.
        text = f" {text}"
    return text.replace("$", r"\$")
