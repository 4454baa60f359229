"""One cell of plan_grid.py: easyseg with one setting on one set with one seed, in this process."""

from __future__ import annotations

import json

from _budget_fit import easyseg_fit, parser, run_cell


def main() -> None:
    """Run one cell and write it down."""
    options = parser(__doc__)
    options.add_argument("setting")
    options.add_argument("--hyperparameters", type=json.loads, required=True)
    told = options.parse_args()
    run_cell(told, {"setting": told.setting}, lambda: easyseg_fit(told.hyperparameters))


if __name__ == "__main__":
    main()
