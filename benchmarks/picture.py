"""The picture of the README: test photographs, masks, predictions and errors.

    python benchmarks/picture.py --data ../shared/data

A fit of two minutes on skin_isic, seed 0, and its predictions for test images that a seed draws:
they are not chosen by eye. The picture goes to docs/assets/skin_isic.jpg. The photographs are
from the ISIC archive and dedicated to the public domain (CC-0).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

SET = "skin_isic"
PICTURE = Path(__file__).parents[1] / "docs" / "assets" / f"{SET}.jpg"
ROWS = 3
SECONDS = 120


def main() -> None:
    """Fit, predict and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    folder = parser.parse_args().data / SET
    from easyseg import SemanticSegmentor

    with tempfile.TemporaryDirectory() as scratch:
        segmentor = SemanticSegmentor(
            problem_type="binary",
            classes={0: "background", 1: "lesion"},
            path=Path(scratch) / "run",
        ).fit(
            folder / "train.csv",
            tuning_data=folder / "val.csv",
            time_limit=SECONDS,
            accelerator="cpu",
        )
        print(segmentor.evaluate(folder / "test.csv"))
        figure = segmentor.show_predictions(folder / "test.csv", num_images=ROWS, seed=0)
    figure.savefig(PICTURE, dpi=80, pil_kwargs={"quality": 85})


if __name__ == "__main__":
    main()
