"""Probability maps with their truths: the golden ones, and random ones with every edge case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

GOLDEN = Path(__file__).parent / "golden" / "metrics"


def golden() -> dict[str, Any]:
    """Return the expected figures, each case with its ``map`` (uint8) and its ``truth`` (0, 1)."""
    expected = json.loads((GOLDEN / "expected.json").read_text())
    for case in expected["cases"]:
        truth, values = (
            np.asarray(Image.open(GOLDEN / f"{case['name']}_{kind}.png")) for kind in ("gt", "pred")
        )
        case |= {"map": values, "truth": (truth > 128).astype(np.uint8)}
    return expected


@st.composite
def map_pairs(draw, ignored=(0.0,), largest=24):
    """Draw a map float32 and a truth uint8: smooth, noisy, binary, even; empty, full, mixed."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = tuple(rng.integers(1, largest, 2))
    share = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    truth = (rng.random(size) < share).astype(np.uint8)
    if draw(st.booleans()):  # one block instead of dots
        truth[:] = 0
        truth[: 1 + size[0] // 2, size[1] // 3 :] = share > 0
    kind = draw(st.sampled_from(["noise", "binary", "even", "good", "unsure"]))
    noise = rng.random(size)
    values = {
        "noise": noise,
        "binary": noise.round(),
        "even": np.full(size, 0.3),
        "good": 0.7 * truth + 0.3 * noise,
        "unsure": 0.2 * noise,
    }[kind]
    truth[rng.random(size) < draw(st.sampled_from(ignored))] = 255
    return values.astype(np.float32), truth
