from __future__ import annotations

import pytest

from easyseg.errors import OptionError
from easyseg.plan.adapter_choices import RANKS
from easyseg.plan.domains import DOMAINS, flatten, parse
from easyseg.plan.presets import list_presets, load_preset, presets_folder


@pytest.mark.parametrize("name", list_presets())
def test_preset_names_every_key_and_only_possible_values(name):
    content = load_preset(name)
    values = flatten(content["plan"])
    assert values.keys() == DOMAINS.keys()
    for key, value in values.items():
        assert value == "auto" or parse(key, value) is not None
    assert set(content["budget"]) == {"cpu", "gpu"}
    for budget in content["budget"].values():
        assert budget["rank"] in RANKS
        assert budget["experts"] >= 2
        assert 0 < budget["size_share"] <= budget["thin_share"] <= 1
    assert isinstance(values["optim.weight_decay"], float)  # 1e-4 without a point is text in YAML.


def test_presets_are_these():
    assert list_presets() == ("balanced", "best", "fast", "paper", "paper_3e-4", "reference")


def test_unknown_preset_names_the_nearest():
    with pytest.raises(OptionError, match="Did you mean 'balanced'"):
        load_preset("balansed")


def test_packaged_folder_wins_over_the_checkout(tmp_path):
    package = tmp_path / "easyseg"
    beside = tmp_path / "presets"
    for folder in (package, beside):
        folder.mkdir()
    (beside / "fast.yaml").touch()
    assert presets_folder(package) == beside
    (package / "presets").mkdir()
    assert presets_folder(package) == beside, "an empty folder is no answer"
    (package / "presets" / "fast.yaml").touch()
    assert presets_folder(package) == package / "presets"


def test_missing_presets_say_where_was_looked(tmp_path):
    with pytest.raises(OptionError, match="looked for") as caught:
        presets_folder(tmp_path / "easyseg")
    assert str(tmp_path / "presets") in str(caught.value)
