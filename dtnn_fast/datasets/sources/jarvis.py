# SPDX-License-Identifier: MIT
"""Labelled crystals of JARVIS-DFT (K. Choudhary et al., 2020).

The data set dft_3d itself has no full tensor: epsx, epsy, epsz and mepsx, mepsy, mepsz are diagonals of the electronic
tensor, and dfpt_piezo_max_dielectric is the largest element. But its raw_files name the archives of the
perturbation-theory runs. The vasprun.xml in such an archive has both tensors and the structure in one frame. One
archive is downloaded for each crystal.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ...crystals.crystal import Crystal, Rejected
from ...errors import BadCrystalError, BadFileError, FetchError
from ...files import OnProgress, download, parse_json, sha256_of
from .source import DataSource, DroppedRow, DropReason, SourceRows, TensorFrame, labelled_crystal
from .vasprun import read_vasprun

JARVIS = DataSource(
    "jarvis",
    "JARVIS-DFT, runs of density-functional perturbation theory",
    TensorFrame.cell,
    "see https://doi.org/10.6084/m9.figshare.6815699",
    (
        "K. Choudhary et al., npj Computational Materials 6, 173 (2020), https://doi.org/10.1038/s41524-020-00440-1",
        "K. Choudhary et al., npj Computational Materials 6, 64 (2020), https://doi.org/10.1038/s41524-020-0337-2",
    ),
)
# dft_3d as in jarvis-tools 2026.6.12, jarvis/db/figshare.py.
URL = "https://ndownloader.figshare.com/files/64391379"
VERSION = "jdft_3d-9-24-2025"
_SOURCE = "JARVIS-DFT"
# When this number of downloads in a row fails, the server is the problem, not an archive.
_MAX_FAILURES_IN_A_ROW = 5
# Raised by zipfile for archives that are damaged, encrypted or compressed by an unknown method.
_ARCHIVE_ERRORS = (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def fetch_jarvis(
    folder: Path,
    file: Path | None = None,
    limit: int | None = None,
    on_progress: OnProgress | None = None,
) -> SourceRows:
    """Download dft_3d, or read a local copy, and download the archives of its perturbation-theory runs.

    Args:
        folder: folder that keeps downloads; existing files are not downloaded again.
        file: a copy of dft_3d to read instead of a download: the .zip of figshare or the .json in it.
        limit: maximum number of runs, or None for all.
        on_progress: see `files.OnProgress`; it counts the bytes of dft_3d.

    Returns:
        The crystals of the runs with tensors in the frame of the cell. An archive that cannot be downloaded or read is
        a dropped row.

    Raises:
        FetchError: the download of dft_3d failed; or, while the rows are read, the downloads of several archives in a
            row.
        BadFileError: dft_3d is damaged.
    """
    path = download(URL, folder / f"{VERSION}.zip", None, on_progress) if file is None else file
    entries = _read_database(path)
    runs = [(entry, url) for entry in entries if (url := _archive_url(entry)) is not None][:limit]
    provenance: dict[str, Any] = {"url": URL} if file is None else {"file": path.name}
    provenance |= {"database_version": VERSION if file is None else path.name, "sha256": sha256_of(path)}
    provenance |= {"query": {"raw_files": "DFPT", "limit": limit}, "entries": len(entries), "rows": len(runs)}
    return SourceRows(_rows(runs, folder), provenance)


def _read_database(path: Path) -> list[Mapping[str, Any]]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                text = archive.read(next(name for name in archive.namelist() if name.endswith(".json")))
        else:
            text = path.read_bytes()
        entries = parse_json(text)
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (RecursionError, StopIteration, *_ARCHIVE_ERRORS) as error:
        raise BadFileError(f"{path}: damaged, or not dft_3d of JARVIS-DFT: {error}") from error
    if not isinstance(entries, list) or not any(isinstance(entry, Mapping) and "jid" in entry for entry in entries):
        raise BadFileError(f'{path}: not dft_3d of JARVIS-DFT: expected a list of objects with "jid"')
    return [entry for entry in entries if isinstance(entry, Mapping)]


def _archive_url(entry: Mapping[str, Any]) -> str | None:
    """Return the URL of the perturbation-theory run: raw_files has texts like ``DFPT,JVASP-1002.zip,https://...``."""
    files = entry.get("raw_files")
    for text in files if isinstance(files, list) else []:
        run_type, _, rest = str(text).partition(",")
        url = rest.partition(",")[2].strip()
        if run_type.strip() == "DFPT" and url.startswith("https://"):
            return url
    return None


def _rows(runs: list[tuple[Mapping[str, Any], str]], folder: Path) -> Iterator[Crystal | DroppedRow]:
    failures = 0
    for entry, url in runs:
        name = str(entry.get("jid"))
        try:
            archive = download(url, folder / f"{PurePosixPath(name).name}.zip")
        except FetchError as error:
            failures += 1
            if failures >= _MAX_FAILURES_IN_A_ROW:
                raise
            yield DroppedRow.make(DropReason.UNREADABLE_ROW, name, _SOURCE, str(error))
        else:
            failures = 0
            yield _read_run(name, entry, archive)


def _read_run(name: str, entry: Mapping[str, Any], archive: Path) -> Crystal | DroppedRow:
    try:
        run = read_vasprun(_read_member(archive, "vasprun.xml"), name)
    except BadCrystalError as error:
        return DroppedRow(Rejected.from_error(error, name, _SOURCE), DropReason.BAD_STRUCTURE)
    except _ARCHIVE_ERRORS as error:
        return DroppedRow.make(DropReason.UNREADABLE_ROW, name, _SOURCE, f"{archive.name} cannot be read: {error}")
    gap = entry.get("optb88vdw_bandgap")
    info = {"formula": entry.get("formula"), "band_gap_ev": gap if isinstance(gap, int | float) else None}
    return labelled_crystal(name, _SOURCE, run.crystal, run.tensors, info)


def _read_member(archive: Path, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(archive.read_bytes())) as opened:
        for member in opened.namelist():
            if PurePosixPath(member).name == name:
                return opened.read(member)
    raise ValueError(f"the archive of the run has no {name}")
