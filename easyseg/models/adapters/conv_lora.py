"""Conv-LoRA: LoRA with a mixture of multi-scale convolution experts (Zhong et al., ICLR 2024)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from easyseg.models.adapters.experts import (
    ConvExpert,
    Stencil,
    apply_expert,
    apply_experts,
    stencil_table,
)
from easyseg.models.adapters.gate import GateKind, NoisyTopOneGate, Routing
from easyseg.models.adapters.lora import LoRALinear

__all__ = ["ConvLoRALinear", "RoutingScope"]

RoutingScope = Literal["window", "image"]


class ConvLoRALinear(LoRALinear):
    """A frozen linear layer with a Conv-LoRA term; drops into any vision transformer.

    ``z = A x`` is a feature map of r channels; a gate picks, for each sample, the expert ``E_s``
    that suits it; ``y = W0 x + b + (alpha / r) B (z + E_s(z))``. In windowed attention the layer
    sees windows as samples, so each window is routed by itself, unless ``routing`` says otherwise.
    Padding tokens that the attention
    adds to fill its windows are part of the map, for the gate and for the experts, as in the
    reference. Gate and experts run in float32 also under autocast and in half-precision modules.

    State-dict names are those of the reference implementation: ``weight``, ``bias``, ``lora_A``,
    ``lora_B``, ``gate.w_gate``, ``gate.w_noise``, ``experts.I.weight``, ``experts.I.bias``.

    Args:
        base: The pretrained layer; its weight and bias are taken over and frozen.
        rank: Width r of the low-rank term.
        num_experts: Number of experts.
        alpha: The term is scaled by ``alpha / rank``.
        gate: ``"learned"`` (the task loss reaches the gate, straight-through), ``"constant"`` (the
            reference: only the balance loss does), or ``"sum"``: no gate, the outputs of all
            experts are summed (the paper's ablation).
        scales: Scale of each expert, by default ``1 .. num_experts``.
        grid_size: Height and width of the token grid for inputs ``[B, N, C]``; ``None``: the tokens
            after the prefix form a square.
        num_prefix_tokens: Number of leading tokens (class token, registers) in ``[B, N, C]`` that
            are not part of the grid; they get the plain LoRA term.
        routing: ``"window"``: each sample is routed by itself, as in the reference; ``"image"``:
            all windows of an image together, by their mean.
        identity: False leaves out the identity beside the experts: ``y = W0 x + b + (alpha / r) B
            E_s(z)``.
        rows: As for :class:`LoRALinear`.

    Raises:
        ValueError: If ``rank``, ``num_experts`` or ``scales`` are out of range or do not match.

    Example:
        >>> layer = ConvLoRALinear(nn.Linear(8, 24), rank=3, num_experts=4)
        >>> layer(torch.zeros(2, 14, 14, 8)).shape
        torch.Size([2, 14, 14, 24])
        >>> y, balance_loss = layer.forward_with_aux(torch.zeros(2, 196, 8))
        >>> y.shape, balance_loss.shape
        (torch.Size([2, 196, 24]), torch.Size([]))
    """

    routing_counts: Tensor
    gate: NoisyTopOneGate | None

    def __init__(
        self,
        base: nn.Linear,
        rank: int = 3,
        num_experts: int = 8,
        alpha: float = 32.0,
        gate: GateKind | Literal["sum"] = "learned",
        *,
        scales: Sequence[int] | None = None,
        grid_size: tuple[int, int] | None = None,
        num_prefix_tokens: int = 0,
        routing: RoutingScope = "window",
        identity: bool = True,
        rows: Sequence[int] | None = None,
    ) -> None:
        super().__init__(base, rank, alpha=alpha, rows=rows)
        scales = tuple(scales) if scales is not None else tuple(range(1, num_experts + 1))
        if num_experts < 1 or len(scales) != num_experts or min(scales) < 1:
            raise ValueError(
                f"num_experts is {num_experts} and scales {scales}: expected at least one expert "
                "and one scale of at least 1 for each"
            )
        if gate not in ("learned", "constant", "sum"):
            raise ValueError(f"gate is {gate!r}, expected 'learned', 'constant' or 'sum'")
        if routing not in ("window", "image"):
            raise ValueError(f"routing is {routing!r}, expected 'window' or 'image'")
        self.scales = scales
        self.grid_size = grid_size
        self.num_prefix_tokens = num_prefix_tokens
        self.routing = routing
        self.identity = identity
        self.gate = None if gate == "sum" else NoisyTopOneGate(rank, num_experts, gate)
        self.experts = nn.ModuleList(ConvExpert(rank, scale) for scale in scales)
        if self.gate is not None:
            # Samples that each expert got in training since the last reset: for the log, not saved.
            # Whole numbers: a half-precision module would stop counting at a few hundred.
            counts = torch.zeros(num_experts, dtype=torch.int64, device=base.weight.device)
            self.register_buffer("routing_counts", counts, persistent=False)
            self.gate.to(base.weight.device, base.weight.dtype)
        self.experts.to(base.weight.device, base.weight.dtype)

    def forward_with_aux(self, x: Tensor, images: int | None = None) -> tuple[Tensor, Tensor]:
        """Apply the layer and return its balance loss.

        Args:
            x: Features ``[B, H, W, in_features]`` or ``[B, N, in_features]``.
            images: Number of images that the B samples come from, each B / images in a row;
                ``None``: each is one.

        Returns:
            Features in the shape of ``x`` with ``out_features`` channels, and the balance loss, a
            float32 (float64 for float64 inputs) scalar that already holds its factor 1e-2.

        Raises:
            ValueError: If the tokens do not form the grid.
        """
        z = F.linear(x, self.lora_A)
        prefix, grid = self._split(z)
        with torch.autocast(x.device.type, enabled=False):
            maps = grid.permute(0, 3, 1, 2).to(torch.promote_types(z.dtype, torch.float32))
            if self.gate is None:
                mixed = torch.stack([expert(maps) for expert in self.experts]).sum(dim=0)
                balance_loss = maps.new_zeros(())
            else:
                routing = self._route(self.gate, maps.mean(dim=(2, 3)), images)
                mixed = self._experts(maps, routing.expert) * routing.weight[:, None, None, None]
                balance_loss = routing.balance_loss
            if self.identity:
                mixed = maps + mixed
        mixed = mixed.permute(0, 2, 3, 1)
        if x.ndim == 3:
            mixed = torch.cat([prefix, mixed.flatten(1, 2)], dim=1)
        return self._frozen_plus_low_rank(x, mixed), balance_loss

    def _route(self, gate: NoisyTopOneGate, features: Tensor, images: int | None) -> Routing:
        """Choose an expert for each sample by its mean features ``[S, r]``, and count."""
        if self.routing == "image" and images is not None:
            windows = len(features) // images
            routing = gate(features.view(images, windows, -1).mean(dim=1))
            expert, weight = (v.repeat_interleave(windows) for v in routing[:2])
            routing = Routing(expert, weight, routing.balance_loss)
        else:
            routing = gate(features)
        if self.training:
            numbers = torch.arange(len(self.experts), device=routing.expert.device)
            self.routing_counts.add_((routing.expert[:, None] == numbers).sum(dim=0))
        return routing

    def _split(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Split low-rank features into prefix tokens ``[B, P, r]`` and grid ``[B, H, W, r]``."""
        if z.ndim == 4:
            return z[:, :0, 0], z
        if z.ndim != 3:
            raise ValueError(f"input of shape {tuple(z.shape)}, expected [B, H, W, C] or [B, N, C]")
        prefix, tokens = z[:, : self.num_prefix_tokens], z[:, self.num_prefix_tokens :]
        height, width = self.grid_size or (math.isqrt(tokens.shape[1]),) * 2
        if height * width != tokens.shape[1]:
            hint = "pass grid_size=(H, W)" if self.grid_size is None else "change grid_size"
            raise ValueError(
                f"{tokens.shape[1]} tokens after {self.num_prefix_tokens} prefix tokens do not "
                f"form a {height} x {width} grid; {hint} or num_prefix_tokens"
            )
        return prefix, tokens.unflatten(1, (height, width))

    def _experts(self, maps: Tensor, chosen: Tensor) -> Tensor:
        """Return the output of each sample's chosen expert ``[S, r, H, W]``."""
        # Grouping saves work, but asks the device which experts were chosen: free on a CPU only.
        if maps.device.type == "cpu":
            return self._expert_by_expert(maps, chosen)
        return self._all_at_once(maps, chosen)

    def _expert_by_expert(self, maps: Tensor, chosen: Tensor) -> Tensor:
        if not len(maps):
            return self._all_at_once(maps, chosen)
        kernels, biases = (part.unbind() for part in self._stacked(maps.dtype))
        order = chosen.argsort()
        counts = chosen.bincount(minlength=len(kernels)).tolist()
        outs = [
            apply_expert(own, kernel, bias, scale)
            for own, kernel, bias, scale in zip(
                maps[order].split(counts), kernels, biases, self.scales, strict=True
            )
            if len(own)
        ]
        return torch.cat(outs)[order.argsort()]

    def _all_at_once(self, maps: Tensor, chosen: Tensor) -> Tensor:
        kernel, bias = self._stacked(maps.dtype)
        tables = (stencil_table(n, self.scales, maps.device, maps.dtype) for n in maps.shape[-2:])
        rows, cols = (Stencil(table.matrix[chosen], table.weights[chosen]) for table in tables)
        return apply_experts(maps, kernel[chosen], bias[chosen], rows, cols)

    def _stacked(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return kernels ``[E, r, r, 3, 3]`` and biases ``[E, r]`` of all experts.

        So an expert without samples stays in the graph with zero gradients: "no gradient" would be
        another AdamW step, and an error under DDP.
        """
        experts = [expert for expert in self.experts if isinstance(expert, ConvExpert)]
        kernel = torch.stack([expert.weight for expert in experts])
        return kernel.to(dtype), torch.stack([expert.bias for expert in experts]).to(dtype)

    def extra_repr(self) -> str:
        """Describe the layer in ``print(module)``."""
        gate = "sum" if self.gate is None else self.gate.kind
        return f"{super().extra_repr()}, scales={self.scales}, gate={gate}"
