"""Write lora.safetensors: a LoRA layer of the PEFT library, what it returns and its gradients.

    pip install peft==0.21.2
    python tests/golden/peft/make.py

PEFT is no development dependency, for torchmetrics imports transformers wherever it is installed.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

RANK, ALPHA = 2, 6.0


def main() -> None:
    """Build the layer, run it forward and backward, and write everything."""
    import peft

    torch.manual_seed(0)
    base = nn.Linear(8, 12)
    values = {"weight": base.weight.detach().clone(), "bias": base.bias.detach().clone()}
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["0"])
    model = peft.get_peft_model(nn.Sequential(base), config)
    matrices = {
        part: parameter
        for name, parameter in model.named_parameters()
        for part in ("lora_A", "lora_B")
        if part in name
    }
    nn.init.normal_(matrices["lora_B"])
    x = torch.randn(3, 5, 8)
    y = model(x)
    y.square().sum().backward()
    values |= {part: parameter.detach().clone() for part, parameter in matrices.items()}
    values |= {f"{part}.grad": parameter.grad for part, parameter in matrices.items()}
    values |= {"x": x, "y": y.detach()}
    metadata = {"peft": peft.__version__, "rank": str(RANK), "alpha": str(ALPHA)}
    save_file(values, Path(__file__).with_name("lora.safetensors"), metadata=metadata)


if __name__ == "__main__":
    main()
