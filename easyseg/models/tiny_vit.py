"""TinyViT (Wu et al., ECCV 2022) as MobileSAM and LiteMedSAM use it: the last merging has stride 1.

The two differ in the stem only. MobileSAM's has a stride of 4, which makes 16 in all. LiteMedSAM's
keeps the resolution, which makes 4 in all and logits at input resolution.

Parameter names are those of both checkpoints. Batch normalisation keeps its pretrained statistics:
they are folded into the convolution on each call, in training too, so its buffers can never change.
A network that is trained from scratch has none to keep: there they are those of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product

import torch
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

from easyseg.models.adapters import LoRALinear, project
from easyseg.models.attention import append_tokens
from easyseg.models.backbone import (
    Backbone,
    crop_windows,
    fill_windows,
    in_autocast_dtype,
    merge_windows,
    split_windows,
)

__all__ = ["ConvBN", "TinyViT"]


# Whole hidden maps of large inputs would have the kernel clear tens of thousands of pages in each
# block, and leave the caches; so many bytes of them at a time are memory that is at hand.
_STRIP_BYTES = 2**23


class ConvBN(nn.Module):
    """Convolution and batch normalisation (names ``c`` and ``bn``).

    Attributes:
        live: False: the running statistics are constant, and both are one convolution. True: in
            training the statistics are those of the batch, and the running ones follow them.
    """

    live: bool = False

    def __init__(
        self, dim_in: int, dim_out: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(dim_in, dim_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(dim_out)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the one convolution that both are."""
        bn = self.bn
        assert bn.running_mean is not None
        assert bn.running_var is not None
        with torch.autocast(self.c.weight.device.type, enabled=False):
            scale = bn.weight * torch.rsqrt(bn.running_var + bn.eps)
            weight = self.c.weight * scale[:, None, None, None]
            return weight, bn.bias - bn.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to ``[B, C', H / stride, W / stride]``."""
        c, bn = self.c, self.bn
        if self.live and self.training:
            y = c(x)
            return F.batch_norm(
                y, bn.running_mean, bn.running_var, bn.weight, bn.bias, training=True, eps=bn.eps
            )
        return F.conv2d(x, *self.folded(), c.stride, c.padding, c.dilation, c.groups)


class _Bottleneck(nn.Module):
    """Three convolutions with GELU between them, the second one depthwise, 3x3."""

    def __init__(self, dim: int, hidden: int, dim_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = ConvBN(dim, hidden)
        self.conv2 = ConvBN(hidden, hidden, kernel=3, stride=stride, groups=hidden)
        self.conv3 = ConvBN(hidden, dim_out)

    def convolve(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to ``[B, C', H / stride, W / stride]``."""
        if x.device.type == "cpu" and not torch.is_grad_enabled() and self._is_constant():
            return self._in_strips(x)
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))

    def _is_constant(self) -> bool:
        """Return True if all three are what they were made as, no adapter around one of them."""
        convs = (self.conv1, self.conv2, self.conv3)
        return all(type(c) is ConvBN and not (c.live and self.training) for c in convs)

    def _in_strips(self, x: Tensor) -> Tensor:
        """Convolve an image after the other, some rows at a time."""
        convs = (self.conv1, self.conv2, self.conv3)
        (w1, b1), (w2, b2), (w3, b3) = (conv.folded() for conv in convs)
        stride, height, width = self.conv2.c.stride[0], *x.shape[-2:]
        out_height = -(-height // stride)
        row_bytes = len(w1) * width * stride * x.element_size()
        rows = max(1, _STRIP_BYTES // row_bytes)
        images = []
        for image in x.split(1):
            strips = []
            for first in range(0, out_height, rows):
                last = min(out_height, first + rows)
                # The rows that a 3x3 kernel sees; beyond the image it sees zeros.
                top, bottom = first * stride - 1, (last - 1) * stride + 2
                y = F.gelu(F.conv2d(image[:, :, max(0, top) : min(height, bottom)], w1, b1))
                outside = max(0, -top), max(0, bottom - height)
                if any(outside):
                    y = F.pad(y, (0, 0, *outside))
                y = F.conv2d(y, w2, b2, stride, padding=(0, 1), groups=len(w2))
                strips.append(F.conv2d(F.gelu(y), w3, b3))
            images.append(torch.cat(strips, dim=2))
        return torch.cat(images)


class MBConv(_Bottleneck):
    """Inverted bottleneck; a step without adapter."""

    def __init__(self, dim: int, expand: int = 4) -> None:
        super().__init__(dim, dim * expand, dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[B, C, H, W]`` to the same shape and a zero auxiliary loss."""
        return F.gelu(x + self.convolve(x)), x.new_zeros((), dtype=torch.float32)


class PatchMerging(_Bottleneck):
    """Down-sampling between two stages; a step without adapter."""

    def __init__(self, dim: int, dim_out: int, stride: int) -> None:
        super().__init__(dim, dim_out, dim_out, stride)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[B, C, H, W]`` to ``[B, C', H / stride, W / stride]`` and a zero loss."""
        return self.convolve(x), x.new_zeros((), dtype=torch.float32)


class BiasAttention(nn.Module):
    """Multi-head attention with a learnt bias for each offset between two tokens of a window."""

    attention_bias_idxs: Tensor

    def __init__(self, dim: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)
        points = list(product(range(window), repeat=2))
        offsets: dict[tuple[int, int], int] = {}
        index = [
            offsets.setdefault((abs(r1 - r2), abs(c1 - c2)), len(offsets))
            for (r1, c1), (r2, c2) in product(points, repeat=2)
        ]
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, len(offsets)))
        index_map = torch.tensor(index).view(len(points), len(points))
        self.register_buffer("attention_bias_idxs", index_map, persistent=False)

    def rows_of(self, parts: Sequence[str]) -> list[int]:
        """Return the outputs of ``qkv`` that make some of ``"q"``, ``"k"`` and ``"v"``."""
        dim = self.proj.in_features // self.num_heads
        heads = range(self.num_heads)
        starts = [(head * 3 + "qkv".index(part)) * dim for part in parts for head in heads]
        return [start + channel for start in starts for channel in range(dim)]

    def forward(
        self, x: Tensor, images: int | None = None, prompts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attend within windows.

        Args:
            x: Windows ``[S, window, window, C]``.
            images: Number of images that they come from, each S / images in a row.
            prompts: Tokens ``[P, C]`` without a position that all windows attend to as well.

        Returns:
            Windows of the same shape and the auxiliary loss of the projections.
        """
        s, h, w, c = x.shape
        qkv, aux = project(self.qkv, in_autocast_dtype(self.norm(x)), images)
        qkv = qkv.reshape(s, h * w, self.num_heads, 3, c // self.num_heads)
        # Taken apart where they lie: their gradients need one copy to become that of the product.
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(3))
        bias = self.attention_biases[:, self.attention_bias_idxs].to(q.dtype)
        if prompts is not None:
            own = self.qkv(self.norm(prompts)).view(-1, self.num_heads, 3, k.shape[-1])
            own = own.permute(2, 1, 0, 3)
            k, v = append_tokens(k, own[1]), append_tokens(v, own[2])
            bias = F.pad(bias, (0, len(prompts)))
        if x.device.type == "cpu" and torch.is_grad_enabled():
            # The fused CPU kernel's backward is several times slower on windows this small.
            out = ((q * q.shape[-1] ** -0.5) @ k.mT + bias).softmax(dim=-1).to(v.dtype) @ v
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])
        out, more = project(self.proj, out.transpose(1, 2).reshape(s, h, w, c), images)
        return out, aux + more


class Mlp(nn.Module):
    """Pre-norm two-layer perceptron."""

    def __init__(self, dim: int, expand: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, dim * expand)
        self.fc2 = nn.Linear(dim * expand, dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[B, H, W, C]`` to the same shape and the auxiliary loss of the layers."""
        if x.device.type == "cpu" and not torch.is_grad_enabled() and self._sees_single_tokens():
            tokens = x.reshape(-1, x.shape[-1])
            rows = max(1, _STRIP_BYTES // (self.fc1.weight.shape[0] * x.element_size()))
            strips = [self._transform(strip)[0] for strip in tokens.split(rows)]
            return torch.cat(strips).view(x.shape), x.new_zeros((), dtype=torch.float32)
        return self._transform(x)

    def _sees_single_tokens(self) -> bool:
        """Return True if no layer looks at the neighbours of a token, as Conv-LoRA does."""
        return all(type(layer) in (nn.Linear, LoRALinear) for layer in (self.fc1, self.fc2))

    def _transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden, aux = project(self.fc1, in_autocast_dtype(self.norm(x)))
        y, more = project(self.fc2, F.gelu(hidden))
        return y, aux + more


class TinyViTBlock(nn.Module):
    """Windowed attention, depthwise convolution, MLP; the step that can hold an adapter.

    Attributes:
        prompts: Trained tokens ``[P, C]`` that all windows attend to (VPT), or None.
    """

    prompts: nn.Parameter | None

    def __init__(self, dim: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.register_parameter("prompts", None)
        self.attn = BiasAttention(dim, num_heads, window)
        self.mlp = Mlp(dim)
        self.local_conv = ConvBN(dim, dim, kernel=3, groups=dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[B, C, H, W]`` to the same shape and an auxiliary loss.

        As in the original, tokens that fill the last windows take part in the softmax.
        """
        tokens = x.permute(0, 2, 3, 1)
        height, width = tokens.shape[1:3]
        filled = fill_windows(tokens, self.window)
        windows, aux = self.attn(split_windows(filled, self.window), len(x), self.prompts)
        attended = merge_windows(windows, *filled.shape[1:3])
        tokens = tokens + crop_windows(attended, height, width)
        tokens = self.local_conv(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        y, more = self.mlp(tokens)
        return (tokens + y).permute(0, 3, 1, 2), aux + more


class Stage(nn.Module):
    """The blocks of one resolution and the down-sampling behind them (a container of steps)."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def steps(self) -> list[nn.Module]:
        """Return the blocks, then the down-sampling."""
        return [*self.blocks, *([self.downsample] if self.downsample is not None else [])]


class Stem(nn.Module):
    """Two convolutions of the same kernel and stride."""

    def __init__(self, dim: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            ConvBN(3, dim // 2, kernel, stride),
            nn.GELU(),
            ConvBN(dim // 2, dim, kernel, stride),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, 3, H, W]`` to ``[B, C, H / stride^2, W / stride^2]``."""
        return self.seq(x)


class TinyViT(Backbone):
    """The image encoder of MobileSAM and LiteMedSAM. Windows keep their size at every input size.

    Args:
        embed_dims: Channels of the four stages.
        depths: Number of blocks of each stage; the first stage is convolutional.
        num_heads: Number of heads of each stage.
        window_sizes: Side of the windows of each stage, in tokens.
        stem_kernel: Side of the two kernels of the stem: 1 in LiteMedSAM, 3 in MobileSAM.
        stem_stride: Stride of each of them: 1 in LiteMedSAM, 2 in MobileSAM.
        out_chans: Channels of the image embedding.
    """

    def __init__(
        self,
        *,
        embed_dims: Sequence[int],
        depths: Sequence[int],
        num_heads: Sequence[int],
        window_sizes: Sequence[int],
        stem_kernel: int,
        stem_stride: int,
        out_chans: int = 256,
    ) -> None:
        super().__init__()
        self.patch_embed = Stem(embed_dims[0], stem_kernel, stem_stride)
        strides = [2, 2, 1]
        merges: list[PatchMerging | None] = [
            PatchMerging(a, b, stride)
            for (a, b), stride in zip(pairwise(embed_dims), strides, strict=True)
        ]
        merges.append(None)
        blocks: list[list[nn.Module]] = [[MBConv(embed_dims[0]) for _ in range(depths[0])]]
        for dim, depth, heads, window in list(
            zip(embed_dims, depths, num_heads, window_sizes, strict=True)
        )[1:]:
            blocks.append([TinyViTBlock(dim, heads, window) for _ in range(depth)])
        self.layers = nn.ModuleList(Stage(b, m) for b, m in zip(blocks, merges, strict=True))
        self.neck = nn.Sequential(
            nn.Conv2d(embed_dims[-1], out_chans, kernel_size=1, bias=False),
            LayerNorm2d(out_chans),
            nn.Conv2d(out_chans, out_chans, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(out_chans),
        )

    def steps(self) -> Sequence[nn.Module]:
        """Return blocks and down-samplings of all stages in their order."""
        stages = [stage for stage in self.layers if isinstance(stage, Stage)]
        return [step for stage in stages for step in stage.steps()]

    def attention_blocks(self) -> Sequence[nn.Module]:
        """Return the windowed attention blocks."""
        return [step for step in self.steps() if isinstance(step, TinyViTBlock)]

    def embed(self, images: Tensor) -> Tensor:
        """Map images ``[B, 3, H, W]`` to ``[B, C, 4h, 4w]``, channels last in memory."""
        return self.patch_embed(images.contiguous(memory_format=torch.channels_last))

    def finish(self, features: Tensor) -> Tensor:
        """Map features of the last stage ``[B, C, h, w]`` to the image embedding."""
        return self.neck(features)
