from __future__ import annotations

import numpy as np
import pytest
from omegaconf import OmegaConf

from easyseg.errors import OptionError
from easyseg.plan.domains import flatten, parse


@pytest.mark.parametrize(
    ("key", "given", "expected"),
    [
        ("adapter.rank", np.int64(8), 8),
        ("adapter.rank", 8.0, 8),
        ("adapter.scales", [1, 3], (1, 3)),
        ("adapter.scales", OmegaConf.create([2, 4]), (2, 4)),
        ("adapter.blocks", "all", "all"),
        ("adapter.blocks", 4, 4),
        ("adapter.alpha", 16, 16.0),
        ("data.augment", [], ()),
        ("loss.class_weights", "none", "none"),
        ("loss.class_weights", [1, np.float32(0.5)], (1.0, 0.5)),
        ("train.max_steps", -1, -1),
        ("train.precision", 32, "32"),
        ("train.gradient_checkpointing", np.bool_(True), True),
        ("optim.weight_decay", 0, 0.0),
        ("data.scale", 2, 2.0),
    ],
)
def test_parse_takes_what_means_the_same(key, given, expected):
    value = parse(key, given)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("adapter.rank", 0),
        ("adapter.rank", 2.5),
        ("adapter.rank", True),
        ("adapter.rank", "8"),
        ("adapter.rank", float("inf")),
        ("adapter.rank", None),
        ("adapter.scales", 3),
        ("adapter.scales", "123"),
        ("adapter.scales", [1, 0]),
        ("adapter.kind", "convlora"),
        ("adapter.kind", ["lora"]),
        ("adapter.blocks", 0),
        ("head.num_tokens", 0),
        ("loss.class_weights", "balanced"),
        ("loss.class_weights", [1, 0]),
        ("loss.class_weights", 2),
        ("backbone.weights", ""),
        ("data.size", 0),
        ("data.augment", ["blur"]),
        ("data.geometry", "tiles"),
        ("data.scale", 0),
        ("optim.lr", 0),
        ("optim.decoder_lr", 0),
        ("optim.lr", float("nan")),
        ("optim.warmup", 1.5),
        ("train.max_steps", 0),
        ("train.gradient_checkpointing", 1),
    ],
)
def test_parse_refuses_and_says_the_domain(key, given):
    with pytest.raises(OptionError, match="expected") as caught:
        parse(key, given)
    assert key in str(caught.value)


@pytest.mark.parametrize(
    ("key", "given", "told"),
    [
        ("train.validation_images", 0, "at least 1, or -1 for all"),
        ("train.max_steps", -2, "at least 1, or -1 for no cap"),
        ("backbone.name", "vit_bb", "Did you mean 'vit_b'?"),
        ("backbone.name", 3, "lite_medsam, mobile_sam"),
    ],
)
def test_what_is_expected_is_said(key, given, told):
    with pytest.raises(OptionError) as caught:
        parse(key, given)
    assert told in str(caught.value)


def test_flatten_mixes_dotted_nested_and_omegaconf():
    nested = {"adapter": {"rank": 2, "scales": [1, 2]}, "optim.lr": 1e-3}
    expected = {"adapter.rank": 2, "adapter.scales": [1, 2], "optim.lr": 1e-3}
    assert flatten(nested) == expected
    assert flatten(OmegaConf.create(nested)) == expected
    assert flatten({"adapter": OmegaConf.create({"rank": 2})}) == {"adapter.rank": 2}


@pytest.mark.parametrize("given", [[("adapter.rank", 2)], "adapter.rank=2", {3: 4}])
def test_flatten_refuses_what_is_no_mapping_of_names(given):
    with pytest.raises(OptionError):
        flatten(given)


def test_flatten_refuses_a_key_given_twice():
    with pytest.raises(OptionError, match="given twice"):
        flatten({"adapter": {"rank": 2}, "adapter.rank": 4})
