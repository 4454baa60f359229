"""Features of the frozen prefix, kept from epoch to epoch: frozen work is done once an image."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["PrefixCache", "remove_caches"]

_FOLDER = "prefix-"
_MAP_BYTES = 2**28
_BLOCK_BYTES = 2**20
_FREE_SHARE = 0.5


class PrefixCache:
    """What a frozen function makes of images, by their keys; as much as fits.

    Entries lie in memory up to a limit, then in memory maps; when these are full, too, further
    images are computed each time. Features are kept in the dtype in which they were computed, bit
    for bit, and come back in the memory layout in which they are computed. Each process has a cache
    of its own.

    Args:
        memory_bytes: What the entries in memory may take.
        folder: Where the memory maps are, which :meth:`close` deletes; ``None`` for none.
        disk_bytes: What the memory maps may take; a map that would take more than half of what is
            free there is not made.
    """

    def __init__(
        self, memory_bytes: int, *, folder: Path | None = None, disk_bytes: int = 0
    ) -> None:
        self.hits = 0
        self.misses = 0
        self._memory_left = memory_bytes
        self._disk_left = 0
        self._folder: Path | None = None
        if folder is not None and disk_bytes:
            self._folder = Path(tempfile.mkdtemp(prefix=_FOLDER, dir=folder))
            self._disk_left = disk_bytes
        self._channels_last = False
        self._entries: dict[Hashable, Tensor] = {}
        self._free: list[Tensor] = []
        self._maps = 0

    def features(
        self, keys: Sequence[Hashable], images: Tensor, compute: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return the features of a batch; only those that are not there are computed.

        Args:
            keys: One an image; equal keys mean equal images.
            images: ``[B, 3, H, W]``.
            compute: Maps images to features ``[B, ...]``, each by itself.

        Returns:
            Features ``[B, ...]`` on the device of the images.
        """
        missing = [row for row, key in enumerate(keys) if key not in self._entries]
        self.misses += len(missing)
        self.hits += len(keys) - len(missing)
        rows = {
            row: self._entries[key].to(images.device, non_blocking=True)
            for row, key in enumerate(keys)
            if key in self._entries
        }
        if missing:
            fresh = compute(images[missing] if rows else images)
            self._channels_last = fresh.ndim == 4 and not fresh.is_contiguous()
            for row, value in zip(missing, fresh, strict=True):
                self._keep(keys[row], value)
                rows[row] = value
            if len(missing) == len(keys):
                return fresh
        whole = torch.stack([rows[row] for row in range(len(keys))])
        return whole.contiguous(memory_format=torch.channels_last) if self._channels_last else whole

    def close(self) -> None:
        """Forget everything and delete the memory maps."""
        self._entries.clear()
        self._free.clear()
        self._memory_left = self._disk_left = 0
        if self._folder is not None:
            # Windows keeps a mapped file until its last view is gone: what it keeps stays behind.
            shutil.rmtree(self._folder, ignore_errors=True)

    def _keep(self, key: Hashable, value: Tensor) -> None:
        if key in self._entries:
            return
        # An inference tensor, as a validation makes them, could not be trained on.
        with torch.inference_mode(False), torch.no_grad():
            if value.nbytes <= self._memory_left:
                self._memory_left -= value.nbytes
                self._entries[key] = value.to("cpu", copy=True)
            elif (place := self._place_on_disk(value)) is not None:
                self._entries[key] = place.copy_(value)

    def _place_on_disk(self, like: Tensor) -> Tensor | None:
        """Return a place for one entry in a memory map, or ``None`` if none is left."""
        if not self._free and self._folder is not None and like.nbytes <= self._disk_left:
            count = max(1, min(_MAP_BYTES, self._disk_left) // like.nbytes)
            file = self._folder / f"{self._maps}.bin"
            if _reserve(file, count * like.nbytes):
                self._disk_left -= count * like.nbytes
                self._maps += 1
                size = count * like.numel()
                whole = torch.from_file(str(file), shared=True, size=size, dtype=like.dtype)
                self._free = list(whole.view(count, *like.shape))
            else:
                self._disk_left = 0
        return self._free.pop() if self._free else None


def remove_caches(folder: Path) -> None:
    """Remove what caches left in a folder: a process that was killed could not close its own."""
    for left in folder.glob(f"{_FOLDER}*"):
        shutil.rmtree(left, ignore_errors=True)


def _reserve(file: Path, size: int) -> bool:
    """Write a file of zeros; return False, and leave none, if the disk has no room for it.

    A file that is only declared to be that long would kill the process when the disk is full.
    """
    try:
        if size > shutil.disk_usage(file.parent).free * _FREE_SHARE:
            return False
        with file.open("wb") as stream:
            for start in range(0, size, _BLOCK_BYTES):
                stream.write(bytes(min(_BLOCK_BYTES, size - start)))
    except OSError:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
        return False
    return True
