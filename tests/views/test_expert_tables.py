"""What counts of experts say: shares, mean scales, and whether the size of the object matters."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats.contingency import association

from easyseg.views.expert_tables import count_use, dependence, mean_scales, shares
from easyseg.views.expert_use import SIZES, BlockChoices


def use_of(blocks: dict[int, dict[str, list[int]]]) -> pd.DataFrame:
    """Return the use of experts of scale 1, 2, ... from windows by block and size."""
    return pd.DataFrame(
        {"block": block, "size": size, "expert": i, "scale": i + 1, "windows": windows}
        for block, sizes in blocks.items()
        for size, counts in sizes.items()
        for i, windows in enumerate(counts)
    )


def test_shares_are_of_the_windows_of_a_block():
    use = use_of({0: {"none": [3, 1], "large": [1, 3]}, 2: {"small": [0, 5]}})
    found = shares(use)
    assert found.index.tolist() == [0, 2]
    assert found.loc[0].tolist() == [0.5, 0.5]
    assert found.loc[2].tolist() == [0.0, 1.0]


def test_mean_scales_are_in_the_order_of_sizes_with_gaps():
    use = use_of({0: {"large": [1, 3], "none": [2, 0], "medium": [0, 0]}, 1: {"none": [1, 1]}})
    found = mean_scales(use)
    assert found.index.tolist() == ["none", "large"]
    assert found[0].tolist() == [1.0, 1.75]
    assert found.loc["none", 1] == 1.5
    assert math.isnan(found.loc["large", 1])


def test_a_choice_by_size_alone_is_1_and_one_without_it_0():
    assert dependence(use_of({0: {"small": [500, 0], "large": [0, 500]}})) == pytest.approx(1.0)
    assert dependence(use_of({0: {"small": [30, 10], "large": [60, 20]}})) == 0.0
    # Which block has which sizes is no dependence.
    apart = use_of({0: {"small": [50, 0]}, 1: {"large": [0, 50]}})
    assert dependence(apart) == 0.0


def test_dependence_is_cramers_v_where_there_are_many_windows():
    rng = np.random.default_rng(0)
    counts = rng.multinomial(200_000, rng.dirichlet(np.ones(12))).reshape(3, 4)
    sizes = ("small", "medium", "large")
    use = use_of({0: {size: row.tolist() for size, row in zip(sizes, counts, strict=True)}})
    use = pd.concat([use, use_of({0: {"none": [90, 5, 5, 5]}})])  # Says nothing of sizes.
    assert dependence(use) == pytest.approx(association(counts, method="cramer"), abs=1e-4)


def test_chance_among_few_windows_is_about_0():
    rng = np.random.default_rng(1)
    corrected, plain = [], []
    for _ in range(40):
        counts = rng.multinomial(40, np.full(8, 1 / 8)).reshape(2, 4)
        corrected.append(
            dependence(use_of({0: dict(zip(("small", "large"), counts, strict=True))}))
        )
        kept = counts[:, counts.sum(axis=0) > 0]
        plain.append(association(kept, method="cramer"))
    assert np.mean(corrected) < 0.12 < 0.2 < np.mean(plain)


def test_models_that_do_the_opposite_do_not_cancel_out():
    one, other = ({"small": [500, 0], "large": [0, 500]}, {"small": [0, 500], "large": [500, 0]})
    use = pd.concat(
        [use_of({0: one, 1: one}).assign(seed=3), use_of({0: other, 1: other}).assign(seed=5)]
    )
    assert dependence(use) == pytest.approx(1.0)
    assert dependence(use.drop(columns="seed")) == 0.0  # What a sum over models would say.


def test_models_count_the_same_however_many_windows_they_have():
    few = use_of({0: {"small": [2, 0], "large": [1, 1]}}).assign(seed=0)
    many = use_of({0: {"small": [0, 200]}}).assign(seed=1)
    use = pd.concat([few, many])
    assert shares(use).loc[0].tolist() == [0.375, 0.625]
    # The second model has no window with a large object.
    assert mean_scales(use)[0].to_dict() == {"small": 1.5, "large": 1.5}


def test_telling_objects_from_background_is_no_choice_by_size():
    use = use_of({0: {"none": [300, 0], "small": [0, 100], "large": [0, 200]}})
    assert dependence(use) == 0.0
    assert dependence(use, "object") == pytest.approx(1.0)
    # And the other way round: whether there is an object does not matter, its size decides.
    use = use_of({0: {"none": [200, 200], "small": [0, 200], "large": [200, 0]}})
    assert dependence(use) == pytest.approx(1.0)
    assert dependence(use, "object") == 0.0


def alike(rng, experts_of) -> list[BlockChoices]:
    """Return the choices for 20 images of 16 windows, each with one size and one expert."""
    sizes = rng.integers(1, 4, 20)
    experts = experts_of(rng, sizes)
    sides = (np.repeat(each[:, None], 16, axis=1) for each in (sizes, experts))
    return [BlockChoices(0, (1, 2, 4), *sides)]


def test_windows_of_one_image_are_alike_and_chance_says_so():
    rng = np.random.default_rng(2)
    uses = [count_use(alike(rng, lambda rng, sizes: rng.integers(0, 3, 20)), 50) for _ in range(40)]
    found = np.array([dependence(use.counts) for use in uses])
    chance = np.array([use.chance["size"] for use in uses])
    assert found.mean() > 0.25  # Though nothing depends on anything.
    assert abs((found - chance).mean()) < 3 * (found - chance).std() / math.sqrt(40)


def test_chance_knows_nothing_of_a_real_dependence():
    use = count_use(alike(np.random.default_rng(3), lambda rng, sizes: sizes - 1))
    assert dependence(use.counts) == pytest.approx(1.0, abs=0.01)
    assert 0.2 < use.chance["size"] < 0.5
    assert use.chance["object"] == 0.0  # There is an object in each window.


def test_chance_keeps_the_place_of_a_window():
    # The experts know the place, and so do the sizes: with another image it is just the same.
    sizes = np.tile([0, 0, 1, 3], (30, 1))
    use = count_use([BlockChoices(5, (1, 2), sizes, (sizes > 1).astype(int))])
    assert use.chance["size"] == pytest.approx(dependence(use.counts))
    assert use.chance["object"] == pytest.approx(dependence(use.counts, "object"))


def test_choices_are_counted_and_one_image_has_no_chance():
    sizes, experts = np.array([[0, 0, 3, 2]]), np.array([[1, 1, 0, 1]])
    use = count_use([BlockChoices(7, (1, 4), sizes, experts)])
    counts = use.counts.set_index(["block", "size", "expert", "scale"])["windows"]
    assert len(counts) == len(SIZES) * 2
    assert counts[counts > 0].to_dict() == {
        (7, "none", 1, 4): 2,
        (7, "medium", 1, 4): 1,
        (7, "large", 0, 1): 1,
    }
    assert math.isnan(use.chance["size"])
    assert math.isnan(use.chance["object"])
