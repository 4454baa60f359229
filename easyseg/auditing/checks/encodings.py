"""How the masks are coded: what was understood, in one note for each way."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, pairwise

from easyseg.auditing.findings import Finding, Severity, counted
from easyseg.auditing.scan import MOST_VALUES
from easyseg.auditing.tables import Audited, Seen
from easyseg.data.colours import hex_colour, palette_colours
from easyseg.data.label_rules import some

_DTYPES = {
    "bool": "1 bit",
    "uint8": "8 bit",
    "uint16": "16 bit",
    "int32": "32 bit",
    "rgb": "RGB colours",
}
_SHOWN = 12  # values that a note lists


def check_encodings(audited: Audited) -> Iterator[Finding]:
    """Yield a note for each way in which masks are coded, and one for gaps in the ids."""
    ways: dict[str, list[Seen]] = {}
    for seen in audited.masks():
        if seen.fact.num_values > MOST_VALUES:
            continue  # another check says that it is no mask
        ways.setdefault(_way(seen), []).append(seen)
    total = sum(map(len, ways.values()))
    for way, found in ways.items():
        values = sorted({value for seen in found for value in seen.fact.mask_counts or ()})
        yield Finding(
            Severity.NOTE,
            "mask-encoding",
            f"{len(found)} of {counted(total, 'mask')}: {way}, {_values(values, found)}",
            "nothing, if the classes are right; predictions come back in this encoding",
            # Of what all masks have in common, none is a better example than another one.
            tuple(seen.evidence("label") for seen in found if len(found) < total),
        )
    yield from _gaps(audited)


def _way(seen: Seen) -> str:
    """Return in words how a mask is saved."""
    fact = seen.fact
    way = _DTYPES[fact.mask_dtype or "uint8"]
    if fact.palette is not None and fact.mask_dtype != "rgb":
        way = "indices of a palette"
    elif fact.mask_dtype == "uint8" and set(fact.mask_counts or ()) <= {0, 255}:
        way = "8 bit black and white"
    return f"{way}, saved as JPEG" if fact.lossy else way


def _values(values: list[int], found: list[Seen]) -> str:
    fact = found[0].fact
    if fact.mask_dtype == "rgb":
        named = ", ".join(hex_colour(value) for value in values[:_SHOWN])
        return f"the colours {named}{', ...' if len(values) > _SHOWN else ''}"
    if fact.palette is not None:
        colours = palette_colours(fact.palette)
        listed = ", ".join(f"{v} ({hex_colour(int(colours[v]))})" for v in values[:_SHOWN])
        return f"the values {listed}{', ...' if len(values) > _SHOWN else ''}"
    return some(values, most=_SHOWN)


def _gaps(audited: Audited) -> Iterator[Finding]:
    label_map = audited.label_map
    if label_map is None or label_map.binary or label_map.dtype == "rgb" or audited.named:
        return
    first, last = label_map.values[0], label_map.values[-1]
    ignored = [v for v in (label_map.ignore,) if v is not None and first < v < last]
    held = sorted([*label_map.values, *ignored])
    missing = last - first + 1 - len(held)
    if missing:
        # One after the other: 32 bit ids may leave out billions.
        left_out = (v for low, high in pairwise(held) for v in range(low + 1, high))
        words = some(list(islice(left_out, _SHOWN)), most=_SHOWN, number=missing)
        yield Finding(
            Severity.NOTE,
            "gaps-in-ids",
            f"the class ids have gaps: {words} of {first} to {last} never occur",
            "nothing, if that is so: the values become ids in ascending order, and predictions"
            " come back in the values; name them with classes={value: name, ...}",
        )
