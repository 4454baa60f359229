"""Every decision can be overridden, and a typo is answered by what was meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_makers import OTHER, plan_for

from easyseg.errors import OptionError
from easyseg.plan.domains import DOMAINS, parse

# Long enough for a typo, and none that a typo makes of another ("adam", "adamw").
WORDS = [
    (key, word)
    for key, domain in DOMAINS.items()
    if key != "backbone.name"  # whose values differ by a letter
    for word in domain.words
    if len(word) > 4 and not any(word.startswith(other) for other in domain.words if other != word)
]


def test_all_keys_are_tried():
    assert OTHER.keys() == DOMAINS.keys()


@pytest.mark.parametrize("key", DOMAINS)
@pytest.mark.parametrize("preset", ["fast", "balanced", "best", "paper", "best,polyp"])
def test_every_decision_can_be_overridden(key, preset):
    other = OTHER[key]
    value, needed = (
        other if isinstance(other, tuple) and isinstance(other[-1], dict) else (other, {})
    )
    plan = plan_for(presets=preset, overrides={**needed, key: value})
    assert plan.values()[key] == value
    assert plan.reasons[key].startswith("set by you")
    if preset == "balanced":
        assert plan_for(presets=preset).values()[key] != value


def typo(draw, word):
    """Drop, double, change or swap a letter; the first one stays, and stays first."""
    place = draw(st.integers(1, len(word) - 2))
    before, here, after, rest = word[:place], word[place], word[place + 1], word[place + 2 :]
    return (
        before + draw(st.sampled_from([after, 2 * here + after, "x" + after, after + here])) + rest
    )


@given(st.data(), st.sampled_from(sorted(DOMAINS)))
def test_a_typo_in_a_key_is_answered_by_the_key(data, key):
    section, name = key.split(".")
    wrong = f"{typo(data.draw, section)}.{name}"
    if data.draw(st.booleans()) and len(name) > 4:
        wrong = f"{section}.{typo(data.draw, name)}"
    if wrong in DOMAINS:
        return
    with pytest.raises(OptionError, match="Did you mean") as caught:
        plan_for(overrides={wrong: 1})
    assert repr(key) in str(caught.value)


@pytest.mark.parametrize("key", DOMAINS)
def test_a_key_without_its_section_is_answered_by_the_whole_key(key):
    with pytest.raises(OptionError, match="Did you mean") as caught:
        parse(key.split(".")[1], 1)
    assert repr(key) in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ("rnak", "adapter.rank"),
        ("ranks", "adapter.rank"),
        ("epoch", "train.epochs"),
        ("batchsize", "train.batch_size"),
        ("augmentation", "data.augment"),
    ],
)
def test_a_misspelt_key_without_its_section_is_answered_by_the_whole_key(wrong, key):
    with pytest.raises(OptionError, match="Did you mean") as caught:
        plan_for(overrides={wrong: 1})
    assert repr(key) in str(caught.value)


@given(st.data(), st.sampled_from(WORDS))
def test_a_typo_in_a_value_is_answered_by_the_value(data, pair):
    key, word = pair
    wrong = typo(data.draw, word)
    if wrong in DOMAINS[key].words:
        return
    given_value = [wrong] if key == "data.augment" else wrong
    with pytest.raises(OptionError, match="Did you mean") as caught:
        plan_for(overrides={key: given_value})
    assert f"Did you mean {word!r}?" in str(caught.value)
    assert f"expected {DOMAINS[key].text}" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("adapter.rank", "atuo", "Did you mean 'auto'?"),
        ("adapter.blocks", "al", "Did you mean 'all'?"),
        ("loss.class_weights", "non", "Did you mean 'none'?"),
        ("train.precision", "bf61", "Did you mean 'bf16'?"),
        ("data.augment", ["hflip", "colur"], "Did you mean 'colour'?"),
    ],
)
def test_short_words_too(key, value, hint):
    with pytest.raises(OptionError) as caught:
        parse(key, value)
    assert str(caught.value).endswith(hint)


@pytest.mark.parametrize("value", ["eight", 2.5, [1], {"a": 1}, None])
def test_what_is_near_to_nothing_gets_no_hint(value):
    with pytest.raises(OptionError) as caught:
        parse("adapter.rank", value)
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"presets": "bset"}, "'best'"),
        ({"presets": "polpy"}, "'polyp'"),
        ({"presets": ["best", "skin_leson"]}, "'skin_lesion'"),
        ({"presets": "fast,microscope"}, "'microscopy'"),
        ({"presets": "atuo"}, "'auto'"),
        ({"eval_metric": "iou@imag"}, "'iou@image'"),
        ({"overrides": {"backbone.name": "vit_bb"}}, "'vit_b'"),
    ],
)
def test_typos_in_presets_metrics_and_backbones(options, hint):
    with pytest.raises(OptionError, match="Did you mean") as caught:
        plan_for(**options)
    assert hint in str(caught.value)
