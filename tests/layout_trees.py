"""Miniature copies of public data sets, file by file as their authors and the paper lay them out.

Written from the descriptions of the sets, not from `easyseg.datasets`, so that both can disagree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

Pair = tuple[str, str]
GREY = (0, 255)


@dataclass(frozen=True)
class Tree:
    """One layout in miniature.

    Attributes:
        name: The set's name in easyseg.
        folder: The folder that its archive unpacks to.
        parts: Image and mask of each row, by part.
        val: Whether there is a validation part.
        values: What its masks hold: grey levels, or colours.
        tables: Whether the parts are CSV files.
        others: Files that belong to no part.
        palette: Whether masks are palette images.
    """

    name: str
    folder: str
    parts: dict[str, list[Pair]]
    values: tuple = GREY
    tables: bool = False
    others: tuple[str, ...] = ()
    palette: bool = False
    tests: tuple[str, ...] = field(default=("test",))

    @property
    def val(self) -> bool:
        return "val" in self.parts

    @property
    def id(self) -> str:
        return f"{self.name}-{self.folder.replace('/', '_') or 'flat'}"

    def write(self, parent: Path) -> Path:
        """Write it below a folder and return the set's folder."""
        root = parent / self.folder
        rng = np.random.default_rng(0)
        for part, pairs in self.parts.items():
            for image, mask in pairs:
                _save(root / image, rng.integers(0, 256, (16, 24, 3), np.uint8))
                self._save_mask(root / mask, rng)
            if self.tables:
                pd.DataFrame(pairs, columns=["image", "label"]).to_csv(
                    root / f"{part}.csv", index=False
                )
        for other in self.others:
            _save(root / other, np.zeros((16, 24), np.uint8))
        return root

    def _save_mask(self, file: Path, rng: np.random.Generator) -> None:
        ids = rng.integers(0, len(self.values), (16, 24))
        ids.flat[: len(self.values)] = range(len(self.values))
        pixels = np.array(self.values, np.uint8)[ids]
        if not self.palette:
            _save(file, pixels)
            return
        image = Image.fromarray(pixels, "P")
        image.putpalette([0, 0, 0, 128, 0, 0])
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file)


def _save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix in (".csv", ".json", ".txt"):
        file.write_text("nothing to read")
    else:
        Image.fromarray(pixels).save(file)


def _paper(name: str, folder: str, tests: tuple[str, ...] = ("test",)) -> Tree:
    """As the archives of the paper: tables beside folders, masks of 0 and 255."""
    parts = {
        part: [(f"images/{part}/{n}.jpg", f"masks/{part}/{n}.png") for n in range(rows)]
        for part, rows in {"train": 3, "val": 1, **dict.fromkeys(tests, 2)}.items()
    }
    return Tree(name, folder, parts, tables=True, tests=tests)


def _isic(part: str, number: int) -> Pair:
    name = f"ISIC_{number:07d}"
    return (
        f"ISIC-2017_{part}_Data/{name}.jpg",
        f"ISIC-2017_{part}_Part1_GroundTruth/{name}_segmentation.png",
    )


def _praneted(image: str, mask: str) -> Tree:
    tests = {
        name: [(f"TestDataset/{name}/images/{n}.png", f"TestDataset/{name}/masks/{n}.png")]
        for name, n in (("Kvasir", "cju2"), ("CVC-ClinicDB", "61"))
    }
    train = [(f"TrainDataset/{image}/{n}.png", f"TrainDataset/{mask}/{n}.png") for n in ("1", "2")]
    return Tree(
        "polyp",
        "polyp",
        {"train": train, **tests},
        tests=tuple(tests),
        others=(
            "TestDataset/ETIS-LaribPolypDB/images/9.png",
            "TestDataset/ETIS-LaribPolypDB/masks/9.png",
        ),
    )


def _sbu(part: str, name: str) -> Pair:
    return (f"{part}/ShadowImages/{name}.jpg", f"{part}/ShadowMasks/{name}.png")


def _roads(folder: str, parts: dict[str, tuple[str, str]]) -> Tree:
    rows = {
        part: [(f"{sat}/{n}_15.tiff", f"{map_}/{n}_15.tif") for n in (10078660, 10078675)]
        for part, (sat, map_) in parts.items()
    }
    return Tree("road_segmentation", folder, rows)


