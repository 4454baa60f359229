"""Bottleneck adapters behind a frozen layer (Houlsby et al., ICML 2019)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["BottleneckLinear"]

_INIT_STD = 0.01


class BottleneckLinear(nn.Module):
    """A frozen linear layer and a small perceptron behind it, with an identity beside it.

    ``h = W0 x + b``, ``y = h + U GELU(D h + d) + u``. Behind the projection of the attention and
    behind the MLP, before either is added to the residual, it is Houlsby's adapter. ``D`` starts
    normal with their deviation of 0.01, truncated at two of them; ``U`` starts at zero, so that the
    layer starts as the frozen one (theirs starts near it).

    Args:
        base: The pretrained layer, which is frozen.
        width: Channels of the bottleneck.

    Example:
        >>> import torch
        >>> layer = BottleneckLinear(nn.Linear(8, 12), width=2)
        >>> layer(torch.zeros(4, 5, 8)).shape
        torch.Size([4, 5, 12])
    """

    def __init__(self, base: nn.Linear, width: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.adapter_down = nn.Linear(base.out_features, width)
        self.adapter_up = nn.Linear(width, base.out_features)
        nn.init.trunc_normal_(
            self.adapter_down.weight, std=_INIT_STD, a=-2 * _INIT_STD, b=2 * _INIT_STD
        )
        for zero in (self.adapter_down.bias, self.adapter_up.weight, self.adapter_up.bias):
            nn.init.zeros_(zero)
        self.adapter_down.to(base.weight.device, base.weight.dtype)
        self.adapter_up.to(base.weight.device, base.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``[..., in_features]`` to ``[..., out_features]``."""
        y: Tensor = self.base(x)
        return y + self.adapter_up(F.gelu(self.adapter_down(y)))
