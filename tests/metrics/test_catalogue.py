from __future__ import annotations

import pytest

from easyseg.errors import OptionError
from easyseg.metrics.catalogue import (
    METRICS,
    check_metrics,
    default_metric,
    higher_is_better,
    metric_keys,
    report_keys,
)

BINARY = ("background", "lesion")
CLASSES = ("soil", "crop", "weed", "a/b@c")
ERRORS = {"mae", "ber", "hd95"}


@pytest.mark.parametrize(("names", "binary"), [(BINARY, True), (CLASSES, False)])
def test_keys_name_metric_and_averaging(names, binary):
    keys = metric_keys(binary, names)
    assert len(set(keys)) == len(keys)
    assert all("@" in key for key in keys)
    report = report_keys(binary, names)
    assert keys[: len(report)] == report
    assert default_metric(binary) in report
    assert ("iou@dataset" in keys) == binary
    assert {key.split("@", 1)[0] for key in keys} <= METRICS.keys()
    assert check_metrics(keys, binary, names) == keys


def test_every_metric_is_for_some_problem():
    keys = {*metric_keys(True, BINARY), *metric_keys(False, CLASSES)}
    assert {key.split("@")[0] for key in keys} == METRICS.keys()


def test_errors_are_better_when_lower():
    for key in (*metric_keys(True, BINARY), *metric_keys(False, CLASSES)):
        assert higher_is_better(key) == (key.split("@")[0] not in ERRORS), key
    with pytest.raises(OptionError, match="Did you mean 'iou'"):
        higher_is_better("iuo@image")


def test_unknown_metrics_are_named_with_the_nearest():
    with pytest.raises(OptionError, match=r"'iou@imag'.*Did you mean 'iou@image'"):
        check_metrics(["iou@imag"], True, BINARY)
    with pytest.raises(OptionError, match="multi-class"):
        check_metrics("iou", False, CLASSES)


def test_a_key_that_is_asked_for_twice_comes_once():
    keys = ["dice@image", "iou@image", "dice@image"]
    assert check_metrics(keys, True, BINARY) == ("dice@image", "iou@image")
