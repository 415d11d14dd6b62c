# SPDX-License-Identifier: MIT
"""Values of a JSON text that is decoded in parts, so that a container of any length takes the memory of one entry."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import BadFileError
from ..files import check_nesting
from . import text_files
from .json_file import object_of_pairs

_BLANKS = re.compile(r"[ \t\n\r]*")
# A literal such as -Infinity that is cut off is at most this far from the end of the text at hand.
_LONGEST_LITERAL = 16


class JsonTokens:
    """A JSON text, read value by value from its start.

    Args:
        path: the file, for messages.
        chunks: its text in parts.
    """

    def __init__(self, path: Path, chunks: Iterable[str]) -> None:
        self._path = path
        self._chunks = iter(chunks)
        self._text = ""
        self._place = 0
        self._mark: int | None = None
        self._num_dropped = 0
        self._decoder = json.JSONDecoder(object_pairs_hook=object_of_pairs)

    def peek(self) -> str:
        """Return the next symbol that is no blank, without taking it; "" at the end."""
        while True:
            blanks = _BLANKS.match(self._text, self._place)
            self._place = blanks.end() if blanks else self._place
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._read_more():
                return ""

    def value(self) -> Any:
        """Decode the next value whole. NaN and Infinity are numbers.

        Raises:
            BadFileError: it is not valid JSON, it is truncated, or longer than `MAX_LINE`.
        """
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._place)
            except json.JSONDecodeError as error:
                is_string = error.msg.startswith("Unterminated string")
                may_go_on = is_string or error.pos >= len(self._text) - _LONGEST_LITERAL
                is_cut = is_string or error.pos >= len(self._text.rstrip())
                if not may_go_on or not self._read_more():
                    raise self._error(error.msg, error.pos, is_cut) from error
            except RecursionError as error:
                raise BadFileError(f"{self._path}: not valid JSON: nested too deeply") from error
            except ValueError as error:  # a key occurs twice
                raise BadFileError(f"{self._path}: not valid JSON: {error}") from error
            else:
                # A number near the end of the text at hand may go on: 1.5 of 1.5e3.
                is_complete = isinstance(value, dict | list | str) or end + 2 < len(self._text)
                if is_complete or not self._read_more():
                    self._place = end
                    return value

    def elements(self) -> Iterator[None]:
        """Take an array: stop at each element, whose value must be taken before the next one."""
        self._take("[")
        if self._skip("]"):
            return
        while True:
            yield None
            if self._take(",]") == "]":
                return

    def members(self) -> Iterator[str]:
        """Take an object: yield the key of each member, whose value must be taken before the next one."""
        self._take("{")
        if self._skip("}"):
            return
        while True:
            if self.peek() != '"':
                raise self._error("Expecting property name enclosed in double quotes", self._place)
            key = self.value()
            self._take(":")
            yield key
            if self._take(",}") == "}":
                return

    def mark(self) -> None:
        """Remember this place, and keep the text from here on."""
        self._mark = self._place

    def go_back(self) -> None:
        """Go back to the place of `mark`, once."""
        if self._mark is not None:
            self._place, self._mark = self._mark, None

    def refusal(self, reason: str) -> BadFileError:
        """Return an error that names the file."""
        return BadFileError(f"{self._path}: {reason}")

    def finish(self) -> None:
        """Check that nothing but blanks is left."""
        if self.peek():
            raise self._error("Extra data", self._place, False)

    def _take(self, symbols: str) -> str:
        symbol = self.peek()
        if symbol not in symbols or not symbol:
            raise self._error(f"Expecting {' or '.join(map(repr, symbols))}", self._place)
        self._place += 1
        return symbol

    def _skip(self, symbol: str) -> bool:
        found = self.peek() == symbol
        self._place += found
        return found

    def _read_more(self) -> bool:
        """Add to the text at hand as much again, so that long values are tried few times. False at the end."""
        begin = self._place if self._mark is None else self._mark
        left = self._text[begin:]
        if len(left) > text_files.MAX_LINE:
            raise BadFileError(f"{self._path}: a value is longer than {text_files.MAX_LINE:,} characters")
        parts = [left]
        size = 0
        for chunk in self._chunks:
            parts.append(chunk)
            size += len(chunk)
            if size >= len(left):
                break
        if not size:
            return False
        self._text = "".join(parts)
        self._place -= begin
        self._num_dropped += begin
        if self._mark is not None:
            self._mark = 0
        try:
            check_nesting(self._text)
        except RecursionError as error:
            raise BadFileError(f"{self._path}: not valid JSON: nested too deeply") from error
        return True

    def _error(self, message: str, place: int, is_cut: bool | None = None) -> BadFileError:
        if is_cut is None:
            is_cut = place >= len(self._text)
        reason = "the file is truncated" if is_cut else "not valid JSON"
        return BadFileError(f"{self._path}: {reason}: {message}: char {self._num_dropped + place}")
