# SPDX-License-Identifier: MIT
"""Labelled crystals of JARVIS-DFT (K. Choudhary et al., 2020).

The data set dft_3d itself has no full tensor: epsx, epsy, epsz and mepsx, mepsy, mepsz are diagonals of the electronic
one, and dfpt_piezo_max_dielectric is the largest element. But it lists, in raw_files, the archives of the
perturbation-theory runs, whose vasprun.xml has both tensors and the structure in one frame. These are downloaded, one
for each crystal.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ...crystals.crystal import Crystal, Rejected
from ...errors import BadCrystalError, BadFileError, FetchError
from ...files import OnProgress, download, sha256_of
from .source import Dropped, Fetched, Why, labelled_crystal
from .vasprun import read_vasprun

# dft_3d as in jarvis-tools 2026.6.12, jarvis/db/figshare.py.
URL = "https://ndownloader.figshare.com/files/64391379"
VERSION = "jdft_3d-9-24-2025"
_SOURCE = "JARVIS-DFT"
# So many archives in a row that cannot be downloaded mean that the server, not an archive, is the trouble.
_MOST_FAILURES = 5
# What zipfile raises for archives that are damaged, encrypted or compressed in a way that it does not know.
_ARCHIVE_ERRORS = (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def fetch_jarvis(
    folder: Path,
    file: Path | None = None,
    limit: int | None = None,
    on_progress: OnProgress | None = None,
) -> Fetched:
    """Download dft_3d, or read one that is there, and the archives of its perturbation-theory runs.

    Args:
        folder: where downloads are kept; what is there already is not downloaded again.
        file: a copy of dft_3d, the .zip of figshare or the .json in it, instead of a download.
        limit: at most so many runs, or None for all.
        on_progress: see `OnProgress`; it counts the bytes of dft_3d.

    Returns:
        The crystals of the runs with tensors in the frame of the cell. An archive that cannot be had or read is a
        dropped row.

    Raises:
        FetchError: the download of dft_3d failed, or, while the rows are read, that of several archives in a row.
        BadFileError: dft_3d is damaged.
    """
    path = download(URL, folder / f"{VERSION}.zip", None, on_progress) if file is None else file
    entries = _entries(path)
    runs = [(entry, address) for entry in entries if (address := _address(entry)) is not None][:limit]
    record: dict[str, Any] = {"url": URL} if file is None else {"file": path.name}
    record |= {"database_version": VERSION if file is None else path.name, "sha256": sha256_of(path)}
    record |= {"query": {"raw_files": "DFPT", "limit": limit}, "entries": len(entries), "rows": len(runs)}
    return Fetched(_rows(runs, folder), record)


def _entries(path: Path) -> list[Mapping[str, Any]]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                text = archive.read(next(name for name in archive.namelist() if name.endswith(".json")))
        else:
            text = path.read_bytes()
        entries = json.loads(text)
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (RecursionError, StopIteration, *_ARCHIVE_ERRORS) as error:
        raise BadFileError(f"{path}: damaged, or not dft_3d of JARVIS-DFT: {error}") from error
    if not isinstance(entries, list) or not any(isinstance(entry, Mapping) and "jid" in entry for entry in entries):
        raise BadFileError(f'{path}: not dft_3d of JARVIS-DFT: expected a list of objects with "jid"')
    return [entry for entry in entries if isinstance(entry, Mapping)]


def _address(entry: Mapping[str, Any]) -> str | None:
    """Where the archive of the perturbation-theory run is: raw_files has texts like ``DFPT,JVASP-1002.zip,https://...``."""
    files = entry.get("raw_files")
    for text in files if isinstance(files, list) else []:
        kind, _, rest = str(text).partition(",")
        address = rest.partition(",")[2].strip()
        if kind.strip() == "DFPT" and address.startswith("https://"):
            return address
    return None


def _rows(runs: list[tuple[Mapping[str, Any], str]], folder: Path) -> Iterator[Crystal | Dropped]:
    failures = 0
    for entry, address in runs:
        name = str(entry.get("jid"))
        try:
            archive = download(address, folder / f"{PurePosixPath(name).name}.zip")
        except FetchError as error:
            failures += 1
            if failures >= _MOST_FAILURES:
                raise
            yield Dropped.of(Why.ROW, name, _SOURCE, str(error))
        else:
            failures = 0
            yield _row(name, entry, archive)


def _row(name: str, entry: Mapping[str, Any], archive: Path) -> Crystal | Dropped:
    try:
        run = read_vasprun(_member(archive, "vasprun.xml"), name)
    except BadCrystalError as error:
        return Dropped(Rejected.from_error(error, name, _SOURCE), Why.BAD_STRUCTURE)
    except _ARCHIVE_ERRORS as error:
        return Dropped.of(Why.ROW, name, _SOURCE, f"{archive.name} cannot be read: {error}")
    gap = entry.get("optb88vdw_bandgap")
    info = {"formula": entry.get("formula"), "band_gap_ev": gap if isinstance(gap, int | float) else None}
    return labelled_crystal(name, _SOURCE, run.crystal, run.tensors, info)


def _member(archive: Path, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(archive.read_bytes())) as opened:
        for member in opened.namelist():
            if PurePosixPath(member).name == name:
                return opened.read(member)
    raise ValueError(f"the archive of the run has no {name}")
