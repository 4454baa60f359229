"""What the experts of Conv-LoRA do: which of them is used in which block, for objects of what size.

The gate of a windowed block chooses for each window by itself. A window is counted under the size
of the object that fills most of it, or under no object.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from easyseg.artifact import TrainedModel, preprocess_of
from easyseg.auditing.findings import counted
from easyseg.data.dataset import TrainingSet
from easyseg.data.label_map import IGNORE
from easyseg.errors import OptionError
from easyseg.inference.predict import autocast_for
from easyseg.models.adapters.conv_lora import ConvLoRALinear
from easyseg.models.adapters.gate import Routing
from easyseg.views.colours import background_of

if TYPE_CHECKING:
    from easyseg.segmentor import SemanticSegmentor

__all__ = [
    "SIZES",
    "BlockChoices",
    "GatedLayer",
    "expert_choices",
    "gated_layers",
    "has_experts",
    "object_sizes",
    "window_sizes",
]

SIZES = ("none", "small", "medium", "large")
"""Of the object that fills most of a window: none, under 1 %, under 10 % of the image, or more."""

_SIZE_BOUNDS = (0.01, 0.1)
_TOUCHING = np.ones((3, 3), bool)


def has_experts(segmentor: SemanticSegmentor) -> bool:
    """Return whether a fitted model has layers that choose between experts."""
    return bool(_layers(segmentor._fitted()))


@dataclass(frozen=True)
class BlockChoices:
    """Which experts a block chose for the windows of some images.

    Attributes:
        block: Its number, from 0, of those with attention.
        scales: Scale of each expert.
        sizes: Size of the object in each window, indices into :data:`SIZES`, ``[images, windows]``,
            the windows in the same order for each image; where several layers of a block choose,
            their windows stand beside each other.
        experts: The expert of each window, from 0, ``[images, windows]``.
    """

    block: int
    scales: tuple[int, ...]
    sizes: np.ndarray
    experts: np.ndarray


def expert_choices(segmentor: SemanticSegmentor, data: Any) -> list[BlockChoices]:
    """Look at which expert is chosen in each window of each block, and at the object that is there.

    The gates choose as in prediction, at its precision and without noise. Of an image that is
    predicted in tiles one random tile is looked at.

    Args:
        segmentor: A fitted model with Conv-LoRA adapters that choose between experts.
        data: DataFrame or CSV with images and labels.

    Returns:
        The choices of each block that has any.

    Raises:
        OptionError: If the model has no such adapters.
        DataError: All problems of the table at once.
        NotFittedError: Before ``fit`` or ``load``.
    """
    from easyseg.preparation import read_labelled

    model = segmentor._fitted()
    layers = list(gated_layers(model).values())
    samples, labels = read_labelled(
        data,
        model.label_map,
        image=segmentor.image,
        label=segmentor.label,
        data_root=segmentor.data_root,
    )
    images = TrainingSet(samples, preprocess_of(model.plan), labels, (), seed=0)
    background = background_of(model.label_map, model.plan.problem_type)
    shown: list[list[np.ndarray]] = [[] for _ in layers]
    chosen: list[list[np.ndarray]] = [[] for _ in layers]
    model.network.eval()
    device = segmentor._device()
    precision = autocast_for(model.plan.train.precision, device)
    with torch.inference_mode(), precision, _watched(layers):
        for position in range(len(images)):
            image, ids = images[0, position]
            regions, sizes = object_sizes(ids.numpy(), background)
            model.network(image[None].to(device))
            for number, each in enumerate(layers):
                count = len(each.experts)
                shown[number].append(window_sizes(regions, sizes, each.tokens, each.window, count))
                chosen[number].append(each.experts)
    blocks: dict[int, list[int]] = {}
    for number, each in enumerate(layers):
        blocks.setdefault(each.block, []).append(number)
    return [
        BlockChoices(
            block,
            layers[numbers[0]].scales,
            np.concatenate([np.stack(shown[number]) for number in numbers], axis=1),
            np.concatenate([np.stack(chosen[number]) for number in numbers], axis=1),
        )
        for block, numbers in blocks.items()
    ]


def object_sizes(ids: np.ndarray, background: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Find the objects of a mask and tell how large they are.

    Args:
        ids: Class ids ``[H, W]``; ignored pixels are of no object and do not count.
        background: The class that is no object; ``None``: each class is one.

    Returns:
        The number of the object that each pixel belongs to, from 1, 0 for none, int32 ``[H, W]``;
        and the size of each number, an index into :data:`SIZES`, ``[objects + 1]``.

    Example:
        >>> regions, sizes = object_sizes(np.array([[1, 0, 0, 1]]), background=0)
        >>> regions.tolist(), [SIZES[size] for size in sizes]
        ([[1, 0, 0, 2]], ['none', 'large', 'large'])
    """
    regions, count = np.zeros(ids.shape, np.int32), 0
    for value in np.unique(ids):
        if value not in (background, IGNORE):
            labels, more = ndimage.label(ids == value, structure=_TOUCHING)
            regions += np.where(labels > 0, labels + count, 0).astype(np.int32)
            count += more
    areas = np.bincount(regions.ravel(), minlength=count + 1) / max(1, (ids != IGNORE).sum())
    sizes = 1 + np.digitize(areas, _SIZE_BOUNDS)
    sizes[0] = 0
    return regions, sizes


