"""The stream of predictions against slow, obvious versions of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from easyseg.artifact import TrainedModel
from easyseg.data.geometry import normalize
from easyseg.data.label_map import LabelMap
from easyseg.data.table import Samples
from easyseg.inference import predict as prediction
from easyseg.inference.predict import autocast_for, predict_stream
from easyseg.models.network import build_network
from easyseg.ranks import Ranks

LABELS = LabelMap((0, 255), ("background", "lesion"), None, "uint8")
SIZES = [(130, 200), (60, 90), (128, 128), (301, 40), (260, 270)]
BACKBONES = pytest.mark.parametrize("backbone", ["tiny_sam", "tiny_vit"])


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    images = tuple(rng.integers(30, 220, (*size, 3), dtype=np.uint8) for size in SIZES)
    labels = tuple(rng.choice(np.array([0, 255], np.uint8), size) for size in SIZES)
    return Samples(pd.RangeIndex(len(SIZES)), images, labels, tuple(map(str, range(len(SIZES)))))


@pytest.fixture
def model_of(tiny_plan):
    def make(backbone, **overrides):
        plan = tiny_plan({"backbone.name": backbone} | overrides)
        return TrainedModel(
            network=build_network(plan, seed=0).eval(), plan=plan, label_map=LABELS, seed=0
        )

    return make


def normalization_of(backbone):
    return "sam" if backbone == "tiny_sam" else "minmax"


@BACKBONES
@pytest.mark.parametrize("geometry", ["squash", "letterbox"])
def test_squashed_and_letterboxed_images_are_predicted_bit_for_bit(
    model_of, samples, backbone, geometry
):
    """Three images a pass, resized, padded below and to the right, cut and resized back."""
    model = model_of(backbone, **{"data.geometry": geometry})
    expected = []
    for start in range(0, len(SIZES), 3):
        inputs, contents = [], []
        for image, own in zip(samples.images[start:][:3], SIZES[start:][:3], strict=True):
            content = (128, 128)
            if geometry == "letterbox":
                scale = min(128 / own[0], 128 / own[1])
                content = tuple(min(128, max(4, round(s * scale / 4) * 4)) for s in own)
            pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
            resized = F.interpolate(pixels, content, mode="bilinear", antialias=True)[0]
            entered = normalize(resized, normalization_of(backbone))
            inputs.append(F.pad(entered, (0, 128 - content[1], 0, 128 - content[0])))
            contents.append(content)
        with torch.inference_mode():
            logits = model.network(torch.stack(inputs)).logits
        cell = 128 // logits.shape[-1]
        for one, own, (rows, cols) in zip(logits, SIZES[start:][:3], contents, strict=True):
            inside = one[None, :, : rows // cell, : cols // cell]
            expected.append(F.interpolate(inside, own, mode="bilinear")[0])
    found = list(predict_stream(model, samples, batch_size=3, with_targets=True))
    assert [item.position for item in found] == list(range(len(SIZES)))
    for item, logits, label in zip(found, expected, samples.labels, strict=True):
        assert torch.equal(item.logits, logits)
        assert np.array_equal(item.target, label // 255)


@BACKBONES
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_tiles_are_predicted_one_by_one_and_averaged(model_of, samples, backbone, scale):
    """Each window alone, its weight by a loop over cells, divided by the sum of weights."""
    model = model_of(backbone, **{"data.geometry": "tile", "data.scale": scale})
    found = list(predict_stream(model, samples, batch_size=3))
    assert [item.position for item in found] == list(range(len(SIZES)))
    for item, image, own in zip(found, samples.images, SIZES, strict=True):
        assert item.logits.shape == (1, *own)
        assert item.target is None
        content = own if scale == 1 else tuple(max(4, round(s * scale / 4) * 4) for s in own)
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
        resized = F.interpolate(pixels, content, mode="bilinear", antialias=True)[0]
        whole = F.pad(normalize(resized, normalization_of(backbone)), (0, 400, 0, 400))
        cell = 4 if backbone == "tiny_sam" else 1
        total, weights = torch.zeros(2, 1, 700 // cell, 700 // cell)
        starts = []
        for side in content:
            last = max(0, -(-(side - 128) // 4) * 4)
            count = -(-last // 96)
            starts.append([4 * round(last / 4 * i / max(1, count)) for i in range(count + 1)])
        weight = [min(i + 1, 128 // cell - i) for i in range(128 // cell)]
        weight = torch.tensor([[a * b for b in weight] for a in weight])
        for top in starts[0]:
            for left in starts[1]:
                with torch.inference_mode():
                    window = whole[None, :, top : top + 128, left : left + 128]
                    logits = model.network(window).logits[0]
                rows = slice(top // cell, top // cell + 128 // cell)
                cols = slice(left // cell, left // cell + 128 // cell)
                total[:, rows, cols] += logits * weight
                weights[:, rows, cols] += weight
        cells = [-(-side // cell) for side in content]
        merged = (total / weights)[None, :, : cells[0], : cells[1]]
        # Whole cells may reach beyond an image at scale 1.
        size = [n * cell if scale == 1 else mine for n, mine in zip(cells, own, strict=True)]
        expected = F.interpolate(merged, size, mode="bilinear")[0, :, : own[0], : own[1]]
        torch.testing.assert_close(item.logits, expected, rtol=1e-4, atol=1e-4)


def test_batches_may_mix_images_and_ranks_share_them(model_of, samples):
    model = model_of("tiny_vit", **{"data.geometry": "tile"})
    alone = {item.position: item.logits for item in predict_stream(model, samples, batch_size=1)}
    assert list(alone) == list(range(len(SIZES)))
    shares = []
    for rank in (0, 1):
        stream = predict_stream(model, samples, batch_size=5, ranks=Ranks(rank, 2))
        shares.append({item.position: item.logits for item in stream})
    assert [list(share) for share in shares] == [[0, 2, 4], [1, 3]]
    for position, logits in (shares[0] | shares[1]).items():
        torch.testing.assert_close(logits, alone[position], rtol=1e-4, atol=1e-4)


def test_logits_are_held_for_one_image_at_a_time(model_of, samples, monkeypatch):
    from easyseg.inference import predict

    started, most = [], []

    class Counted(predict.Mosaic):
        def __init__(self, *args):
            super().__init__(*args)
            started.append(self)
            most.append(sum(not mosaic.complete for mosaic in started))

    monkeypatch.setattr(predict, "Mosaic", Counted)
    model = model_of("tiny_sam", **{"data.geometry": "tile"})
    assert len(list(predict_stream(model, samples, batch_size=4))) == len(started) == len(SIZES)
    assert max(most) == 1


@pytest.mark.parametrize(("capability", "mixed"), [((7, 5), False), ((8, 0), True)])
def test_bf16_is_computed_where_the_gpu_has_it(monkeypatch, capability, mixed):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch, "autocast", lambda kind, dtype, enabled: enabled)
    device = torch.device("cuda", 1)
    assert autocast_for("bf16", device) is mixed
    assert autocast_for("fp16", device) is True
    assert autocast_for("32", device) is False


def test_a_long_prediction_gives_freed_memory_back_now_and_then(model_of, samples, monkeypatch):
    given_back = []
    monkeypatch.setattr(prediction, "_BATCHES_UNTIL_GIVEN_BACK", 2)
    monkeypatch.setattr(prediction, "give_back_freed_memory", lambda: given_back.append(True))
    assert len(list(predict_stream(model_of("tiny_sam"), samples, batch_size=1))) == 5
    assert len(given_back) == 2
