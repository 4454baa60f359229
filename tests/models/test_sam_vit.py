"""SAM's encoder against the ``segment_anything`` package, on weights that matter."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Block
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from easyseg.models.adapters import inject_adapters
from easyseg.models.registry import get_spec
from easyseg.models.sam_vit import SamViT, fit_state_to_grid

TOLERANCE = 1e-5
NORM = partial(nn.LayerNorm, eps=1e-6)
SMALL = {"embed_dim": 32, "depth": 3, "num_heads": 2, "global_blocks": (1,), "out_chans": 16}
BIG = ("vit_l", "vit_h")


def package_encoder(arch, size):
    """Return the package's encoder for square images of a side."""
    return ImageEncoderViT(
        img_size=size,
        embed_dim=arch["embed_dim"],
        depth=arch["depth"],
        num_heads=arch["num_heads"],
        global_attn_indexes=arch["global_blocks"],
        out_chans=arch.get("out_chans", 256),
        window_size=14,
        norm_layer=NORM,
        qkv_bias=True,
        use_rel_pos=True,
    )


def our_encoder(arch, grid, state):
    """Return our encoder around the tensors of a state dict."""
    encoder = SamViT(grid, **arch)
    encoder.load_state_dict(state, assign=True)
    return encoder.eval()


@torch.no_grad()
def outputs(reference, encoder, images):
    """Return our embedding and the package's."""
    found, aux = encoder(images)
    assert aux == 0
    return found, reference(images)


@pytest.fixture(scope="module")
def vit_b_state(fill_weights_that_matter):
    """Return a state dict of the full ViT-B, with positions for 64x64 tokens."""
    return fill_weights_that_matter(package_encoder(get_spec("vit_b").arch, 1024)).state_dict()


def first_positions(state, grid):
    """Keep as many positions as a grid needs: any values will do for parity."""
    kept = {"pos_embed": state["pos_embed"][:, : grid[0], : grid[1]]}
    for name, value in state.items():
        if name.endswith(("rel_pos_h", "rel_pos_w")) and len(value) == 127:
            kept[name] = value[: 2 * grid[name.endswith("w")] - 1]
    return state | kept


@pytest.fixture
def no_initialization(monkeypatch):
    """Save the time of weights that are replaced anyway."""
    for layer in (nn.Linear, nn.Conv2d):
        monkeypatch.setattr(layer, "reset_parameters", lambda self: None)


