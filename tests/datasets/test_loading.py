"""Public data sets by name: each layout in miniature, found, downloaded, damaged."""

from __future__ import annotations

import hashlib
import io
import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from layout_trees import KAGGLE_LEAVES, TREES

import easyseg
from easyseg import datasets, download
from easyseg.datasets import catalog
from easyseg.datasets.folder import read_folder
from easyseg.datasets.spec import Archive
from easyseg.errors import DataError, DownloadError, OptionError
from easyseg.plan.presets import list_domains

PAPER_NAMES = (
    *("polyp", "isic2017", "camo", "sbu_shadow"),
    *("leaf_disease_segmentation", "road_segmentation", "trans10k_v1", "trans10k_v2"),
)
SAMPLES = (
    *("skin_isic", "leaf_disease", "polyp_cvc", "road_epfl"),
    *("glass_gdd", "camvid", "cwfid", "highway_cdnet"),
)
each_tree = pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.id)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """Let no set be on this machine."""
    monkeypatch.setenv("EASYSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EASYSEG_DATA", raising=False)
    return tmp_path / "cache" / "datasets"


def rows(table: pd.DataFrame, root: Path) -> set[tuple[str, str]]:
    assert list(table.columns) == ["image", "label"]
    assert list(table.index) == list(range(len(table)))
    return {
        (Path(image).relative_to(root).as_posix(), Path(label).relative_to(root).as_posix())
        for image, label in table.itertuples(index=False)
    }


def check(dataset: datasets.Dataset, tree, root: Path) -> None:
    """Compare a loaded set with the files that were written."""
    assert dataset.root == root
    assert rows(dataset.train, root) == set(tree.parts["train"])
    assert (dataset.val is not None) == tree.val
    if dataset.val is not None:
        assert rows(dataset.val, root) == set(tree.parts["val"])
    found = {name: rows(table, root) for name, table in dataset.tests.items()}
    assert found == {name.removeprefix("test_"): set(tree.parts[name]) for name in tree.tests}
    assert rows(dataset.test, root) == {pair for name in tree.tests for pair in tree.parts[name]}


# The catalog.


def test_the_sets_of_the_paper_and_the_small_ones_are_known():
    assert datasets.list_datasets() == (*PAPER_NAMES, *SAMPLES)


@pytest.mark.parametrize("name", [*PAPER_NAMES, *SAMPLES])
def test_every_set_tells_what_a_user_must_know(name):
    spec = datasets.get_spec(name)
    for text in (spec.about, spec.licence, spec.citation, spec.by_hand):
        assert text.strip()
    assert spec.homepage.startswith("https://")
    assert spec.domain is None or spec.domain in list_domains()
    assert re.fullmatch(r"[a-z_]+@(image|dataset)", spec.metric)
    assert (len(spec.classes) == 2) == (spec.problem_type == "binary")
    assert all(layout.split for layout in spec.layouts)
    for archive in (archive for source in spec.sources for archive in source):
        assert archive.url.startswith("https://")
        assert archive.filename.endswith(".zip")
    taken = {folder: other for other in datasets.list_datasets()
             for folder in (other, *datasets.get_spec(other).folders) if other != name}  # fmt: skip
    assert not {name, *spec.folders} & set(taken)


def test_the_archives_of_the_paper_are_where_its_code_looks_for_them():
    base = "https://automl-mm-bench.s3.amazonaws.com/semantic_segmentation"
    names = ("polyp", "isic2017", "camo_sem_seg", "SBU-shadow")
    names += ("leaf_disease_segmentation", "road_segmentation")
    found = [datasets.get_spec(name).sources[0] for name in PAPER_NAMES[:6]]
    assert found == [(Archive(f"{base}/{name}.zip"),) for name in names]


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(OptionError, match=r"called 'polyps'\. Did you mean 'polyp'"):
        datasets.load("polyps")
    with pytest.raises(OptionError, match="Known: camo, camvid"):
        datasets.find("x")


def test_the_module_is_there_without_an_import_of_its_own():
    assert easyseg.datasets.list_datasets is datasets.list_datasets
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        datasets.laod  # noqa: B018
    assert {"load", "Dataset"} <= set(dir(datasets))
    for name in datasets.__all__:
        assert getattr(datasets, name) is not None


# Every layout.


@each_tree
def test_each_layout_is_found_and_read(tree, tmp_path, monkeypatch):
    root = tree.write(tmp_path)
    for place in (tmp_path, root, str(root)):
        check(datasets.load(tree.name, place), tree, root)
    monkeypatch.setenv("EASYSEG_DATA", str(tmp_path))
    check(datasets.load(tree.name), tree, root)
    assert datasets.find(tree.name) == root


