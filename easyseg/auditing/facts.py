"""What one sample is, and what is wrong with its files: all that the checks look at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from easyseg.auditing.intensities import Intensities
from easyseg.auditing.shapes import Shapes
from easyseg.data.io import turns

__all__ = ["ImageFacts", "Part", "Problem", "ProblemKind", "Thresholded"]

Part = Literal["image", "label"]
ProblemKind = Literal["missing", "empty", "truncated", "unreadable", "bomb", "values"]


@dataclass(frozen=True)
class Problem:
    """Why an image or a mask cannot be used.

    Args:
        part: Which of the two.
        kind: ``"missing"``, ``"empty"`` (no bytes), ``"truncated"``, ``"unreadable"``, ``"bomb"``
            (more pixels than Pillow opens), or ``"values"``: it can be read, and holds what an
            image or a mask cannot hold.
        text: One line: file, found, expected, remedy.
    """

    part: Part
    kind: ProblemKind
    text: str


@dataclass(frozen=True)
class Thresholded:
    """What a mask is if its grey levels are smears: each pixel 0 or 255, whichever is nearer.

    Args:
        shapes: The regions of the two values.
        upper_shares: Of the pixels of each of the two, the share in the upper half.
    """

    shapes: dict[int, Shapes]
    upper_shares: dict[int, float]


@dataclass(frozen=True)
class ImageFacts:
    """What one sample is. What could not be read keeps its default.

    Args:
        size: Height and width of the upright image in pixels; (0, 0) if it cannot be read.
        mask_counts: Pixels of each raw mask value; None without a mask, empty for one of more
            values than there can be classes, as are the other figures by value.
        mask_dtype: ``"bool"``, ``"uint8"``, ``"uint16"``, ``"int32"``, or ``"rgb"`` for colours
            (`easyseg.data.colours`); None without a mask.
        mode: The image's PIL mode (``"RGB;16"`` for 16-bit colour), or the array's dtype.
        lean: Mean brightness of the upper half less that of the lower half, in 0..255 grey levels.
        upper_shares: Of the pixels of each raw mask value, the share in the upper half; None
            without a mask.
        problems: Why the image or the mask cannot be used; empty if both can be read.
        mask_size: Height and width of the upright mask; None without a mask.
        mask_mode: The mask's PIL mode, or the array's dtype.
        palette: Red, green and blue of each value, if the values are indices of a palette.
        lossy: Whether the mask is a JPEG or a lossy WebP.
        num_values: Number of different values of the mask.
        covering: How many of them, the most frequent ones, cover 95 % of its pixels.
        border_counts: Pixels of each raw value on the frame of the mask, one pixel wide.
        orientations: EXIF orientations of image and mask, 1 (upright) to 8.
        pages: Number of pages or frames of the image's and of the mask's file (TIFF, GIF, WebP).
        grey: Whether all three channels of the image are the same.
        constant: Whether the image is of one colour.
        levels: Smallest and largest 8-bit value of the image.
        brightness: Mean of the image's 8-bit values.
        colours: Number of colours that cover 95 % of a grid of points on the image.
        digest: Digest of the image's pixels; empty if there is no mask.
        perceptual_hash: 64 bits that near duplicates share; None if there is no mask.
        thumbnail: A grey copy of 16x16 pixels, which confirms near duplicates.
        mask_digest: Digest of the mask's values.
        identical: Whether the mask holds the pixels of its image.
        shapes: The regions of each raw mask value; None without a mask. Of a lossy mask of many
            values there are none: what it holds are smears, or no classes.
        thresholded: The same of a mask that may be smeared; None of others.
        intensities: Brightness of each colour, and its deviation; None if there is no mask.
    """

    size: tuple[int, int]
    mask_counts: dict[int, int] | None
    mask_dtype: str | None
    mode: str
    lean: float
    upper_shares: dict[int, float] | None
    problems: tuple[Problem, ...] = ()
    mask_size: tuple[int, int] | None = None
    mask_mode: str = ""
    palette: bytes | None = None
    lossy: bool = False
    num_values: int = 0
    covering: int = 0
    border_counts: dict[int, int] | None = None
    orientations: tuple[int, int] = (1, 1)
    pages: tuple[int, int] = (1, 1)
    grey: bool = False
    constant: bool = False
    levels: tuple[int, int] = (0, 255)
    brightness: float = 127.5
    colours: int = 0
    digest: str = ""
    perceptual_hash: int | None = None
    thumbnail: bytes = b""
    mask_digest: str = ""
    identical: bool = False
    shapes: dict[int, Shapes] | None = None
    thresholded: Thresholded | None = None
    intensities: Intensities | None = None

    @property
    def turned(self) -> tuple[bool, bool]:
        """Whether the EXIF orientations of image and mask swap height and width."""
        return turns(self.orientations[0]), turns(self.orientations[1])

    def as_smeared(self) -> ImageFacts:
        """Return the facts of the same mask with each pixel 0 or 255, whichever is nearer."""
        if self.thresholded is None:
            return self
        nearer = self.thresholded
        return replace(self, shapes=nearer.shapes, upper_shares=nearer.upper_shares)
