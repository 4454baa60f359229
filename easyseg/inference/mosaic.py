"""The logits of an image, put together from those of its windows."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from easyseg.data.geometry import Geometry, Window

__all__ = ["Mosaic"]


class Mosaic:
    """Adds up what the windows of one image say, each weighed less towards its borders.

    Along an axis the weight of a window rises and falls linearly and is never zero; divided by the
    sum of all windows' weights there, it is the window's share of a cell. Windows form a grid, so
    shares are known before any logits are, and a single window has a share of exactly 1.

    Args:
        geometry: How the image was resized and cut.
        own: The image's own height and width.
    """

    def __init__(self, geometry: Geometry, own: tuple[int, int]) -> None:
        self.geometry = geometry
        self.own = own
        self._missing = set(geometry.windows(own))
        self._logits: Tensor | None = None
        self._shares: tuple[dict[int, Tensor], dict[int, Tensor]] = ({}, {})

    @property
    def complete(self) -> bool:
        """Whether every window was added."""
        return not self._missing

    @torch.inference_mode()
    def add(self, window: Window, logits: Tensor) -> None:
        """Add the logits ``[K, h, w]`` of a window; they are summed in float32 where they are."""
        self._missing.remove(window)
        if self._logits is None:
            self._start(logits)
        assert self._logits is not None
        height, width = logits.shape[-2:]
        cell = self.geometry.size[0] // height
        top, left = window.top // cell, window.left // cell
        rows, cols = self._shares[0][window.top], self._shares[1][window.left]
        part = self._logits[:, top : top + height, left : left + width]
        part += logits.float() * (rows[:, None] * cols)

    @torch.inference_mode()
    def restore(self) -> Tensor:
        """Return the logits float32 ``[K, *own]``."""
        assert self.complete
        assert self._logits is not None
        return self.geometry.restore(self._logits, self.own)

    def _start(self, logits: Tensor) -> None:
        cell = self.geometry.size[0] // logits.shape[-2]
        height, width = (side // cell for side in self.geometry.extent(self.own))
        self._logits = logits.new_zeros((len(logits), height, width), dtype=torch.float32)
        windows = self.geometry.windows(self.own)
        tops, lefts = {w.top for w in windows}, {w.left for w in windows}
        self._shares = (
            _shares(tops, logits.shape[-2], cell, logits.device),
            _shares(lefts, logits.shape[-1], cell, logits.device),
        )


def _shares(
    starts: Iterable[int], length: int, cell: int, device: torch.device
) -> dict[int, Tensor]:
    """Return the share of each window in each of its cells along an axis.

    Args:
        starts: Where the windows start, in pixels.
        length: Cells of a window.
        cell: Pixels of a cell.
        device: Where the shares are needed.

    Returns:
        float32 ``[length]`` for each start; those of a cell sum to 1 over all windows.
    """
    rising = torch.arange(1.0, length + 1)
    weight = torch.minimum(rising, rising.flip(0))
    total = torch.zeros(max(starts) // cell + length)
    for start in starts:
        total[start // cell :][:length] += weight
    return {s: (weight / total[s // cell :][:length]).to(device) for s in starts}
