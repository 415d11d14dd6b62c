# SPDX-License-Identifier: MIT
"""Labelled crystals from calculations on this machine: folders and archives of phonopy, and VASP's vasprun.xml.

A run may give only some of the labels; `label_cleaning.select_partially_labelled` chooses among them.
"""

from __future__ import annotations

import gzip
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from lzma import LZMAError
from pathlib import Path
from typing import Any

from ...crystals.crystal import Crystal, Rejected, dielectric_targets
from ...errors import BadCrystalError, BadFileError
from .phonopy_run import read_phonopy_run
from .source import DataSource, DroppedRow, DropReason, SourceRows, TensorFrame
from .vasprun import read_vasprun

PHONOPY = DataSource(
    "phonopy",
    "phonopy calculations, such as those of the phonon database of Kyoto University",
    TensorFrame.cell,
    "CC BY 4.0 for the phonon database",
    (
        "A. Togo, Journal of the Physical Society of Japan 92, 012001 (2023), https://doi.org/10.7566/JPSJ.92.012001",
        "A. Togo, Phonondb, https://mdr.nims.go.jp/collections/8g84ms862",
    ),
)
VASP = DataSource("vasp", "perturbation-theory runs of VASP (vasprun.xml)", TensorFrame.cell, "that of the runs", ())

_ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.lzma")
# A run has a few megabytes; an archive that unpacks to more than this is another thing, or an attack.
_LARGEST_ARCHIVE = 2 * 2**30
_ARCHIVE_ERRORS = (OSError, EOFError, ValueError, zlib.error, LZMAError, tarfile.TarError, zipfile.BadZipFile)


def fetch_phonopy(file: Path, limit: int | None = None) -> SourceRows:
    """Read phonopy calculations.

    Args:
        file: folder of a calculation, or an archive of one (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz, .tar.lzma), or a
            folder of such folders and archives, whose names become the ids.
        limit: maximum number of calculations, or None for all.

    Returns:
        The crystals with the labels that their files give.

    Raises:
        BadFileError: there is no calculation.
    """
    if not file.exists():
        raise BadFileError(f"{file}: there is no such file or folder")
    places = [file] if file.is_file() or _holds_phonopy_run(file) else _places(file)
    return _rows_of(places[:limit], limit, file, _read_phonopy)


def fetch_vasp(file: Path, limit: int | None = None) -> SourceRows:
    """Read VASP's perturbation-theory runs.

    Args:
        file: a vasprun.xml or vasprun.xml.gz, or a folder that holds some at any depth. The id is the name of the run's
            folder.
        limit: maximum number of runs, or None for all.

    Returns:
        The crystals with the tensors and Born charges that their runs computed.

    Raises:
        BadFileError: there is no run.
    """
    if not file.exists():
        raise BadFileError(f"{file}: there is no such file or folder")
    places = [file] if file.is_file() else sorted([*file.rglob("vasprun.xml"), *file.rglob("vasprun.xml.gz")])
    return _rows_of(places[:limit], limit, file, _read_vasp)


def _rows_of(
    places: list[Path], limit: int | None, file: Path, read: Callable[[Path, str], Crystal | DroppedRow]
) -> SourceRows:
    if not places:
        raise BadFileError(f"{file}: no calculation was found there")
    provenance: dict[str, Any] = {"file": file.name, "database_version": "local files"}
    provenance |= {"query": {"limit": limit}, "rows": len(places)}

    def rows() -> Iterator[Crystal | DroppedRow]:
        for place in places:
            yield read(place, _name(place))

    return SourceRows(rows(), provenance)


def _places(folder: Path) -> list[Path]:
    """List the folders and archives in a folder, in the order of their names."""
    return sorted(path for path in folder.iterdir() if path.is_dir() or path.name.lower().endswith(_ARCHIVE_SUFFIXES))


def _name(place: Path) -> str:
    """Name a calculation after its folder or archive; a vasprun.xml after the folder that holds it."""
    if place.name.startswith("vasprun.xml"):
        return place.resolve().parent.name
    suffix = next((suffix for suffix in sorted(_ARCHIVE_SUFFIXES, key=len)[::-1] if place.name.endswith(suffix)), "")
    return place.name.removesuffix(suffix) if place.is_file() else place.name


def _holds_phonopy_run(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()}
    return bool(names & {"BORN", "FORCE_SETS", "FORCE_CONSTANTS", "phonopy.yaml", "phonopy_params.yaml"})


def _read_phonopy(place: Path, name: str) -> Crystal | DroppedRow:
    source = place.name
    try:
        if place.is_dir():
            return read_phonopy_run(place, name, source)
        with tempfile.TemporaryDirectory() as folder:
            _unpack(place, Path(folder))
            runs = [path for path in (Path(folder), *sorted(Path(folder).rglob("*"))) if path.is_dir()]
            run = next((path for path in runs if _holds_phonopy_run(path)), None)
            if run is None:
                return DroppedRow.make(
                    DropReason.UNREADABLE_ROW, name, source, "the archive holds no phonopy calculation"
                )
            return read_phonopy_run(run, name, source)
    except BadCrystalError as error:
        return DroppedRow(Rejected.from_error(error, name, source), DropReason.UNREADABLE_ROW)
    except _ARCHIVE_ERRORS as error:
        return DroppedRow.make(DropReason.UNREADABLE_ROW, name, source, f"cannot be unpacked: {error}")


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive; members outside of the folder, links and devices are refused or left out."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            _check_size(sum(member.file_size for member in opened.infolist()))
            opened.extractall(folder)
        return
    with tarfile.open(archive) as tar:
        members = [member for member in tar.getmembers() if member.isfile() or member.isdir()]
        _check_size(sum(member.size for member in members))
        tar.extractall(folder, members, filter="data")


def _check_size(size: int) -> None:
    if size > _LARGEST_ARCHIVE:
        raise ValueError(f"it unpacks to {size / 2**30:.1f} GiB, at most {_LARGEST_ARCHIVE // 2**30} are read")


def _read_vasp(place: Path, name: str) -> Crystal | DroppedRow:
    source = str(place.name)
    try:
        text = gzip.decompress(place.read_bytes()) if place.suffix == ".gz" else place.read_bytes()
        run = read_vasprun(text, name)
        electronic, ionic, _ = run.tensors
        return Crystal.make(
            name,
            run.crystal.atomic_numbers,
            run.crystal.positions,
            run.crystal.cell,
            source=source,
            targets=dielectric_targets(electronic, ionic=ionic),
            born_charges=run.born_charges,
        )
    except BadCrystalError as error:
        return DroppedRow(Rejected.from_error(error, name, source), DropReason.UNREADABLE_ROW)
    except (OSError, EOFError, zlib.error) as error:
        return DroppedRow.make(DropReason.UNREADABLE_ROW, name, source, f"cannot be read: {error}")
