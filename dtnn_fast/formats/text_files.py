# SPDX-License-Identifier: MIT
"""Text of crystal files: encodings, large files in parts, lines and numbers."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO

from ..errors import BadFileError
from .compressed import COMPRESSIONS, MAX_TEXT_BYTES, byte_chunks, open_file

_OTHER_MAGIC = {
    b"PK\x03\x04": "a zip archive, whose name should end in .zip",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it first",
    b"\x89HDF": "an HDF5 file",
    b"\x89PNG": "a PNG picture",
    b"%PDF": "a PDF document",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "a SQLite database",
    **{known.magic: f"compressed by {known.name} twice: unpack it first" for known in COMPRESSIONS.values()},
}
# The mark of UTF-32 begins with the one of UTF-16.
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Files up to this size are read at once, which gives the better messages.
WHOLE_BYTES = 8 << 20
# Characters of a line, or of one document, of a file that is read in parts.
MAX_LINE = 1 << 28


class TextFile:
    """The text of a file or of a member of an archive, read once: whole, or in chunks where it is large.

    A byte order mark tells UTF-8, UTF-16 and UTF-32; without it, the text is UTF-8, else Latin-1.

    Args:
        path: its name. An ending .gz, .bz2 or .xz says that it is compressed.
        file: its bytes as they are stored.

    Raises:
        BadFileError: it is empty, truncated, not text, or its compression does not fit its name.
    """

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path = path
        self._chunks = byte_chunks(path, file)
        parts: list[bytes] = []
        size = 0
        for chunk in self._chunks:
            parts.append(chunk)
            size += len(chunk)
            if size > WHOLE_BYTES:
                break
        self.is_whole = size <= WHOLE_BYTES
        self._start = b"".join(parts)
        if not self._start:
            raise BadFileError(f"{path}: the file is empty")
        for magic, meaning in _OTHER_MAGIC.items():
            if self._start.startswith(magic):
                raise BadFileError(f"{path}: not a structure file but {meaning}")

    def read(self) -> str:
        """Return the whole text, without a byte order mark.

        Raises:
            BadFileError: it is not text, only blanks, or longer than `MAX_TEXT_BYTES`.
        """
        parts: list[bytes] = []
        size = 0
        for chunk in chain([self._start], self._chunks):
            parts.append(chunk)
            size += len(chunk)
            if size > MAX_TEXT_BYTES:
                raise BadFileError(f"{self.path}: has more than {MAX_TEXT_BYTES:,} bytes of text: split it")
        text = _decode(self.path, b"".join(parts))
        if "\0" in text:
            raise BadFileError(f"{self.path}: not a text file")
        if not text.strip():
            raise BadFileError(f"{self.path}: the file is empty (only blanks)")
        return text

    def chunks(self) -> Iterator[str]:
        """Yield the text in parts: the first of `WHOLE_BYTES`, the others smaller.

        Text that turns out not to be UTF-8 is read as Latin-1 from there on.

        Raises:
            BadFileError: it is not text, or its data is damaged.
        """
        if self.is_whole:
            yield self.read()
            return
        mark = next((mark for mark in _BYTE_ORDER_MARKS if self._start.startswith(mark)), None)
        encoding = "utf-8-sig" if mark is None else _BYTE_ORDER_MARKS[mark]
        decoder = codecs.getincrementaldecoder(encoding)()
        for data in self._byte_parts():
            state = decoder.getstate()
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                if mark is not None:
                    reason = f"begins like {encoding.upper()}, but it is damaged: {error}"
                    raise BadFileError(f"{self.path}: {reason}") from error
                decoder = codecs.getincrementaldecoder("latin-1")()
                text = decoder.decode(state[0] + data)
            if "\0" in text:
                raise BadFileError(f"{self.path}: not a text file")
            if text:
                yield text

    def _byte_parts(self) -> Iterator[bytes]:
        """Yield all bytes, and an empty part at the end."""
        yield self._start
        self._start = b""
        yield from self._chunks
        yield b""


def read_text(path: Path) -> str:
    """Read a text file whole; see `TextFile`.

    Raises:
        BadFileError: the file is missing, a folder, a pipe or device, empty, truncated, not text, or its compression
            does not fit its name.
    """
    with open_file(path) as file:
        return TextFile(path, file).read()


_LINE_END = re.compile(r"\r\n|\n|\r")


def lines_of(path: Path, chunks: Iterable[str]) -> Iterator[tuple[str, bool]]:
    r"""Yield the lines of a text in parts, which end in ``\n``, ``\r\n`` or ``\r`` only (see `split_lines`).

    Args:
        path: for messages.
        chunks: the text.

    Returns:
        Line without its end, and whether it has an end, which only the last line may lack.

    Raises:
        BadFileError: a line is longer than `MAX_LINE`.
    """
    held: list[str] = []
    size = 0
    for chunk in chunks:
        ends_in_return = bool(held) and held[-1].endswith("\r")
        held.append(chunk)
        size += len(chunk)
        if not ends_in_return and "\n" not in chunk and "\r" not in chunk:
            if size > MAX_LINE:
                raise BadFileError(f"{path}: a line is longer than {MAX_LINE:,} characters")
            continue
        text = "".join(held)
        # A return at the end may be followed by a newline in the next chunk.
        complete = text[:-1] if text.endswith("\r") else text
        *lines, last = _LINE_END.split(complete)
        for line in lines:
            yield line, True
        held = [last + text[len(complete) :]]
        size = len(held[0])
    rest = "".join(held)
    if rest:
        yield rest.removesuffix("\r"), rest.endswith("\r")


def split_lines(text: str, maxsplit: int = 0) -> list[str]:
    r"""Split a text into lines, which end in ``\n``, ``\r\n`` or ``\r`` only.

    `str.splitlines` also splits at form feeds and at separators of Unicode, which may stand in comments.

    Args:
        text: the text.
        maxsplit: maximum number of splits; 0 for all.
    """
    lines = _LINE_END.split(text, maxsplit=maxsplit)
    if not lines[-1]:
        del lines[-1]
    return lines


# Fortran writes 1.0d0 too; NaN and infinity are left to the check of the crystal, which names the atom.
# No part can match in two ways, so that long lines take no more than linear time.
NUMBER_PATTERN = r"[-+]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eEdD][-+]?[0-9]+)?|(?i:nan|inf(?:inity)?))"
_NUMBER = re.compile(NUMBER_PATTERN)


def parse_number(word: str) -> float | None:
    """Parse a number as Fortran or C writes it.

    Args:
        word: for example ``1``, ``-.5``, ``1.0d-3`` or ``nan``.

    Returns:
        The number, or None where the word is none.
    """
    return float(word.lower().replace("d", "e")) if _NUMBER.fullmatch(word) else None


def _decode(path: Path, data: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError as error:
                raise BadFileError(f"{path}: begins like {encoding.upper()}, but it is damaged: {error}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Older CIF files have accented names of authors in Latin-1, which decodes any bytes.
        return data.decode("latin-1")