def window_sizes(
    regions: np.ndarray, sizes: np.ndarray, tokens: int, window: int, count: int
) -> np.ndarray:
    """Return the size of the object that most pixels of each window with an object belong to.

    Args:
        regions: Number of the object of each pixel ``[S, S]``, 0 for none.
        sizes: Size of each number, an index into :data:`SIZES`.
        tokens: Tokens of a side of the image.
        window: Tokens of a side of a window; the last windows may reach beyond the image.
        count: Number of windows, row by row; of one it is the whole image.

    Returns:
        Indices into :data:`SIZES` ``[count]``.
    """
    a_side = math.isqrt(count)
    edges = np.minimum(np.arange(a_side + 1) * window, tokens) * len(regions) // tokens
    if count == 1:
        edges = np.array([0, len(regions)])
    found = np.zeros(count, np.int64)
    for number, (row, column) in enumerate(np.ndindex(a_side, a_side)):
        part = regions[edges[row] : edges[row + 1], edges[column] : edges[column + 1]]
        pixels = np.bincount(part.ravel(), minlength=len(sizes))
        pixels[0] = 0
        found[number] = sizes[pixels.argmax()]
    return found


def _why_not(model: TrainedModel) -> str:
    """Say what the adapter is, and which one has a choice of experts."""
    adapter = model.plan.adapter
    found = f"adapter.kind is {adapter.kind!r}"
    if adapter.kind == "conv_lora":
        experts = counted(adapter.num_experts, "expert")
        found += f" with {experts} and adapter.gate {adapter.gate!r}"
    expected = "'conv_lora', at least 2 experts, and the gate 'learned' or 'constant'"
    return f"{found}; expected {expected}"


def gated_layers(model: TrainedModel) -> dict[str, GatedLayer]:
    """Return the layers with a choice of experts by their names, in the order of their blocks.

    Args:
        model: The model.

    Raises:
        OptionError: If there is none.
    """
    layers = _layers(model)
    if not layers:
        raise OptionError(f"this model has no experts to choose from: {_why_not(model)}")
    return layers


def _layers(model: TrainedModel) -> dict[str, GatedLayer]:
    names = {module: name for name, module in model.network.named_modules()}
    return {
        names[layer]: GatedLayer(number, block, layer.gate, layer.scales)
        for number, block in enumerate(model.network.backbone.attention_blocks())
        for layer in block.modules()
        if isinstance(layer, ConvLoRALinear) and layer.gate is not None and len(layer.scales) > 1
    }


class GatedLayer:
    """A layer with a choice of experts, and what it did with the last image.

    Attributes:
        block: Number of its block, from 0, of those with attention.
        scales: Scale of each expert.
        tokens: Tokens of a side of the image.
        window: Tokens of a side of a window.
        experts: The expert that was chosen for each window.
    """

    def __init__(
        self, number: int, block: nn.Module, gate: nn.Module, scales: tuple[int, ...]
    ) -> None:
        self.block = number
        self.scales = scales
        self.tokens = 0
        self.window = 0
        self.experts = np.zeros(0, np.int64)
        self._hosts = block, block.get_submodule("attn"), gate

    def watch(self) -> Iterator[RemovableHandle]:
        """Look at what comes in and at what the gate says."""

        def block_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.tokens = inputs[0].shape[2]  # [1, C, H, W] or [1, H, W, C], H = W

        def windows(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.window = inputs[0].shape[1]  # [windows, h, w, C], h = w

        def decision(module: nn.Module, inputs: tuple[Tensor, ...], routing: Routing) -> None:
            self.experts = routing.expert.cpu().numpy()

        block, attention, gate = self._hosts
        yield block.register_forward_pre_hook(block_input)
        yield attention.register_forward_pre_hook(windows)
        yield gate.register_forward_hook(decision)


@contextmanager
def _watched(layers: Sequence[GatedLayer]) -> Iterator[None]:
    handles = [handle for each in layers for handle in each.watch()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