@each_tree
def test_masks_are_coded_as_the_set_says(tree, tmp_path):
    tree.write(tmp_path)
    dataset = datasets.load(tree.name, tmp_path)
    report = easyseg.audit(
        dataset.train,
        dataset.val,
        dataset.test,
        classes=dataset.classes,
        ignore_index=dataset.ignore_index,
        verbosity=0,
    )
    assert not report.errors
    assert dataset.problem_type == ("binary" if len(tree.values) == 2 else "multiclass")
    assert len(dataset.classes) == len(tree.values)


@each_tree
def test_every_missing_split_is_an_error_that_names_it(tree, tmp_path):
    root = tree.write(tmp_path)
    for part, pairs in tree.parts.items():
        gone = root / f"{part}.csv" if tree.tables else (root / pairs[0][0]).parent
        gone.rename(tmp_path / "gone")
        with pytest.raises(DataError, match=f"a part of {tree.name} is missing") as error:
            datasets.load(tree.name, tmp_path)
        piece = part if part in ("train", "val") else "test"
        assert f"{gone}: missing; it holds (a piece of) the {piece}" in str(error.value)
        assert "expected is one of these layouts" in str(error.value)
        (tmp_path / "gone").rename(gone)


@each_tree
def test_every_missing_mask_is_named(tree, tmp_path):
    root = tree.write(tmp_path)
    masks = [root / tree.parts["train"][0][1], root / tree.parts[tree.tests[0]][0][1]]
    for mask in masks:
        mask.unlink()
    with pytest.raises(
        DataError, match=f"2 problems in the data set {re.escape(str(root))}"
    ) as error:
        datasets.load(tree.name, tmp_path)
    for mask in masks:
        assert mask.name in str(error.value)


def test_the_images_of_kaggle_are_split_by_their_names(tmp_path):
    root = KAGGLE_LEAVES.write(tmp_path).parent.parent
    dataset = datasets.load("leaf_disease_segmentation", tmp_path)
    train, test = rows(dataset.train, root), rows(dataset.test, root)
    assert (len(train), len(test), dataset.val) == (34, 6, None)
    written = {(f"data/data/{i}", f"data/data/{m}") for i, m in KAGGLE_LEAVES.parts["all"]}
    assert train | test == written
    assert "made by easyseg" in dataset.split
    assert list(dataset.classes) == ["background", "disease"]
    assert not easyseg.audit(dataset.train, classes=dataset.classes, verbosity=0).errors
    inner = datasets.load("leaf_disease_segmentation", root / "data" / "data")
    assert inner.test["image"].tolist() == dataset.test["image"].tolist()
    # The slow and obvious version: the names with the largest hashes are the test part.
    names = sorted(
        (f"{n:05d}" for n in range(40)), key=lambda name: hashlib.sha256(name.encode()).hexdigest()
    )
    assert {Path(image).stem for image, _ in test} == set(names[34:])


def test_a_folder_without_images_is_an_error(tmp_path):
    tree = next(tree for tree in TREES if tree.folder == "CAMO-V.1.0-CVIU2019")
    root = tree.write(tmp_path)
    for image in (root / "Images" / "Test").iterdir():
        image.unlink()
    with pytest.raises(DataError, match=r"Images/Test/\*\.jpg: expected images, found none"):
        datasets.load("camo", tmp_path)


# Where a set is looked for.


def test_a_complete_set_wins_over_a_broken_one_elsewhere(tmp_path, monkeypatch, cache):
    tree = TREES[0]
    broken = tree.write(tmp_path / "data")
    (broken / "val.csv").unlink()
    monkeypatch.setenv("EASYSEG_DATA", str(tmp_path / "data"))
    with pytest.raises(DataError, match=r"val\.csv: missing"):
        datasets.load("polyp")
    whole = tree.write(cache)
    assert datasets.load("polyp").root == whole
    assert datasets.load("polyp", whole).root == whole


def test_a_folder_of_the_name_that_holds_something_else(tmp_path):
    (tmp_path / "polyp").mkdir()
    (tmp_path / "polyp" / "notes.txt").write_text("mine")
    for root in (tmp_path, tmp_path / "polyp"):
        with pytest.raises(DataError, match="expected the data set polyp, found other files"):
            datasets.load("polyp", root)
    assert [file.name for file in tmp_path.rglob("*")] == ["polyp", "notes.txt"]


