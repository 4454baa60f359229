"""``python -m easyseg``: the same as the command ``easyseg``."""

from __future__ import annotations

from easyseg.cli import main

if __name__ == "__main__":
    main()
