# SPDX-License-Identifier: MIT
"""The crystals that come with dtnn_fast, and the compact form in which they are stored.

bundled/SOURCES.md lists their origin and how to cite them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..crystals.crystal import Crystal, dielectric_targets, to_cartesian
from ..crystals.structure_index import StructureIndex
from ..formats.packed_set import load_arrays

FOLDER = Path(__file__).parent / "bundled"
LABELLED_FILE = FOLDER / "labelled.npz"
STRUCTURES_FILE = FOLDER / "structures.npz"
LABELLED_SOURCE = "Petousis 2017"
STRUCTURES_SOURCE = "Materials Project 2015"

# Index i of this tuple is bit i of the array `sources`.
SOURCE_NAMES = ("elastic", "piezo", "flla")


def load_labelled() -> list[Crystal]:
    """Load the 955 crystals with dielectric tensors from density-functional perturbation theory.

    Returns:
        Crystals with the targets "electronic", "ionic" and "total", symmetrised, and in `info`: formula, space_group
        (international number), crystal_system, band_gap_ev (PBE) and charge_balanced (see `load_screening`).
    """
    arrays = load_arrays(LABELLED_FILE)
    electronic = arrays["eps_electronic"] / TENSOR_SCALE
    total = arrays["eps_total"] / TENSOR_SCALE
    crystals = list(expand_structures(arrays, LABELLED_SOURCE))
    _add_info(crystals, arrays)
    for crystal, e, t, gap in zip(crystals, electronic, total, arrays["band_gap_ev"].tolist(), strict=True):
        crystal.targets.update(dielectric_targets(e, t))
        crystal.info["band_gap_ev"] = gap
    return crystals


@functools.cache
def labelled_index() -> StructureIndex:
    """Return an index that tells whether a crystal is one of the crystals of `load_labelled`, whatever its name."""
    return StructureIndex(load_labelled())


def load_structures() -> list[Crystal]:
    """Load the 5,676 crystals without labels; metals are among them, and 364 ids are among the labelled ones too.

    Returns:
        Crystals with, in `info`: formula, sources (of "elastic", "piezo", "flla"), space_group and crystal_system
        (found by spglib with symprec 0.1), charge_balanced (see `load_screening`) and, for crystals of "flla",
        e_above_hull_ev_per_atom.
    """
    arrays = load_arrays(STRUCTURES_FILE)
    crystals = list(expand_structures(arrays, STRUCTURES_SOURCE))
    _add_info(crystals, arrays)
    energies = arrays["e_above_hull_ev_per_atom"].tolist()
    for crystal, bits, energy in zip(crystals, arrays["sources"].tolist(), energies, strict=True):
        crystal.info["sources"] = [name for bit, name in enumerate(SOURCE_NAMES) if bits >> bit & 1]
        if not np.isnan(energy):
            crystal.info["e_above_hull_ev_per_atom"] = energy
    return crystals


def load_all() -> list[Crystal]:
    """Load the labelled crystals and then the others whose ids are new, metals included."""
    crystals = load_labelled()
    ids = {crystal.id for crystal in crystals}
    return crystals + [crystal for crystal in load_structures() if crystal.id not in ids]


def load_screening() -> list[Crystal]:
    """Load the crystals for a screening without arguments: the crystals of both sets that can be insulators.

    A dielectric constant has no meaning for a metal. The labelled crystals all have a band gap and come first. The
    other crystals follow if `charge_balanced` is true and their id is new. `charge_balanced` is a heuristic on the
    composition alone (tools/compact_bundled.py): common oxidation states can add up to zero with the most
    electronegative element as an anion. It keeps intermetallics out, but lets through some metallic compounds, such as
    oxides with partly filled d shells.
    """
    crystals = load_labelled()
    known = {crystal.id for crystal in crystals}
    crystals += [c for c in load_structures() if c.info["charge_balanced"] and c.id not in known]
    return crystals


def _add_info(crystals: list[Crystal], arrays: dict[str, np.ndarray]) -> None:
    columns = [arrays[name].tolist() for name in ("space_group", "crystal_system", "charge_balanced")]
    for crystal, space_group, system, balanced in zip(crystals, *columns, strict=True):
        crystal.info["space_group"] = space_group
        crystal.info["crystal_system"] = system
        crystal.info["charge_balanced"] = balanced


# The compact form: decimal numbers are stored as integers, in units of 1 / scale.
FRACTIONAL_SCALE = 10**8
LATTICE_SCALE = 10**8
TENSOR_SCALE = 10**6


def to_integers(values: Any, scale: int) -> np.ndarray:
    """Store decimal numbers as integers in units of 1 / `scale`.

    Args:
        values: numbers with at most as many decimals as `scale` has zeros. any shape, float64
        scale: a power of ten.

    Returns:
        Integers of 32 bits where they suffice, otherwise 64, in the shape of `values`

    Raises:
        ValueError: the integers would not give back exactly the same numbers.
    """
    array = np.asarray(values, dtype=np.float64)
    integers = np.rint(array * scale)
    largest = np.abs(integers).max(initial=0)
    if largest >= 2**53 or not np.array_equal(integers / scale, array):
        raise ValueError(f"to_integers: expected `values` with at most the decimals of 1/{scale}, got others")
    return integers.astype(np.int32 if largest < 2**31 else np.int64)


def compact_structures(rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Store ids, formulas and structures of rows in the form of our .jsonl files compactly.

    Args:
        rows: rows with the keys id, formula, lattice_angstrom, atomic_numbers, frac_coords.

    Returns:
        Arrays by name, for ``numpy.savez_compressed`` and `expand_structures`.
    """
    return {
        "id": np.array([row["id"] for row in rows]),
        "formula": np.array([row["formula"] for row in rows]),
        "num_atoms": np.array([len(row["atomic_numbers"]) for row in rows], dtype=np.int32),
        "atomic_numbers": np.concatenate([row["atomic_numbers"] for row in rows]).astype(np.uint8),
        "lattice": to_integers([row["lattice_angstrom"] for row in rows], LATTICE_SCALE),
        "fractional": to_integers(np.concatenate([row["frac_coords"] for row in rows]), FRACTIONAL_SCALE),
    }


def expand_structures(arrays: Mapping[str, np.ndarray], source: str) -> Iterator[Crystal]:
    """Yield the crystals of `compact_structures`, each with its formula in `info`.

    Args:
        arrays: the result of `compact_structures`.
        source: the name of the data set, for messages.
    """
    counts = arrays["num_atoms"]
    ends = np.cumsum(counts, dtype=np.int64)
    numbers = arrays["atomic_numbers"].astype(np.int64)
    cells = arrays["lattice"] / LATTICE_SCALE
    # One conversion for all atoms: one per crystal would take longer than everything else here.
    positions = to_cartesian(arrays["fractional"] / FRACTIONAL_SCALE, np.repeat(cells, counts, axis=0))
    names = zip(arrays["id"].tolist(), arrays["formula"].tolist(), strict=True)
    for (name, formula), cell, count, end in zip(names, cells, counts.tolist(), ends.tolist(), strict=True):
        atoms = slice(end - count, end)
        yield Crystal(
            name,
            numbers[atoms].copy(),
            positions[atoms].copy(),
            cell.copy(),
            source=source,
            info={"formula": formula},
        )
