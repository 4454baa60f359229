"""Mask values that cannot be classes, or of which it cannot be told which class they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from easyseg.auditing.findings import Finding, Severity, counted
from easyseg.auditing.scan import MOST_VALUES
from easyseg.auditing.tables import Audited, Seen
from easyseg.data.label_map import IGNORE
from easyseg.data.label_rules import some

# A mask of more values is a probability map: pictures of a hundred classes hold some dozens each.
_MOST_IN_A_MASK = 64
# The second coding of the same classes has values so many times as large (1 and 100, say): smaller
# gaps are between classes.
_FAR_TIMES = 10


def check_many_values(audited: Audited) -> Iterator[Finding]:
    """Yield an error for labels with more values than there can be classes."""
    found = tuple(
        seen.evidence(
            "label",
            detail=f"{seen.label}: the mask holds {seen.fact.num_values} different values,"
            f" expected class ids (at most {MOST_VALUES})"
            + ("; a JPEG smears them" if seen.fact.lossy else ""),
        )
        for seen in audited.masks()
        if seen.fact.num_values > MOST_VALUES
    )
    if found:
        yield Finding(
            Severity.ERROR,
            "too-many-values",
            f"{counted(len(found), 'mask holds', 'masks hold')} more than {MOST_VALUES} values",
            "save one class id a pixel, as PNG: a JPEG or a resized mask has smeared colours, and"
            " numbers of objects are no classes",
            found,
            repair="drop the row",
        )


def check_label_map(audited: Audited) -> Iterator[Finding]:
    """Yield an error for each reason why the training masks cannot be read as classes."""
    if audited.mixed_bits() or not audited.train.class_masks:
        return  # other findings say why
    for problem in audited.label_problems:
        yield Finding(
            Severity.ERROR,
            "label-values",
            problem,
            "say what the values mean, with classes={value: name, ...} or ignore_index=",
        )


def check_mixed_bits(audited: Audited) -> Iterator[Finding]:
    """Yield an error for masks of 1 bit, whose foreground is 1, among masks of 0 and 255."""
    bits = audited.mixed_bits()
    if bits:
        total = len(list(audited.masks(audited.train)))
        yield Finding(
            Severity.ERROR,
            "mixed-bits",
            f"{len(bits)} of {total} masks have 1 bit, the others hold 0 and 255: a foreground of"
            " 1 bit reads as 1, of 8 bits as 255",
            "save all masks in one format",
            tuple(
                seen.evidence(
                    "label",
                    detail=f"{seen.label}: has 1 bit, others hold 0 and 255; save all alike",
                )
                for seen in bits
            ),
            repair="write 255 for 1",
        )


def check_unknown_values(audited: Audited) -> Iterator[Finding]:
    """Yield an error for masks that are not coded as the training masks, or the model, say."""
    label_map = audited.label_map
    if label_map is None:
        return
    found = []
    for seen in audited.masks():
        fact = seen.fact
        if seen.table.name == "train" or fact.num_values > MOST_VALUES:
            continue
        values, dtype = fact.mask_counts or (), fact.mask_dtype or label_map.dtype
        line = label_map.misfit(values, dtype, fact.palette, seen.label)
        if line is not None:
            found.append(seen.evidence("label", detail=line))
    if found:
        yield Finding(
            Severity.ERROR,
            "unknown-values",
            f"{counted(len(found), 'mask is', 'masks are')} not coded like the training masks",
            "save all masks in one coding; or, if a value is a class of its own, list it in"
            " classes=; if it is to be ignored, ignore_index=",
            tuple(found),
            repair="drop the row",
        )


def check_mixed_encodings(audited: Audited) -> Iterator[Finding]:
    """Yield an error for sets in which some masks hold 0 and 1, others 0 and 255, and none both.

    255 after consecutive ids is read as ignored. Where no mask shows 1 beside 255, it is as likely
    that two people saved the foreground in two ways.
    """
    if audited.told or audited.label_map is None or audited.label_map.values != (0, 1):
        return
    ones, whites = [], []
    for seen in audited.masks():
        values = set(seen.fact.mask_counts or ())
        if {1, IGNORE} <= values:
            return
        if 1 in values:
            ones.append(seen)
        elif IGNORE in values:
            whites.append(seen)
    if ones and whites:
        fewer = min(ones, whites, key=len)
        others = f"0 and {1 if fewer is whites else IGNORE}"
        yield Finding(
            Severity.ERROR,
            "mixed-encodings",
            f"masks of 0 and 1 ({len(ones)}) beside masks of 0 and {IGNORE} ({len(whites)}), none"
            " of both: the foreground seems to be coded in two ways",
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


def check_two_codings(audited: Audited) -> Iterator[Finding]:
    """Yield a warning for masks of two kinds which share no value but the background.

    They hold equally many values, and are saved in different modes, or the values of one kind are
    1, 2, ... and those of the other far above: the same classes seem to be coded in two ways.
    """
    label_map = audited.label_map
    if label_map is None or label_map.smeared or audited.told or label_map.values == (0, 1):
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
    if len(low) != len(high) or not (far or modes[0].isdisjoint(modes[1])):
        return
    fewer = min(one, other, key=len)
    words = [some(sorted(values), label_map.dtype) for values in (low, high)]
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


def check_soft_masks(audited: Audited) -> Iterator[Finding]:
    """Yield an error if most masks hold so many values that they are probability maps."""
    label_map = audited.label_map
    if label_map is None or label_map.smeared or label_map.coloured or audited.told:
        return
    masks = list(audited.masks(audited.train))
    soft = [seen for seen in masks if seen.fact.num_values > _MOST_IN_A_MASK]
    if 2 * len(soft) > len(masks):
        yield Finding(
            Severity.ERROR,
            "soft-masks",
            f"{len(soft)} of {len(masks)} masks hold more than {_MOST_IN_A_MASK} values each: they"
            " seem to be probabilities or grey levels",
            "threshold them, as 0 and 255; if the values are classes, name them with"
            " classes={value: name, ...}",
            tuple(seen.evidence("label") for seen in soft),
        )
