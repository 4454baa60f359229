"""Mask values that cannot be classes, or of which it cannot be told which class they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from easyseg.auditing.findings import Evidence, Finding, Repair, Severity, counted
from easyseg.auditing.scan import MOST_VALUES
from easyseg.auditing.tables import Audited, Seen

# A mask of more values is a probability map: pictures of a hundred classes hold some dozens each.
_MOST_IN_A_MASK = 64
# A value in so small a share of the masks may be what spoils them; so many are named.
_FEW, _NAMED = 0.1, 3


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
            hint="save one class id a pixel, as PNG, or drop the row",
        )


def check_label_map(audited: Audited) -> Iterator[Finding]:
    """Yield an error for each reason why the training masks cannot be read as classes.

    The masks that alone hold some of the values are shown: they may be what is wrong.
    """
    if audited.mixed_bits() or not audited.train.class_masks:
        return  # other findings say why
    few = _holding_what_few_do(audited.train.class_masks)
    where = ""
    if few:
        named = ", ".join(seen.label for seen in few[:_NAMED])
        where = f". Few masks hold some of them: {named}{', ...' if len(few) > _NAMED else ''}"
    for problem in audited.label_problems:
        yield Finding(
            Severity.ERROR,
            "label-values",
            problem.found + where,
            problem.remedy,
            tuple(seen.evidence("label") for seen in few),
        )


def _holding_what_few_do(masks: Sequence[Seen]) -> list[Seen]:
    """Return the masks that hold a value which at most a tenth of them hold.

    None if most of them do, or if there are no more than two values.
    """
    holding = Counter(value for seen in masks for value in seen.fact.mask_counts or ())
    if len(holding) <= 2:
        return []
    rare = {value for value, number in holding.items() if number <= max(1, _FEW * len(masks))}
    found = [seen for seen in masks if not rare.isdisjoint(seen.fact.mask_counts or ())]
    return found if 2 * len(found) < len(masks) else []


def check_unknown_values(audited: Audited) -> Iterator[Finding]:
    """Yield errors for masks that are not coded as the training masks, or the model, say."""
    label_map = audited.label_map
    if label_map is None:
        return
    ones = {seen.table.name for seen in audited.masks() if 1 in (seen.fact.mask_counts or ())}
    found: dict[Repair, list[Evidence]] = {}
    for seen, line in audited.misfits():
        fact = seen.fact
        wanted = label_map.other_foreground(fact.mask_counts or (), fact.mask_dtype or "")
        repair: Repair = "drop the row"
        if wanted == 255:
            repair = "write 255 for 1"
        elif wanted == 1 and fact.palette is None and seen.table.name not in ones:
            repair = "write 1 for 255"  # beside masks that hold 1, it stands for unlabelled pixels
        found.setdefault(repair, []).append(seen.evidence("label", detail=line))
    for repair, evidence in found.items():
        other = "" if repair == "drop the row" else ": the foreground has another value"
        yield Finding(
            Severity.ERROR,
            "unknown-values",
            f"{counted(len(evidence), 'mask is', 'masks are')} not coded like the training"
            f" masks{other}",
            "save all masks in one coding"
            if other
            else "save all masks in one coding; or, if a value is a class of its own, list it in"
            " classes=; if it is to be ignored, ignore_index=",
            tuple(evidence),
            repair=repair,
        )


def check_soft_masks(audited: Audited) -> Iterator[Finding]:
    """Yield an error if most masks hold so many values that they are probability maps."""
    label_map = audited.label_map
    if label_map is None or label_map.smeared or label_map.coloured or audited.named:
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
