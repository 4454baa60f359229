"""What stays on one side: given groups, guessed ones that images confirm, what looks alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyseg.auditing.facts import ImageFacts
from easyseg.auditing.grouping import Likeness, find_grouping, find_likeness, names_matter
from easyseg.data.groups import GroupGuess
from easyseg.errors import DataError

NOTHING = Likeness((), ())


def partition(labels) -> set[tuple[int, ...]]:
    return {tuple(i for i, x in enumerate(labels) if x == label) for label in set(labels)}


def names(groups: int, members: int) -> list[str]:
    return [f"patient{g:02}_{i}.png" for g in range(groups) for i in range(members)]


def within(groups: int, members: int) -> tuple[tuple[int, int], ...]:
    """Pair the first two members of each group."""
    return tuple((g * members, g * members + 1) for g in range(groups))


def fact(digest: str, look: int, thumbnail: bytes) -> ImageFacts:
    size = (8, 8)
    return ImageFacts(
        size, None, None, "RGB", 0.0, None, digest=digest, perceptual_hash=look, thumbnail=thumbnail
    )


def test_likeness_is_of_digests_and_of_looks():
    rng = np.random.default_rng(0)
    a, b, flat = rng.bytes(256), rng.bytes(256), bytes(256)
    facts = [
        fact("x", 2**40 - 1, a),
        fact("y", 2**40 - 2, a),
        fact("x", 2**40 - 1, a),
        fact("z", 2**40 - 1, b),
        fact("f", 0, flat),
        fact("f", 0, flat),
        fact("g", 0, flat),
    ]
    found = find_likeness(facts)
    assert found.copies == ((0, 2), (4, 5))
    assert set(found.pairs) == {(0, 1), (0, 2), (1, 2)}
    assert found.num_copies == 4
    assert found.num_alike == 5


def test_images_of_one_colour_are_no_copies():
    blank = replace(fact("f", 0, bytes(256)), constant=True)
    assert find_likeness([blank, blank, fact("f", 0, bytes(256))]) == NOTHING


def test_given_groups_win_and_identical_images_join_them():
    groups = ["a", "a", "b", "b", "c", "c"]
    found = find_grouping(names(3, 2), Likeness(((1, 4),), ((0, 2),)), 0.3, groups, "of the column")
    assert partition(found.labels) == {(0, 1, 4, 5), (2, 3)}
    assert found.reason == (
        "3 groups of the column; 1 joined another one because they share identical images"
    )
    plain = find_grouping(names(3, 2), NOTHING, 0.3, groups, "of the column 'patient'")
    assert partition(plain.labels) == {(0, 1), (2, 3), (4, 5)}
    assert plain.reason == "3 groups of the column 'patient'"


@pytest.mark.parametrize(
    ("groups", "copies", "message"),
    [
        (["p1"] * 4, (), "all 4 samples belong to one group, 'p1'"),
        (list("aabb"), ((1, 2),), "all 4 samples belong to 2 groups that identical images tie"),
        (None, ((0, 1), (0, 2), (0, 3)), "all 4 samples are identical images"),
    ],
)
def test_one_group_is_an_error_that_says_why(groups, copies, message):
    with pytest.raises(DataError, match=f"{message}.*tuning_data"):
        find_grouping(list("wxyz"), Likeness(copies, copies), 0.2, groups)


def test_guessed_groups_are_used_when_near_duplicates_are_within_them():
    found = find_grouping(names(10, 4), Likeness((), within(10, 4)), 0.2)
    assert partition(found.labels) == {tuple(range(g, g + 4)) for g in range(0, 40, 4)}
    assert found.reason.startswith("10 groups guessed from the file names (the patient, such as")
    assert "10 of 10 pairs of near duplicates are within a group, by chance it would be 8%" in (
        found.reason
    )


@pytest.mark.parametrize(
    ("pairs", "why"),
    [
        ((), "nothing looks alike"),
        (((0, 1), (0, 2), (1, 3)), "it may be chance in one group"),
        (tuple((i, i + 4) for i in range(20)), "all pairs are across groups"),
        ((*within(5, 4), *((i, i + 8) for i in range(0, 20, 4))), "half of them are"),
    ],
)
def test_guessed_groups_that_images_do_not_confirm_are_left_aside(pairs, why):
    found = find_grouping(names(10, 4), Likeness((), pairs), 0.2)
    assert "guessed" not in found.reason, why
    alone = find_grouping([f"{i}.png" for i in range(40)], Likeness((), pairs), 0.2)
    assert partition(found.labels) == partition(alone.labels)


def test_too_few_guessed_groups_are_left_to_the_user():
    found = find_grouping(names(4, 10), Likeness((), within(4, 10)), 0.2)
    assert len(set(found.labels)) == 36
    assert "4 groups in the file names" in found.reason
    assert "give them as groups=" in found.reason
    assert len(set(find_grouping(names(4, 10), Likeness((), within(4, 10)), 0.5).labels)) == 4


def test_what_looks_alike_stays_together_while_a_part_remains():
    plain = [f"{i}.png" for i in range(20)]
    found = find_grouping(plain, Likeness(((7, 8),), ((0, 1), (1, 2), (7, 8))), 0.2)
    assert {(0, 1, 2), (7, 8)} <= partition(found.labels)
    assert len(set(found.labels)) == 17
    assert found.reason == (
        "each image by itself, but 5 that look nearly the same as another one, in 2 clusters"
    )
    film = tuple((0, i) for i in range(1, 19))
    found = find_grouping(plain, Likeness(((4, 5),), film), 0.2)
    assert partition(found.labels) == {(4, 5), *((i,) for i in range(20) if i not in (4, 5))}
    assert "19 of 20 look nearly the same" in found.reason
    assert "flatters" in found.reason


def test_nothing_alike_leaves_each_image_by_itself():
    found = find_grouping(["a.png", "b.png", "c.png"], NOTHING, 0.2)
    assert found.labels == (0, 1, 2)
    assert found.reason == "each image by itself: no two of them look alike"


pairs_of_12 = st.lists(
    st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda p: p[0] < p[1]), max_size=12
)


@given(pairs=pairs_of_12, copies=pairs_of_12, data=st.data())
def test_copies_and_given_groups_are_never_torn_apart(pairs, copies, data):
    groups = data.draw(
        st.one_of(st.none(), st.lists(st.sampled_from("abcdef"), min_size=12, max_size=12))
    )
    likeness = Likeness(tuple(copies), tuple({*pairs, *copies}))
    try:
        labels = find_grouping(names(6, 2), likeness, 0.2, groups).labels
    except DataError:
        labels = (0,) * 12
    for i, j in copies:
        assert labels[i] == labels[j]
    if groups is not None:
        assert len({(g, x) for g, x in zip(groups, labels, strict=True)}) == len(set(groups))


@given(members=st.lists(st.sampled_from("abc"), min_size=2, max_size=12), data=st.data())
def test_the_rule_is_that_of_its_words(members, data):
    count = len(members)
    positions = st.integers(0, count - 1)
    pairs = data.draw(
        st.lists(st.tuples(positions, positions).filter(lambda p: p[0] < p[1]), max_size=8)
    )
    inside = [p for p in pairs if members[p[0]] == members[p[1]]]
    alike = {i for p in inside for i in p}
    possible = [(i, j) for j in range(count) for i in range(j)]
    chance = sum(members[i] == members[j] for i, j in possible) / len(possible)
    expected = (
        len({members[i] for i in alike}) >= 2
        and len(alike) / count >= 0.05
        and len(inside) / len(pairs) >= (1 + chance) / 2
    )
    assert names_matter(GroupGuess(tuple(members), len(set(members)), ""), pairs) == expected


def test_a_few_near_duplicates_in_a_large_set_do_not_matter():
    many = GroupGuess(tuple(str(i // 2) for i in range(400)), 200, "")
    assert not names_matter(many, within(9, 2))
    assert names_matter(many, within(10, 2))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("polyp_cvc", "20 groups guessed from the file names (the sequence, such as 'seq02'"),
        ("camvid", "3 groups in the file names"),
        ("highway_cdnet", "look nearly the same as another one"),
        ("skin_isic", "each image by itself: no two of them look alike"),
    ],
)
def test_real_sets(shared_data, name, words):
    from easyseg.auditing.scan import scan
    from easyseg.data.table import read_samples

    samples = read_samples(shared_data / name / "train.csv")
    grouping = find_grouping(samples.names, find_likeness(scan(samples)), 0.2)
    assert words in grouping.reason
