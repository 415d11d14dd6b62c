# SPDX-License-Identifier: MIT
"""Read the crystal files in .zip and .tar archives, in the order of the archive, without unpacking them to disk."""

from __future__ import annotations

import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

from ..crystals.crystal import Crystal, Rejected
from ..errors import BadFileError, MissingPackageError
from .compressed import byte_chunks, check_expansion, open_file, uncompressed_name
from .file_ids import default_id, unique_default_ids, with_file_id
from .read_position import track

ZIP_SUFFIXES = (".zip",)
# Behind them may stand an ending of `compressed.COMPRESSIONS`.
TAR_SUFFIXES = (".tar",)
# Short endings of compressed tar archives, and what they stand for.
SHORT_TAR_SUFFIXES = {".tgz": ".gz", ".tbz2": ".bz2", ".tbz": ".bz2", ".txz": ".xz"}
ARCHIVE_SUFFIXES = (*ZIP_SUFFIXES, *TAR_SUFFIXES, *SHORT_TAR_SUFFIXES)
_ENCRYPTED = 0x1
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, struct.error)

# Reads a member: its name as a path, and its bytes.
ReadMember = Callable[[Path, IO[bytes]], Iterator[Crystal | Rejected]]


class _Member(NamedTuple):
    """A file in an archive.

    Args:
        name: as in the archive.
        refusal: why it is not read, or "".
        open: opens its bytes; before the next member of a .tar is asked for.
    """

    name: str
    refusal: str
    open: Callable[[], IO[bytes]]


def read_archive(path: Path, is_known: Callable[[Path], bool], read: ReadMember) -> Iterator[Crystal | Rejected]:
    """Read the members of an archive whose format is known; others are skipped.

    Members are named as files in folders are: ``archive.zip/folder/a.cif`` is the source of crystal ``a``, and parent
    folders stand in front of names that repeat. A member that cannot be read gives a `Rejected`, also if it is a link,
    encrypted, a decompression bomb, or has an absolute name or one with "..".

    Args:
        path: ends in .zip, .tar, .tar.gz, .tgz, .tar.bz2, .tbz2, .tar.xz or .txz.
        is_known: whether the format of a file is known by its name.
        read: reads a member.

    Raises:
        BadFileError: the archive is damaged, or holds no file of a known format.
    """
    is_zip = uncompressed_name(path.name).lower().endswith(ZIP_SUFFIXES)
    if is_zip and path.suffix.lower() not in ZIP_SUFFIXES:
        raise BadFileError(f"{path}: a .zip is compressed already: unpack the {path.suffix} first")
    members = _zip_members if is_zip else _tar_members
    # The names come first, because whether a name repeats decides about ids. In a .tar this takes a pass of its own.
    names = []
    with suppress(BadFileError):  # met again below, behind the members in front of the damage
        for member in members(path):
            if not member.refusal and is_known(path / member.name):
                names.append(path / member.name)  # noqa: PERF401  what stands in front of the damage is kept
    ids = unique_default_ids(names)
    found = False
    for member in members(path):
        file = path / member.name
        if not is_known(file) or _is_of_macos(file):
            continue
        found = True
        if member.refusal:
            yield Rejected(PurePosixPath(member.name).name, f"{path}/{member.name}", member.refusal)
            continue
        default = default_id(file)
        for item in _read_member(file, member, read):
            yield with_file_id(item, default, ids.get(file, default))
    if not found:
        raise BadFileError(f"{path}: no file of a known format in this archive")


def _read_member(file: Path, member: _Member, read: ReadMember) -> Iterator[Crystal | Rejected]:
    try:
        with member.open() as data:
            yield from read(file, data)
    except (BadFileError, MissingPackageError) as error:
        yield Rejected.from_error(error, file.name, str(file))
    except (*_DAMAGED, NotImplementedError, RuntimeError) as error:
        # Damaged data, a compression that Python does not know, or values that are nested too deeply.
        yield Rejected(file.name, str(file), f"cannot be unpacked: {error}")


def _is_of_macos(file: Path) -> bool:
    """Return whether macOS put this file into the archive, beside the one that it describes."""
    return file.name.startswith("._") or "__MACOSX" in file.parts


