# SPDX-License-Identifier: MIT
"""Read the crystals of many files and folders, where what cannot be read does not stop the rest."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..crystals.crystal import Crystal, Rejected
from ..errors import BadFileError, MissingPackageError
from .reading import _require_kind, kind_of, read_crystals


def find_files(paths: Iterable[Path | str]) -> FoundFiles:
    """List the files to read; see `readers.iter_paths`.

    Args:
        paths: files and folders.

    Returns:
        The files, each once; `rejected` has the paths that are missing, cannot be read or are of no known kind as well.
    """
    files: dict[Path, None] = {}
    skipped: dict[Path, None] = {}
    rejected: dict[Rejected, None] = {}
    for path in paths:
        try:
            found = iter_paths([path])
        except BadFileError as error:
            rejected[Rejected.from_error(error, Path(path).name, str(path))] = None
            continue
        except OSError as error:
            # Of a path inside of a folder that cannot be read, not even its kind is known.
            rejected[Rejected(Path(path).name, str(path), f"cannot be read: {error.strerror or error}")] = None
            continue
        files |= dict.fromkeys(found.files)
        skipped |= dict.fromkeys(found.skipped)
        rejected |= dict.fromkeys(found.rejected)
    return FoundFiles(list(files), list(skipped), list(rejected))


def read_files(files: Iterable[Path]) -> Iterator[Crystal | Rejected]:
    """Read files one after the other, one in memory at a time.

    Args:
        files: what `find_files` listed.

    Returns:
        Each crystal, or the record of one that cannot be read; a file that cannot be read gives one record.
    """
    for file in files:
        try:
            found = read_crystals(file)
        except (BadFileError, MissingPackageError) as error:
            yield Rejected.from_error(error, file.name, str(file))
        except MemoryError:
            yield Rejected(file.name, str(file), "there is not enough memory to read the file")
        except RecursionError:
            yield Rejected(file.name, str(file), "its values are nested too deeply to be read")
        else:
            yield from found


class FoundFiles(NamedTuple):
    """Files to read, in order.

    Args:
        files: those of a known kind.
        skipped: in folders, files of no known kind, and links to folders, which are not followed.
        rejected: folders that cannot be read.
    """

    files: list[Path]
    skipped: list[Path]
    rejected: list[Rejected]


def iter_paths(paths: Iterable[Path | str]) -> FoundFiles:
    """Expand folders, with all folders in them, to the files of a known kind, sorted.

    Args:
        paths: files and folders.

    Returns:
        The files, each once; the files in folders that were skipped because their kind is not known, and links to
        folders, which are not followed as they may lead in circles; and the folders that cannot be read.

    Raises:
        BadFileError: a path does not exist, or a file that is named explicitly is of no known kind.
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
            _require_kind(path)
            files[path] = None
            continue
        for folder, folders, names in os.walk(path, onerror=reject):
            folders.sort()
            skipped |= dict.fromkeys(link for link in (Path(folder, name) for name in folders) if link.is_symlink())
            for name in sorted(names):
                file = Path(folder, name)
                (skipped if kind_of(file) is None else files)[file] = None
    return FoundFiles(list(files), list(skipped), list(rejected))
