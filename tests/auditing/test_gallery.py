"""The gallery: for each defect what the audit says and what a fit does; random compositions."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from audit_gallery import (
    ROW_DEFECTS,
    audit_of,
    fit_refuses,
    scenes,
    spoil,
    write_set,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

ROWS = 24
SETS = (
    "camvid",
    "cwfid",
    "glass_gdd",
    "highway_cdnet",
    "leaf_disease",
    "polyp_cvc",
    "road_epfl",
    "skin_isic",
)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """A set without a defect."""
    return write_set(tmp_path_factory.mktemp("clean"), scenes(ROWS))


def checks(report):
    return {finding.check for finding in report.findings}


def named(report, check):
    """Return the severity of a finding, and the positions that it names."""
    (finding,) = report.by_check(check)
    return str(finding.severity), {item.position for item in finding.evidence}


def test_a_clean_set_has_no_errors_and_no_warnings(clean):
    report = audit_of(clean)
    assert [f.check for f in report.findings] == ["mask-encoding"]
    assert "0 and 255" in report.findings[0].found or "0, 255" in report.findings[0].found
    assert report.ok
    assert fit_refuses(clean) == ()


@pytest.mark.parametrize("name", ROW_DEFECTS)
def test_a_defect_of_one_row_is_found_there_and_stops_a_fit_if_it_must(name, clean, tmp_path):
    defect = ROW_DEFECTS[name]
    table = spoil(clean, {5: name}, tmp_path)
    report = audit_of(table)
    assert named(report, defect.check) == (defect.severity, {5})
    (finding,) = report.by_check(defect.check)
    assert finding.repair == defect.repair
    assert [f.check for f in report.errors] == [defect.check] * (defect.severity == "error")
    refused = fit_refuses(table)
    assert bool(refused) == (defect.severity == "error")
    assert all(line.startswith("row 5") for line in refused)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(sorted(ROW_DEFECTS)), max_size=12), st.randoms())
def test_random_compositions_of_defects(clean, tmp_path_factory, names, random):
    rows = random.sample(range(ROWS), len(names))
    defects = dict(zip(rows, names, strict=True))
    table = spoil(clean, defects, tmp_path_factory.mktemp("spoiled"))
    report = audit_of(table)
    for check in {ROW_DEFECTS[name].check for name in names}:
        expected = {row for row, name in defects.items() if ROW_DEFECTS[name].check == check}
        severities, positions = set(), set()
        for finding in report.by_check(check):  # one for each mode, say
            severities.add(str(finding.severity))
            positions |= {item.position for item in finding.evidence}
        assert len(severities) == 1
        assert positions >= expected
        if check != "mixed-colours":  # a constant or 16-bit image may be grey, too
            assert positions == expected
    wrong = sorted(row for row, name in defects.items() if ROW_DEFECTS[name].severity == "error")
    assert sorted({i.position for f in report.errors for i in f.evidence}) == wrong
    refused = fit_refuses(table)
    assert sorted({int(line.split()[1].strip(":,")) for line in refused}) == wrong
    assert json.loads(report.to_json())["errors"] == len(report.errors)


@pytest.mark.parametrize("name", SETS)
def test_real_sets_have_no_errors_and_what_they_hold_is_found(shared_data, name):
    folder = shared_data / name
    report = audit_of(*(folder / f"{part}.csv" for part in ("train", "val", "test")))
    assert report.errors == ()
    found = checks(report)
    assert ("ignored-pixels" in found) == (name in ("camvid", "highway_cdnet"))
    if name == "polyp_cvc":
        (finding,) = report.by_check("groups-in-names")
        assert "29 groups" in finding.found
        assert "split-groups" not in found
    if name in ("cwfid", "highway_cdnet"):
        assert "rare-class" in found
    if name == "highway_cdnet":
        assert any("class_2" in f.found for f in report.warnings if f.check == "rare-class")
    assert "inverted-foreground" not in found
    assert fit_refuses(folder / "train.csv", folder / "val.csv") == ()


def is_square(file):
    with Image.open(file) as image:
        return abs(image.width - image.height) <= 0.05 * image.width


@pytest.mark.parametrize("name", SETS)
def test_defects_in_real_sets(shared_data, name, tmp_path):
    folder = shared_data / name
    table = pd.read_csv(folder / "train.csv")
    table = table.iloc[:: max(1, len(table) // ROWS)].head(ROWS).reset_index(drop=True)
    table = table.map(lambda file: str(folder / file))
    rows = np.random.default_rng(len(name)).permutation(ROWS).tolist()
    defects = {}
    for defect, what in ROW_DEFECTS.items():
        fits = [r for r in rows if not (what.elongated and is_square(table["image"][r]))]
        if fits:
            rows.remove(fits[0])
            defects[fits[0]] = defect
    assert len(defects) >= len(ROW_DEFECTS) - 2
    report = audit_of(spoil(table, defects, tmp_path))
    for row, what in defects.items():
        found = report.by_check(ROW_DEFECTS[what].check)
        assert row in {i.position for f in found for i in f.evidence}, what
    wrong = {row for row, what in defects.items() if ROW_DEFECTS[what].severity == "error"}
    assert {i.position for f in report.errors for i in f.evidence} == wrong
