"""A synthetic data set, generated in seconds: for demos and tests, never for claims.

Scenes are piles of soft-edged pads on a cloudy ground. The pads to find carry a labyrinth pattern
(and, with several classes, dots); the others are clutter of the same shapes, colours, brightness
and contrast: plain, cloudy, grainy or striped. No threshold on brightness finds the objects, only
their texture does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from easyseg.datasets.folder import FolderDataset, read_folder
from easyseg.errors import DataError, OptionError

__all__ = ["make_synthetic", "synthetic_scene"]

_MARK = "# Synthetic pads"
_SPLITS = ("train", "val", "test")
_MIN_SIDE = 64
_CONTRAST = 0.13  # standard deviation of every texture, in units of the full brightness range
_LUMA = np.array([0.299, 0.587, 0.114])
_SHARE = (0.1, 0.45)  # least and most of a picture that the objects may cover


def make_synthetic(
    folder: str | Path,
    *,
    num_train: int = 40,
    num_val: int = 8,
    num_test: int = 12,
    size: tuple[int, int] = (192, 256),
    seed: int = 0,
    multiclass: bool = False,
) -> FolderDataset:
    """Write a synthetic data set in the layout that ``read_folder`` reads.

    Image ``i`` of a split depends on the seed, the split and ``i`` alone, so that a larger set
    begins with the images of a smaller one.

    Args:
        folder: Where to write: new, empty, or an earlier synthetic set, which is overwritten.
        num_train: Number of training images, at least 1.
        num_val: Number of validation images; 0 writes no ``val.csv``.
        num_test: Number of test images; 0 writes no ``test.csv``.
        size: Height and width of the images, at least 64 each.
        seed: Seed of all random choices, not negative.
        multiclass: Masks with the ids 0 background, 1 labyrinth, 2 dots, instead of 0 and 255.

    Returns:
        The data set, read back from the folder.

    Raises:
        OptionError: If a number is out of its range.
        DataError: If the folder holds other files.
    """
    root = Path(folder).expanduser()
    counts = dict(zip(_SPLITS, (num_train, num_val, num_test), strict=True))
    _check_options(counts, size, seed)
    _check_folder(root)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "SOURCE.md").write_text(_source_note(counts, size, seed, multiclass), "utf-8")
    (root / "classes.txt").write_text("\n".join(_class_lines(multiclass)) + "\n", "utf-8")
    for number, (split, images) in enumerate(counts.items()):
        rows = []
        for index in range(images):
            picture, ids = synthetic_scene(
                np.random.default_rng([seed, number, index]), size, multiclass=multiclass
            )
            row = (f"images/{split}_{index:04d}.jpg", f"masks/{split}_{index:04d}.png")
            Image.fromarray(picture).save(root / row[0], quality=92)
            Image.fromarray(ids if multiclass else ids * np.uint8(255)).save(root / row[1])
            rows.append(row)
        table = root / f"{split}.csv"
        table.unlink(missing_ok=True)
        if rows:
            pd.DataFrame(rows, columns=["image", "label"]).to_csv(table, index=False)
    return read_folder(root)


def synthetic_scene(
    rng: np.random.Generator, size: tuple[int, int] = (192, 256), *, multiclass: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Make one synthetic picture and its class ids.

    Args:
        rng: Source of all random choices.
        size: Height and width.
        multiclass: Whether dotted pads are objects (id 2) instead of being left out.

    Returns:
        uint8 image ``[H, W, 3]`` and uint8 class ids ``[H, W]``: 0 background, 1 labyrinth, 2 dots.
    """
    while True:
        image, ids = _scene(rng, size, multiclass)
        found = set(np.unique(ids).tolist())
        if _SHARE[0] <= (ids > 0).mean() <= _SHARE[1] and found == set(range(2 + multiclass)):
            break
    image *= 1 + 0.12 * _band(rng, size, wavelength=2.0 * max(size))[..., None]  # uneven light
    image += 0.012 * rng.standard_normal(image.shape, np.float32)  # sensor noise
    return np.rint(255 * image.clip(0, 1)).astype(np.uint8), ids


