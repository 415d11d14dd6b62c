# SPDX-License-Identifier: MIT
"""The record of a crystal that was not used."""

from __future__ import annotations

from dataclasses import dataclass


def writable(text: str) -> str:
    r"""Spell out what UTF-8 cannot hold, so that the text can go into any file.

    That is half of a surrogate pair: in JSON ("\ud800"), or for a byte of a file name that is not UTF-8.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(frozen=True)
class Rejected:
    """A crystal that was left out, and why.

    Args:
        id: its name as far as known, otherwise its place in the file, for example ``"line 3"``.
        source: the file or data set that it came from.
        reason: what is wrong, for people.
    """

    id: str
    source: str
    reason: str

    def __post_init__(self) -> None:
        for name in ("id", "source", "reason"):
            object.__setattr__(self, name, writable(getattr(self, name)))

    @classmethod
    def because(cls, error: Exception, id: str, source: str) -> Rejected:
        """Make the record of an error, without the name that its message begins with.

        Args:
            error: what was raised for this crystal.
            id: as above.
            source: as above.
        """
        reason = str(error)
        for name in (f"{id} ({source})", source, id):
            if name:
                reason = reason.removeprefix(f"{name}: ")
        return cls(id, source, reason)
