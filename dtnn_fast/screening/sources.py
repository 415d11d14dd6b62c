# SPDX-License-Identifier: MIT
"""Sources of the crystals to screen: files that the user gives, or the crystals that come with the package."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..crystals.crystal import Crystal, Rejected
from ..datasets.bundled import load_screening
from ..formats.find_files import find_files, read_files


@dataclass(frozen=True)
class CrystalSource:
    """Crystals to screen: in files that are read one after the other, or in memory.

    Args:
        files: files to read, in order.
        crystals: crystals in memory; either these or files.
        tables: tables of properties, which are joined to the crystals of the files by their ids.
        rejected: given paths that are missing or cannot be read.
        num_left_out: number of crystals that are not screened because the model does not know all their elements.
        notice: one line for the user about what is screened or skipped; may be empty.
    """

    files: Sequence[Path] = ()
    crystals: Sequence[Crystal] = ()
    tables: Sequence[Path] = ()
    rejected: Sequence[Rejected] = ()
    num_left_out: int = 0
    notice: str = ""

    @property
    def unit(self) -> str:
        """What a progress bar counts: "crystals" where all are in memory, otherwise "files"."""
        return "crystals" if self.crystals else "files"

    @property
    def total(self) -> int:
        """Number of crystals or files; see `unit`."""
        return len(self.crystals or self.files)

    def read(
        self, track_files: Callable[[Iterable[Path]], Iterable[Path]] = lambda files: files
    ) -> Iterator[Crystal | Rejected]:
        """Give the crystals one after the other; what cannot be read gives a `Rejected` and never stops the rest.

        Args:
            track_files: passes the files on, for example to move a progress bar after each.
        """
        yield from self.crystals
        yield from read_files(track_files(self.files), self.files, tables=self.tables)


def open_source(paths: Sequence[Path], known_elements: Collection[int]) -> CrystalSource:
    """Decide what is screened: the given files, or the bundled crystals where no path is given.

    Args:
        paths: files and folders.
        known_elements: atomic numbers that the model knows; empty for all. Bundled crystals with other elements are
            left out; crystals from files are rejected later, when they are checked.
    """
    return _given_files(paths) if paths else _bundled_crystals(known_elements)


def _given_files(paths: Sequence[Path]) -> CrystalSource:
    found = find_files(paths)
    return CrystalSource(files=found.files, tables=found.tables, rejected=found.rejected, notice=found.notice)


def _bundled_crystals(known_elements: Collection[int]) -> CrystalSource:
    bundled = load_screening()
    known = frozenset(known_elements)
    usable = [crystal for crystal in bundled if not known or known.issuperset(crystal.atomic_numbers.tolist())]
    num_left_out = len(bundled) - len(usable)
    notice = (
        f"screening {len(usable):,} of the {len(bundled):,} bundled crystals that can be insulators; "
        f"{num_left_out:,} have elements that the model does not know"
    )
    return CrystalSource(crystals=usable, num_left_out=num_left_out, notice=notice)