def _scene(
    rng: np.random.Generator, size: tuple[int, int], multiclass: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Pile pads on a cloudy ground: float image ``[H, W, 3]`` and class ids ``[H, W]``.

    Objects and clutter hide each other, but a pad that would hide more than half of an object is
    left out, so that no object ends as a sliver.
    """
    image = _textured(rng, size, _clouds(rng, size))
    ids = np.zeros(size, np.uint8)
    owner = np.zeros(size, np.uint8)  # which object a pixel shows, 0 for none
    areas = [owner.size]
    for kind in _pile(rng, multiclass):
        shape = _pad_shape(rng, size)
        inside = shape.cover >= 0.5
        left = np.bincount(owner[~inside], minlength=len(areas))
        if (left[1:] < np.array(areas[1:]) / 2).any():
            continue
        _lay(image, shape, _textured(rng, size, _TEXTURES[kind](rng, size)))
        ids[inside] = _CLASS_IDS.get(kind, 0)
        owner[inside] = 0
        if kind in _CLASS_IDS:
            owner[inside] = len(areas)
            areas.append(int(inside.sum()))
    return image, ids


def _pile(rng: np.random.Generator, multiclass: bool) -> list[str]:
    """The kinds of the pads of a picture, from the bottom to the top."""
    objects = ["labyrinth"] * int(rng.integers(1, 4))
    if multiclass:
        objects = objects[:2] + ["dots"] * int(rng.integers(1, 3))
    clutter = rng.choice(["plain", "clouds", "grain", "stripes"], int(rng.integers(4, 8)))
    return rng.permutation([*objects, *clutter]).tolist()


@dataclass(frozen=True)
class _Shape:
    """A pad: coverage, height above the ground and shadow, each float ``[H, W]`` in 0..1."""

    cover: np.ndarray
    relief: np.ndarray
    shadow: np.ndarray


def _pad_shape(rng: np.random.Generator, size: tuple[int, int]) -> _Shape:
    """A wobbly ellipse anywhere in the picture, possibly cut by its border."""
    height, width = size
    rows, columns = np.ogrid[:height, :width]
    x, y = columns - rng.uniform(0.1, 0.9) * width, rows - rng.uniform(0.1, 0.9) * height
    point = (x + 1j * y).astype(np.complex64) * np.exp(1j * rng.uniform(0, np.pi))
    stretch = np.sqrt(rng.uniform(1, 2))
    point.real /= stretch
    point.imag *= stretch
    distance = np.abs(point)
    direction = point / (distance + 1e-6)
    lobes = np.arange(5, 1, -1)  # the powers of the direction are the waves around the rim
    waves = rng.normal(0, 0.24 / lobes) * np.exp(2j * np.pi * rng.uniform(size=lobes.size))
    rim = np.polyval(np.array([*waves, 0, 1], np.complex64), direction).real.clip(0.4)
    edge = (
        rim * min(size) * rng.uniform(0.17, 0.33) - distance
    )  # pixels to the rim, positive inside
    slope = 0.05 * min(size)
    shadow = 1 / (1 + np.exp((-edge / (0.35 * slope)).clip(-30, 30)))
    down, right = int(slope / 2), int(slope / 3)
    return _Shape(
        cover=(edge + 0.5).clip(0, 1),
        relief=1 - np.exp(-edge.clip(0) / slope),
        shadow=np.pad(shadow, ((down, 0), (right, 0)), mode="edge")[:height, :width],
    )


def _lay(image: np.ndarray, shape: _Shape, pad: np.ndarray) -> None:
    """Lay a pad on the picture, in place: shadow around it, darker towards its rim."""
    image *= 1 - 0.3 * shape.shadow[..., None]
    pad = pad * (0.75 + 0.25 * shape.relief[..., None])
    image += shape.cover[..., None] * (pad - image)


def _textured(rng: np.random.Generator, size: tuple[int, int], texture: np.ndarray) -> np.ndarray:
    """Colour a texture of any scale: the same contrast and the same choice of tints for all."""
    texture = (texture - texture.mean()) / (texture.std() + 1e-6)
    brightness = rng.uniform(0.42, 0.62) + _CONTRAST * texture
    tint, other = _tint(rng), _tint(rng)
    mix = 1 / (1 + np.exp(-texture))
    return brightness[..., None] * (other + mix[..., None] * (tint - other))


def _tint(rng: np.random.Generator) -> np.ndarray:
    """A colour ``[3]`` of luminance 1."""
    color = 0.45 + 0.55 * rng.dirichlet((1.0, 1.0, 1.0))
    return (color / (color @ _LUMA)).astype(np.float32)


def _noise(
    rng: np.random.Generator, size: tuple[int, int], keep: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Random noise ``[H, W]`` with a given spectrum over cycles per pixel; mean 0, variance 1."""
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1]))
    spectrum = np.fft.rfft2(rng.standard_normal(size, np.float32)) * keep(frequency)
    noise = np.fft.irfft2(spectrum, size)
    noise -= noise.mean()
    return (noise / (noise.std() + 1e-12)).astype(np.float32)


