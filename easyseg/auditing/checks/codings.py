"""Masks of one set that are coded in two ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from easyseg.auditing.encoding import black_and_white
from easyseg.auditing.findings import Finding, Severity
from easyseg.auditing.tables import Audited, Seen
from easyseg.data.label_map import IGNORE
from easyseg.data.label_rules import some

# The second coding of the same classes has values so many times as large (1 and 100, say): smaller
# gaps are between classes.
_FAR_TIMES = 10
# So many masks of 0 and 255 are not believed to hold the background and ignored pixels alone, where
# the foreground beside them is no more than slips: in a single mask, or in so small a share of the
# masks and so small a share of the pixels of 255.
_MANY_WHITES = 5
_SLIPPED_MASKS, _SLIPPED_PIXELS = 0.25, 0.005
# So few masks that hold ids and 255, of those that hold the one or the other, do not tell them
# from two codings.
_HARDLY_BOTH = 0.1


def check_mixed_bits(audited: Audited) -> Iterator[Finding]:
    """Yield an error for masks of 1 bit, whose foreground is 1, among masks of 0 and 255.

    If they are among the training masks, those of other tables are meant, too.
    """
    bits = audited.mixed_bits()
    if bits:
        bits += [
            seen
            for table in audited.tables[1:]
            for seen in audited.masks(table)
            if black_and_white(seen.fact)
        ]
        total = len(list(audited.masks()))
        palette = "a palette of black and white"
        words = f" or {palette}" if any(seen.fact.palette for seen in bits) else ""
        yield Finding(
            Severity.ERROR,
            "mixed-bits",
            f"{len(bits)} of {total} masks have 1 bit{words}, the others hold 0 and 255: the"
            " foreground reads as 1 here, as 255 there",
            "save all masks in one format",
            tuple(
                seen.evidence(
                    "label",
                    detail=f"{seen.label}: has {palette if seen.fact.palette else '1 bit'},"
                    " others hold 0 and 255; save all alike",
                )
                for seen in bits
            ),
            repair="write 255 for 1",
        )


def check_mixed_encodings(audited: Audited) -> Iterator[Finding]:
    """Yield an error for sets in which some masks hold ids, others 0 and 255, and none both.

    255 after consecutive ids is read as ignored. Where no mask shows an id beside 255, or hardly
    one, it is as likely that two people saved the foreground in two ways; where the ids are a few
    pixels, that those were spoilt. Where no training mask holds 255, those of other tables that do
    are of unknown values.
    """
    label_map = audited.label_map
    if audited.told or label_map is None or label_map.coloured:
        return
    if label_map.values[0] != 0 or label_map.ignore != IGNORE:
        return
    binary = label_map.binary
    both: list[Seen] = []
    ones: list[Seen] = []
    whites: list[Seen] = []
    white_pixels = id_pixels = 0
    for seen in audited.masks():
        counts = seen.fact.mask_counts or {}
        ids = counts.keys() - {0, IGNORE}
        if ids:
            (both if IGNORE in counts else ones).append(seen)
        elif IGNORE in counts and (binary or 0 in counts):
            whites.append(seen)
        white_pixels += counts.get(IGNORE, 0)
        id_pixels += sum(counts[value] for value in ids)
    slips = len(both) == 1 or (
        len(both) <= _SLIPPED_MASKS * (len(both) + len(whites))
        and id_pixels <= _SLIPPED_PIXELS * white_pixels
    )
    if not any(0 in (seen.fact.mask_counts or ()) for seen in whites):
        whites = []  # images without any label are no other coding
    apart = min(len(ones), len(whites))
    if binary and both and not ones and slips and len(whites) >= _MANY_WHITES:
        named = f"{both[0].label}{', ...' if len(both) > 1 else ''}"
        yield Finding(
            Severity.ERROR,
            "mixed-encodings",
            f"{len(whites)} masks hold 0 and {IGNORE}, {_a_single_one(len(both))} 1 beside"
            f" {IGNORE} ({named}): is {IGNORE} the foreground, and 1 a slip, or is it ignored?",
            f"correct {'that mask' if len(both) == 1 else 'these masks'}; or, if {IGNORE} is"
            f" ignored, say ignore_index={IGNORE}",
            tuple(seen.evidence("label") for seen in both),
        )
    elif apart >= (1 if binary and not both else _MANY_WHITES) and (
        len(both) <= _HARDLY_BOTH * apart
    ):
        fewer = min(ones, whites, key=len)
        low = "0 and 1" if binary else "ids"
        others = low if fewer is whites else f"0 and {IGNORE}"
        yield Finding(
            Severity.ERROR,
            "mixed-encodings",
            f"masks of {low} ({len(ones)}) beside masks of 0 and {IGNORE} ({len(whites)}),"
            f" {'hardly one' if both else 'none'} of both: the foreground seems to be coded in two"
            " ways",
            f"save all masks in one way; if {IGNORE} is ignored, say ignore_index={IGNORE}",
            tuple(
                seen.evidence(
                    "label",
                    detail=f"{seen.label}: holds {sorted(seen.fact.mask_counts or ())}, others"
                    f" hold {others}: save all masks in one way, or say ignore_index={IGNORE}",
                )
                for seen in fewer
            ),
        )


def _a_single_one(count: int) -> str:
    return "a single one" if count == 1 else f"{count} others"


def check_two_codings(audited: Audited) -> Iterator[Finding]:
    """Yield a warning for masks of two kinds which share no value but the background.

    They are saved in different modes, or hold equally many values, those of one kind 1, 2, ... and
    those of the other far above: the same classes seem to be coded in two ways.
    """
    label_map = audited.label_map
    if label_map is None or label_map.smeared or audited.named or label_map.values == (0, 1):
        return
    if audited.mixed_bits():
        return  # that is said, and can be repaired
    background = {0, label_map.ignore}
    holding = [
        (seen, frozenset(seen.fact.mask_counts or ()) - background) for seen in audited.masks()
    ]
    kinds = _kinds([(seen, values) for seen, values in holding if values])
    if len(kinds) != 2:
        return
    (one, low), (other, high) = sorted(kinds, key=lambda kind: min(kind[1]))
    modes = [{seen.fact.mask_mode for seen in masks} for masks in (one, other)]
    far = low == set(range(1, len(low) + 1)) and min(high) >= _FAR_TIMES * max(low)
    if not (modes[0].isdisjoint(modes[1]) or (far and len(low) == len(high))):
        return
    fewer = min(one, other, key=len)
    words = [
        some(sorted(values), masks[0].fact.mask_dtype or label_map.dtype)
        for masks, values in ((one, low), (other, high))
    ]
    yield Finding(
        Severity.WARNING,
        "mixed-encodings",
        f"{len(one)} masks hold {words[0]}, {len(other)} others {words[1]} beside the background,"
        " and none of both: the same classes seem to be coded in two ways",
        "if so, save all masks in one way; nothing, if these are different classes",
        tuple(seen.evidence("label") for seen in fewer),
    )


def _kinds(
    holding: Sequence[tuple[Seen, frozenset[int | None]]],
) -> list[tuple[list[Seen], set[int]]]:
    """Return the masks that are tied together by values, with all their values."""
    kinds: list[tuple[list[Seen], set[int]]] = []
    for seen, values in holding:
        tied = [kind for kind in kinds if not kind[1].isdisjoint(values)]
        kinds = [kind for kind in kinds if kind[1].isdisjoint(values)]
        masks = [*(mask for kind in tied for mask in kind[0]), seen]
        kinds.append((masks, {v for v in values if v is not None}.union(*(k[1] for k in tied))))
    return kinds


def check_palettes(audited: Audited) -> Iterator[Finding]:
    """Yield a warning if masks with palettes have to be read as colours."""
    label_map = audited.label_map
    if label_map is None or not label_map.coloured:
        return
    found = tuple(
        seen.evidence("label") for seen in audited.masks() if seen.fact.palette is not None
    )
    if found:
        yield Finding(
            Severity.WARNING,
            "mixed-palettes",
            f"the palettes of {len(found)} masks differ, or are mixed with masks coded in colours:"
            " the same index is not the same class",
            "nothing, if each colour is a class: they are told by colour, and predictions are RGB;"
            " if an index is one class whatever its colour, save all masks with one palette",
            found,
        )