def _refusal(name: str) -> str:
    """Return why a member of this name is not read, or "": names that lead out of the archive."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or (len(name) > 1 and name[1] == ":"):
        return f"its name in the archive is an absolute path: {name}"
    return f'its name in the archive leads out of it by "..": {name}' if ".." in parts.parts else ""


def _zip_members(path: Path) -> Iterator[_Member]:
    with open_file(path) as file:
        try:
            archive = zipfile.ZipFile(file)
            entries = archive.infolist()
        except (*_DAMAGED, NotImplementedError, ValueError) as error:
            raise BadFileError(f"{path}: the archive is damaged or truncated: {error}") from error
        if sum(entry.compress_size for entry in entries) > path.stat().st_size:
            # Members that share their data, as in a bomb that is flat.
            raise BadFileError(f"{path}: looks like a decompression bomb: its members overlap")
        done = 0
        # Not the position in the file: its end is read first.
        track(path, lambda: done)
        for entry in entries:
            done += entry.compress_size
            if entry.filename.endswith("/"):
                continue
            refusal = _refusal(entry.filename)
            if entry.flag_bits & _ENCRYPTED:
                refusal = "is encrypted: unpack the archive first"
            elif stat.S_ISLNK(entry.external_attr >> 16):
                refusal = "is a link"
            yield _Member(entry.filename or "?", refusal, partial(_open_in_zip, path, archive, entry))


def _open_in_zip(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> IO[bytes]:
    name = path / entry.filename
    return cast(IO[bytes], io.BufferedReader(_Limited(name, archive.open(entry), entry.compress_size)))


class _Limited(io.RawIOBase):
    """A member that ends in an error where it expands too much."""

    def __init__(self, name: Path, file: IO[bytes], num_compressed: int) -> None:
        super().__init__()
        self._name, self._file, self._num_compressed = name, file, num_compressed
        self._num_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._file.read(len(buffer))
        self._num_bytes += len(data)
        check_expansion(self._name, self._num_bytes, self._num_compressed)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Joined(io.RawIOBase):
    """Chunks of bytes as a file, which remembers its last block."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._chunks = chunks
        self._rest = b""
        self._last_block = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._rest = self._rest or next(self._chunks, b"")
        data, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        self._last_block = (self._last_block + data)[-tarfile.BLOCKSIZE :]
        buffer[: len(data)] = data
        return len(data)

    def ends_in_zeros(self) -> bool:
        """Read to the end, and return whether the last block is empty, as that of every whole tar archive."""
        while self.read(1 << 16):
            pass
        return self._last_block == bytes(tarfile.BLOCKSIZE)


@contextmanager
def _uncompressed(path: Path) -> Iterator[_Joined]:
    ending = SHORT_TAR_SUFFIXES.get(path.suffix.lower())
    with open_file(path) as file:
        # The compression is told from the name a.tar.gz, for which a.tgz is short.
        name = path if ending is None else path.with_name(f"{path.name}{ending}")
        try:
            yield _Joined(byte_chunks(name, file))
        except BadFileError as error:
            raise BadFileError(str(error).replace(str(name), str(path), 1)) from error


def _tar_members(path: Path) -> Iterator[_Member]:
    with _uncompressed(path) as file:
        try:
            buffered = cast(IO[bytes], io.BufferedReader(file))
            with tarfile.open(fileobj=buffered, mode="r|") as archive:
                while (entry := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined]  # which would fill the memory
                    if entry.isdir():
                        continue
                    refusal = _refusal(entry.name)
                    if entry.issym() or entry.islnk():
                        refusal = f"is a link to {entry.linkname}"
                    elif not entry.isfile():
                        refusal = "is a pipe or a device, not a file"
                    yield _Member(entry.name or "?", refusal, partial(_open_in_tar, archive, entry))
            # At a header that is cut off or damaged, tarfile just ends.
            if not file.ends_in_zeros():
                raise BadFileError(f"{path}: the archive is damaged or truncated: its end is missing")
        except _DAMAGED as error:
            raise BadFileError(f"{path}: the archive is damaged or truncated: {error}") from error


def _open_in_tar(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(entry)
    assert file is not None, "only files are opened"
    return file
