"""SAM-Adapter: what the image itself shows is added before each block (Chen et al., 2023)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from easyseg.models.backbone import Backbone
from easyseg.models.sam_vit import SamViT

__all__ = ["SamAdapter", "high_frequencies"]

_LOW_SHARE = 0.25
_INIT_STD = 0.02


def high_frequencies(images: Tensor, low_share: float = _LOW_SHARE) -> Tensor:
    """Return the absolute value of images without their low frequencies.

    Args:
        images: ``[B, C, H, W]``, float32 or float64.
        low_share: Share of the spectrum that is left out, a rectangle around frequency zero.
    """
    height, width = images.shape[-2:]
    half = int(math.sqrt(height * width * low_share) // 2)
    spectrum = torch.fft.fftshift(torch.fft.fft2(images), dim=(-2, -1))
    keep = torch.ones(height, width, device=images.device, dtype=images.dtype)
    keep[height // 2 - half : height // 2 + half, width // 2 - half : width // 2 + half] = 0
    return torch.fft.ifft2(torch.fft.ifftshift(spectrum * keep, dim=(-2, -1))).real.abs()


class SamAdapter(Backbone):
    """SAM's encoder with a prompt that is made of the image before each adapted block.

    Block i gets ``h_(i-1) + P_i``, ``P_i = U GELU(T_i (E e + C c))``: e the patch embedding without
    positions, c the image's high frequencies, E and C (a convolution of patches) trained
    projections to a narrow width, T_i a layer for each block, U one layer for all of them. Weights
    start as in the authors' code: linear ones normal with a deviation of 0.02, the convolution with
    ``sqrt(2 / fan_out)``, biases at zero.

    Args:
        base: The encoder, which is frozen.
        blocks: The last blocks that get a prompt.
        reduction: How many times as narrow the prompts' features are; 32 in the authors' code.
    """

    def __init__(self, base: SamViT, blocks: int, reduction: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.neck = base.neck
        dim, (patch, _) = base.pos_embed.shape[-1], base.patch_embed.proj.kernel_size
        width = dim // reduction
        self.tune_embedding = nn.Linear(dim, width)
        self.tune_image = nn.Conv2d(3, width, patch, patch)
        self.tune_blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.tune_up = nn.Linear(width, dim)
        for linear in (self.tune_embedding, *self.tune_blocks, self.tune_up):
            nn.init.trunc_normal_(linear.weight, std=_INIT_STD)
            nn.init.zeros_(linear.bias)
        nn.init.normal_(self.tune_image.weight, std=math.sqrt(2 / (patch * patch * width)))
        assert self.tune_image.bias is not None
        nn.init.zeros_(self.tune_image.bias)

    def steps(self) -> Sequence[nn.Module]:
        """Return the frozen blocks."""
        return self.base.steps()

    def attention_blocks(self) -> Sequence[nn.Module]:
        """Return the frozen blocks."""
        return self.base.attention_blocks()

    def embed(self, images: Tensor) -> Tensor:
        """Map images ``[B, 3, H, W]`` to tokens, as the encoder does."""
        return self.base.embed(images)

    def finish(self, features: Tensor) -> Tensor:
        """Map tokens ``[B, h, w, C]`` to the image embedding, as the encoder does."""
        return self.base.finish(features)

    def prefix(self, images: Tensor) -> Tensor:
        """Return the images: the prompts are made of them."""
        return images

    def suffix(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images ``[B, 3, H, W]``."""
        images, steps = features, self.steps()
        first = len(steps) - len(self.tune_blocks)
        with torch.no_grad():
            embedded = self.base.patch_embed(images)
            features, _ = self._run(steps[:first], embedded + self.base.pos_embed)
            with torch.autocast(images.device.type, enabled=False):
                shown = high_frequencies(images)
        narrow = self.tune_embedding(embedded) + self.tune_image(shown).permute(0, 2, 3, 1)
        for step, tune in zip(steps[first:], self.tune_blocks, strict=True):
            prompt = self.tune_up(F.gelu(tune(narrow)))
            features, _ = self._run([step], features + prompt)
        return self.finish(features), features.new_zeros((), dtype=torch.float32)
