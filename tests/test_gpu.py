"""What only a CUDA device can show: parity with the CPU, mixed precision, a fit from end to end.

Skipped with a reason where there is none; `make test-gpu` runs these tests alone.
"""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from easyseg import SemanticSegmentor
from easyseg.datasets.synthetic import make_synthetic
from easyseg.models import attention
from easyseg.models.adapters import ConvLoRALinear
from easyseg.models.network import build_network

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
BACKBONES = pytest.mark.parametrize("backbone", ["tiny_sam", "tiny_vit"])
MIXED = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


@pytest.fixture(autouse=True)
def full_precision():
    """Switch TF32 off: it is not what is compared here."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@pytest.fixture
def network_of(tiny_plan):
    """Return a maker of tiny networks whose adapters have an effect."""

    def make(backbone, **overrides):
        network = build_network(tiny_plan({"backbone.name": backbone} | overrides), seed=0)
        generator = torch.Generator().manual_seed(1)
        for name, parameter in network.named_parameters():
            if name.endswith(("lora_B", "w_gate")):
                parameter.data.normal_(std=0.1, generator=generator)
        return network

    return make


def loss_and_gradients(network, device):
    """Return logits, loss and gradients of one step on a device, brought to the CPU."""
    network = copy.deepcopy(network).to(device)
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(2, 3, 128, 128, generator=generator).to(device)
    target = torch.randint(0, 2, (2, 128, 128), dtype=torch.uint8, generator=generator).to(device)
    output = network(images)
    loss = network.head.loss(output.logits, target, output.segments) + output.aux_losses
    loss.backward()
    gradients = {n: p.grad.cpu() for n, p in network.named_parameters() if p.grad is not None}
    return output.logits.detach().float().cpu(), loss.detach().cpu(), gradients


@BACKBONES
@pytest.mark.parametrize("head", ["binary", "softmax", "mask_classification"])
def test_a_network_computes_on_the_gpu_what_it_computes_on_the_cpu(
    network_of, backbone, head, relative_error
):
    """In evaluation mode: the gate's noise is another one on each device."""
    network = network_of(backbone, **{"head.kind": head}).eval()
    expected, expected_loss, expected_gradients = loss_and_gradients(network, "cpu")
    found, loss, gradients = loss_and_gradients(network, DEVICE)
    assert relative_error(found, expected) < 1e-4
    torch.testing.assert_close(loss, expected_loss, rtol=1e-4, atol=1e-5)
    assert gradients.keys() == expected_gradients.keys()
    largest = max(float(g.abs().max()) for g in expected_gradients.values())
    for name, gradient in gradients.items():
        difference = float((gradient - expected_gradients[name]).abs().max())
        assert difference < 1e-3 * largest, name


@pytest.mark.parametrize("case", ["windows", "tokens", "rect"])
def test_golden_cases_on_the_gpu(golden_file, relative_error, case):
    tensors = load_file(golden_file("conv_lora_reference.safetensors"))
    case = {k.removeprefix(f"{case}/"): v for k, v in tensors.items() if k.startswith(case)}
    state = {k.removeprefix("param."): v for k, v in case.items() if k.startswith("param.")}
    layer = ConvLoRALinear(nn.Linear(8, 12), rank=len(state["lora_A"]), gate="constant")
    layer.load_state_dict(state)
    y, balance_loss = layer.eval().to(DEVICE).forward_with_aux(case["x"].to(DEVICE))
    assert relative_error(y.cpu(), case["y"]) < 1e-5
    assert relative_error(balance_loss.cpu(), case["balance_loss"].squeeze()) < 1e-5


@MIXED
@BACKBONES
def test_mixed_precision_is_close_and_trains(network_of, backbone, dtype, relative_error):
    network = network_of(backbone).eval()
    expected, _, _ = loss_and_gradients(network, DEVICE)
    with torch.autocast(DEVICE, dtype=dtype):
        found, _, _ = loss_and_gradients(network, DEVICE)
    assert relative_error(found, expected) < 0.1
    with torch.autocast(DEVICE, dtype=dtype):
        _, loss, gradients = loss_and_gradients(network.train(), DEVICE)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients.values())