@pytest.mark.usefixtures("no_initialization")
@pytest.mark.parametrize("size", [320, 512, pytest.param(1024, marks=pytest.mark.slow)])
def test_vit_b(size, vit_b_state, relative_error):
    """320: a grid of 20x20, not a multiple of the window of 14; so are 32x32 and 64x64."""
    arch, grid = get_spec("vit_b").arch, (size // 16, size // 16)
    state = first_positions(vit_b_state, grid)
    reference = package_encoder(arch, size)
    reference.load_state_dict(state, assign=True)
    torch.manual_seed(0)
    images = torch.randn(1, 3, size, size)
    found, expected = outputs(reference, our_encoder(arch, grid, state), images)
    assert relative_error(found, expected) < TOLERANCE


@pytest.fixture(scope="module")
def small(fill_weights_that_matter):
    """Return a small package encoder for 15x15 tokens (four windows), images, and its output."""
    reference = fill_weights_that_matter(package_encoder(SMALL, 240))
    torch.manual_seed(0)
    images = torch.randn(2, 3, 240, 240)
    with torch.no_grad():
        return reference, images, reference(images)


def group_of(name):
    """Return the group of a parameter: windowed and global blocks apart, else by its name."""
    if not name.startswith("blocks."):
        return name
    _, index, rest = name.split(".", 2)
    kind = "global" if int(index) in SMALL["global_blocks"] else "windowed"
    return f"{kind} {rest}"


GROUPS = sorted({group_of(name) for name in SamViT((2, 2), **SMALL).state_dict()})


def test_small_encoder(small, relative_error):
    reference, images, expected = small
    encoder = our_encoder(SMALL, (15, 15), reference.state_dict())
    assert relative_error(encoder(images)[0], expected) < TOLERANCE


@pytest.mark.parametrize("group", GROUPS)
def test_small_encoder_breaks_without(small, relative_error, group):
    reference, images, expected = small
    state = {
        name: torch.zeros_like(value) if group_of(name) == group else value
        for name, value in reference.state_dict().items()
    }
    encoder = our_encoder(SMALL, (15, 15), state)
    with torch.no_grad():
        assert relative_error(encoder(images)[0], expected) > 100 * TOLERANCE


@pytest.mark.parametrize("name", ["vit_b", *BIG])
def test_structure_is_that_of_the_package(name):
    """At the official size: names, shapes, and which blocks are global."""
    with torch.device("meta"):
        reference = sam_model_registry[name]().image_encoder
        encoder = SamViT((64, 64), **get_spec(name).arch)
    assert shapes(encoder) == shapes(reference)
    windows = [block.window_size for block in reference.blocks]
    assert [block.window for block in encoder.blocks] == windows


def shapes(encoder):
    return {name: value.shape for name, value in encoder.state_dict().items()}


@pytest.mark.usefixtures("no_initialization")
@pytest.mark.parametrize("name", BIG)
def test_vit_l_and_vit_h(name, fill_weights_that_matter, relative_error):
    """Up to their first global block, a quarter of the depth: the whole takes 40 s and 4 GB.

    240 pixels are four windows of 14x14 over 15x15 tokens.
    """
    arch = dict(get_spec(name).arch)
    arch["depth"] = arch["global_blocks"][0] + 1
    reference = fill_weights_that_matter(package_encoder(arch, 240))
    encoder = our_encoder(arch, (15, 15), reference.state_dict())
    images = torch.randn(1, 3, 240, 240, generator=torch.Generator().manual_seed(0))
    assert relative_error(*outputs(reference, encoder, images)) < TOLERANCE


@pytest.mark.usefixtures("no_initialization")
@pytest.mark.parametrize("name", BIG)
@torch.no_grad()
def test_vit_l_and_vit_h_break_without(name, fill_weights_that_matter, relative_error):
    """One windowed and one global block of the real width and heads; all would take minutes."""
    arch = {**get_spec(name).arch, "depth": 2, "global_blocks": (1,)}
    reference = fill_weights_that_matter(package_encoder(arch, 128))
    state = reference.state_dict()
    encoder = our_encoder(arch, (8, 8), state)
    images = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    expected = reference(images)
    assert relative_error(encoder(images)[0], expected) < TOLERANCE
    for key, value in state.items():  # with two blocks each tensor is a group of its own
        found, _ = functional_call(encoder, {key: torch.zeros_like(value)}, (images,))
        assert relative_error(found, expected) > 100 * TOLERANCE, key


@pytest.mark.parametrize("grid", [(9, 30), (17, 12)])
def test_rectangular_grid(grid, fill_weights_that_matter, relative_error):
    """The package builds squares only, but its blocks do not mind."""
    reference = package_encoder(SMALL, 128)
    reference.pos_embed = nn.Parameter(torch.zeros(1, *grid, SMALL["embed_dim"]))
    reference.blocks = nn.ModuleList(
        Block(
            dim=SMALL["embed_dim"],
            num_heads=SMALL["num_heads"],
            norm_layer=NORM,
            use_rel_pos=True,
            window_size=0 if index in SMALL["global_blocks"] else 14,
            input_size=grid,
        )
        for index in range(SMALL["depth"])
    )
    fill_weights_that_matter(reference)
    encoder = our_encoder(SMALL, grid, reference.state_dict())
    images = torch.randn(1, 3, grid[0] * 16, grid[1] * 16)
    assert relative_error(*outputs(reference, encoder, images)) < TOLERANCE


@pytest.mark.parametrize("size", [128, 320, 1040])
def test_pretrained_positions_meet_another_grid(size, fill_weights_that_matter, relative_error):
    """Weights for 64x64 tokens: the package resizes relative positions itself, on each call."""
    pretrained = fill_weights_that_matter(package_encoder(SMALL, 1024)).state_dict()
    grid = (size // 16, size // 16)
    reference = package_encoder(SMALL, size)
    for index in SMALL["global_blocks"]:
        for name in ("rel_pos_h", "rel_pos_w"):
            longer = nn.Parameter(torch.zeros(127, SMALL["embed_dim"] // SMALL["num_heads"]))
            setattr(reference.blocks[index].attn, name, longer)
    positions = pretrained["pos_embed"].permute(0, 3, 1, 2)
    resized = F.interpolate(positions, grid, mode="bicubic", align_corners=False, antialias=False)
    reference.load_state_dict(pretrained | {"pos_embed": resized.permute(0, 2, 3, 1)})
    encoder = SamViT(grid, **SMALL)
    encoder.load_state_dict(fit_state_to_grid(pretrained, encoder))
    images = torch.randn(1, 3, size, size)
    assert relative_error(*outputs(reference, encoder, images)) < TOLERANCE


def test_positions_that_fit_are_passed_on():
    encoder = SamViT((8, 8), **SMALL)
    state = encoder.state_dict()
    fitted = fit_state_to_grid(state, encoder)
    assert all(fitted[name] is value for name, value in state.items())


@pytest.mark.parametrize("bf16", [False, True])
def test_attention_runs_the_fused_kernel(bf16):
    """No matrix of all pairs of tokens is kept: other kernels are forbidden here."""
    encoder = SamViT((15, 15), **SMALL)
    context = torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16)
    with context, sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        encoder(torch.randn(1, 3, 240, 240))[0].float().sum().backward()
    assert encoder.blocks[1].attn.rel_pos_h.grad.abs().max() > 0


def test_images_of_a_batch_do_not_meet(small):
    reference, images, _ = small
    encoder = our_encoder(SMALL, (15, 15), reference.state_dict())
    both = encoder(images)[0]
    for index in range(2):
        one = encoder(images[index : index + 1])[0]
        torch.testing.assert_close(both[index : index + 1], one, rtol=1e-4, atol=1e-5)


def test_windows_are_routed_one_by_one_and_global_blocks_by_image():
    encoder = SamViT((20, 20), **SMALL)
    inject_adapters(encoder, "conv_lora", rank=2, num_experts=3)
    encoder.train()(torch.randn(2, 3, 320, 320))
    counts = [int(block.attn.qkv.routing_counts.sum()) for block in encoder.blocks]
    assert counts == [2 * 4, 2, 2 * 4]
