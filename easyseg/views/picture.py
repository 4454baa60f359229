"""A matplotlib figure that a notebook shows by itself, without pyplot and what that keeps open."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

__all__ = ["Picture"]


class Picture(Figure):
    """A figure that belongs to nobody else: no pyplot window, nothing to close.

    A notebook shows it where it is the value of a cell. Elsewhere ``savefig`` writes it.
    """

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", bbox_inches="tight")
        return buffer.getvalue()
