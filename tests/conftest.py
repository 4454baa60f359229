"""What the tests share: tiny networks, weights that matter, golden files, the GPU and data rules.

- ``tiny_backbones`` registers two random, millisecond-sized backbones, ``tiny_sam`` (stride 16, no
  prompt) and ``tiny_vit`` (stride 4, whole-image box); ``tiny_plan`` makes plans for them. A fit
  through the facade takes ``hyperparameters={"backbone.name": "tiny_sam", "backbone.weights":
  "random", "data.size": 128}``.
- ``fill_weights_that_matter`` and ``relative_error`` are for parity with another implementation.
- ``golden_file`` finds a golden file; where it is missing the test is skipped, under ``CI=true`` it
  fails.
- ``shared_data`` is the folder of real images beside the checkout; without it the test is skipped.
- Tests marked ``gpu`` are skipped without CUDA.
- No test can reach another machine (``only_this_machine``).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Several test processes share the cores: threads that spin while they wait would cost all of them,
# and so would more threads than cores (`pytest -n 2` has two processes).
# Read once, when PyTorch's thread pool starts, so it comes before the imports.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

import hypothesis
import pytest
from tiny_specs import TINY_SAM, TINY_VIT

from easyseg.models import registry

if TYPE_CHECKING:
    from torch import Tensor, nn

    from easyseg.plan.plan import Plan

# Its comparisons are shown as those of tests are.
pytest.register_assert_rewrite("pages")

# No deadlines, for examples or for making them: a busy machine is not a bug.
hypothesis.settings.register_profile(
    "easyseg", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("easyseg")

REPOSITORY = Path(__file__).resolve().parents[1]
GOLDEN = Path(__file__).resolve().parent / "golden"

TINY_VALUES: Mapping[str, Any] = {
    "backbone.name": "tiny_sam",
    "backbone.weights": "random",
    "adapter.rank": 3,
    "adapter.num_experts": 3,
    "data.size": 128,
    "train.epochs": 1,
    "train.batch_size": 2,
    "train.precision": "32",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs CUDA where there is none, and say so."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if torch.cuda.is_available():
        return
    reason = "no CUDA device here; `make test-gpu` runs it where there is one"
    for item in marked:
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def only_this_machine() -> Iterator[None]:
    """Let no test reach another machine: weights that are asked for by mistake are an error."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0])
            if host not in ("localhost", "::1") and not host.startswith("127."):
                raise OSError(f"a test tried to reach {host}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


@pytest.fixture(scope="session")
def tiny_backbones() -> Iterator[tuple[str, ...]]:
    """Register the tiny backbones for the session and return their names."""
    before = dict(registry._SPECS)
    yield tuple(registry.register(spec).name for spec in (TINY_SAM, TINY_VIT))
    registry._SPECS.clear()
    registry._SPECS.update(before)


@pytest.fixture(scope="session")
def tiny_plan(tiny_backbones: tuple[str, ...]) -> Callable[..., Plan]:
    """Return a maker of plans: ``tiny_plan({"adapter.kind": "lora"}, num_classes=3)``.

    Two classes mean a binary problem. What is not given comes from ``TINY_VALUES``, then from the
    decisions of the preset ``fast`` on a CPU.
    """
    from plan_makers import facts, plan_for

    from easyseg.plan.hardware import Hardware

    hardware = Hardware("cpu", 1, "a CPU", memory_gb=16.0, cpu_count=2, native_bf16=False)

    def make(overrides: Mapping[str, Any] | None = None, *, num_classes: int = 2) -> Plan:
        names = tuple(f"class_{i}" for i in range(num_classes))
        fingerprint = replace(facts(8, 128.0, names), num_tuning=2)
        return plan_for(
            fingerprint,
            hardware,
            problem_type="binary" if num_classes == 2 else "multiclass",
            num_classes=num_classes,
            presets="fast",
            overrides=dict(TINY_VALUES) | dict(overrides or {}),
        )

    return make


@pytest.fixture
def affordable(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], registry.BackboneSpec]:
    """Return a function that leaves a vision transformer of SAM one windowed and one global block.

    Width, heads and all else stay; the TinyViTs stay whole.
    """

    def reduce(name: str) -> registry.BackboneSpec:
        spec = registry.get_spec(name)
        if spec.family == "sam_vit":
            arch = {**spec.arch, "depth": 2, "global_blocks": (1,)}
            spec = replace(spec, arch=arch, num_blocks=2)
            monkeypatch.setitem(registry._SPECS, name, spec)
        return spec

    return reduce


@pytest.fixture(scope="session")
def fill_weights_that_matter() -> Callable[..., nn.Module]:
    """Return a function that fills a module so that no parameter or buffer can be overlooked.

    SAM's positions, TinyViT's attention biases and many others start at zero; parity on fresh
    weights is blind for them. Norm weights become 1 +- 0.1, running variances random and positive,
    positions, biases and running means get a deviation of 0.3. Matrices and kernels keep the size
    of their input: PyTorch's own start would let the image fade away behind the biases. Embeddings
    stay as they are. The module is returned, in evaluation mode.
    """
    import torch
    from torch import nn

    def fill(module: nn.Module, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        named = [*module.named_parameters(), *module.named_buffers()]
        with torch.no_grad():
            for name, value in named:
                if not value.is_floating_point():
                    continue
                owner = module.get_submodule(name.rpartition(".")[0])
                noise = torch.randn(value.shape, generator=generator, dtype=value.dtype)
                if name.endswith("running_var"):
                    value.copy_(0.5 + noise.abs())
                elif name.endswith("weight") and "norm" in type(owner).__name__.lower():
                    value.copy_(1 + 0.1 * noise)
                elif name.endswith(("bias", "biases", "running_mean")) or "pos" in name:
                    value.copy_(0.3 * noise)
                elif isinstance(owner, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                    value.copy_(noise / value[0].numel() ** 0.5)
        return module.eval()

    return fill


@pytest.fixture(scope="session")
def relative_error() -> Callable[[Tensor, Tensor], float]:
    """Return the error of all parity tests: ``max|found - expected| / max|expected|``."""

    def error(found: Tensor, expected: Tensor) -> float:
        assert found.shape == expected.shape
        difference = (found.detach() - expected.detach()).abs().max()
        return float(difference / expected.detach().abs().max())

    return error


@pytest.fixture(scope="session")
def golden_file() -> Callable[[str], Path]:
    """Return a function from a name below ``tests/golden`` to its path.

    A missing file skips the test, but under ``CI=true`` it fails: there a golden test always runs.
    """

    def find(name: str) -> Path:
        path = GOLDEN / name
        if not path.is_file():
            message = f"golden file {path} is missing"
            if os.environ.get("CI", "").lower() in ("1", "true"):
                pytest.fail(message)
            pytest.skip(message)
        return path

    return find


@pytest.fixture(scope="session")
def page_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files that README and documentation talk about."""
    from pages import write_files

    folder = tmp_path_factory.mktemp("pages")
    write_files(folder)
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data sets beside the checkout, or skip the test."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real data sets are not on this machine ({folder})")
    return folder
