# SPDX-License-Identifier: MIT
"""Find and read the crystal files in folders; a file that cannot be read does not stop the others."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..crystals.crystal import Crystal, Rejected
from ..errors import BadFileError, MissingPackageError
from .ase_database import is_ase_database
from .compressed import open_file
from .crystal_shards import LIST_FILE, packed_shards
from .csv_file import csv_content
from .file_ids import RepeatedIds, default_id, unique_default_ids, with_file_id
from .parquet_file import has_structures
from .property_table import PropertyTable
from .reading import file_format_of, iter_crystals, require_file_format

_Paths = dict[Path, None]
# Formats whose endings are common for other data too: in folders, files without structures are skipped.
_LOOK_INSIDE = {"parquet": has_structures, "ase_db": is_ase_database}
_SCREENING_MARK = b'"dtnn_fast screening'


class FoundFiles(NamedTuple):
    """Files to read, in order.

    Args:
        files: the files of a known format, each once.
        skipped: in folders, files of unknown format, folders of earlier screenings, and links to folders, which are not
            followed because they may lead in circles.
        rejected: folders that cannot be read, and for `find_files` also paths that are missing, unreadable or of
            unknown format.
        tables: tables of properties by id (`PropertyTable`), which are joined to the crystals of the files.
    """

    files: list[Path]
    skipped: list[Path]
    rejected: list[Rejected]
    tables: Sequence[Path] = ()

    @property
    def notice(self) -> str:
        """One line about what is skipped; empty where nothing is."""
        if not self.skipped:
            return ""
        folders = [path for path in self.skipped if path.is_dir()]
        num_links = sum(path.is_symlink() for path in folders)
        counts = (
            (len(self.skipped) - len(folders), "file of unknown format", "files of unknown format"),
            (num_links, "link to a folder", "links to folders"),
            (len(folders) - num_links, "folder of an earlier screening", "folders of earlier screenings"),
        )
        listed = " and ".join(f"{number:,} {one if number == 1 else many}" for number, one, many in counts if number)
        return f"skipped {listed}, such as {self.skipped[0]}"


def find_files(paths: Iterable[Path | str]) -> FoundFiles:
    """List the files to read as `expand_paths` does, but record bad paths as rejected instead of raising.

    Args:
        paths: files and folders.
    """
    # The keys of a dict are unique and keep their order.
    files: dict[Path, None] = {}
    skipped: dict[Path, None] = {}
    rejected: dict[Rejected, None] = {}
    tables: dict[Path, None] = {}
    for path in paths:
        try:
            found = expand_paths([path])
        except BadFileError as error:
            rejected[Rejected.from_error(error, Path(path).name, str(path))] = None
            continue
        except OSError as error:
            # Inside a folder without permission, not even the type of the path is known.
            rejected[Rejected(Path(path).name, str(path), f"cannot be read: {error.strerror or error}")] = None
            continue
        files |= dict.fromkeys(found.files)
        skipped |= dict.fromkeys(found.skipped)
        rejected |= dict.fromkeys(found.rejected)
        tables |= dict.fromkeys(found.tables)
    return FoundFiles(list(files), list(skipped), list(rejected), list(tables))


def expand_paths(paths: Iterable[Path | str]) -> FoundFiles:
    """Replace each folder by the files of a known format in it and in all its subfolders, sorted.

    CSV files without a column of structures are tables of properties, or skipped where they have no ids either. Folders
    of earlier screenings inside a given folder are skipped. Hidden files of unknown format are ignored.

    Args:
        paths: files and folders.

    Raises:
        BadFileError: a path does not exist, or a file that is named explicitly has an unknown format.
    """
    files: dict[Path, None] = {}
    skipped: dict[Path, None] = {}
    rejected: dict[Rejected, None] = {}
    tables: dict[Path, None] = {}

    def reject(error: OSError) -> None:
        folder = Path(error.filename)
        reason = f"the folder cannot be read: {error.strerror or error}"
        rejected[Rejected(folder.name, str(folder), reason)] = None

    for path in map(Path, paths):
        if not path.is_dir():
            if not path.exists():
                raise BadFileError(f"{path}: there is no such file or folder")
            is_table = require_file_format(path) == "csv" and csv_content(path) == "properties"
            (tables if is_table else files)[path] = None
            continue
        for folder, subfolders, names in os.walk(path, onerror=reject):
            subfolders.sort()
            skipped |= dict.fromkeys(link for link in (Path(folder, name) for name in subfolders) if link.is_symlink())
            shards = packed_shards(Path(folder)) if LIST_FILE in names else None
            if shards is not None:
                files |= dict.fromkeys(shards)
                subfolders.clear()
                continue
            if "manifest.json" in names and Path(folder) != path and _is_screening(Path(folder, "manifest.json")):
                skipped[Path(folder)] = None
                subfolders.clear()
                continue
            for name in sorted(names):
                file = Path(folder, name)
                group = _group_of(file, files, skipped, tables)
                # Hidden files of other programs, and the lock of a screening, are no news.
                if group is not skipped or not name.startswith("."):
                    group[file] = None
    return FoundFiles(list(files), list(skipped), list(rejected), list(tables))


def _is_screening(manifest: Path) -> bool:
    """Return whether a folder holds a screening, whose tables list the crystals of other files."""
    try:
        with open_file(manifest) as file:
            return _SCREENING_MARK in file.read(1 << 16)
    except BadFileError:
        return False


def _group_of(file: Path, files: _Paths, skipped: _Paths, tables: _Paths) -> _Paths:
    """Return where a file of a folder belongs."""
    file_format = file_format_of(file)
    try:
        if file_format == "csv":
            return {"structures": files, "properties": tables, "other": skipped}[csv_content(file)]
        is_other = file_format in _LOOK_INSIDE and not _LOOK_INSIDE[file_format](file)
    except (BadFileError, MissingPackageError):
        return files  # which gives the reason when it is read
    return skipped if is_other or file_format is None else files


def read_files(
    files: Iterable[Path],
    listed: Iterable[Path] | None = None,
    unique_ids: bool = True,
    tables: Iterable[Path | PropertyTable] = (),
) -> Iterator[Crystal | Rejected]:
    """Read files one after the other; large files are read in parts (see `iter_crystals`).

    The ids of the crystals are unique. Where crystals are named by their files and the names repeat, parent folders
    stand in front: ``mp-1/structure``; this does not depend on the order of the files. Where another id occurs again,
    the later crystal has a suffix: ``mp-1#2``.

    Args:
        files: the files that `find_files` or `expand_paths` listed.
        listed: all these files, where `files` can be iterated only once and with effects, as a progress bar; else None.
        tables: tables of properties, which are joined to the crystals by their ids in the files; a table that cannot be
            read gives a Rejected. Pass `PropertyTable` to count the ids without a crystal afterwards.
        unique_ids: False to keep all ids as they are in the files, to find crystals that occur twice.

    Returns:
        Each crystal, or a Rejected where it cannot be read; a file that cannot be read, or not to its end, gives one
        Rejected.
    """
    if unique_ids and listed is None:
        files = listed = list(files)
    file_ids = unique_default_ids(listed or ()) if unique_ids else {}
    repeated = RepeatedIds()
    joined: list[PropertyTable] = []
    for table in tables:
        try:
            joined.append(table if isinstance(table, PropertyTable) else PropertyTable.read(table))
        except (BadFileError, OSError) as error:
            yield Rejected.from_error(error, Path(str(table)).name, str(table))
    for file in files:
        default = default_id(file)
        for item in _read_file(file):
            for known in joined:
                item = known.join(item) if isinstance(item, Crystal) else item  # noqa: PLW2901
            named = with_file_id(item, default, file_ids.get(file, default))
            yield repeated.rename(named) if unique_ids and isinstance(named, Crystal) else named


def _read_file(file: Path) -> Iterator[Crystal | Rejected]:
    try:
        yield from iter_crystals(file)
    except (BadFileError, MissingPackageError) as error:
        yield Rejected.from_error(error, file.name, str(file))
    except MemoryError:
        yield Rejected(file.name, str(file), "there is not enough memory to read the file")
    except RecursionError:
        yield Rejected(file.name, str(file), "its values are nested too deeply to be read")
