# SPDX-License-Identifier: MIT
"""The record of a crystal that was not used."""

from __future__ import annotations

from dataclasses import dataclass


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
