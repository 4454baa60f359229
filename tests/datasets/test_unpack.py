"""Unpacking: what is harmless comes out as it was, the rest is refused before it is written."""

from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from easyseg.datasets import unpack as unpacking
from easyseg.datasets.unpack import unpack
from easyseg.errors import DataError

GOOD = {"polyp/train.csv": b"image,label\n", "polyp/images/a b.png": bytes(range(256)) * 40}


def write_zip(file, entries=GOOD):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file


def tar_member(name, kind=tarfile.REGTYPE, size=0, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, target
    return info


def write_tar(file, entries=GOOD, mode="w:gz"):
    """Write a tar of contents by name; a member made by `tar_member` stands for itself."""
    with tarfile.open(file, mode) as archive:
        for name, content in entries.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                archive.addfile(tar_member(name, size=len(content)), io.BytesIO(content))
    return file


def write(kind, file, entries=GOOD):
    return write_zip(file, entries) if kind == "zip" else write_tar(file, entries, f"w:{kind}")


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "inner" / "target"
    folder.mkdir(parents=True)
    return folder


def tree(folder):
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if not file.is_dir()
    }


def everything(folder):
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*"))


@pytest.mark.parametrize("kind", ["zip", "gz", "xz", ""])
def test_files_come_out_as_they_went_in(tmp_path, target, kind):
    unpack(write(kind, tmp_path / "set"), target)
    assert tree(target) == GOOD


def test_metadata_of_macos_is_left_out(tmp_path, target):
    junk = {"__MACOSX/polyp/._a.png": b"x", "polyp/.DS_Store": b"x"}
    unpack(write_zip(tmp_path / "set.zip", GOOD | junk), target)
    assert tree(target) == GOOD


@pytest.mark.skipif(os.name != "posix", reason="about POSIX permissions")
def test_no_file_comes_out_with_rights_of_the_archive(tmp_path, target):
    info = zipfile.ZipInfo("run")
    info.external_attr = (stat.S_IFREG | 0o4777) << 16
    write_zip(tmp_path / "set.zip", {info: b"#!"})
    unpack(tmp_path / "set.zip", target)
    assert (target / "run").stat().st_mode & 0o7111 == 0


@pytest.mark.parametrize("kind", ["zip", "gz"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../evil.png", "outside of the folder"),
        ("polyp/../../evil.png", "outside of the folder"),
        ("polyp/..", "outside of the folder"),
        ("/tmp/evil.png", "absolute path"),
        ("C:/evil.png", "absolute path"),
        ("C:evil.png", "absolute path"),
        ("//server/share/evil.png", "absolute path"),
        ("..\\evil.png", "outside of the folder"),
        ("polyp\\a.png", "backslash"),
        ("polyp/a.png:stream", "absolute path"),
    ],
)
def test_no_entry_leaves_the_folder(tmp_path, target, kind, name, words):
    archive = write(kind, tmp_path / "set", GOOD | {name: b"evil"})
    before = everything(tmp_path)
    with pytest.raises(DataError, match="is refused; nothing of it was written") as error:
        unpack(archive, target)
    assert repr(name) in str(error.value)
    assert words in str(error.value)
    assert everything(tmp_path) == before


def test_all_bad_entries_are_named_at_once(tmp_path, target):
    with pytest.raises(DataError) as error:
        unpack(write_zip(tmp_path / "set.zip", {"../a": b"", "/b": b"", "c": b""}), target)
    assert len(error.value.problems) == 2


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (tar_member("link", tarfile.SYMTYPE, target="/etc"), "a symbolic link"),
        (tar_member("link", tarfile.LNKTYPE, target="../secret"), "a hard link"),
        (tar_member("null", tarfile.CHRTYPE), "a device"),
        (tar_member("pipe", tarfile.FIFOTYPE), "a device or another special file"),
    ],
)
def test_no_links_and_devices_of_a_tar(tmp_path, target, member, words):
    # Through the link, the entry after it would be written elsewhere.
    entries = {"link": member, "link/evil.png": b"evil"}
    with pytest.raises(DataError, match=f"is {words}"):
        unpack(write_tar(tmp_path / "set.tar.gz", entries), target)
    assert everything(target) == []