def _trans10k(folder: str, numbers: range) -> list[Pair]:
    return [(f"{folder}/images/{n}.jpg", f"{folder}/masks/{n}_mask.png") for n in numbers]


def _trans10k_v2(folder: str, numbers: range) -> list[Pair]:
    return [(f"{folder}/images/{n}.jpg", f"{folder}/masks_12/{n}_mask.png") for n in numbers]


TREES = (
    _paper("polyp", "polyp", ("test_Kvasir", "test_CVC-ClinicDB")),
    _praneted("image", "mask"),
    _praneted("images", "masks"),
    _paper("isic2017", "isic2017"),
    Tree(
        "isic2017",
        "isic2017",
        {
            "train": [_isic("Training", n) for n in (0, 2, 1)],
            "val": [_isic("Validation", 1769)],
            "test": [_isic("Test_v2", n) for n in (12086, 12092)],
        },
        others=(
            "ISIC-2017_Training_Data/ISIC_0000000_superpixels.png",
            "ISIC-2017_Training_Data/ISIC-2017_Training_Data_metadata.csv",
            "ISIC-2017_Training_Data/._ISIC_0000000.jpg",
        ),
    ),
    _paper("camo", "camo_sem_seg", ("test_CAMO",)),
    Tree(
        "camo",
        "CAMO-V.1.0-CVIU2019",
        {
            "train": [
                (f"Images/Train/camourflage_{n}.jpg", f"GT/camourflage_{n}.png")
                for n in ("00001", "00002")
            ],
            "test_CAMO": [("Images/Test/camourflage_00012.jpg", "GT/camourflage_00012.png")],
        },
        tests=("test_CAMO",),
    ),
    _paper("sbu_shadow", "SBU-shadow"),
    Tree(
        "sbu_shadow",
        "SBU-shadow",
        {
            "train": [_sbu("SBUTrain4KRecoveredSmall", name) for name in ("lssd1", "lssd10")],
            "test": [_sbu("SBU-Test", "lssd2")],
        },
        others=("SBU-Test/EdgeMap/lssd2.png", "ImageSets/train.txt"),
    ),
    _paper("leaf_disease_segmentation", "leaf_disease_segmentation"),
    Tree(
        "leaf_disease_segmentation",
        "leaf_disease_segmentation",
        {
            "train": [
                (f"orig_data/train_images/{n}.jpg", f"orig_data/train_masks/{n}.png")
                for n in ("00000", "00001")
            ],
            "test": [("orig_data/valid_images/00002.jpg", "orig_data/valid_masks/00002.png")],
        },
        others=("aug_data/train_images/00000_1.jpg", "aug_data/train_masks/00000_1.png"),
    ),
    _paper("road_segmentation", "road_segmentation"),
    _roads(
        "mass_roads", {part: (f"{folder}/sat", f"{folder}/map") for part, folder in
                       (("train", "train"), ("val", "valid"), ("test", "test"))},
    ),
    _roads(
        "massachusetts-roads-dataset",
        {part: (f"tiff/{part}", f"tiff/{part}_labels") for part in ("train", "val", "test")},
    ),
    Tree(
        "trans10k_v1",
        "Trans10K",
        {
            "train": _trans10k("train", range(3)),
            "val": _trans10k("validation/easy", range(3, 5))
            + _trans10k("validation/hard", range(5, 6)),
            "easy": _trans10k("test/easy", range(6, 8)),
            "hard": _trans10k("test/hard", range(8, 9)),
        },
        values=((0, 0, 0), (255, 0, 0), (255, 255, 255)),
        tests=("easy", "hard"),
    ),
    Tree(
        "trans10k_v2",
        "Trans10K_v2",
        {
            "train": _trans10k_v2("train", range(2)),
            "val": _trans10k_v2("validation", range(2, 3)),
            "test": _trans10k_v2("test", range(3, 5)),
        },
        values=tuple(range(12)),
    ),
)  # fmt: skip

KAGGLE_LEAVES = Tree(
    "leaf_disease_segmentation",
    "leaf_disease_segmentation/data/data",
    {"all": [(f"images/{n:05d}.jpg", f"masks/{n:05d}.png") for n in range(40)]},
    values=(0, 1),
    palette=True,
)
