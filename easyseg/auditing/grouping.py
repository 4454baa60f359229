"""What a split must not tear apart: groups that were given, guessed, or seen in the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from easyseg.auditing.duplicates import clusters, near_duplicates
from easyseg.auditing.facts import ImageFacts
from easyseg.data.groups import GroupGuess, guess_groups
from easyseg.data.split import LARGEST_HELD
from easyseg.errors import DataError

__all__ = ["Grouping", "Likeness", "find_grouping", "find_likeness", "names_matter"]

LEAST_ALIKE = 0.05  # share of images with a near duplicate in their guessed group
LEAST_CONFIRMED = 2  # guessed groups with near duplicates: one pair may be chance
LEAST_GROUPS = 2  # guessed groups that make up the asked part: one may be a world of its own
LEAST_HELD = 0.5  # of the asked part that groups must be able to fill, to be used unasked


@dataclass(frozen=True)
class Likeness:
    """Which images are the same, or nearly.

    Attributes:
        copies: Pairs of positions of identical images: each with the first of its kind.
        pairs: Pairs of positions of near duplicates, identical ones included.
    """

    copies: tuple[tuple[int, int], ...]
    pairs: tuple[tuple[int, int], ...]

    @property
    def num_copies(self) -> int:
        """Number of images that are identical to another one."""
        return len({i for pair in self.copies for i in pair})

    @property
    def num_alike(self) -> int:
        """Number of images that look nearly as another one does, or the same."""
        return len({i for pair in (*self.copies, *self.pairs) for i in pair})


@dataclass(frozen=True)
class Grouping:
    """What a split keeps together.

    Attributes:
        labels: The group of each sample.
        reason: Where the groups come from, in words with figures.
    """

    labels: tuple[int, ...]
    reason: str


def find_likeness(facts: Sequence[ImageFacts]) -> Likeness:
    """Find images that are the same, or nearly.

    Images of one colour are left out: that two of them are equal proves nothing.

    Args:
        facts: What `scan` found, with looks (of samples with masks).
    """
    first: dict[str, int] = {}
    told = [(i, fact.digest) for i, fact in enumerate(facts) if fact.digest and not fact.constant]
    copies = [(first.setdefault(digest, i), i) for i, digest in told]
    pairs = near_duplicates(
        [fact.perceptual_hash or 0 for fact in facts],
        thumbnails=[fact.thumbnail for fact in facts],
    )
    return Likeness(tuple(pair for pair in copies if pair[0] != pair[1]), tuple(pairs))


def find_grouping(
    names: Sequence[str],
    likeness: Likeness,
    frac: float,
    given: Sequence[Hashable] | None = None,
    origin: str = "",
) -> Grouping:
    """Decide what stays on one side of a split.

    Identical images always do. Beyond that: the groups that were given; else the groups that file
    names suggest, if the images confirm them (`names_matter`) and two of them at least make up the
    asked part; else images that look nearly the same. What was not asked for is used only if it
    lets half of the asked part be filled.

    Args:
        names: What the samples are called.
        likeness: What `find_likeness` found.
        frac: Share of the validation part.
        given: The group of each sample, if the user gave them.
        origin: Where those come from, in words.

    Raises:
        DataError: All samples would be one group.

    Example:
        >>> names = [f"seq{i // 2}_{i}.png" for i in range(8)]
        >>> find_grouping(names, Likeness((), ((0, 1), (2, 3), (6, 7))), 0.5).labels
        (0, 0, 1, 1, 2, 2, 3, 3)
    """
    alone = tuple(range(len(names)))
    if given is not None:
        labels = _tied(given, likeness.copies)
        _refuse_one_group(labels, given)
        return Grouping(labels, f"{len(set(given))} groups {origin}{_merged(given, labels)}")
    guess, hint = guess_groups(names), ""
    if guess is not None and names_matter(guess, likeness.pairs):
        labels = _tied(guess.labels, likeness.copies)
        if guess.count * frac >= LEAST_GROUPS and _can_be_split(labels, frac):
            return Grouping(labels, _confirmed(guess, likeness))
        hint = (
            f"; {guess.count} groups in the file names ({guess.pattern}) are too few or too large"
            f" for a part of {frac:.0%}: give them as groups= to keep them together"
        )
    labels = _tied(alone, (*likeness.copies, *likeness.pairs))
    if _can_be_split(labels, frac):
        kept = [size for size in Counter(labels).values() if size > 1]
        if not kept:
            return Grouping(labels, "each image by itself: no two of them look alike")
        return Grouping(
            labels,
            f"each image by itself, but {sum(kept)} that look nearly the same as another one, in"
            f" {len(kept)} {'clusters' if len(kept) > 1 else 'cluster'}{hint}",
        )
    labels = _tied(alone, likeness.copies)
    _refuse_one_group(labels, alone)
    return Grouping(
        labels,
        f"each image by itself, though {likeness.num_alike} of {len(names)} look nearly the same as"
        " another one: too many to keep them together; if they are of one film, the validation"
        f" score flatters{hint}",
    )


def names_matter(guess: GroupGuess, pairs: Sequence[tuple[int, int]]) -> bool:
    """Return whether near duplicates confirm that guessed groups belong together.

    They do if at least 5 % of the images, and two groups, have near duplicates in their group, and
    if the share of pairs within a group is at least halfway between what chance would give (the
    share of all possible pairs) and 1.

    Args:
        guess: Groups that the names suggest.
        pairs: Pairs of near duplicates.

    Example:
        >>> guess = GroupGuess(("a", "a", "b", "b"), 2, "")
        >>> names_matter(guess, [(0, 1), (2, 3)]), names_matter(guess, [(0, 1), (1, 2)])
        (True, False)
    """
    count, labels = len(guess.labels), guess.labels
    within = [(i, j) for i, j in pairs if labels[i] == labels[j]]
    alike = len({i for pair in within for i in pair})
    confirmed = len({labels[i] for i, _ in within})
    if confirmed < LEAST_CONFIRMED or alike < LEAST_ALIKE * count:
        return False
    return len(within) / len(pairs) >= (1 + _chance(labels)) / 2


def _chance(labels: Sequence[str]) -> float:
    """Return the share of all pairs of samples that are within a group."""
    count = len(labels)
    return sum(n * (n - 1) for n in Counter(labels).values()) / (count * (count - 1))


def _confirmed(guess: GroupGuess, likeness: Likeness) -> str:
    within = sum(guess.labels[i] == guess.labels[j] for i, j in likeness.pairs)
    return (
        f"{guess.count} groups guessed from the file names ({guess.pattern}): {within} of"
        f" {len(likeness.pairs)} pairs of near duplicates are within a group, by chance it would be"
        f" {_chance(guess.labels):.0%}"
    )


def _tied(groups: Sequence[Hashable], pairs: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Return the groups after those that a pair connects have become one."""
    first: dict[Hashable, int] = {}
    members = [(first.setdefault(group, i), i) for i, group in enumerate(groups)]
    return tuple(clusters(len(groups), [*members, *pairs]))


def _can_be_split(labels: Sequence[int], frac: float) -> bool:
    """Return whether groups of a suitable size fill half of the asked part."""
    held = frac * len(labels)
    sizes = Counter(labels).values()
    fitting = sum(size for size in sizes if size <= max(LARGEST_HELD * held, 1))
    return len(sizes) > 1 and fitting >= LEAST_HELD * held


def _refuse_one_group(labels: Sequence[int], groups: Sequence[Hashable]) -> None:
    if len(labels) < 2 or len(set(labels)) > 1:
        return
    what = "are identical images"
    if len(set(groups)) == 1:
        what = f"belong to one group, {groups[0]!r}"
    elif len(set(groups)) < len(groups):
        what = f"belong to {len(set(groups))} groups that identical images tie together"
    raise DataError(
        f"all {len(labels)} samples {what}: they cannot be split into a training and a validation"
        " part; give tuning_data, or other groups or images"
    )


def _merged(given: Sequence[Hashable], labels: Sequence[int]) -> str:
    merged = len(set(given)) - len(set(labels))
    return f"; {merged} joined another one because they share identical images" if merged else ""
