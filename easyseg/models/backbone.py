"""What all image encoders have in common: a sequence of steps of which the first are frozen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = [
    "Backbone",
    "crop_windows",
    "fill_windows",
    "in_autocast_dtype",
    "merge_windows",
    "split_windows",
]


class Backbone(nn.Module, ABC):
    """An image encoder as a sequence of steps.

    Before the steps the image is embedded, behind them the neck makes the image embedding. A step
    is a module that maps features to ``(features, auxiliary loss)``. Everything before the first
    trainable parameter, the prefix, is run without a graph.
    """

    gradient_checkpointing: bool = False
    neck: nn.Module

    @abstractmethod
    def steps(self) -> Sequence[nn.Module]:
        """Return the steps in their order."""

    @abstractmethod
    def attention_blocks(self) -> Sequence[nn.Module]:
        """Return the blocks that hold an adaptable attention, in their order."""

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Map normalised images ``[B, 3, H, W]`` to the features of the first step."""

    @abstractmethod
    def finish(self, features: Tensor) -> Tensor:
        """Map the features of the last step to the image embedding ``[B, C, h, w]`` (the neck)."""

    @property
    def split_at(self) -> int:
        """Index of the first step with a trainable parameter; the number of steps if none has."""
        steps = self.steps()
        for index, step in enumerate(steps):
            if _is_trained(step):
                return index
        return len(steps)

    def _embedding_is_trained(self) -> bool:
        elsewhere = {id(p) for part in (*self.steps(), self.neck) for p in part.parameters()}
        return any(p.requires_grad and id(p) not in elsewhere for p in self.parameters())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Args:
            images: Normalised images ``[B, 3, H, W]``, H and W multiples of the size multiple.

        Returns:
            The image embedding ``[B, C, H / stride, W / stride]`` and the summed auxiliary losses
            of the adapters, a scalar.
        """
        return self.suffix(self.prefix(images))

    @torch.no_grad()
    def prefix(self, images: Tensor) -> Tensor:
        """Run what is frozen before the first trained step: the same for an image in every epoch.

        Args:
            images: As for :meth:`forward`.

        Returns:
            The images themselves if their embedding is trained; else the features of the first
            trained step, or of the neck; the image embedding if nothing is trained.
        """
        if self._embedding_is_trained():
            return images
        steps, split = self.steps(), self.split_at
        features, _ = self._run(steps[:split], self.embed(images))
        frozen = split == len(steps) and not _is_trained(self.neck)
        return self.finish(features) if frozen else features

    def suffix(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Run the rest: maps what :meth:`prefix` returns to what :meth:`forward` returns."""
        steps, split = self.steps(), self.split_at
        if self._embedding_is_trained():
            features, split = self.embed(features), 0
        elif split == len(steps) and not _is_trained(self.neck):
            return features, features.new_zeros((), dtype=torch.float32)
        features, aux = self._run(steps[split:], features)
        return self.finish(features), aux

    def _run(self, steps: Iterable[nn.Module], features: Tensor) -> tuple[Tensor, Tensor]:
        aux = features.new_zeros((), dtype=torch.float32)
        for step in steps:
            if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
                # Non-reentrant, and the random state is replayed: the gate's noise is the same.
                features, loss = checkpoint(step, features, use_reentrant=False)
            else:
                features, loss = step(features)
            aux = aux + loss
        return features, aux


def _is_trained(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())


def in_autocast_dtype(x: Tensor) -> Tensor:
    """Cast features to the dtype of autocast where it is on.

    Autocast would cast them in each product that reads them, and their gradients as often; and all
    that moves them before would move twice the bytes.
    """
    device = x.device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return x
    return x.to(torch.get_autocast_dtype(device))


def fill_windows(x: Tensor, window: int) -> Tensor:
    """Pad tokens ``[B, H, W, C]`` with zeros below and to the right to whole windows."""
    height, width = x.shape[1:3]
    below, right = -height % window, -width % window
    return nn.functional.pad(x, (0, 0, 0, right, 0, below)) if below or right else x


def split_windows(x: Tensor, window: int) -> Tensor:
    """Cut ``[B, H, W, C]`` into windows ``[B * H/window * W/window, window, window, C]``."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // window, window, w // window, window, c)
    return x.transpose(2, 3).reshape(-1, window, window, c)


def merge_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """Put windows together again to ``[B, height, width, C]``; undoes :func:`split_windows`."""
    window, c = windows.shape[1], windows.shape[-1]
    x = windows.reshape(-1, height // window, width // window, window, window, c)
    return x.transpose(2, 3).reshape(-1, height, width, c)


def crop_windows(x: Tensor, height: int, width: int) -> Tensor:
    """Remove the padding of :func:`fill_windows`."""
    return x[:, :height, :width]