def test_the_folder_of_one_set_is_not_taken_for_another(tmp_path):
    tree = next(tree for tree in TREES if tree.name == "isic2017" and tree.tables)
    root = tree.write(tmp_path)
    assert datasets.load("isic2017", root).root == root
    with pytest.raises(DataError, match="leaf_disease is not on this machine"):
        datasets.load("leaf_disease", root)
    mine = root.rename(tmp_path / "mine")
    assert datasets.load("leaf_disease", mine).root == mine


def test_easyseg_data_must_be_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EASYSEG_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"EASYSEG_DATA names .*nowhere, which is no folder"):
        datasets.load("polyp")


@pytest.mark.parametrize("name", ["trans10k_v1", "trans10k_v2", *SAMPLES])
def test_what_cannot_be_downloaded_says_how_to_get_it(name, tmp_path):
    spec = datasets.get_spec(name)
    with pytest.raises(DataError, match=f"{name} is not on this machine") as error:
        datasets.load(name, tmp_path)
    for part in (spec.homepage, spec.by_hand, spec.licence, str(tmp_path / name), "EASYSEG_DATA"):
        assert part in str(error.value)
    for part, source in spec.layouts[0].sources():
        assert all(place.rpartition("/")[2] in str(error.value) for place in source.places), part
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_downloaded_unasked(tmp_path):
    with pytest.raises(DataError, match=r"Get it from https://github\.com/DengPingFan/PraNet"):
        datasets.load("polyp", tmp_path, download=False)
    assert datasets.find("polyp", tmp_path) is None
    assert list(tmp_path.iterdir()) == []


# Downloads, from a server of our own.


