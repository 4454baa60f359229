"""The parts of a package's SAM, run as our networks run theirs."""

from __future__ import annotations


def logits_without_prompt(sam, images):
    """Decode without a prompt and with one mask token, as our decoder does.

    Args:
        sam: A model of the package segment_anything, or of one that took over its classes.
        images: Normalised images ``[1, 3, H, W]`` of the model's own size.
    """
    decoder = sam.mask_decoder
    one = type(decoder)(
        num_multimask_outputs=0,
        transformer_dim=decoder.transformer_dim,
        transformer=decoder.transformer,
    )
    state = decoder.state_dict()
    for name, value in one.state_dict().items():
        if "iou_prediction_head" not in name:
            value.copy_(state[name][: len(value)])
    sparse, dense = sam.prompt_encoder(points=None, boxes=None, masks=None)
    return one(
        image_embeddings=sam.image_encoder(images),
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )[0]
