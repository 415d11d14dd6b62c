# SPDX-License-Identifier: MIT
"""Find and read the crystal files in folders; a file that cannot be read does not stop the others."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..crystals.crystal import Crystal, Rejected
from ..errors import BadFileError, MissingPackageError
from .file_ids import RepeatedIds, default_id, unique_default_ids, with_file_id
from .reading import file_format_of, iter_crystals, require_file_format


class FoundFiles(NamedTuple):
    """Files to read, in order.

    Args:
        files: the files of a known format, each once.
        skipped: in folders, files of unknown format, and links to folders, which are not followed because they may
            lead in circles.
        rejected: folders that cannot be read, and for `find_files` also paths that are missing, unreadable or of
            unknown format.
    """

    files: list[Path]
    skipped: list[Path]
    rejected: list[Rejected]


def find_files(paths: Iterable[Path | str]) -> FoundFiles:
    """List the files to read as `expand_paths` does, but record bad paths as rejected instead of raising.

    Args:
        paths: files and folders.
    """
    # The keys of a dict are unique and keep their order.
    files: dict[Path, None] = {}
    skipped: dict[Path, None] = {}
    rejected: dict[Rejected, None] = {}
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
    return FoundFiles(list(files), list(skipped), list(rejected))


def expand_paths(paths: Iterable[Path | str]) -> FoundFiles:
    """Replace each folder by the files of a known format in it and in all its subfolders, sorted.

    Args:
        paths: files and folders.

    Raises:
        BadFileError: a path does not exist, or a file that is named explicitly has an unknown format.
    """
    files: dict[Path, None] = {}
    skipped: dict[Path, None] = {}
    rejected: dict[Rejected, None] = {}

    def reject(error: OSError) -> None:
        folder = Path(error.filename)
        reason = f"the folder cannot be read: {error.strerror or error}"
        rejected[Rejected(folder.name, str(folder), reason)] = None

    for path in map(Path, paths):
        if not path.is_dir():
            if not path.exists():
                raise BadFileError(f"{path}: there is no such file or folder")
            require_file_format(path)
            files[path] = None
            continue
        for folder, subfolders, names in os.walk(path, onerror=reject):
            subfolders.sort()
            skipped |= dict.fromkeys(link for link in (Path(folder, name) for name in subfolders) if link.is_symlink())
            for name in sorted(names):
                file = Path(folder, name)
                (skipped if file_format_of(file) is None else files)[file] = None
    return FoundFiles(list(files), list(skipped), list(rejected))


def read_files(
    files: Iterable[Path], listed: Iterable[Path] | None = None, unique_ids: bool = True
) -> Iterator[Crystal | Rejected]:
    """Read files one after the other; large files are read in parts (see `iter_crystals`).

    The ids of the crystals are unique. Where crystals are named by their files and the names repeat, parent folders
    stand in front: ``mp-1/structure``; this does not depend on the order of the files. Where another id occurs again,
    the later crystal has a suffix: ``mp-1#2``.

    Args:
        files: the files that `find_files` or `expand_paths` listed.
        listed: all these files, where `files` can be iterated only once and with effects, as a progress bar; else None.
        unique_ids: False to keep all ids as they are in the files, to find crystals that occur twice.

    Returns:
        Each crystal, or a Rejected where it cannot be read; a file that cannot be read, or not to its end, gives one
        Rejected.
    """
    if unique_ids and listed is None:
        files = listed = list(files)
    file_ids = unique_default_ids(listed or ()) if unique_ids else {}
    repeated = RepeatedIds()
    for file in files:
        default = default_id(file)
        for item in _read_file(file):
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
