# SPDX-License-Identifier: MIT
"""Read the crystals of many files and folders, where what cannot be read does not stop the rest."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..crystals.crystal import Crystal, Rejected
from ..errors import BadFileError, MissingPackageError
from ..symmetry import crystal_system
from .reading import FoundFiles, iter_paths, read_crystals


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
            rejected[Rejected.because(error, Path(path).name, str(path))] = None
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
            yield Rejected.because(error, file.name, str(file))
        except MemoryError:
            yield Rejected(file.name, str(file), "there is not enough memory to read the file")
        except RecursionError:
            yield Rejected(file.name, str(file), "its values are nested too deeply to be read")
        else:
            yield from found


def known_crystal_system(crystal: Crystal) -> str | None:
    """The crystal system from `info`, or else from spglib, or None where it is not installed or finds none."""
    system = crystal.info.get("crystal_system")
    if system is None:
        try:
            system = crystal_system(crystal)
        except MissingPackageError:
            return None
    return None if system == "unknown" else str(system)


def write_rejected(path: Path, rejected: Iterable[Rejected]) -> None:
    """Write a CSV file with the columns id, source and reason; only these names when nothing was rejected."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "source", "reason"])
        writer.writerows([r.id, r.source, " ".join(r.reason.split())] for r in rejected)
