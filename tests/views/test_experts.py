"""Figures of the use of experts: their colours are the numbers, for each kind of gate."""

from __future__ import annotations

import csv
import math

import numpy as np
import pandas as pd
import pytest

from easyseg import SemanticSegmentor
from easyseg.data.label_map import LabelMap
from easyseg.errors import ArtifactError, NotFittedError, OptionError
from easyseg.views.expert_log import read_training_use
from easyseg.views.expert_tables import ExpertUse, beside_chance, count_use, mean_scales, shares
from easyseg.views.expert_use import expert_choices
from easyseg.views.experts import plot_use
from easyseg.views.history import saved_row

pytest.importorskip("matplotlib", reason="figures need matplotlib: the extra 'plots'")

UNKNOWN = {"size": math.nan, "object": math.nan}
LESION = LabelMap((0, 255), ("background", "lesion"), None, "uint8")


def images_of(figure) -> list[np.ndarray]:
    """Return the numbers behind the colours of the heat maps."""
    return [np.ma.filled(a.images[0].get_array(), np.nan) for a in figure.axes if a.images]


def labels(ticks) -> list[str]:
    return [tick.get_text() for tick in ticks]


@pytest.mark.parametrize("gate", ["learned", "constant"])
@pytest.mark.parametrize("routing", ["window", "image"])
def test_the_colours_are_shares_and_mean_scales(untrained, binary_table, gate, routing):
    settings = {"adapter.gate": gate, "adapter.routing": routing}
    segmentor = untrained(LESION, settings)
    found = count_use(expert_choices(segmentor, binary_table))
    use = found.counts
    assert use["windows"].sum() > 0
    figure = segmentor.show_experts(binary_table)
    by_block, by_size = images_of(figure)
    np.testing.assert_allclose(by_block, shares(use).T)
    np.testing.assert_allclose(by_block.sum(axis=0), 1)
    np.testing.assert_allclose(by_size, mean_scales(use))
    left, right = (axis for axis in figure.axes if axis.images)
    assert labels(left.get_yticklabels()) == ["1", "2", "3"]
    assert labels(left.get_xticklabels()) == ["0", "1", "2"]
    assert right.get_ylabel() == f"object in the {routing}"
    values = [beside_chance(found, of) for of in ("size", "object")]
    title = "Cramér's V (by chance): size {},\nobject or none {}"
    assert right.get_title("left") == title.format(*values)
    counts = use.groupby("size")["windows"].sum()
    named = mean_scales(use).index
    assert labels(right.get_yticklabels()) == [f"{s}\nn = {counts[s]:,}" for s in named]
    if routing == "image":
        assert counts.sum() == 3 * len(binary_table)  # a choice for each block and image
    figure.draw_without_rendering()


def test_several_models_are_drawn_on_the_same_scales():
    def use_of(windows):
        counts = pd.DataFrame(
            {
                "block": 0,
                "size": ["none", "large"] * len(windows),
                "expert": np.repeat(range(len(windows)), 2),
                "scale": np.repeat(range(1, len(windows) + 1), 2),
                "windows": np.repeat(windows, 2),
            }
        )
        return ExpertUse(counts, UNKNOWN)

    figure = plot_use({"leaves: $learned": use_of([9, 1]), "roads": use_of([1, 1, 2])})
    assert [part.get_suptitle() for part in figure.subfigs] == [r"leaves: \$learned", "roads"]
    maps = [axis.images[0] for axis in figure.axes if axis.images]
    assert {drawn.get_clim() for drawn in maps[::2]} == {(0, 0.9)}
    assert {drawn.get_clim() for drawn in maps[1::2]} == {(1, 3)}
    with pytest.raises(OptionError, match="at least one model with experts"):
        plot_use({})


def test_many_blocks_are_named_by_every_fourth():
    use = pd.DataFrame({"block": range(32), "size": "none", "expert": 0, "scale": 1, "windows": 2})
    axis = plot_use({"a": ExpertUse(use, UNKNOWN)}).axes[0]
    assert labels(axis.get_xticklabels()) == [str(block) for block in range(0, 32, 4)]


def test_without_a_table_the_use_in_training_is_drawn(binary):
    log = read_training_use(binary)
    with (binary.path_ / "experts.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:  # the number of a block stands in the name of its layer
        mine = log[(log["epoch"] == int(row["epoch"])) & (log["layer"] == row["layer"])]
        assert f".{mine['block'].iloc[0]}.attn" in row["layer"]
        assert list(mine["scale"]) == [1, 2, 3]
        assert list(mine["share"]) == [float(row[f"expert_{i}"]) for i in range(3)]
    assert len(log) == 3 * len(rows)

    saved = int(binary.history_["epoch"][saved_row(binary.history_, binary.plan_.metric)])
    figure = binary.show_experts()
    (drawn,) = images_of(figure)
    of_saved = log[log["epoch"] == saved]
    for scale, block in np.ndindex(3, 3):
        of_both = (of_saved["scale"] == scale + 1) & (of_saved["block"] == block)
        (share,) = of_saved.loc[of_both, "share"]
        assert drawn[scale, block] == share
    lines = {line.get_label(): line for line in figure.axes[1].lines}
    for scale in (1, 2, 3):
        means = [
            log[(log["epoch"] == epoch) & (log["scale"] == scale)]["share"].mean()
            for epoch in binary.history_["epoch"]
        ]
        np.testing.assert_allclose(lines[str(scale)].get_ydata(), means)
    assert f"epoch {saved} (saved)" in figure.axes[0].get_title("left")
    figure.draw_without_rendering()


def test_a_saved_model_needs_a_table(binary, binary_table, tmp_path):
    saved = SemanticSegmentor.load(binary.save(tmp_path / "saved"), "cpu", verbosity=0)
    with pytest.raises(ArtifactError, match=r"saved holds no experts\.csv and .*or give a table"):
        saved.show_experts()
    own, other = (images_of(s.show_experts(binary_table)) for s in (saved, binary))
    for mine, theirs in zip(own, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"adapter.kind": "lora"}, "adapter.kind is 'lora'; expected 'conv_lora'"),
        ({"adapter.gate": "sum"}, "'conv_lora' with 3 experts and adapter.gate 'sum'; expected"),
        ({"adapter.num_experts": 1}, "'conv_lora' with 1 expert and adapter.gate 'learned'"),
    ],
)
def test_without_a_choice_there_is_nothing_to_show(untrained, binary_table, settings, found):
    segmentor = untrained(LESION, settings)
    for table in (None, binary_table):
        with pytest.raises(OptionError, match=found):
            segmentor.show_experts(table)
    with pytest.raises(NotFittedError):
        SemanticSegmentor().show_experts()


@pytest.mark.parametrize(("name", "size"), [("background", "medium"), ("sky", "large")])
def test_a_named_background_of_several_classes_is_no_object(untrained, name, size):
    ids = np.zeros((64, 64), np.uint8)
    ids[:8, :8] = 1
    table = pd.DataFrame({"image": [np.full((64, 64, 3), 90, np.uint8)], "label": [ids]})
    label_map = LabelMap((0, 1, 2), (name, "road", "car"), None, "uint8")
    use = count_use(expert_choices(untrained(label_map), table)).counts
    # The image is one window: its object is the road, or the sky around it.
    assert set(use.loc[use["windows"] > 0, "size"]) == {size}
