"""Which images are the same, or nearly: digests of pixels, perceptual hashes, small thumbnails.

Two images are near duplicates if their hashes differ in at most `WITHIN` of 64 bits and their
thumbnails correlate by at least `CORRELATION`: copies after another compression, resizing, a change
of brightness or a crop of 1 %, and the frames of a film between which little moved. The hash alone
is not enough: whatever the pictures of one instrument share, such as the black frame of an
endoscope, takes many of its bits. Measured on eight real sets of 1544 images: of 393 endoscopic
frames 135 have a near duplicate in their own sequence and 4 in another one; of 93 skin lesions,
100 leaves, 100 aerial tiles and 60 fields none has one. The hash alone, with 10 bits, finds one in
another sequence for 267 frames.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

__all__ = [
    "CORRELATION",
    "WITHIN",
    "Look",
    "clusters",
    "content_digest",
    "look_at",
    "near_duplicates",
]

WITHIN = 10  # of 64 bits: copies differ in 0 to 6, images that have nothing in common in 32 +- 4
CORRELATION = 0.97  # of thumbnails: copies have 0.979 to 1, two skin lesions at most 0.934
NEIGHBOURS = 8  # pairs an image that are kept at least

_SMALL = 64  # side of the grey copy from which hash and thumbnail are made
_SIDE = 16  # of a thumbnail, 256 bytes
_FLAT = 2.0  # grey levels between the darkest and the brightest cell below which nothing is seen
_NOISE = 1.0  # a frequency of 1/32 grey level: less comes from rounding, with a random sign
_BITS = 64
_BLOCK = 2**21  # comparisons at a time: 8 MB of float32
# The lowest frequencies but the mean: what compression and resizing leave alone.
_FREQUENCIES = tuple(
    np.array(sorted(np.ndindex(11, 11), key=lambda at: (sum(at), at))[1 : _BITS + 1]).T
)


def content_digest(pixels: np.ndarray) -> str:
    """Return a digest that two arrays share if and only if shape, type and values are equal.

    Args:
        pixels: An array of any shape and number type.

    Returns:
        32 hexadecimal digits (of SHA-256, which most processors have instructions for).

    Example:
        >>> a = np.zeros((2, 3), np.uint8)
        >>> content_digest(a) == content_digest(a.copy()), content_digest(a) == content_digest(a.T)
        (True, False)
    """
    head = f"{pixels.shape} {pixels.dtype.str} ".encode()
    digest = hashlib.sha256(head, usedforsecurity=False)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()[:32]


class Look(NamedTuple):
    """What near duplicates share.

    Attributes:
        perceptual_hash: The signs of the 64 lowest frequencies of a small grey copy, a whole number
            of 64 bits; 0 for a flat image, which tells nothing.
        thumbnail: A grey copy of 16x16 pixels, stretched to 0..255, row by row, 256 bytes; all of
            them 0 for a flat image.
    """

    perceptual_hash: int
    thumbnail: bytes


def look_at(rgb: np.ndarray) -> Look:
    """Return what an image looks like.

    Args:
        rgb: An image uint8 ``[H, W, 3]``.

    Example:
        >>> ramp = np.tile(np.arange(128, dtype=np.uint8)[:, None, None], (1, 64, 3))
        >>> look_at(ramp).perceptual_hash == look_at(ramp[::2] + 40).perceptual_hash != 0
        True
    """
    small = _small_copy(rgb)
    if small is None:
        return Look(0, bytes(_SIDE * _SIDE))
    signs = dctn(small, norm="ortho")[_FREQUENCIES] > _NOISE
    cells = small.reshape(_SIDE, _SMALL // _SIDE, _SIDE, _SMALL // _SIDE).mean(axis=(1, 3))
    cells -= cells.min()
    stretched = np.rint(cells * (255 / max(cells.max(), 1e-9))).astype(np.uint8)
    number = int.from_bytes(np.packbits(signs).tobytes(), "big")
    return Look(number or 1, stretched.tobytes())


def near_duplicates(
    hashes: Sequence[int],
    within: int = WITHIN,
    thumbnails: Sequence[bytes] | None = None,
    correlation: float = CORRELATION,
) -> list[tuple[int, int]]:
    """Return the pairs of images that look the same.

    Every image is compared with every other one, in blocks. Of an image with more than
    `NEIGHBOURS` near duplicates before it (a long film of a fixed camera) the nearest ones are
    kept, and so many more that no cluster falls apart: pairs never outnumber nine an image.

    Args:
        hashes: The `Look.perceptual_hash` of each image; those that are 0 (flat images) pair with
            none.
        within: The most bits in which the hashes of a pair differ.
        thumbnails: The images' thumbnails, to confirm what the hashes propose; ``None``: the hashes
            alone decide, which takes ``within`` of at most 4 to be right mostly.
        correlation: The least correlation of the thumbnails of a pair, up to 1.

    Returns:
        Pairs of positions, the smaller one first, in ascending order of the larger one.

    Example:
        >>> near_duplicates([0b1111, 0b1011, 2**63 - 1, 0, 0], within=2)
        [(0, 1)]
    """
    seen = np.flatnonzero(np.array([value != 0 for value in hashes], dtype=bool))
    signs = _signs([hashes[i] for i in seen])
    looks = None if thumbnails is None else _unit_vectors([thumbnails[i] for i in seen])
    cluster = np.arange(len(seen))
    pairs: list[tuple[int, int]] = []
    rows = max(1, _BLOCK // max(1, len(seen)))
    for start in range(0, len(seen), rows):
        stop = min(start + rows, len(seen))
        # Of +1 and -1, the product counts equal bits less different ones.
        likeness = signs[start:stop] @ signs[:stop].T
        near = np.tril(likeness >= _BITS - 2 * within, start - 1)
        hits = np.flatnonzero(near.any(axis=1))
        if looks is not None and len(hits):
            likeness[hits] = looks[start + hits] @ looks[:stop].T
            near[hits] &= likeness[hits] >= correlation
        for hit in hits:
            later = start + int(hit)
            earlier = np.flatnonzero(near[hit])
            kept = _nearest(earlier, likeness[hit, earlier], cluster)
            _join(cluster, later, kept)
            pairs += [(int(seen[i]), int(seen[later])) for i in kept]
    return pairs


def clusters(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Return for each of ``count`` images the cluster that pairs tie it to, directly or not.

    Args:
        count: Number of images.
        pairs: Pairs of positions.

    Returns:
        One number an image from 0; an image without a pair is a cluster of its own.

    Example:
        >>> clusters(5, [(0, 3), (3, 4)])
        [0, 1, 2, 0, 0]
    """
    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].tolist() if count else []


