# SPDX-License-Identifier: MIT
"""Limits of the service: sizes and times, so that no request takes what others need."""

from __future__ import annotations

from dataclasses import dataclass

# Bonds of an atom, each counted once, that a crystal may have in the mean: the densest bundled crystal has 47.
BONDS_PER_ATOM = 64


@dataclass(frozen=True)
class Limits:
    """Sizes and times that requests are held to.

    Args:
        max_bytes: size of the body of a request. bytes
        max_atoms: number of atoms of a crystal.
        max_crystals: number of crystals of a request.
        max_waiting: number of crystals in the service at a time; further requests are refused until some are done.
        reading_seconds: time to read a file and find the symmetry of its crystals; its reader is ended afterwards. s
        request_seconds: time for a whole request, the upload included. s
        reader_bytes: memory that a reader may take beyond what it has at its start. bytes
    """

    max_bytes: int = 4 << 20
    max_atoms: int = 500
    max_crystals: int = 100
    max_waiting: int = 1000
    reading_seconds: float = 5.0
    request_seconds: float = 30.0
    reader_bytes: int = 1 << 30

    @property
    def max_bonds(self) -> int:
        """Estimated number of bonds of a crystal, each counted once."""
        return BONDS_PER_ATOM * self.max_atoms

    @property
    def max_held_bytes(self) -> int:
        """Bytes of all bodies that are held at a time."""
        return 16 * self.max_bytes
