"""The network: backbone, decoder, head; built from a plan, adapted, reduced to what is saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from easyseg.errors import ArtifactError, OptionError
from easyseg.models.adapters import LoRALinear
from easyseg.models.adapters.methods import adapt, use_batch_statistics
from easyseg.models.backbone import Backbone
from easyseg.models.decoder import Decoder
from easyseg.models.heads import Head, build_head
from easyseg.models.matching import Segments
from easyseg.models.registry import BackboneSpec, get_spec
from easyseg.models.sam_vit import SamViT
from easyseg.models.tiny_vit import ConvBN, TinyViT
from easyseg.models.weights import load_base
from easyseg.plan.plan import Plan

__all__ = [
    "Network",
    "Output",
    "build_encoder",
    "build_network",
    "load_trainable_state",
    "running_statistics",
    "trainable_state",
]

# All mask tokens of pretrained weights start as SAM's first one. Where each has a class of its own,
# the loss parts them, and the order of the classes, which differs with the coding of the masks,
# changes nothing. Where they are matched to classes, noise of this deviation must: near-equal
# tokens make near-equal masks, and the matching changes from step to step.
_MATCHED_TOKENS_DEVIATION = 0.3


class Output(NamedTuple):
    """What a forward pass returns.

    Attributes:
        logits: ``[B, C, h, w]``: one channel for a binary head, else one a class. They may be
            resampled before the head makes probabilities or class ids of them.
        aux_losses: Summed auxiliary losses of the adapters, a scalar.
        segments: What the loss of a mask classification head works on; None for other heads.
    """

    logits: Tensor
    aux_losses: Tensor
    segments: Segments | None = None


class Network(nn.Module):
    """Normalised images to logits.

    Args:
        backbone: Image encoder.
        decoder: Mask decoder.
        head: Meaning of the logits.
        base_sha256: Hash that identifies the frozen weights.
    """

    def __init__(self, backbone: Backbone, decoder: Decoder, head: Head, base_sha256: str) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder
        self.head = head
        self.base_sha256 = base_sha256

    def forward(self, images: Tensor) -> Output:
        """Run the network.

        Args:
            images: Normalised images ``[B, 3, H, W]``.

        Returns:
            Logits at 4 / stride of the input size, the auxiliary losses, and what the head's loss
            needs beside them.
        """
        return self._decode(*self.backbone(images))

    def from_prefix(self, features: Tensor) -> Output:
        """Run all but the frozen prefix of the backbone.

        Args:
            features: What ``backbone.prefix`` made of the images, or a copy that was kept.
        """
        return self._decode(*self.backbone.suffix(features))

    def _decode(self, embedding: Tensor, aux: Tensor) -> Output:
        logits, segments = self.head(*self.decoder(embedding))
        return Output(logits, aux, segments)

    def adapters(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield name and module of each layer with LoRA or Conv-LoRA."""
        for name, module in self.named_modules():
            if isinstance(module, LoRALinear):
                yield name, module


def build_encoder(spec: BackboneSpec, size: tuple[int, int]) -> Backbone:
    """Build the image encoder of a backbone for an input size, with fresh weights.

    Args:
        spec: The backbone.
        size: Input height and width in pixels.

    Raises:
        OptionError: If the size is too small or not a multiple of the backbone's step.
    """
    if any(side % spec.size_multiple or side < spec.min_size for side in size):
        raise OptionError(
            f"input size {size[0]}x{size[1]}: {spec.name} needs sides of at least {spec.min_size} "
            f"that are multiples of {spec.size_multiple}; set data.size to one"
        )
    if spec.family == "tiny_vit":
        return TinyViT(**spec.arch)
    grid = (size[0] // spec.stride, size[1] // spec.stride)
    return SamViT(grid, **spec.arch)


def build_network(plan: Plan, *, seed: int, base_sha256: str | None = None) -> Network:
    """Build the network of a plan with pretrained weights and fresh adapters.

    Args:
        plan: The plan.
        seed: Seed of adapters, head and, for ``backbone.weights="random"``, of the base. The global
            random state is left as it was.
        base_sha256: Hash of the weights a saved model was trained on, to find them by it.

    Returns:
        The network in training mode on the CPU, everything frozen but decoder, head, and what the
        planned adapter adds or trains.

    Raises:
        WeightsError: If the pretrained weights cannot be had.
    """
    spec = get_spec(plan.backbone.name)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs, too.
        backbone = build_encoder(spec, (plan.data.size, plan.data.size))
        head = build_head(
            plan.head.kind,
            plan.num_classes,
            plan.loss.kind,
            class_weights=plan.loss.class_weights,
            num_tokens=plan.head.num_tokens,
            dim=spec.decoder_dim,
        )
        decoder = Decoder(
            head.num_masks, plan.backbone.prompt, dim=spec.decoder_dim, stride=spec.stride
        )
        found_sha256 = load_base(spec, plan.backbone.weights, backbone, decoder, sha256=base_sha256)
        if plan.head.kind == "mask_classification":
            noise = torch.empty_like(decoder.mask_tokens.weight)
            nn.init.normal_(noise, std=_MATCHED_TOKENS_DEVIATION)
            decoder.mask_tokens.weight.data.add_(noise)
        backbone = adapt(backbone, plan.adapter)
    if plan.backbone.weights == "random":
        use_batch_statistics(backbone)
    backbone.gradient_checkpointing = plan.train.gradient_checkpointing
    return Network(backbone, decoder, head, found_sha256).train()


def trainable_state(network: nn.Module) -> dict[str, Tensor]:
    """Return what training changes, by name: this, and nothing else, is saved.

    These are the trainable parameters, and the statistics of batch normalisation where they follow
    the batches.
    """
    state = {
        name: parameter.detach()
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    }
    return state | running_statistics(network)


def running_statistics(network: nn.Module) -> dict[str, Tensor]:
    """Return the statistics that follow the batches, by name; a pretrained encoder has none."""
    return {
        f"{name}.bn.{kind}": getattr(layer.bn, kind)
        for name, layer in network.named_modules()
        if isinstance(layer, ConvBN) and layer.live
        for kind in ("running_mean", "running_var")
    }


def load_trainable_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load what :func:`trainable_state` returned into a network of the same plan.

    Raises:
        ArtifactError: If names or shapes differ.
    """
    own = trainable_state(network)
    wrong = sorted(own.keys() ^ state.keys()) or sorted(
        name for name, value in own.items() if value.shape != state[name].shape
    )
    if wrong:
        raise ArtifactError(
            f"the saved tensors do not fit the network of the plan: {', '.join(wrong[:5])}"
            f"{' and others' if len(wrong) > 5 else ''}; the artifact is damaged or was edited"
        )
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(state[name])
