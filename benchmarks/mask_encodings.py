"""Real multi-class masks, as they are and coded in colours, 16 bits or ids with gaps: same quality?

    python benchmarks/mask_encodings.py --data ../shared/data

Each set is fitted with nothing set but the void value and a number of steps, once with its masks as
they are and once with each encoding of them; classes are never named, so that the colours, which
are drawn by chance, put the classes into another order. The score is miou@dataset of the test
images, by class ids. Where the classes keep their order the weights have to be the same, bit for
bit. Finished cells are kept as JSON below benchmarks/results/mask_encodings/.
"""

from __future__ import annotations

import hashlib
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import _cells
import numpy as np
import pandas as pd
from _record import provenance, write_json
from PIL import Image

SETS = ("camvid", "cwfid", "highway_cdnet")
ENCODINGS = ("as it is", "colours", "16 bits", "gaps", "palette")
STEPS = 60
GAP = 7


class Cell(NamedTuple):
    """One encoding of one set."""

    name: str
    encoding: str

    def file(self, results: Path) -> Path:
        """Return where its result is kept."""
        return results / "mask_encodings" / f"{self.name}-{self.encoding.replace(' ', '_')}.json"


@lru_cache  # Nobody writes into them.
def codes(encoding: str) -> np.ndarray:
    """Return what stands for each value 0..255: ``[256]``, or ``[256, 3]`` for colours."""
    values = np.arange(256)
    if encoding == "colours":
        colours = np.random.default_rng(0).permutation(2**24)[:256]
        return np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1).astype(np.uint8)
    if encoding == "gaps":  # A byte has no room for 255 of them.
        return (values * GAP).astype(np.uint16)
    return values.astype(np.uint16 if encoding == "16 bits" else np.uint8)


def recode(table: pd.DataFrame, encoding: str, folder: Path) -> pd.DataFrame:
    """Write the masks of a table in another encoding."""
    if encoding == "as it is":
        return table
    folder.mkdir()
    masks = []
    for number, mask in enumerate(table["label"]):
        image = Image.fromarray(codes(encoding)[np.asarray(Image.open(mask))])
        if encoding == "palette":
            image.putpalette(codes("colours").tobytes())
        masks.append(str(folder / f"{number}.png"))
        image.save(masks[-1])
    return table.assign(label=masks)


def void(encoding: str, value: int | str | None) -> Any:
    """Return the ignored value in an encoding."""
    if value is None:
        return None
    code = codes(encoding)[int(value)]
    return tuple(map(int, code)) if encoding == "colours" else int(code)


def run_cell(cell: Cell, options: Any) -> bool:
    """Fit and score one encoding, in this process."""
    from easyseg import SemanticSegmentor
    from easyseg.datasets.folder import read_folder

    dataset = read_folder(options.data / cell.name)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        parts = {
            part: recode(getattr(dataset, part), cell.encoding, folder / part)
            for part in ("train", "val", "test")
        }
        segmentor = SemanticSegmentor(
            ignore_index=void(cell.encoding, dataset.ignore), path=folder / "run", verbosity=0
        ).fit(
            parts["train"],
            parts["val"],
            hyperparameters={"train.max_steps": STEPS},
            accelerator="cpu",
            seed=0,
        )
        weights = (segmentor.path_ / "model" / "model.safetensors").read_bytes()
        scores = segmentor.evaluate(parts["test"])
        predicted = segmentor.predict(parts["test"].head(1)).iloc[0]
    write_json(
        cell.file(options.results),
        {
            "set": cell.name,
            "encoding": cell.encoding,
            "score": scores["miou@dataset"],
            "weights": hashlib.sha256(weights).hexdigest(),
            "predicted": f"{predicted.dtype} {'x'.join(map(str, predicted.shape))}",
            **provenance(),
        },
    )
    return True


def table(cells: list[dict[str, Any]]) -> str:
    """Return a row for each encoding, a column for each set."""
    found = {(cell["set"], cell["encoding"]): cell for cell in cells}
    lines = [
        f"| masks | {' | '.join(SETS)} | predictions, such as |",
        f"|---|{'---|' * (len(SETS) + 1)}",
    ]
    for encoding in ENCODINGS:
        row, shape = [], ""
        for name in SETS:
            cell, own = found.get((name, encoding)), found.get((name, ENCODINGS[0]))
            if cell is None:
                row.append("")
                continue
            same = own is not None and own["weights"] == cell["weights"] and own is not cell
            row.append(f"{cell['score']:.3f}{' (same weights)' if same else ''}")
            shape = shape or cell["predicted"]
        lines.append(f"| {encoding} | {' | '.join(row)} | {shape} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and write the table."""
    parser = _cells.parser(__doc__)
    parser.set_defaults(sets=list(SETS))
    options = parser.parse_args()
    cells = [Cell(name, encoding) for name in options.sets for encoding in ENCODINGS]
    missing = [c for c in cells if options.again or not c.file(options.results).is_file()]
    failed = _cells.run_cells([] if options.table else missing, lambda c: run_cell(c, options))
    finished = _cells.read_results(options.results / "mask_encodings")
    if finished:
        _cells.write_table(table(finished), options.results, "mask_encodings", _cells.PAGE)
    _cells.exit_if(failed)


if __name__ == "__main__":
    main()
