"""Tables, folders, paths, arrays and lists become samples, or one report of all problems."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from copy import copy
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from easyseg.data.io import read_image, read_mask
from easyseg.data.table import has_column, read_samples
from easyseg.errors import DataError, OptionError

PIXELS = np.arange(24, dtype=np.uint8).reshape(4, 6)


@pytest.fixture
def folder(tmp_path):
    for name in ("images/a.png", "images/b.png", "masks/a.png", "masks/b.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(PIXELS).save(path)
    return tmp_path


@pytest.fixture
def frame():
    return pd.DataFrame(
        {"image": ["images/b.png", "images/a.png"], "label": ["masks/b.png", "masks/a.png"]},
        index=["second", "first"],
    )


def test_frame_keeps_its_index_order_and_names(folder, frame):
    samples = read_samples(frame, data_root=folder)
    assert list(samples.index) == ["second", "first"]
    assert samples.names == ("images/b.png", "images/a.png")
    assert samples.images == (folder / "images/b.png", folder / "images/a.png")
    assert samples.labels == (folder / "masks/b.png", folder / "masks/a.png")
    assert len(samples) == 2
    assert samples.row(0) == "row 'second'"


@settings(deadline=None)
@given(
    st.one_of(
        st.lists(st.text(max_size=4), max_size=6),
        st.lists(st.integers(-5, 5), max_size=6),
        st.lists(st.datetimes(), max_size=6),
        st.lists(st.floats(), max_size=6),
        st.lists(st.tuples(st.integers(0, 2), st.text(max_size=2)), min_size=1, max_size=6),
    ),
    st.data(),
)
def test_any_index_survives_reading_and_taking(labels, data):
    index = pd.MultiIndex.from_tuples(labels) if labels and isinstance(labels[0], tuple) else labels
    table = pd.DataFrame({"image": [PIXELS] * len(labels)}, index=index)
    if not labels:
        with pytest.raises(DataError, match="no rows"):
            read_samples(table, label=None)
        return
    samples = read_samples(table, label=None)
    assert samples.index.equals(table.index)
    assert type(samples.index) is type(table.index)
    chosen = data.draw(st.lists(st.integers(0, len(labels) - 1), max_size=8))
    taken = samples.take(chosen)
    assert taken.index.equals(table.index.take(chosen))
    assert taken.names == tuple(f"image_{i:05d}" for i in chosen)
    assert samples.row(0).startswith("row ")


def test_filtered_frame_with_duplicate_paths(folder):
    table = pd.DataFrame({"image": ["images/a.png"] * 5, "use": [1, 0, 1, 0, 1]})
    samples = read_samples(table[table.use == 1], label=None, data_root=folder)
    assert list(samples.index) == [0, 2, 4]
    assert samples.names == ("images/a.png",) * 3
    assert samples.labels is None


def test_only_the_image_column_is_read_for_prediction(folder, frame):
    frame["label"] = ["gone.png", None]
    assert read_samples(frame, label=None, data_root=folder).labels is None


def test_other_column_names_and_cells_in_memory(folder):
    table = pd.DataFrame(
        {
            "photo": [PIXELS, Image.fromarray(PIXELS), folder / "images/a.png"],
            "truth": [PIXELS > 3, folder / "masks/a.png", str(folder / "masks/b.png")],
        }
    )
    samples = read_samples(table, image="photo", label="truth")
    expected = ("image_00000", "image_00001", (folder / "images/a.png").as_posix())
    assert samples.names == expected
    for image in samples.images:
        assert read_image(image).shape == (4, 6, 3)
    assert [read_mask(mask).dtype.name for mask in samples.labels] == ["bool", "uint8", "uint8"]


def test_csv_paths_start_at_its_folder(folder, frame, monkeypatch):
    frame.to_csv(folder / "train.csv")
    monkeypatch.chdir(folder.parent)
    for path in (folder / "train.csv", f"{folder.name}/train.csv"):
        samples = read_samples(path)
        assert isinstance(samples.index, pd.RangeIndex)
        assert samples.names == ("images/b.png", "images/a.png")
        assert read_image(samples.images[0]).shape == (4, 6, 3)


def test_data_root_wins_over_the_csv_folder(folder, frame, tmp_path):
    (tmp_path / "tables").mkdir()
    frame.to_csv(tmp_path / "tables/train.CSV", index=False)
    with pytest.raises(DataError, match="there is no such file"):
        read_samples(tmp_path / "tables/train.CSV")
    assert len(read_samples(tmp_path / "tables/train.CSV", data_root=folder)) == 2


def test_csv_with_spaces_mark_and_odd_names(folder):
    for name in ("NA.png", "null", "1.50"):
        Image.fromarray(PIXELS).save(folder / name, format="PNG")
    text = "\ufeffimage, label\nNA.png, null\n1.50, null\n"
    (folder / "train.csv").write_text(text, encoding="utf-8")
    samples = read_samples(folder / "train.csv")
    assert samples.names == ("NA.png", "1.50")
    assert samples.labels == (folder / "null", folder / "null")


def test_a_leading_tilde_that_names_no_home_is_a_name(folder, frame):
    frame.loc[frame.index[0], "image"] = "~backup.png"
    with pytest.raises(DataError, match=r"column 'image': ~backup\.png: there is no such file"):
        read_samples(frame, data_root=folder)
    (folder / "~backup.png").write_bytes((folder / "images/a.png").read_bytes())
    assert read_samples(frame, data_root=folder).images[0] == folder / "~backup.png"


def test_paths_start_at_the_working_folder(folder, frame, monkeypatch):
    monkeypatch.chdir(folder)
    assert read_samples(frame).names == ("images/b.png", "images/a.png")


def test_folder_is_searched_sorted_without_hidden_files(folder):
    (folder / "images/.hidden.png").write_bytes(b"")
    (folder / ".cache").mkdir()
    (folder / ".cache/c.png").write_bytes(b"")
    (folder / "notes.txt").write_text("")
    (folder / "Z.JPG").write_bytes((folder / "images/a.png").read_bytes())
    samples = read_samples(folder, label=None)
    expected = ("Z.JPG", "images/a.png", "images/b.png", "masks/a.png", "masks/b.png")
    assert samples.names == expected
    assert samples.images[0] == folder / "Z.JPG"


def test_one_path_one_array_one_picture(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert read_samples("images/a.png", label=None).names == ("images/a.png",)
    moved = read_samples("a.png", label=None, data_root="images")
    assert (moved.images, moved.names) == ((Path("images/a.png"),), ("a.png",))
    inside = read_samples("images", label=None, data_root="masks")
    assert inside.images == (Path("images/a.png"), Path("images/b.png"))
    assert read_samples(PIXELS, label=None).names == ("image_00000",)
    assert read_samples(np.stack([PIXELS] * 3, 2), label=None).names == ("image_00000",)
    assert len(read_samples(Image.fromarray(PIXELS), label=None)) == 1


def test_lists_may_be_mixed(folder):
    data = [PIXELS, "images/a.png", Image.fromarray(PIXELS), folder / "images/b.png"]
    for listed in (data, tuple(data)):
        samples = read_samples(listed, label=None, data_root=folder)
        assert samples.names[:3] == ("image_00000", "images/a.png", "image_00002")
        assert [read_image(source).shape for source in samples.images] == [(4, 6, 3)] * 4


def test_arrays_of_one_shape_stay_single_images():
    samples = read_samples([PIXELS, PIXELS], label=None)
    assert [source.shape for source in samples.images] == [(4, 6)] * 2


def test_series_and_columns_of_paths(folder, frame):
    samples = read_samples(frame["image"], label=None, data_root=folder)
    assert list(samples.index) == ["second", "first"]
    for column in (frame["image"].to_numpy(), frame["image"].array, frame["image"].tolist()):
        assert read_samples(column, label=None, data_root=folder).names == samples.names


def test_pictures_are_loaded_before_workers_share_their_file(folder):
    """To a spawned process, as on Windows and macOS, and back."""
    opened = Image.open(folder / "images/a.png")
    samples = read_samples([opened], label=None)
    (folder / "images/a.png").unlink()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        again = pool.submit(copy, samples).result()
    np.testing.assert_array_equal(read_image(again.images[0])[..., 0], PIXELS)


def test_all_problems_are_listed_at_once(folder):
    table = pd.DataFrame(
        {
            "image": ["images/a.png", "gone.png", None, "images", 3.5, "  "],
            "label": ["masks/a.png", np.nan, "lost.png", "masks/a.png", "x" * 5000, b"bytes"],
        },
        index=list("abcdef"),
    )
    with pytest.raises(DataError) as caught:
        read_samples(table, data_root=folder)
    problems = caught.value.problems
    assert len(problems) == 9
    for row, column, words in [
        ("b", "image", "gone.png: there is no such file"),
        ("c", "image", "is empty"),
        ("d", "image", "images: is a folder"),
        ("e", "image", "found float"),
        ("f", "image", "is empty"),
        ("b", "label", "is empty"),
        ("c", "label", "lost.png: there is no such file"),
        ("e", "label", "xxx"),
        ("f", "label", "found bytes"),
    ]:
        start = f"row '{row}', column '{column}': "
        assert [words in line for line in problems if line.startswith(start)] == [True], (
            row,
            words,
        )
    assert str(folder / "gone.png") in problems[0]


def test_missing_columns_are_named_with_the_nearest(folder):
    with pytest.raises(DataError) as caught:
        read_samples(pd.DataFrame({"images": ["a"], "mask": ["b"]}))
    assert len(caught.value.problems) == 2
    first, second = caught.value.problems
    assert "'image' is missing; columns of the table: images, mask." in first
    assert "Did you mean 'images'?" in first
    assert "on the command line --image NAME" in first
    assert "'label' is missing; columns of the table: images, mask." in second
    assert "label=NAME" in second
    (folder / "semicolons.csv").write_text("image;label\na;b\n")
    with pytest.raises(DataError, match="Separate the columns with commas"):
        read_samples(folder / "semicolons.csv")
    twice = pd.DataFrame([["a", "b", "c"]], columns=["image", "image", "label"])
    with pytest.raises(DataError, match="'image' is there 2 times"):
        read_samples(twice)


@pytest.mark.parametrize("name", [int, str])
def test_columns_that_are_numbered(folder, frame, name):
    table = pd.DataFrame(frame.assign(patient=["p", "q"]).to_numpy())
    columns = {"image": name(0), "label": name(1), "groups": name(2)}
    samples = read_samples(table, data_root=folder, **columns)
    assert samples.names == ("images/b.png", "images/a.png")
    assert samples.labels == (folder / "masks/b.png", folder / "masks/a.png")
    assert samples.groups == ("p", "q")
    table.to_csv(folder / "table.csv", index=False)
    assert read_samples(folder / "table.csv", **columns).groups == ("p", "q")
    assert has_column(table, name(1))
    assert has_column(folder / "table.csv", name(1))
    assert not has_column(table, name(7))
    with pytest.raises(DataError, match="column '7' is missing; columns of the table: 0, 1, 2"):
        read_samples(table, data_root=folder, **columns | {"label": name(7)})
    with pytest.raises(OptionError, match="same column"):
        read_samples(table, image=0, label="0")
    table.loc[1, 0] = None
    with pytest.raises(DataError, match="row 1, column '0': is empty"):
        read_samples(table, data_root=folder, **columns)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("image,label\n", "no rows"),
        ("image,label\na.png,b.png,c.png\n", "cannot be read as CSV"),
        ("image,label\na.png,b.png\nc,d,e,f\n", "cannot be read as CSV"),
        (b"image,label\n\xff\xfe,b\n", "cannot be read as CSV"),
    ],
)
def test_broken_csv_files(tmp_path, text, message):
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_samples(tmp_path / "t.csv")


def test_what_is_not_there_or_not_taken(tmp_path):
    with pytest.raises(DataError, match=r"t\.csv: there is no such CSV file"):
        read_samples(tmp_path / "t.csv")
    with pytest.raises(DataError, match=r"a\.png: there is no such file"):
        read_samples(tmp_path / "a.png", label=None)
    with pytest.raises(DataError, match="no image in this folder"):
        read_samples(tmp_path, label=None)
    with pytest.raises(DataError, match=r"data_root: .*nowhere is not a folder"):
        read_samples([PIXELS], label=None, data_root=tmp_path / "nowhere")
    with pytest.raises(DataError, match="no rows"):
        read_samples([], label=None)
    for data in (3, None, {"image": ["a.png"]}, ""):
        with pytest.raises(OptionError, match="expected a DataFrame"):
            read_samples(data, label=None)
    with pytest.raises(OptionError, match="same column"):
        read_samples(pd.DataFrame({"image": ["a"]}), label="image")


@pytest.mark.parametrize("data", ["folder", [PIXELS], PIXELS, "a.png"])
def test_training_needs_masks(data, folder):
    with pytest.raises(DataError, match="masks are needed"):
        read_samples(folder if isinstance(data, str) and data == "folder" else data)


# Groups.


def grouped(folder, groups, **columns):
    table = pd.DataFrame({"image": "images/a.png", "label": "masks/a.png"}, index=range(3))
    return read_samples(table.assign(**columns), data_root=folder, groups=groups)


def test_groups_are_a_column_or_a_function_of_the_row(folder, frame):
    assert read_samples(frame, data_root=folder).groups is None
    samples = grouped(folder, "patient", patient=["p1", 7, "p1"])
    assert samples.groups == ("p1", 7, "p1")
    assert samples.take([2, 1]).groups == ("p1", 7)
    samples = grouped(folder, lambda row: (row["image"][:6], row.patient % 2), patient=[1, 2, 3])
    assert samples.groups == (("images", 1), ("images", 0), ("images", 1))
    rows = read_samples(frame, data_root=folder, groups=lambda row: row.name)
    assert rows.groups == ("second", "first")


def test_groups_of_a_csv_are_text(folder, frame):
    frame.assign(patient=["007", "7"]).to_csv(folder / "table.csv", index=False)
    assert read_samples(folder / "table.csv", groups="patient").groups == ("007", "7")


def test_a_typo_in_the_column_of_groups_gets_the_nearest_name(folder):
    with pytest.raises(
        DataError, match=r"'pateint' is missing.*Did you mean 'patient'\?.*groups=NAME"
    ):
        grouped(folder, "pateint", patient=[1, 2, 3])


@pytest.mark.parametrize("missing", [None, float("nan"), "", "  ", pd.NA, pd.NaT])
def test_all_rows_without_a_group_are_named(folder, missing):
    patients = pd.Series([missing, "p1", missing], dtype=object)
    with pytest.raises(DataError) as caught:
        grouped(folder, "patient", patient=patients)
    assert [line.split(":")[0] for line in caught.value.problems] == [
        "row 0, column 'patient'",
        "row 2, column 'patient'",
    ]
    assert "there is no group; fill it in" in caught.value.problems[0]
    with pytest.raises(DataError, match="row 2, column 'groups': there is no group"):
        grouped(folder, lambda row: row.patient, patient=patients)


def test_what_a_function_for_groups_gets_wrong_is_said(folder):
    with pytest.raises(DataError, match=r"row 1.*failed \(TypeError: .*\); it gets the row"):
        grouped(folder, lambda path: Path(path).stem)
    with pytest.raises(DataError, match="found list, expected the name of a group"):
        grouped(folder, lambda row: [1])


def test_problems_of_groups_come_with_those_of_files(folder):
    table = pd.DataFrame(
        {"image": ["images/a.png", "gone.png"], "label": "masks/a.png", "g": [None, "x"]}
    )
    with pytest.raises(DataError) as caught:
        read_samples(table, data_root=folder, groups="g")
    assert len(caught.value.problems) == 2
