# SPDX-License-Identifier: MIT
"""Compare how dtnn_fast, gemmi, pymatgen and ASE read the structure files of a folder.

Usage: python tools/compare_readers.py FOLDER [--output TABLE.md]

Every CIF, POSCAR and extxyz file below the folder is read by each of them. The table lists the files on which they
differ in atoms, volume, lengths of bonds or space group, and the files that dtnn_fast refuses, with the reason. Needs
the extra io.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import ase.io
import gemmi
import numpy as np
from pymatgen.core import Structure
from pymatgen.io.cif import CifParser

from dtnn_fast.crystals.convert import to_crystal
from dtnn_fast.crystals.crystal import Crystal, Rejected
from dtnn_fast.errors import BadCrystalError, DTNNError
from dtnn_fast.formats.find_files import expand_paths
from dtnn_fast.formats.reading import file_format_of, read_crystals
from dtnn_fast.numpy import neighbor_list
from dtnn_fast.symmetry import space_group_number

FORMATS = ("cif", "poscar", "extxyz")
VOLUME_TOLERANCE = 1e-3
BOND_CUTOFF = 4.0  # Angstrom
LENGTH_TOLERANCE = 0.02  # Angstrom
SYMMETRY_TOLERANCE = 0.01  # Angstrom
LARGEST_FOR_SYMMETRY = 500  # atoms
READERS = ("dtnn_fast", "gemmi", "pymatgen", "ASE")


class ReadStructure(NamedTuple):
    """The first crystal that a reader makes of a file, or the reason why it makes none.

    Args:
        crystal: the crystal, or None.
        reason: why there is none.
    """

    crystal: Crystal | None
    reason: str = ""

    def describe(self) -> str:
        """One cell of the table."""
        if self.crystal is None:
            return self.reason
        volume = abs(np.linalg.det(self.crystal.cell))
        number = space_group(self.crystal)
        group = f", space group {number}" if number else ""
        return f"{self.crystal.formula}, {self.crystal.num_atoms} atoms, {volume:.1f} cubic Angstrom{group}"


def space_group(crystal: Crystal) -> int | None:
    """Find the space group, or None for a large crystal and where there is none."""
    if crystal.num_atoms > LARGEST_FOR_SYMMETRY:
        return None
    try:
        return space_group_number(crystal, SYMMETRY_TOLERANCE)
    except BadCrystalError:
        return None


def read_by_dtnn_fast(path: Path) -> ReadStructure:
    """Read the first crystal of a file."""
    first = next(iter(read_crystals(path)))
    return ReadStructure(None, first.reason) if isinstance(first, Rejected) else ReadStructure(first)


def read_by_gemmi(path: Path) -> ReadStructure:
    """Read the first block of a CIF with gemmi's reader of small structures."""
    if file_format_of(path) != "cif":
        return ReadStructure(None, "no reader")
    small = gemmi.read_small_structure(str(path))
    sites = list(small.get_all_unit_cell_sites())
    if not sites:
        return ReadStructure(None, "no sites")
    if any(abs(site.occ - 1) > 1e-3 for site in sites):
        return ReadStructure(None, "partial occupancy")
    numbers = [site.element.atomic_number for site in sites]
    if min(numbers) < 1:
        return ReadStructure(None, "a site without an element")
    cell = np.array(small.cell.orth.mat.tolist()).T
    positions = [[site.fract.x, site.fract.y, site.fract.z] for site in sites]
    return ReadStructure(Crystal.from_fractional(path.name, numbers, positions, cell))


def read_by_pymatgen(path: Path) -> ReadStructure:
    """Read the first structure of a file with pymatgen."""
    file_format = file_format_of(path)
    if file_format == "cif":
        structure = CifParser(path).parse_structures(primitive=False)[0]
    elif file_format == "poscar":
        structure = Structure.from_file(path)
    else:
        return ReadStructure(None, "no reader")
    return ReadStructure(to_crystal(structure, path.name))