def _band(
    rng: np.random.Generator, size: tuple[int, int], wavelength: float, spread: float = 0.2
) -> np.ndarray:
    """Waves of any direction and of about one length (pixels)."""
    return _noise(rng, size, lambda f: np.exp(-0.5 * ((f * wavelength - 1) / spread) ** 2))


def _clouds(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return _noise(rng, size, lambda f: (f + 0.5 / max(size)) ** -1.6)


def _labyrinth(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return np.tanh(2.5 * _band(rng, size, rng.uniform(0.058, 0.07) * min(size)))


def _dots(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return np.tanh(3 * (_band(rng, size, rng.uniform(0.06, 0.075) * min(size), 0.12) - 1.0))


def _grain(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return _noise(rng, size, lambda f: f**2 * np.exp(-((f / 0.4) ** 2)))


def _stripes(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    rows, columns = np.ogrid[: size[0], : size[1]]
    turn, wavelength = rng.uniform(0, np.pi), rng.uniform(0.04, 0.09) * min(size)
    phase = ((columns * np.cos(turn) + rows * np.sin(turn)) / wavelength).astype(np.float32)
    return np.tanh(2 * np.sin(2 * np.pi * phase + 0.8 * _band(rng, size, 60.0, 0.4)))


def _plain(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return _band(rng, size, 0.8 * max(size), 0.5)


_TEXTURES: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "labyrinth": _labyrinth,
    "dots": _dots,
    "plain": _plain,
    "clouds": _clouds,
    "grain": _grain,
    "stripes": _stripes,
}
_CLASS_IDS = {"labyrinth": 1, "dots": 2}


def _class_lines(multiclass: bool) -> tuple[str, ...]:
    if multiclass:
        return ("0 background", "1 labyrinth", "2 dots")
    return ("0 background", "255 labyrinth")


def _check_options(counts: dict[str, int], size: tuple[int, int], seed: int) -> None:
    for split, images in counts.items():
        least = 1 if split == "train" else 0
        if images < least:
            raise OptionError(f"num_{split} is at least {least}, found {images}.")
    if min(size) < _MIN_SIDE:
        raise OptionError(f"size is (height, width) of at least {_MIN_SIDE} each, found {size}.")
    if seed < 0:
        raise OptionError(f"seed is 0 or more, found {seed}.")


def _check_folder(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise DataError(f"{root}: expected a folder to write a synthetic set to, found a file.")
    note = root / "SOURCE.md"
    ours = note.is_file() and note.read_text("utf-8", "replace").startswith(_MARK)
    if root.is_dir() and any(root.iterdir()) and not ours:
        raise DataError(
            f"{root}: expected a new or empty folder, or an earlier synthetic set, found other "
            "files; nothing was written. Choose another folder."
        )


def _source_note(counts: dict[str, int], size: tuple[int, int], seed: int, multiclass: bool) -> str:
    splits = ", ".join(f"{images} {split}" for split, images in counts.items())
    return (
        f"{_MARK}\n\nGenerated by easyseg.datasets.synthetic, not photographed: scores on it show "
        f"that the software works, and nothing about real images.\n\n- images: {splits}\n"
        f"- size: {size[0]} x {size[1]} (height x width)\n- seed: {seed}\n"
        f"- classes: {', '.join(_class_lines(multiclass))}\n"
    )
