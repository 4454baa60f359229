"""Groups guessed from names: those that were put in, and none where there are none."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyseg.data.groups import GroupGuess, guess_groups


def partition(labels) -> set[tuple[int, ...]]:
    members: dict[object, list[int]] = {}
    for position, label in enumerate(labels):
        members.setdefault(label, []).append(position)
    return set(map(tuple, members.values()))


# How names are built from a group, a member of it and something that is no group.
CONVENTIONS: dict[str, Callable[[int, int], str]] = {
    "patient and slice": lambda g, i: f"patient_{g:03}_slice_{i:03}.png",
    "numbers alone": lambda g, i: f"{g:03}_{i:03}.png",
    "joined words": lambda g, i: f"run{g:02}frame{i:04}.jpg",
    "sequence, frame": lambda g, i: f"images/seq{g:02}_{i:03}.jpg",
    "patient with two studies": lambda g, i: f"{g:03}_{i % 2}_{i:03}.png",
    "subject of BIDS": lambda g, i: f"sub-control{g:02}/ses-{i % 2}/sub-control{g:02}_{i}_T1w.png",
    "folder": lambda g, i: f"data/train/p{g}/{i:04}.png",
    "folder of letters": lambda g, i: f"{'abcdefghijklm'[g] * 4}/{i:04}.png",
    "folder of a film": lambda g, i: f"video {g}/img.{i}.png",
    "tiles with letters": lambda g, i: f"town{g}_x{512 * (i // 2)}_y{512 * (i % 2)}.tif",
    "tiles, rows first": lambda g, i: f"w{g}-r{i // 3}c{i % 3}.tif",
    "corners of tiles": lambda g, i: f"austin{g}_{256 * (i // 2)}_{256 * (i % 2)}.tif",
    "numbered tiles": lambda g, i: f"img{g}_tile_{i // 4}_{i % 4}.png",
    "patients of two hospitals": lambda g, i: f"hospital{'AB'[g % 2]}_{g:03}_{i:03}.png",
    "city, sequence, frame": lambda g, i: f"{'abcdefghijklm'[g] * 3}_{i:06}_000019_left8bit.png",
    "day and time": lambda g, i: f"IMG_202105{g + 10}_1422{i + 10}.jpg",
    "augmented": lambda g, i: f"im{g}_aug{i}.png",
    "both eyes": lambda g, i: f"{g}_{('left', 'right', 'front', 'back')[i % 4]}_{i // 4}.jpg",
    "views": lambda g, i: f"{g}_{('left', 'right', 'top', 'a', 'b', 'c', 'd', 'e', 'f')[i]}.jpg",
    "letters at the number": lambda g, i: f"Image_{g:02}{'abcdefghi'[i]}.jpg",
    "patient with a date": lambda g, i: f"TCGA_CS_{4000 + 7 * g}_1996{g + 10}09_{i}.tif",
    "plants": lambda g, i: f"C:/Users/x/field/plant{g}/day_{i}.jpg",
}
UNRELATED: dict[str, Callable[[int], str]] = {
    "running number": lambda i: f"photos/ISIC_{i:07}.jpg",
    "running number and words": lambda i: f"ISIC_{i:07}_downsampled.jpg",
    "in memory": lambda i: f"image_{i:05}",
    "one case an image": lambda i: f"case_{i:03}.png",
    "digests": lambda i: f"{hashlib.md5(str(i).encode()).hexdigest()}.png",
    "two classes": lambda i: f"{('healthy', 'ill')[i % 2]}/{i}.png",
    "classes before a number": lambda i: f"{('benign', 'malignant', 'normal')[i % 3]} ({i}).png",
    "parts": lambda i: f"set/{('train', 'val', 'test')[i % 3]}/images/{i // 3}.png",
    "tiles of one scene": lambda i: f"town_x{64 * (i // 4)}_y{64 * (i % 4)}.png",
    "a number and a label": lambda i: f"{('CHN', 'MCU')[i % 2]}CXR_{i:04}_{i // 2 % 2}.png",
    "a drone's names": lambda i: f"DJI_20230101{i:06}_{i:04}_V.JPG",
    "two subsets": lambda i: f"subset1{i % 2}/im{i:03}.png",
}


@pytest.mark.parametrize("convention", CONVENTIONS)
@settings(max_examples=20)
@given(
    sizes=st.lists(st.integers(4, 9), min_size=5, max_size=13),
    seed=st.randoms(use_true_random=False),
)
def test_groups_of_common_conventions_are_found(convention, sizes, seed):
    pairs = [(group, i) for group, size in enumerate(sizes) for i in range(size)]
    seed.shuffle(pairs)
    guess = guess_groups([CONVENTIONS[convention](*pair) for pair in pairs])
    assert guess is not None
    assert partition(guess.labels) == partition(group for group, _ in pairs)
    assert guess.count == len(sizes)


@pytest.mark.parametrize("convention", UNRELATED)
@pytest.mark.parametrize("count", [1, 2, 7, 48])
def test_unrelated_names_give_no_groups(convention, count):
    assert guess_groups([UNRELATED[convention](i) for i in range(count)]) is None


names = st.lists(
    st.text(st.sampled_from("ab01_-/ .xyseqpt"), min_size=1, max_size=12).map(lambda n: f"i{n}"),
    max_size=25,
)


@given(names=names)
def test_a_guess_is_neither_one_group_nor_all_alone(names):
    guess = guess_groups(names)
    if guess is not None:
        assert len(guess.labels) == len(names)
        assert guess.count == len(set(guess.labels))
        assert 2 <= guess.count <= 0.9 * len(names)


@given(names=names, data=st.data())
def test_the_order_of_names_does_not_matter(names, data):
    order = data.draw(st.permutations(range(len(names))))
    guess, other = guess_groups(names), guess_groups([names[i] for i in order])
    if guess is None:
        assert other is None
    else:
        assert other is not None
        assert [guess.labels[i] for i in order] == list(other.labels)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("folder", ["/mnt/study7/v2", "images", "C:/My data/patient_3"])
def test_a_folder_that_all_share_changes_nothing(convention, folder):
    plain = [CONVENTIONS[convention](g, i) for g in range(6) for i in range(5)]
    guess, other = guess_groups(plain), guess_groups([f"{folder}/{name}" for name in plain])
    assert guess is not None
    assert other is not None
    assert partition(guess.labels) == partition(other.labels)


def test_a_patient_with_one_image_is_a_group_too():
    names = [f"patient{p}_{i}.png" for p in range(10) for i in range(1 + p % 2)]
    guess = guess_groups(names)
    assert guess is not None
    assert guess.count == 10


def test_the_pattern_is_in_words_with_an_example():
    names = ["x/seq02_1.png", "x/seq03_1.png", "x/seq03_2.png", "x/seq02_7.png"]
    assert guess_groups(names) == GroupGuess(
        ("seq02", "seq03", "seq03", "seq02"), 2, "the sequence, such as 'seq02' in 'seq02_1.png'"
    )
    guess = guess_groups([f"set/{place}/a{i}.png" for place in "uvw" for i in range(3)])
    assert guess is not None
    assert guess.pattern == "the folder, such as 'u' in 'set/u/a0.png'"


REAL = {
    "camvid": {"0001TP": 62, "0006R0": 51, "0016E5": 153, "Seq05VD": 86},
    "polyp_cvc": 29,
    "cwfid": None,
    "glass_gdd": None,
    "highway_cdnet": None,
    "leaf_disease": None,
    "road_epfl": None,
    "skin_isic": None,
}


@pytest.mark.parametrize("name", REAL)
def test_real_names(shared_data, name):
    names = []
    for part in ("train", "val", "test"):
        with (shared_data / name / f"{part}.csv").open() as file:
            names += [row["image"] for row in csv.DictReader(file)]
    guess, expected = guess_groups(names), REAL[name]
    if expected is None:
        assert guess is None
    elif isinstance(expected, int):
        assert guess is not None
        assert guess.count == expected
    else:
        assert guess is not None
        assert {label: guess.labels.count(label) for label in set(guess.labels)} == expected
