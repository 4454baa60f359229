"""Groups guessed from file names: patient, sequence, scene of a tile, folder.

Images of one patient, film or scene resemble each other; a validation part that shares them with
the training part flatters. Names mostly tell which belong together: by a word and a number
(``patient_07``), by what stands before the place of a tile (``town_x512_y0``) or before a running
number (``0001TP_006690``), by versions of one picture (``12_left``), or by folders.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

__all__ = ["GroupGuess", "guess_groups"]

MOST_GROUPS = 0.5  # groups an image; more, and the names have little to do with each other
MOST_NAMED = 0.9  # the same where a word such as "patient" says what the number means
LEAST_NAMED = 0.9  # of the names hold that word
FEW_GROUPS = 5  # fewer are too few to prefer a coarse division to a fine one
FEWEST_FOLDERS = 3  # two folders are rather two classes or two parts

_GAP = r"[ _\-.,()\[\]]"
# What numbers count, from what should stay together first: a patient may have several films.
_WORDS = {
    "patient": "patients?|pat|pt|subjects?|subj|sub|participant|person|donor|animal|mouse|rat",
    "case": "cases?|study|exam|specimen|slide|wsi",
    "sequence": "sequences?|seq|videos?|vid|clip|movie|film|scene|recording|series|flight|track"
    "|drive",
    "stack": "volumes?|vol|stack|scan",
    "place": "site|field|plot|plant|tree|location|region",
}
# After the word a number follows; letters may stand before it, or alone, only behind a gap:
# "sub-control01" and "patient_b" are meant, "subset12" is not.
_ITS_NUMBER = rf"(?:\d[a-z0-9]*|{_GAP}+(?:[a-z]*\d[a-z0-9]*|[a-z](?![a-z0-9])))"
_WORD_AND_NUMBER = {
    what: re.compile(rf"(?<![a-z])(?:{words}){_ITS_NUMBER}", re.IGNORECASE)
    for what, words in _WORDS.items()
}
_OCCURRENCES = 2  # of a word in a path that are tried: the first may be that of a common folder

# Folders that only say what kind of files, or which part of the data, they hold.
_NEUTRAL = re.compile(
    "train|training|val|valid|validation|tuning|test|testing|dev|images?|imgs?|jpegimages|photos"
    "|frames|masks?|labels?|annotations|data|dataset|inputs?",
    re.IGNORECASE,
)

_LAST_WORD = re.compile(rf"(?P<before>.*?){_GAP}+(?P<word>[a-z0-9]+){_GAP}*$", re.IGNORECASE)
_LAST_WORDS = re.compile(rf"(?:(?<=\d)[a-z]|(?:{_GAP}+[a-z]+)+){_GAP}*$", re.IGNORECASE)
_PLACE_WORD = r"(?:{})" + _GAP + r"*\d+"
_X, _Y = _PLACE_WORD.format("x|c|col|column"), _PLACE_WORD.format("y|r|row")
_PLACE = re.compile(
    rf"(?:^|{_GAP}+)(?:{_X}{_GAP}*{_Y}|{_Y}{_GAP}*{_X}|(?:tile|patch|crop|chip|window)s?(?![a-z]))"
    r".*$",
    re.IGNORECASE,
)
_TWO_NUMBERS = re.compile(rf"(?:^|{_GAP}+)(\d+){_GAP}+(\d+)$")
_TILE_STEP = 16  # pixels: the corners of tiles are multiples of such a step
_COUNTER = re.compile(
    rf"(?P<before>^|^.*{_GAP}|^.*\d(?=[a-z]{{2}})|^[a-z]+(?=\d+$))[a-z]*\d+$", re.IGNORECASE
)
_LEVELS = 2  # running numbers that are taken off at most: a slice, and the study that it is of


@dataclass(frozen=True)
class GroupGuess:
    """Groups that names suggest.

    Args:
        labels: The group of each name, in order.
        count: Number of groups.
        pattern: What the groups were read from, in words, with an example.
    """

    labels: tuple[str, ...]
    count: int
    pattern: str


@dataclass(frozen=True)
class _Name:
    """A name in parts.

    Attributes:
        folders: The folders that differ between the names and are not neutral.
        base: What is left of the file name: without suffix, running number and the like.
    """

    folders: tuple[str, ...]
    base: str

    @property
    def label(self) -> str:
        """The folders and what is left of the file name."""
        return "/".join((*self.folders, self.base)) if self.base else "/".join(self.folders)


def guess_groups(names: Sequence[str]) -> GroupGuess | None:
    """Guess from their names which images belong together.

    Args:
        names: Paths with forward slashes, or file names.

    Returns:
        At least two groups, of two images each in the mean (where a word such as "patient" says
        what they are, nine groups of ten images suffice); ``None`` if the names suggest none.

    Example:
        >>> guess = guess_groups(["seq02_026.jpg", "seq02_028.jpg", "seq05_1.jpg", "seq05_2.jpg"])
        >>> guess.labels
        ('seq02', 'seq02', 'seq05', 'seq05')
        >>> guess.pattern
        "the sequence, such as 'seq02' in 'seq02_026.jpg'"
        >>> guess_groups(["ISIC_0001769.jpg", "ISIC_0003462.jpg", "ISIC_0003539.jpg"]) is None
        True
    """
    for what, labels, most in _candidates(names):
        counts = Counter(labels)
        if 2 <= len(counts) <= most * len(names):
            shown = next(i for i, label in enumerate(labels) if counts[label] > 1)
            label, name = labels[shown], PurePosixPath(names[shown])
            seen_in = name.name if label in name.name else str(name)
            return GroupGuess(
                tuple(labels), len(counts), f"{what}, such as {label!r} in {seen_in!r}"
            )
    return None


def _candidates(names: Sequence[str]) -> Iterator[tuple[str, list[str], float]]:
    """Yield divisions, the surest first: what it is in words, labels, most groups an image."""
    for what, pattern in _WORD_AND_NUMBER.items():
        found = [[match[0] for match in pattern.finditer(name)] for name in names]
        for k in range(_OCCURRENCES):
            labels = [f[k] if len(f) > k else n for f, n in zip(found, names, strict=True)]
            if sum(len(f) > k for f in found) >= LEAST_NAMED * len(names):
                yield f"the {what}", labels, MOST_NAMED
    parts = _parts(names)
    pictures = [_without_last_words(part) for part in parts]
    scenes = _without_places(pictures)
    if scenes != pictures:
        yield "the scene of a tile", [part.label for part in scenes], MOST_GROUPS
    yield from _before_counters(scenes)
    if pictures != parts:
        yield "versions of one picture", [part.label for part in pictures], MOST_GROUPS
    folders = ["/".join(part.folders) for part in parts]
    if len(set(folders)) >= FEWEST_FOLDERS:
        yield "the folder", folders, MOST_GROUPS


def _parts(names: Sequence[str]) -> list[_Name]:
    paths = [PurePosixPath(name) for name in names]
    folders = [[p for p in path.parent.parts if not _NEUTRAL.fullmatch(p)] for path in paths]
    common = 0
    while len({tuple(f[: common + 1]) for f in folders}) == 1 and len(folders[0]) > common:
        common += 1
    return [
        _Name(tuple(folder[common:]), stem)
        for folder, stem in zip(folders, _without_common_end([p.stem for p in paths]), strict=True)
    ]


def _without_common_end(stems: list[str]) -> list[str]:
    """Take off the last words that all have: they tell nothing."""
    while stems:
        split = [_LAST_WORD.match(stem) for stem in stems]
        if len({match and match["word"] for match in split}) > 1 or not all(split):
            return stems
        stems = [match["before"] for match in split if match]
    return stems


def _without_places(parts: Sequence[_Name]) -> list[_Name]:
    """Take the place of a tile in its scene off: ``x512_y0``, ``tile_3_4``, ``_512_0``."""
    found = [replace(part, base=_PLACE.sub("", part.base)) for part in parts]
    corners = [_TWO_NUMBERS.search(part.base) for part in found]
    steps = [int(number) for match in corners if match for number in match.groups()]
    if all(corners) and any(steps) and all(step % _TILE_STEP == 0 for step in steps):
        found = [replace(part, base=_TWO_NUMBERS.sub("", part.base)) for part in found]
    return found


def _before_counters(parts: Sequence[_Name]) -> Iterator[tuple[str, list[str], float]]:
    """Yield what stands before running numbers: the coarsest of many groups, then finer ones."""
    many, few = [], []
    for step in (_without_counter, _without_last_words) * _LEVELS:
        parts = [step(part) for part in parts]
        labels = [part.label for part in parts]
        named = any(part.base for part in parts)
        what = "what stands before the running number" if named else "the folder"
        if len(set(labels)) >= FEW_GROUPS:
            many.append((what, labels, MOST_GROUPS))
        elif 2 * sum(_has_digit(part.base) for part in parts) >= len(parts):
            # A prefix of letters alone is rather a kind of image ("benign_12") than a group.
            few.append((what, labels, MOST_GROUPS))
    yield from (*reversed(many), *few)


def _without_counter(part: _Name) -> _Name:
    match = _COUNTER.match(part.base)
    if match is None:
        return part
    return replace(part, base=re.sub(rf"{_GAP}+$", "", match["before"]))


def _without_last_words(part: _Name) -> _Name:
    """Take words, or a letter, at the end off ("12_left", "12L"), unless there are only words."""
    base = _LAST_WORDS.sub("", part.base)
    return replace(part, base=base) if _has_digit(base) else part


def _has_digit(text: str) -> bool:
    return any(character.isdigit() for character in text)
