"""What is known of a public data set: one value a set, read by loading, listing and tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from easyseg.datasets.layouts import Layout

if TYPE_CHECKING:
    from easyseg.data.label_rules import Classes

__all__ = ["Archive", "DatasetSpec"]


@dataclass(frozen=True)
class Archive:
    """A file to download.

    Attributes:
        url: Where it is.
        sha256: Its hash as hexadecimal digits; ``None`` if nobody who could vouch for it told it.
            Then only its length is checked, and its entries before it is unpacked.
    """

    url: str
    sha256: str | None = None

    @property
    def filename(self) -> str:
        """The name under which it is kept."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class DatasetSpec:
    """A public data set.

    Attributes:
        name: Its name here.
        about: What its images show and what is marked in them, with the number of images.
        problem_type: ``"binary"`` or ``"multiclass"``.
        classes: Names by raw mask value, or in the ascending order of the values.
        ignore_index: Raw value of pixels that neither train nor score; ``None`` if there is none.
        metric: The score that studies of the set report first, ``metric@averaging``.
        domain: The preset of its domain; ``None`` if there is none.
        licence: The terms of use, as far as they are known.
        citation: What to cite.
        homepage: Where it comes from.
        layouts: The ways in which it may lie in its folder.
        folders: Names that its folder may have beside ``name``.
        sources: Where it can be downloaded: the archives of the first source that answers. Empty if
            it has to be fetched by hand.
        by_hand: What to get by hand from the homepage, and why.
    """

    name: str
    about: str
    problem_type: str
    classes: Classes = field(hash=False)
    ignore_index: int | None
    metric: str
    domain: str | None
    licence: str
    citation: str
    homepage: str
    layouts: tuple[Layout, ...]
    folders: tuple[str, ...] = ()
    sources: tuple[tuple[Archive, ...], ...] = ()
    by_hand: str = ""