@BACKBONES
def test_gradient_checkpointing_replays_the_noise_of_the_gpu(network_of, backbone):
    results = []
    for recompute in (False, True):
        network = network_of(backbone, **{"train.gradient_checkpointing": recompute})
        torch.manual_seed(3)
        results.append(loss_and_gradients(network, DEVICE))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_runs_a_fused_kernel(network_of, dtype):
    """The matrix of all pairs of tokens is never built: the kernel that does it is forbidden."""
    network = network_of("tiny_sam").to(DEVICE)
    images = torch.randn(2, 3, 128, 128, device=DEVICE)
    fused = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    mixed = torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)
    with mixed, sdpa_kernel(fused):
        # The encoder alone: the decoder's attention is SAM's own.
        embedding, _ = network.backbone(images)
        embedding.float().sum().backward()


def test_attention_in_fp16_fits_the_kernel_of_older_gpus(network_of, monkeypatch):
    """The memory-efficient kernel takes multiples of 8 only, in 16 bits, here as there."""
    monkeypatch.setattr(attention, "_fuses_multiples_of_8_only", lambda tensor: True)
    network = network_of("tiny_sam").to(DEVICE)
    images = torch.randn(2, 3, 128, 128, device=DEVICE)
    mixed = torch.autocast(DEVICE, dtype=torch.float16)
    with mixed, sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
        embedding, _ = network.backbone(images)
        embedding.float().sum().backward()


@BACKBONES
@pytest.mark.parametrize("head", ["binary", "softmax"])
def test_a_step_never_waits_for_the_gpu(network_of, backbone, head):
    network = network_of(backbone, **{"head.kind": head}).to(DEVICE)
    images = torch.randn(2, 3, 128, 128, device=DEVICE)
    target = torch.randint(0, 2, (2, 128, 128), dtype=torch.uint8, device=DEVICE)

    def step():
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            output = network(images)
            loss = network.head.loss(output.logits, target, output.segments) + output.aux_losses
        loss.backward()

    step()  # What depends on the size alone is made in the first step.
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["32", "bf16", "fp16"])
def test_fit_predict_save_and_load(tmp_path, precision):
    """On the GPU from the table to the masks; the saved model means the same on the CPU."""
    data = make_synthetic(tmp_path / "data", num_train=8, num_val=2, num_test=3, seed=0)
    segmentor = SemanticSegmentor(data_root=data.root, path=tmp_path / "run", verbosity=0)
    segmentor.fit(
        data.train,
        data.val,
        presets="fast",
        hyperparameters={
            "data.size": 128,
            "train.max_steps": 6,
            "train.batch_size": 4,
            "train.precision": precision,
        },
        accelerator="gpu" if DEVICE == "cuda" else DEVICE,
        devices=1,
    )
    assert segmentor.plan_.train.precision == precision
    masks = segmentor.predict(data.test)
    assert list(masks.index) == list(data.test.index)
    for mask in masks:
        assert mask.shape == (192, 256)
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, 255}
    assert 0 <= segmentor.evaluate(data.test)["iou@image"] <= 1
    segmentor.save(tmp_path / "saved")
    on_cpu = SemanticSegmentor.load(tmp_path / "saved", device="cpu")
    on_cpu.set_params(data_root=data.root, verbosity=0)
    for one, other in zip(masks, on_cpu.predict(data.test), strict=True):
        assert (one == other).mean() > (0.98 if precision == "32" else 0.9)


def test_a_plan_with_costs_wakes_the_gpu_itself(tmp_path):
    """In a fresh process: here something has used it before."""
    data = make_synthetic(tmp_path / "data", num_train=8, num_val=2, num_test=1, seed=0)
    data.train.to_csv(tmp_path / "train.csv", index=False)
    code = (
        "import easyseg, sys\n"
        "segmentor = easyseg.SemanticSegmentor(data_root=sys.argv[2], verbosity=0)\n"
        "plan = segmentor.plan(sys.argv[1], presets='fast', accelerator='gpu', devices=1,\n"
        "                      hyperparameters={'data.size': 128})\n"
        "assert plan.estimate.seconds > 0\n"
    )
    files = [tmp_path / "train.csv", data.root]
    done = subprocess.run([sys.executable, "-c", code, *map(str, files)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
