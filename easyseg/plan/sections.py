"""The sections of a plan: one frozen dataclass each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from easyseg.errors import OptionError

__all__ = [
    "SECTIONS",
    "AdapterPlan",
    "BackbonePlan",
    "DataPlan",
    "HeadPlan",
    "LossPlan",
    "OptimPlan",
    "TrainPlan",
    "images_validated",
]


@dataclass(frozen=True)
class BackbonePlan:
    """Which network is adapted.

    Attributes:
        name: Key in the registry of backbones.
        weights: ``"pretrained"``, ``"random"`` or a path.
        prompt: Constant prompt of the decoder: ``"none"`` or ``"box"`` (around the whole image).
    """

    name: str
    weights: str
    prompt: Literal["none", "box"]


@dataclass(frozen=True)
class AdapterPlan:
    """What is trained inside of the frozen encoder.

    Attributes:
        kind: A key of :data:`easyseg.plan.adapter_kinds.KINDS`.
        rank: Channels of the low-rank path, or of the bottleneck of ``"adapter"``.
        num_experts: Convolution experts of a layer.
        scales: Scale of each expert.
        alpha: The path's output is multiplied by ``alpha / rank``.
        gate: ``"learned"`` (from the task), ``"constant"`` (as in the reference), or ``"sum"``:
            none, all experts are summed.
        routing: ``"window"`` (as in the reference) or ``"image"``: what is routed by itself.
        identity: False leaves out the identity beside the experts.
        targets: Layers with a low-rank path: ``"q"``, ``"k"``, ``"v"``, ``"proj"``, ``"mlp"``.
        lora_targets: Further ones of ``"proj"`` and ``"mlp"`` whose path has no experts.
        num_prompts: Prompts of a block, for ``"vpt"``.
        reduction: How many times as narrow the features of ``"lst"`` or ``"sam_adapter"`` are.
        blocks: ``"all"``, or k for the last k blocks.
    """

    kind: str
    rank: int
    num_experts: int
    scales: tuple[int, ...]
    alpha: float
    gate: str
    routing: Literal["window", "image"]
    identity: bool
    targets: tuple[str, ...]
    lora_targets: tuple[str, ...]
    num_prompts: int
    reduction: int
    blocks: str | int


@dataclass(frozen=True)
class HeadPlan:
    """Which head.

    Attributes:
        kind: ``"binary"`` (one mask), ``"softmax"`` (a mask a class) or ``"mask_classification"``
            (masks that are matched to classes, as in the Conv-LoRA paper).
        num_tokens: Mask tokens of the decoder.
    """

    kind: str
    num_tokens: int


@dataclass(frozen=True)
class LossPlan:
    """Which loss.

    Attributes:
        kind: ``"structure"`` (weighted BCE + weighted IoU), ``"balanced_bce"``, ``"ce_dice"``,
            ``"focal"`` or ``"mask2former"``.
        class_weights: ``"none"``, or the weight of the pixels of each class.
        balance_weight: Weight of the experts' balance loss.
    """

    kind: str
    class_weights: str | tuple[float, ...]
    balance_weight: float


@dataclass(frozen=True)
class OptimPlan:
    """How the weights are changed.

    Attributes:
        kind: ``"adamw"``, or ``"adam"``, whose weight decay is part of the gradient.
        lr: Highest learning rate.
        decoder_lr: That of the decoder, as a share of it.
        weight_decay: Weight decay of matrices of the decoder and of an encoder that is trained as a
            whole (none on adapters, gates, norms, positions).
        warmup: Share of the steps with a rising learning rate, 0..1.
    """

    kind: str
    lr: float
    decoder_lr: float
    weight_decay: float
    warmup: float


@dataclass(frozen=True)
class DataPlan:
    """How images enter the network.

    Attributes:
        size: Side of the square input in pixels.
        geometry: ``"squash"``, ``"letterbox"``, or ``"tile"``: windows at a fixed scale.
        scale: Pixels of the input for one of the image, for tiles; 1 takes its own pixels.
        augment: Random augmentations of the training images.
    """

    size: int
    geometry: Literal["squash", "letterbox", "tile"]
    scale: float
    augment: tuple[str, ...]


@dataclass(frozen=True)
class TrainPlan:
    """How long and in what portions.

    Attributes:
        epochs: Passes over the training images, at most.
        max_steps: Optimizer steps, at most; -1 for no cap.
        batch_size: Images of one optimizer step, over all devices.
        micro_batch_size: Images of one forward pass on one device.
        precision: ``"32"``, ``"bf16"`` or ``"fp16"`` (the latter two: mixed).
        gradient_checkpointing: True to recompute activations, which saves memory.
        prefix_cache: True to keep what the frozen first blocks make of an image, for later epochs.
        validation_images: Images that a validation scores; -1 for all of the validation part.
        patience: Epochs without a better score before training stops.
        average: Share of the steps that the moving average of the weights looks back; 0 is none.
    """

    epochs: int
    max_steps: int
    batch_size: int
    micro_batch_size: int
    precision: str
    gradient_checkpointing: bool
    prefix_cache: bool
    validation_images: int
    patience: int
    average: float

    def accumulation(self, devices: int = 1) -> int:
        """Return the forward passes a device makes for one optimizer step.

        Args:
            devices: Training processes in all.

        Raises:
            OptionError: If the batch cannot be made of whole passes.

        Example:
            >>> TrainPlan(3, -1, 8, 2, "32", False, False, -1, 5, 0.1).accumulation(devices=2)
            2
        """
        passes, rest = divmod(self.batch_size, self.micro_batch_size * devices)
        if rest or not passes:
            raise OptionError(
                f"train.batch_size = {self.batch_size} cannot be made of passes of "
                f"train.micro_batch_size = {self.micro_batch_size} on {devices} devices"
            )
        return passes


def images_validated(most: int, count: int) -> int:
    """Return how many of ``count`` images a validation scores.

    Args:
        most: ``train.validation_images``.
        count: Images of the validation part.
    """
    return count if most < 0 else min(most, count)


SECTIONS: Mapping[str, type] = {
    "backbone": BackbonePlan,
    "adapter": AdapterPlan,
    "head": HeadPlan,
    "loss": LossPlan,
    "optim": OptimPlan,
    "data": DataPlan,
    "train": TrainPlan,
}