def _small_copy(rgb: np.ndarray) -> np.ndarray | None:
    """Return a grey copy of 64x64 pixels, float64; None if it is flat."""
    grey = Image.fromarray(rgb).convert("L").resize((_SMALL, _SMALL), Image.Resampling.BOX)
    small = np.asarray(grey, dtype=np.float64)
    return small if np.ptp(small) >= _FLAT else None


def _signs(hashes: Sequence[int]) -> np.ndarray:
    """Return the bits of hashes as +1 and -1, float32 ``[N, 64]``."""
    packed = np.frombuffer(b"".join(h.to_bytes(8, "big") for h in hashes), np.uint8)
    return np.unpackbits(packed.reshape(-1, 8), axis=1).astype(np.float32) * 2 - 1


def _unit_vectors(thumbnails: Sequence[bytes]) -> np.ndarray:
    """Return thumbnails without their mean and of length 1, whose products are correlations."""
    pixels = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, _SIDE * _SIDE)
    centred = pixels - pixels.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return (centred / np.maximum(length, 1e-9)).astype(np.float32)


def _nearest(earlier: np.ndarray, likeness: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Return the most alike of the neighbours, and the most alike one of every other cluster."""
    if len(earlier) <= NEIGHBOURS:
        return earlier
    order = earlier[np.argsort(-likeness, kind="stable")]
    first_of_each = np.unique(cluster[order], return_index=True)[1]
    missed = first_of_each[~np.isin(cluster[order[first_of_each]], cluster[order[:NEIGHBOURS]])]
    return np.sort(np.concatenate([order[:NEIGHBOURS], order[missed]]))


def _join(cluster: np.ndarray, later: int, earlier: np.ndarray) -> None:
    """Put an image and its neighbours into one cluster, in place."""
    if len(earlier):
        joined = np.unique(cluster[earlier])
        cluster[later] = joined[0]
        if len(joined) > 1:
            cluster[np.isin(cluster, joined)] = joined[0]
