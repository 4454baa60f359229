from __future__ import annotations

import pytest

from easyseg.errors import OptionError
from easyseg.metrics.catalogue import check_metrics, metric_keys
from easyseg.metrics.paper import expand_metrics, paper_metrics
from easyseg.plan.presets import list_domains

BINARY = ("background", "foreground")
CLASSES = ("soil", "crop", "weed")


@pytest.mark.parametrize(
    ("preset", "some"),
    [
        ("best,polyp", "s_measure@image"),
        ("auto,natural_camouflage", "weighted_f@image"),
        ("paper,skin_lesion", "iou@image"),
        ("paper,shadow", "ber@dataset"),
        ("paper_3e-4,leaf_disease", "dice@image"),
        ("paper_3e-4,road", "iou@image"),
    ],
)
def test_the_domain_decides(preset, some):
    keys = paper_metrics(preset, binary=True)
    assert some in keys
    assert keys != paper_metrics("paper", binary=True)
    assert check_metrics(keys, True, BINARY) == keys


def test_without_a_domain_of_the_paper_the_problem_decides():
    assert paper_metrics("best", True) == paper_metrics("best,street", True)
    assert paper_metrics("best,street,shadow,text", True) == paper_metrics("best,shadow", True)
    for preset in ("fast", *(f"best,{name}" for name in list_domains())):
        assert paper_metrics(preset, False) == ("miou@dataset", "accuracy@dataset")


@pytest.mark.parametrize(("names", "binary"), [(BINARY, True), (CLASSES, False)])
def test_sets_stand_for_keys_of_the_problem(names, binary):
    keys = {
        name: expand_metrics(name, "fast", binary, names) for name in ("paper", "reference", "all")
    }
    assert keys["all"] == metric_keys(binary, names)
    assert keys["paper"] == paper_metrics("fast", binary)
    assert keys["reference"]
    assert all(key.endswith("@reference") for key in keys["reference"])


def test_sets_and_keys_mix_and_each_key_comes_once():
    asked = expand_metrics(["ber@image", "paper"], "best,shadow", True, BINARY)
    assert asked == ("ber@image", "ber@dataset")
    with pytest.raises(OptionError, match="'papers'"):
        expand_metrics("papers", "best", True, BINARY)
