"""Images of unusual channels, depths and values."""

from __future__ import annotations

from collections.abc import Iterator

from easyseg.auditing.facts import ImageFacts
from easyseg.auditing.findings import Finding, Severity, counted
from easyseg.auditing.tables import Audited, Seen

_PLAIN = {"RGB", "L", "uint8", "RGBX"}
_ALPHA = {"RGBA", "LA", "PA", "RGBa", "La"}
_WHAT = {
    "1": "1 bit, read as black and white",
    "P": "a palette, read as its colours",
    "CMYK": "CMYK, converted to RGB",
    "YCbCr": "YCbCr, converted to RGB",
    "LAB": "Lab, converted to RGB",
    "HSV": "HSV, converted to RGB",
    "bool": "bool, read as black and white",
}
# Of 255 levels; 8-bit copies of 0..1 or 0..15 images have fewer, photos at night have more.
_FEW_LEVELS = 16
# A stretched image whose pixels nearly all have one of fewer colours shows next to nothing.
_FEW_COLOURS = 8
_DARK, _BRIGHT = 10, 245  # mean levels beyond which a picture shows next to nothing


def check_channels(audited: Audited) -> Iterator[Finding]:
    """Yield notes on modes that are converted, and on grey images among coloured ones."""
    readable = [seen for seen in audited if seen.fact.size != (0, 0)]
    modes: dict[str, list[Seen]] = {}
    for seen in readable:
        modes.setdefault(seen.fact.mode, []).append(seen)
    for mode, found in sorted(modes.items()):
        if mode in _PLAIN:
            continue
        if mode in _ALPHA:
            what = "with an alpha channel, which is dropped"
        else:
            deep = f"{mode}, stretched to 8 bit from its own smallest to its own largest value"
            what = f"of the mode {_WHAT.get(mode, deep)}"
        yield Finding(
            Severity.NOTE,
            "unusual-mode",
            f"{len(found)} of {counted(len(readable), 'image')}: {what}",
            "nothing, if that is right for these images; otherwise convert them to 8 bit RGB",
            tuple(seen.evidence("image", detail=f"{seen.image}: mode {mode}") for seen in found),
        )
    known = [seen for seen in readable if seen.fact.digest and not seen.swapped]
    grey = [seen for seen in known if seen.fact.grey]
    if 0 < len(grey) < len(known):
        few, words = grey, "grey, the others coloured"
        if 2 * len(grey) > len(known):
            few, words = [s for s in known if not s.fact.grey], "coloured, the others grey"
        yield Finding(
            Severity.NOTE,
            "mixed-colours",
            f"{len(few)} of {counted(len(known), 'image')}: {words}",
            "look whether they come from another device or went through another program",
            tuple(seen.evidence("image") for seen in few),
        )


def _is_stretched(mode: str) -> bool:
    """Return whether images of a mode are stretched from their own smallest to largest value."""
    return mode not in _PLAIN | _ALPHA | _WHAT.keys()


# What images look like that show nothing, or next to nothing; and what to do about it.
_LOOKS = {
    "constant-image": ("of one colour", "look at them, or drop the rows"),
    "narrow-range": (
        f"less than {_FEW_LEVELS} of 256 grey levels used",
        "look whether values of 0..1 or few bits were saved as 8 bit: stretch them",
    ),
    "squeezed-range": (
        f"stretched to 8 bit, nearly all pixels have one of fewer than {_FEW_COLOURS} levels: a"
        " value far from all others, as for missing data, sets the range",
        "give missing data a value within the range of the others, or convert to 8 bit",
    ),
    "dark-or-bright-image": (
        "nearly black or nearly white",
        "look whether they are exposed and saved as they should be",
    ),
}


def _look(fact: ImageFacts) -> str | None:
    """Return which of the `_LOOKS` an image has, the first one that fits."""
    if fact.constant:
        return "constant-image"
    if fact.levels[1] - fact.levels[0] < _FEW_LEVELS:
        return "narrow-range"
    if _is_stretched(fact.mode) and fact.colours < _FEW_COLOURS:
        return "squeezed-range"
    return None if _DARK <= fact.brightness <= _BRIGHT else "dark-or-bright-image"


def check_brightness(audited: Audited) -> Iterator[Finding]:
    """Yield warnings for images that show nothing, or next to nothing."""
    known = [seen for seen in audited if seen.fact.digest and not seen.swapped]
    for check, (words, remedy) in _LOOKS.items():
        found = [seen for seen in known if _look(seen.fact) == check]
        if found:
            yield Finding(
                Severity.WARNING,
                check,
                f"{len(found)} of {counted(len(known), 'image')}: {words}",
                remedy,
                tuple(
                    seen.evidence(
                        "image",
                        detail=f"{seen.image}: levels {seen.fact.levels[0]} to"
                        f" {seen.fact.levels[1]}, mean {seen.fact.brightness:.0f}",
                    )
                    for seen in found
                ),
            )
