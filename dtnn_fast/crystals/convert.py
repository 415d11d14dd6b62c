# SPDX-License-Identifier: MIT
"""Convert structures of pymatgen and ASE to `Crystal`, without importing either package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np

from ..errors import BadCrystalError
from .crystal import Crystal


def to_crystal(obj: Any, id: str | None = None) -> Crystal:
    """Convert one structure; the physics is not checked (see `check_crystal`).

    Args:
        obj: a pymatgen Structure, an ASE Atoms or a Crystal; a Crystal is returned unchanged unless `id` differs.
        id: the name for messages; by default the id of the Crystal, otherwise "structure".

    Returns:
        The crystal.

    Raises:
        BadCrystalError: the structure is disordered, or a molecule.
        TypeError: `obj` is not a structure.
    """
    if isinstance(obj, Crystal):
        return obj if id is None or id == obj.id else replace(obj, id=id)
    name = "structure" if id is None else id
    packages = {base.__module__.partition(".")[0] for base in type(obj).__mro__}
    if "pymatgen" in packages and hasattr(obj, "is_ordered"):
        return _from_pymatgen(obj, name)
    if "ase" in packages and hasattr(obj, "get_atomic_numbers"):
        return _from_ase(obj, name)
    raise TypeError(
        f"to_crystal: {name}: expected a pymatgen Structure, an ASE Atoms or a dtnn_fast Crystal, "
        f"got {type(obj).__name__}{_conversion_hint(obj)}"
    )


def to_crystals(objs: Any) -> list[Crystal]:
    """Convert one structure or several, named "structure 0", "structure 1" and so on unless they are Crystals.

    Args:
        objs: a structure that `to_crystal` takes, or a list, tuple or other iterable of such structures.

    Returns:
        The crystals, in order.

    Raises:
        BadCrystalError: a structure is disordered, or a molecule.
        TypeError: an object is not a structure.
    """
    # A pymatgen Structure and an ASE Atoms are iterables of their atoms.
    is_single = isinstance(objs, Crystal | str | bytes | PathLike | Mapping) or hasattr(objs, "is_ordered")
    if is_single or hasattr(objs, "get_atomic_numbers") or not isinstance(objs, Iterable):
        return [to_crystal(objs)]
    return [to_crystal(obj, None if isinstance(obj, Crystal) else f"structure {n}") for n, obj in enumerate(objs)]


def _from_pymatgen(structure: Any, name: str) -> Crystal:
    if not hasattr(structure, "lattice"):
        raise BadCrystalError(f"{name}: a pymatgen {type(structure).__name__} has no lattice: a crystal is needed")
    if not structure.is_ordered:
        index, site = next((i, site) for i, site in enumerate(structure) if not site.is_ordered)
        described = f"{index} ({getattr(site, 'label', None) or site.species_string}: {site.species_string})"
        raise BadCrystalError(f"{name}: partial occupancy at site {described}: order the structure first")
    numbers = []
    for index, site in enumerate(structure):
        # DummySpecies, for example vacancies, have no atomic number or one below 1.
        z = getattr(site.specie, "Z", None)
        if not isinstance(z, int | np.integer) or z < 1 or "Dummy" in type(site.specie).__name__:
            raise BadCrystalError(f"{name}: site {index} holds {site.species_string!r}, which is not an element")
        numbers.append(int(z))
    lattice = structure.lattice
    return Crystal.make(name, numbers, structure.cart_coords, lattice.matrix, getattr(lattice, "pbc", True))


def _from_ase(atoms: Any, name: str) -> Crystal:
    occupancy = atoms.info.get("occupancy")
    if isinstance(occupancy, Mapping):
        for site, fractions in occupancy.items():
            if len(fractions) > 1 or any(abs(fraction - 1) > 1e-8 for fraction in fractions.values()):
                described = ", ".join(f"{element}: {fraction:g}" for element, fraction in fractions.items())
                raise BadCrystalError(
                    f"{name}: partial occupancy at site {site} ({described}): order the structure first"
                )
    return Crystal.make(name, atoms.get_atomic_numbers(), atoms.get_positions(), np.asarray(atoms.cell), atoms.pbc)


def _conversion_hint(obj: Any) -> str:
    if isinstance(obj, str | PathLike):
        return ": read files with dtnn_fast.formats.read_crystals"
    if isinstance(obj, list | tuple):
        return ": convert several with to_crystals"
    return ""
