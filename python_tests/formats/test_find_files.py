# SPDX-License-Identifier: MIT
"""Files and folders that cannot be read are recorded as rejected, and do not stop the others."""

import os

import pytest

from dtnn_fast.crystals.crystal import Rejected
from dtnn_fast.formats.find_files import find_files, read_files
from dtnn_fast.formats.reading import iter_crystals

POSCAR = "Po\n1.0\n3 0 0\n0 3 0\n0 0 3\nPo\n1\nDirect\n0 0 0\n"


@pytest.mark.parametrize(("error", "reason"), [(MemoryError(), "not enough memory"), (RecursionError(), "nested")])
def test_a_file_that_exhausts_the_program_is_rejected(tmp_path, monkeypatch, error, reason):
    def read(file):
        if file.name == "b.vasp":
            raise error
        return iter_crystals(file)

    monkeypatch.setattr("dtnn_fast.formats.find_files.iter_crystals", read)
    files = [tmp_path / name for name in ("a.vasp", "b.vasp", "c.vasp")]
    for file in files:
        file.write_text(POSCAR)
    first, bad, last = read_files(files)
    assert (first.source, last.source) == (str(files[0]), str(files[2]))
    assert isinstance(bad, Rejected)
    assert (bad.id, bad.source) == ("b.vasp", str(files[1]))
    assert reason in bad.reason


@pytest.fixture
def closed_folder(tmp_path, monkeypatch):
    """A folder without permission beside a file; patched, because root can read every folder."""
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "in.vasp").write_text(POSCAR)
    (tmp_path / "out.vasp").write_text(POSCAR)
    scandir = os.scandir

    def guarded(path="."):
        if os.fspath(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(closed))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    return closed


def test_a_folder_that_cannot_be_read_is_rejected(closed_folder):
    found = find_files([closed_folder.parent, closed_folder])
    assert found.files == [closed_folder.parent / "out.vasp"]
    assert found.rejected == [
        Rejected("closed", str(closed_folder), "the folder cannot be read: Permission denied"),
    ]


def test_a_path_in_a_folder_without_permission_is_rejected(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(tmp_path), "is_dir", refuse)
    found = find_files([tmp_path / "a.cif"])
    assert found.rejected == [Rejected("a.cif", str(tmp_path / "a.cif"), "cannot be read: Permission denied")]


def test_hidden_files_of_unknown_format_are_ignored(tmp_path):
    for name in (".DS_Store", ".screening.lock", ".hidden.cif", "remarks.doc", "a.cif"):
        (tmp_path / name).write_text("data_a")
    found = find_files([tmp_path])
    assert found.files == [tmp_path / ".hidden.cif", tmp_path / "a.cif"]
    assert found.skipped == [tmp_path / "remarks.doc"]


def test_links_to_folders_are_skipped_and_counted(tmp_path):
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    for parent in (folder / "inner", elsewhere):
        parent.mkdir(parents=True)
        (parent / "a.vasp").write_text(POSCAR)
    (folder / "link").symlink_to(elsewhere, target_is_directory=True)
    (folder / "circle").symlink_to(folder, target_is_directory=True)
    (folder / "linked.vasp").symlink_to(elsewhere / "a.vasp")
    found = find_files([folder])
    assert found.files == [folder / "linked.vasp", folder / "inner" / "a.vasp"]
    assert found.skipped == [folder / "circle", folder / "link"]
    assert found.notice == f"skipped 2 links to folders, such as {folder / 'circle'}"
    assert not found.rejected