@pytest.mark.parametrize(
    ("mode", "words"), [(stat.S_IFLNK, "a symbolic link"), (stat.S_IFCHR, "a device")]
)
def test_no_links_and_devices_of_a_zip(tmp_path, target, mode, words):
    info = zipfile.ZipInfo("link")
    info.create_system, info.external_attr = 3, (mode | 0o777) << 16
    with pytest.raises(DataError, match=f"is {words}"):
        unpack(write_zip(tmp_path / "set.zip", {info: b"/etc"}), target)
    assert everything(target) == []


@pytest.mark.parametrize("kind", ["zip", "gz"])
def test_a_decompression_bomb_is_refused(tmp_path, target, monkeypatch, kind):
    monkeypatch.setattr(unpacking, "_ALWAYS_ALLOWED", 100_000)
    bomb = write(kind, tmp_path / "set", {f"{n}.png": bytes(2_000_000) for n in range(3)})
    assert bomb.stat().st_size < 20_000
    with pytest.raises(DataError, match="refused as a decompression bomb"):
        unpack(bomb, target)
    assert everything(target) == []


def test_too_many_entries_are_refused(tmp_path, target, monkeypatch):
    monkeypatch.setattr(unpacking, "_MOST_ENTRIES", 5)
    with pytest.raises(DataError, match="6 entries"):
        unpack(write_zip(tmp_path / "set.zip", {f"{n}": b"" for n in range(6)}), target)


def test_a_zip_cannot_hold_more_than_it_says(tmp_path, target):
    """The directory at the end says 10 bytes; 100,000 lie in the entry."""
    file = write_zip(tmp_path / "set.zip", {"a.png": bytes(100_000)})
    content = bytearray(file.read_bytes())
    directory = content.rindex(b"PK\x01\x02")
    struct.pack_into("<I", content, directory + 24, 10)
    file.write_bytes(content)
    with pytest.raises(DataError, match="damaged or foreign"):
        unpack(file, target)
    assert all(size <= 10 for size in map(len, tree(target).values()))


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, target, monkeypatch):
    usage = type("usage", (), {"free": 100})
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(OSError, match="nothing of it was written"):
        unpack(write_zip(tmp_path / "set.zip"), target)
    assert everything(target) == []


def cut(content):
    return content[: len(content) // 2]


def flipped(content):
    middle = content.index(b"a b.png") + 200
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("zip", cut),
        ("zip", flipped),
        ("gz", cut),
        ("xz", cut),
        ("", cut),
        ("zip", lambda content: b""),
        ("zip", lambda content: b"<html>Please sign in</html>"),
    ],
)
def test_a_damaged_archive(tmp_path, target, kind, damage):
    big = GOOD | {"noise.png": os.urandom(50_000)}
    file = write(kind, tmp_path / "set", big)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match="expected a whole zip or tar file") as error:
        unpack(file, target)
    assert str(file) in str(error.value)


def test_an_empty_archive(tmp_path, target):
    with pytest.raises(DataError, match="found an empty archive"):
        unpack(write_zip(tmp_path / "set.zip", {"polyp/": b""}), target)


def test_an_encrypted_zip_says_so(tmp_path, target):
    file = write_zip(tmp_path / "set.zip", {"a.png": b"x"})
    content = bytearray(file.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="is an encrypted file"):
        unpack(file, target)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name(tmp_path, target):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a.png", b"one")
        archive.writestr("a.png", b"two")
    with pytest.raises(DataError, match="two entries have the name"):
        unpack(tmp_path / "set.zip", target)


@given(
    names=st.lists(
        st.lists(st.sampled_from(["a", "..", ".", "/", "\\", "C:", "b.png", "~", " "]), min_size=1),
        min_size=1,
        max_size=3,
    ),
    kind=st.sampled_from(["zip", ""]),
)
def test_whatever_the_names_are_nothing_leaves_the_folder(tmp_path_factory, names, kind):
    around = tmp_path_factory.mktemp("around")
    folder = around / "x" / "y" / "target"
    folder.mkdir(parents=True)
    archive = write(kind, around / "set", {"/".join(parts): b"!" for parts in names})
    before = [name for name in everything(around) if not name.startswith("x/y/target")]
    with suppress(DataError, OSError):
        unpack(archive, folder)
    assert [name for name in everything(around) if not name.startswith("x/y/target")] == before
    assert not Path("/b.png").exists()