def read_by_ase(path: Path) -> ReadStructure:
    """Read the first structure of a file with ASE."""
    names = {"cif": "cif", "poscar": "vasp", "extxyz": "extxyz"}
    atoms = ase.io.read(path, index=0, format=names[str(file_format_of(path))])
    return ReadStructure(to_crystal(atoms, path.name))


def attempt(read: Callable[[Path], ReadStructure], path: Path) -> ReadStructure:
    """Read a file, and turn any error into its first line."""
    try:
        return read(path)
    except DTNNError as error:
        return ReadStructure(None, str(error).removeprefix(f"{path}: "))
    except Exception as error:  # the readers of others raise errors of every kind
        # Messages name the file by its path on this machine.
        message = (str(error).splitlines() or [""])[0].replace(str(path), path.name)
        return ReadStructure(None, f"{type(error).__name__}: {message}"[:120])


def agree(first: Crystal, second: Crystal) -> bool:
    """Whether two crystals have the same atoms, volume, bonds and space group."""
    volumes = [abs(np.linalg.det(crystal.cell)) for crystal in (first, second)]
    if abs(volumes[0] - volumes[1]) > VOLUME_TOLERANCE * volumes[0]:
        return False
    if not np.array_equal(np.sort(first.atomic_numbers), np.sort(second.atomic_numbers)):
        return False
    return same_bonds(first, second) and space_group(first) == space_group(second)


def same_bonds(first: Crystal, second: Crystal) -> bool:
    """Whether each kind of bond up to `BOND_CUTOFF` has the same lengths; the frame and the order do not matter."""
    bonds = []
    for crystal in (first, second):
        centers, neighbors, lengths = neighbor_list("ijd", crystal.positions, BOND_CUTOFF, crystal.cell, True)
        numbers = np.sort(crystal.atomic_numbers[np.stack([centers, neighbors])], axis=0)
        bonds.append((numbers, lengths))
    for kind in np.unique(np.concatenate([numbers for numbers, _ in bonds], axis=1), axis=1).T:
        a, b = (np.sort(lengths[(numbers == kind[:, None]).all(axis=0)]) for numbers, lengths in bonds)
        # A bond as long as the cutoff may be missing on one side.
        shared = min(len(a), len(b))
        rest = np.concatenate([a[shared:], b[shared:]])
        if (np.abs(a[:shared] - b[:shared]) > LENGTH_TOLERANCE).any() or (rest < BOND_CUTOFF - LENGTH_TOLERANCE).any():
            return False
    return True


def compare(folder: Path) -> Iterator[tuple[Path, str, list[ReadStructure]]]:
    """Read every file by every reader.

    Returns:
        Path, outcome, and what each of `READERS` reads.
    """
    readers = (read_by_dtnn_fast, read_by_gemmi, read_by_pymatgen, read_by_ase)
    for path in expand_paths([folder]).files:
        if file_format_of(path) not in FORMATS:
            continue
        results = [attempt(read, path) for read in readers]
        ours, *others = (result.crystal for result in results)
        read = [crystal for crystal in others if crystal is not None]
        if ours is None:
            outcome = "refused by dtnn_fast" if read else "refused by all"
        elif not read:
            outcome = "read by dtnn_fast only"
        else:
            outcome = "same" if all(agree(ours, crystal) for crystal in read) else "differs"
        yield path, outcome, results


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of structure files; folders in it are searched too")
    parser.add_argument("--output", type=Path, help="Markdown file of the table (default: the terminal)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter()
    rows = []
    for path, outcome, results in compare(arguments.folder):
        counts[outcome] += 1
        if outcome != "same":
            cells = [str(path.relative_to(arguments.folder)), outcome, *(result.describe() for result in results)]
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    header = ["| file | outcome | " + " | ".join(READERS) + " |", "| --- " * (2 + len(READERS)) + "|"]
    summary = ", ".join(f"{outcome}: {count}" for outcome, count in sorted(counts.items()))
    text = "\n".join([f"{sum(counts.values())} files; {summary}.", "", *header, *rows, ""])
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
