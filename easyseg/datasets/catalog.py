"""Which data sets are known by name."""

from __future__ import annotations

from easyseg.datasets.paper_sets import PAPER_SETS
from easyseg.datasets.sample_sets import SAMPLE_SETS
from easyseg.datasets.spec import DatasetSpec
from easyseg.errors import OptionError, nearest

__all__ = ["get_spec", "list_datasets", "whose_folder"]

_SPECS = {spec.name: spec for spec in (*PAPER_SETS, *SAMPLE_SETS)}


def list_datasets() -> tuple[str, ...]:
    """Return the names of all data sets: those of the paper, then the small ones.

    Example:
        >>> list_datasets()[:3]
        ('polyp', 'isic2017', 'camo')
    """
    return tuple(_SPECS)


def get_spec(name: str) -> DatasetSpec:
    """Return what is known of a data set; nothing is looked for on the disk.

    Args:
        name: Its name, as `list_datasets` gives it.

    Raises:
        OptionError: If there is no such set.

    Example:
        >>> get_spec("isic2017").domain
        'skin_lesion'
    """
    if name not in _SPECS:
        raise OptionError(f"no data set is called {name!r}. {nearest(name, _SPECS)}")
    return _SPECS[name]


def whose_folder(folder: str) -> str | None:
    """Return which data set a folder is of, by its name alone; ``None`` if of none.

    Args:
        folder: The last part of its path.

    Example:
        >>> whose_folder("SBU-shadow")
        'sbu_shadow'
    """
    return next(
        (name for name, spec in _SPECS.items() if folder in (name, *spec.folders)),
        None,
    )
