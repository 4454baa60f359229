"""Folders and files of one's own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from easyseg.files import new_folder


def test_folders_of_the_same_second_are_different_ones(tmp_path):
    parent = tmp_path / "deep" / "runs"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(new_folder, [parent] * 8))
    assert len(set(made)) == 8
    assert set(made) == set(parent.iterdir())