def zipped(folder: Path, **more: bytes) -> bytes:
    """Return a zip of all files below a folder, and of further entries."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder).as_posix())
        for name, data in more.items():
            archive.writestr(name, data)
    return content.getvalue()


@pytest.fixture
def offer(server, monkeypatch):
    """Return a function that lets the server offer the first source of a set as these archives."""

    def offer(name, *archives: bytes, sha256=None, source=0):
        spec = datasets.get_spec(name)
        offered = [
            Archive(f"{server.url}/{archive.filename}", sha256) for archive in spec.sources[source]
        ]
        for archive, content in zip(offered, archives, strict=False):
            server.files[f"/{archive.filename}"] = content
        gone = ((Archive(f"{server.url}/gone.zip"),),) * source
        monkeypatch.setitem(catalog._SPECS, name, replace(spec, sources=(*gone, tuple(offered))))
        return [archive.filename for archive in offered]

    return offer


def downloadable():
    papers = [tree for tree in TREES if tree.tables]
    assert [tree.name for tree in papers] == list(PAPER_NAMES[:6])
    return pytest.mark.parametrize("tree", papers, ids=lambda tree: tree.name)


@downloadable()
def test_the_archive_of_the_paper_is_downloaded_once(tree, tmp_path, offer, server, cache):
    tree.write(tmp_path / "made")
    content = zipped(tmp_path / "made")
    (filename,) = offer(tree.name, content, sha256=hashlib.sha256(content).hexdigest())
    check(datasets.load(tree.name, verbosity=0), tree, cache / tree.name / tree.folder)
    check(datasets.load(tree.name, verbosity=0), tree, cache / tree.name / tree.folder)
    assert server.asked == [(f"/{filename}", 0)]
    assert [file.name for file in cache.iterdir()] == [tree.name]  # no archive, no part of one


def test_the_archives_of_isic_come_from_its_own_server_where_the_papers_is_gone(
    tmp_path, offer, server, cache
):
    tree = next(tree for tree in TREES if tree.name == "isic2017" and not tree.tables)
    root = tree.write(tmp_path / "made")
    archives = []
    for part in ("Training", "Validation", "Test_v2"):
        for kind in ("Data", "Part1_GroundTruth"):
            folder = tmp_path / f"{part}_{kind}"
            folder.mkdir()
            (root / f"ISIC-2017_{part}_{kind}").rename(folder / f"ISIC-2017_{part}_{kind}")
            archives.append(zipped(folder))
    names = offer("isic2017", *archives, source=1)
    check(datasets.load("isic2017", verbosity=0), tree, cache / "isic2017")
    assert server.asked == [(f"/{name}", 0) for name in names]


def test_shadows_come_from_their_authors_where_the_papers_archive_is_gone(
    tmp_path, offer, server, cache
):
    tree = next(tree for tree in TREES if tree.name == "sbu_shadow" and not tree.tables)
    tree.write(tmp_path / "made")
    (name,) = offer("sbu_shadow", zipped(tmp_path / "made"), source=1)
    assert name == "SBU-shadow.zip"
    check(datasets.load("sbu_shadow", verbosity=0), tree, cache / "sbu_shadow" / tree.folder)
    assert server.asked == [(f"/{name}", 0)]


@pytest.mark.parametrize("where", ["root", "own folder", "EASYSEG_DATA"])
def test_a_download_goes_where_it_is_looked_for(where, tmp_path, offer, monkeypatch):
    TREES[0].write(tmp_path / "made")
    offer("polyp", zipped(tmp_path / "made"))
    data = tmp_path / "data"
    root = {"root": data, "own folder": data / "polyp"}.get(where)
    if root is None:
        data.mkdir()
        monkeypatch.setenv("EASYSEG_DATA", str(data))
    assert datasets.load("polyp", root, verbosity=0).root == data / "polyp" / "polyp"
    assert datasets.find("polyp", root) == data / "polyp" / "polyp"


def test_a_cut_off_download_goes_on(tmp_path, offer, server, cache, monkeypatch):
    monkeypatch.setattr(download, "_CHUNK", 512)
    tree = TREES[0]
    tree.write(tmp_path / "made")
    content = zipped(tmp_path / "made")
    (filename,) = offer("polyp", content)
    server.cut = {f"/{filename}"}
    with pytest.raises(DownloadError, match=r"cut off.*what came is kept") as error:
        datasets.load("polyp", verbosity=0)
    assert "Or without easyseg: " in str(error.value)
    assert "https://github.com/DengPingFan/PraNet" in str(error.value)
    assert datasets.find("polyp") is None
    server.cut.clear()
    check(datasets.load("polyp", verbosity=0), tree, cache / "polyp" / "polyp")
    came = len(content) // 2 // 512 * 512
    assert server.asked == [(f"/{filename}", 0), (f"/{filename}", came)]


def test_archives_that_came_before_an_interruption_are_not_fetched_again(tmp_path, offer, server):
    tree = next(tree for tree in TREES if tree.name == "isic2017" and not tree.tables)
    tree.write(tmp_path / "made")
    content = zipped(tmp_path / "made" / "isic2017")
    others = [zipped(tmp_path / "nothing", **{f"{n}.txt": b"-"}) for n in range(5)]
    names = offer("isic2017", content, *others, source=1)
    last = server.files.pop(f"/{names[-1]}")
    server.files[f"/{names[-1]}"] = last + bytes(1000)
    server.cut = {f"/{names[-1]}"}
    with pytest.raises(DownloadError, match="cut off"):
        datasets.load("isic2017", verbosity=0)
    server.cut.clear()
    server.files[f"/{names[-1]}"] = last
    assert len(datasets.load("isic2017", verbosity=0).train) == 3
    assert [path for path, _ in server.asked].count(f"/{names[0]}") == 1


def test_a_wrong_hash(tmp_path, offer, cache):
    TREES[0].write(tmp_path / "made")
    content = zipped(tmp_path / "made")
    offer("polyp", content, sha256="0" * 64)
    found = hashlib.sha256(content).hexdigest()
    with pytest.raises(DownloadError, match=f"is {found}, expected 0000") as error:
        datasets.load("polyp", verbosity=0)
    assert "polyp.zip" in str(error.value)
    assert [file for file in cache.rglob("*") if file.is_file()] == []


def test_a_path_escape_in_the_archive(tmp_path, offer, cache):
    TREES[0].write(tmp_path / "made")
    offer("polyp", zipped(tmp_path / "made", **{"../../../evil.png": b"evil"}))
    with pytest.raises(DataError, match="is refused; nothing of it was written") as error:
        datasets.load("polyp", verbosity=0)
    assert "'../../../evil.png' names a place outside of the folder" in str(error.value)
    assert "It came from http://127.0.0.1" in str(error.value)
    assert list(tmp_path.rglob("evil.png")) == []
    assert [file for file in cache.rglob("*") if file.is_file()] == []


def test_an_archive_that_lacks_a_split(tmp_path, offer, server):
    root = TREES[0].write(tmp_path / "made")
    (root / "test_Kvasir.csv").unlink()
    offer("polyp", zipped(tmp_path / "made"))
    for _ in range(2):
        with pytest.raises(DataError, match=r"test_Kvasir\.csv: missing; .* test \(Kvasir\)"):
            datasets.load("polyp", verbosity=0)
    assert len(server.asked) == 1  # It would come as it did: not again.


def test_an_archive_of_something_else(tmp_path, offer):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "readme.txt").write_text("moved")
    offer("polyp", zipped(tmp_path / "made"))
    with pytest.raises(DataError, match="expected the data set polyp, found other files"):
        datasets.load("polyp", verbosity=0)


def test_a_damaged_archive_is_fetched_anew(tmp_path, offer, server, cache):
    tree = TREES[0]
    tree.write(tmp_path / "made")
    content = zipped(tmp_path / "made")
    offer("polyp", content[:-30])
    with pytest.raises(DataError, match="expected a whole zip or tar file"):
        datasets.load("polyp", verbosity=0)
    offer("polyp", content)
    check(datasets.load("polyp", verbosity=0), tree, cache / "polyp" / "polyp")


@pytest.mark.parametrize("name", ["polyp", "isic2017"])
def test_no_server_offers_the_set(offer, server, cache, name):
    offer(name)
    server.files.clear()
    with pytest.raises(DownloadError, match="failed: the server answered 404") as error:
        datasets.load(name, verbosity=0)
    spec = datasets.get_spec(name)
    for part in (
        server.url,
        "Or without easyseg: ",
        spec.homepage,
        spec.by_hand,
        str(cache / name),
    ):
        assert part in str(error.value)
    assert [file for file in cache.rglob("*") if file.is_file()] == []


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path, offer, cache):
    TREES[0].write(tmp_path / "made")
    offer("polyp", zipped(tmp_path / "made"))
    old, new = cache / ".polyp.1.unpacking", cache / ".polyp.2.unpacking"
    for left in (old, new):
        (left / "polyp").mkdir(parents=True)
    os.utime(old, (0, 0))
    datasets.load("polyp", verbosity=0)
    assert (old.exists(), new.exists()) == (False, True)


def test_another_process_may_be_faster(tmp_path, offer, cache, monkeypatch):
    from easyseg.datasets import fetch

    tree = TREES[0]
    tree.write(tmp_path / "made")
    offer("polyp", zipped(tmp_path / "made"))

    def beaten(file, folder):
        tree.write(cache / "polyp")
        file.unlink()
        raise FileNotFoundError(file)

    monkeypatch.setattr(fetch, "unpack", beaten)
    check(datasets.load("polyp", verbosity=0), tree, cache / "polyp" / "polyp")


# Tables for other tools.


def test_tables_of_several_test_parts(tmp_path):
    tree = TREES[0]
    root = tree.write(tmp_path / "data")
    dataset = datasets.load("polyp", root)
    written = datasets.write_tables(dataset, tmp_path / "out")
    assert sorted(file.name for file in written) == sorted(
        file.name for file in (tmp_path / "out").iterdir()
    )
    read = read_folder(tmp_path / "out")
    assert rows(read.train, root) == set(tree.parts["train"])
    assert rows(read.test, root) == rows(dataset.test, root)
    assert read.classes == {0: "background", 255: "polyp"}
    kvasir = pd.read_csv(tmp_path / "out" / "test_Kvasir.csv")
    assert rows(kvasir, root) == set(tree.parts["test_Kvasir"])
    note = (tmp_path / "out" / "SOURCE.md").read_text("utf-8")
    assert dataset.licence in note
    assert dataset.citation in note
    with pytest.raises(DataError, match="expected a new or empty folder"):
        datasets.write_tables(dataset, tmp_path / "out")


def test_no_values_are_written_where_only_their_order_is_known(tmp_path):
    tree = next(tree for tree in TREES if tree.name == "trans10k_v1")
    dataset = datasets.load("trans10k_v1", tree.write(tmp_path / "data"))
    datasets.write_tables(dataset, tmp_path / "out")
    assert not (tmp_path / "out" / "classes.txt").exists()


# The real, small sets.


@pytest.mark.parametrize("name", SAMPLES)
def test_the_small_sets_are_as_their_own_files_say(name, shared_data, monkeypatch, tmp_path):
    monkeypatch.setenv("EASYSEG_DATA", str(shared_data))
    dataset, own = datasets.load(name), read_folder(shared_data / name)
    assert dataset.root == own.root
    assert dataset.classes == own.classes
    assert dataset.ignore_index == own.ignore
    for found, expected in ((dataset.train, own.train), (dataset.val, own.val)):
        pd.testing.assert_frame_equal(found, expected)
    pd.testing.assert_frame_equal(dataset.test, own.test)
    told = re.findall(r"(\d+) (?:train|validation|test)", datasets.get_spec(name).about)
    assert [int(number) for number in told] == [
        len(table) for table in (own.train, own.val, own.test)
    ]
    source = (shared_data / name / "SOURCE.md").read_text("utf-8")
    assert dataset.homepage.removeprefix("https://") in source
    datasets.write_tables(dataset, tmp_path / "out")
    again = read_folder(tmp_path / "out")
    assert (again.classes, again.ignore) == (own.classes, own.ignore)
