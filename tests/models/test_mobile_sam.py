"""A file like MobileSAM's, read by easyseg, gives the masks of the package that wrote it."""

from __future__ import annotations

import torch
from mobile_sam import sam_model_registry
from sam_parts import logits_without_prompt
from torch.func import functional_call

from easyseg.models.network import build_network
from easyseg.models.weights import sha256_of_file


@torch.no_grad()
def test_the_whole_network(
    tiny_plan, tmp_path, monkeypatch, fill_weights_that_matter, relative_error
):
    """At 1024, the one size of the package; its classifier, which it never runs, is ignored."""
    sam = fill_weights_that_matter(sam_model_registry["vit_t"]())
    state = sam.state_dict()
    assert {"image_encoder.head.weight", "image_encoder.norm_head.bias"} <= set(state)
    torch.save(state, file := tmp_path / "mobile_sam.pt")
    plan = tiny_plan(
        {
            "backbone.name": "mobile_sam",
            "backbone.weights": str(file),
            "data.size": 1024,
            "adapter.kind": "none",
        }
    )
    assert plan.backbone.prompt == "none"
    network = build_network(plan, seed=0).eval()
    assert network.base_sha256 == sha256_of_file(file)
    images = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(0))
    expected = logits_without_prompt(sam, images)
    encoded = network.backbone(images)
    # The encoder is taken apart in test_tiny_vit.py; here it need not run again.
    monkeypatch.setattr(network.backbone, "forward", lambda images: encoded)
    assert relative_error(network(images).logits, expected) < 1e-5
    for group in (
        "transformer",
        "iou_token",
        "mask_tokens",
        "output_upscaling",
        "hypernetwork",
        "pe_matrix",
        "no_mask_embed",
    ):
        zeros = {
            name: torch.zeros_like(value)
            for name, value in network.state_dict().items()
            if name.startswith(f"decoder.{group}")
        }
        found = functional_call(network, zeros, (images,)).logits
        assert relative_error(found, expected) > 1e-3, group
