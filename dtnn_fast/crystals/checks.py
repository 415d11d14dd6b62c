# SPDX-License-Identifier: MIT
"""The checks that every crystal passes before a prediction; the error names the reason."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache

import numpy as np

from ..errors import BadCrystalError
from ..numpy import _core
from .crystal import Crystal
from .elements import MAX_ATOMIC_NUMBER, SYMBOLS, covalent_radii
from .lattice import closest_pair_within, shortest_lattice_vector
from .packed import PackedCrystals

# Atoms closer than this are one atom entered twice: the shortest bond known, H-H, is 0.74 Angstrom.
SHORTEST_DISTANCE = 0.3
# A cell with less volume per atom is not a crystal: solid hydrogen under pressure still has about 2 cubic Angstrom.
SMALLEST_VOLUME_PER_ATOM = 0.5
# Atoms closer than this fraction of the sum of their covalent radii overlap. The smallest fraction in the 6,631 bundled
# crystals is 0.65 (U-U), N-N in N2 has 0.78, Cr-Cr in Cr2 0.60 and sodium at 320 GPa 0.57.
SMALLEST_RADIUS_FRACTION = 0.5
# The same for the median over the atoms of the fraction at their nearest neighbor: all of a crystal is compressed.
SMALLEST_MEDIAN_FRACTION = 0.56
# Volume of the atoms' covalent spheres over the volume of the cell: at most 1.7 in the bundled crystals (Pu), about 4
# in cesium at 184 GPa.
LARGEST_FILLING = 4.5
# Larger coordinates are a wrong unit or garbage, and would lose the digits that distances need.
LARGEST_COORDINATE = 1e6
# By atomic number. [119], float64, Angstrom
_RADII = covalent_radii(np.arange(MAX_ATOMIC_NUMBER + 1))


def check_crystal(crystal: Crystal, known_elements: Collection[int] | None = None) -> None:
    """Check that a crystal can have a bulk dielectric tensor, and that a model can predict it.

    Args:
        crystal: the crystal to check.
        known_elements: atomic numbers that the model knows, or None for all.

    Raises:
        BadCrystalError: there are no atoms; a coordinate is NaN, infinite or too large; the cell has no volume or is
            not periodic in all directions; an element is unknown; two atoms, or an atom and its own image, are closer
            than 0.3 Angstrom or than half the sum of their covalent radii; or the bonds are so short, or the cell is so
            small, that no known pressure produces such a crystal. The message names the crystal and what is wrong.
    """
    error = check_crystals([crystal], known_elements)[0]
    if error is not None:
        raise error


def check_crystals(
    crystals: Sequence[Crystal], known_elements: Collection[int] | None = None
) -> list[BadCrystalError | None]:
    """Check crystals as `check_crystal` does, many at once.

    Native code passes the crystals that are sound, about a microsecond each; the others are looked at one by one.

    Args:
        crystals: the crystals to check.
        known_elements: see `check_crystal`.

    Returns:
        For each crystal the error that `check_crystal` raises, or None.
    """
    if not crystals:
        return []
    packed = PackedCrystals.of(crystals)
    is_sound = _core.find_sound_crystals(
        packed.positions,
        packed.cells,
        packed.pbc,
        packed.ptr,
        packed.atomic_numbers,
        _is_known(None if known_elements is None else frozenset(known_elements)),
        _RADII,
        SMALLEST_VOLUME_PER_ATOM,
        SMALLEST_MEDIAN_FRACTION,
        LARGEST_FILLING,
        LARGEST_COORDINATE,
    )
    return [
        None if sound else _find_error(crystal, known_elements)
        for crystal, sound in zip(crystals, is_sound.tolist(), strict=True)
    ]


@lru_cache(maxsize=16)
def _is_known(known_elements: frozenset[int] | None) -> np.ndarray:
    """Tabulate which atomic numbers a model knows. [119], bool"""
    return np.array([z > 0 and (known_elements is None or z in known_elements) for z in range(MAX_ATOMIC_NUMBER + 1)])


def _find_error(crystal: Crystal, known_elements: Collection[int] | None) -> BadCrystalError | None:
    try:
        _check(crystal, known_elements)
    except BadCrystalError as error:
        return error
    return None


def _check(crystal: Crystal, known_elements: Collection[int] | None) -> None:
    """Go through all checks, and raise what `check_crystal` raises."""
    check_cell(crystal)
    _check_elements(crystal, known_elements)
    period = shortest_lattice_vector(crystal.cell)
    if period < SHORTEST_DISTANCE:
        raise BadCrystalError(f"{crystal.label}: every atom is {period:.3g} Angstrom from its own periodic image")
    pair = closest_pair_within(crystal.positions, crystal.cell, SHORTEST_DISTANCE)
    if pair is not None:
        raise BadCrystalError(
            f"{crystal.label}: two atoms at one place: atoms {_atom_label(crystal, pair.first)} and "
            f"{_atom_label(crystal, pair.second)}, counted from 0, are {pair.distance:.3g} Angstrom apart"
            + (" across the border of the cell" if pair.across_border else "")
        )
    _check_overlap(crystal)
    _check_density(crystal)


def check_cell(crystal: Crystal) -> None:
    """Check the number of atoms, the coordinates, the periodicity and the volume: all but elements and distances.

    Args:
        crystal: the crystal to check.

    Raises:
        BadCrystalError: see `check_crystal`.
    """
    if crystal.num_atoms == 0:
        raise BadCrystalError(f"{crystal.label}: there are no atoms")
    if not np.isfinite(crystal.cell).all():
        raise BadCrystalError(f"{crystal.label}: the cell has a NaN or infinite component")
    finite = np.isfinite(crystal.positions).all(axis=1)
    if not finite.all():
        raise BadCrystalError(
            f"{crystal.label}: the position of atom {_atom_label(crystal, int(np.argmin(finite)))} is NaN or infinite"
        )
    if max(np.abs(crystal.cell).max(), np.abs(crystal.positions).max()) > LARGEST_COORDINATE:
        raise BadCrystalError(
            f"{crystal.label}: a component of the cell or of a position is beyond {LARGEST_COORDINATE:g} Angstrom"
        )
    if not crystal.pbc.all():
        open_directions = ", ".join(axis for axis, periodic in zip("abc", crystal.pbc, strict=True) if not periodic)
        raise BadCrystalError(
            f"{crystal.label}: not periodic along {open_directions}; expected a crystal that is periodic in all three "
            "directions"
        )
    volume = abs(float(np.linalg.det(crystal.cell)))
    if volume < SMALLEST_VOLUME_PER_ATOM * crystal.num_atoms:
        raise BadCrystalError(
            f"{crystal.label}: the cell has no volume: {volume:.3g} cubic Angstrom for {crystal.num_atoms} atoms; "
            "is a lattice vector zero, or do all three lie in one plane?"
        )


def _check_elements(crystal: Crystal, known_elements: Collection[int] | None) -> None:
    numbers = np.unique(crystal.atomic_numbers)
    invalid = numbers[(numbers < 1) | (numbers > MAX_ATOMIC_NUMBER)]
    if len(invalid):
        raise BadCrystalError(f"{crystal.label}: atomic number {invalid[0]} is outside 1 to {MAX_ATOMIC_NUMBER}")
    if known_elements is None:
        return
    unknown = [SYMBOLS[z] for z in numbers.tolist() if z not in known_elements]
    if unknown:
        known = " ".join(SYMBOLS[z] for z in sorted(known_elements))
        subject = f"element {unknown[0]} is" if len(unknown) == 1 else f"elements {', '.join(unknown)} are"
        raise BadCrystalError(f"{crystal.label}: {subject} unknown to the model; it knows {known}")


def _check_density(crystal: Crystal) -> None:
    volume = abs(float(np.linalg.det(crystal.cell)))
    filling = 4 / 3 * np.pi * float((covalent_radii(crystal.atomic_numbers) ** 3).sum()) / volume
    if filling > LARGEST_FILLING:
        raise BadCrystalError(
            f"{crystal.label}: the cell is too small: {volume:.4g} cubic Angstrom for {crystal.num_atoms} atoms, whose "
            f"covalent spheres have {filling:.1f} times this volume; are all lengths in Angstrom, and is the scale "
            "right?"
        )


def _check_overlap(crystal: Crystal) -> None:
    """Check the distances between atoms, which are at least `SHORTEST_DISTANCE` apart, against their covalent radii."""
    radii = covalent_radii(crystal.atomic_numbers)
    cutoff = SMALLEST_MEDIAN_FRACTION * 2.0 * float(radii.max())
    packed = PackedCrystals.of([crystal])
    fractions, neighbors = _core.nearest_contacts(packed.positions, packed.cells, packed.ptr, radii, np.array([cutoff]))
    if fractions.min() >= SMALLEST_MEDIAN_FRACTION:
        return
    # Atoms without a neighbor within the cutoff count as 1: only fractions below the limit matter for the median.
    median = float(np.median(np.minimum(fractions, 1.0)))
    hint = (
        f"; bonds are about {median:.2g} times the usual length: are all lengths in Angstrom, and is the scale right?"
        if median < SMALLEST_MEDIAN_FRACTION
        else ""
    )
    # Of pairs that are equally close up to rounding, the first.
    i = int(np.argmax(fractions <= fractions.min() * (1 + 1e-11)))
    j = int(neighbors[i])
    length = float(fractions[i] * (radii[i] + radii[j]))
    if fractions[i] < SMALLEST_RADIUS_FRACTION:
        subject = (
            f"every image of atom {_atom_label(crystal, i)}, counted from 0, is {length:.3g} Angstrom from the next"
            if i == j
            else f"atoms {_atom_label(crystal, min(i, j))} and {_atom_label(crystal, max(i, j))}, counted from 0, are "
            f"{length:.3g} Angstrom apart"
        )
        raise BadCrystalError(
            f"{crystal.label}: {subject}: less than half the sum of their covalent radii "
            f"({radii[i] + radii[j]:.3g} Angstrom){hint}"
        )
    if hint:
        raise BadCrystalError(f"{crystal.label}: all atoms are too close to each other{hint}")


def _atom_label(crystal: Crystal, atom: int) -> str:
    z = int(crystal.atomic_numbers[atom])
    return f"{atom} ({SYMBOLS[z]})" if 1 <= z <= MAX_ATOMIC_NUMBER else str(atom)
