# SPDX-License-Identifier: MIT
"""CIF files read by dtnn_fast and by pymatgen, by turns, on one thread."""

from __future__ import annotations

import statistics
import time
import warnings
from pathlib import Path

import pytest

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.formats.cif import read_cif

# What the project promises.
LEAST_RATIO = 10.0
NUM_FILES, NUM_TURNS = 60, 5


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """CIF texts of bundled crystals, half of them with symmetry operations, half with all atoms of the cell."""
    core = pytest.importorskip("pymatgen.core")
    cif = pytest.importorskip("pymatgen.io.cif")
    crystals = load_labelled()[:: len(load_labelled()) // NUM_FILES][:NUM_FILES]
    structures = [
        core.Structure(crystal.cell, crystal.atomic_numbers.tolist(), crystal.positions, coords_are_cartesian=True)
        for crystal in crystals
    ]
    return [
        str(cif.CifWriter(structure, symprec=0.1 if place % 2 else None)) for place, structure in enumerate(structures)
    ]


def test_reading_cif(texts: list[str], quick: bool) -> None:
    """Both read the same atoms; pymatgen takes at least ten times as long."""
    from pymatgen.io.cif import CifParser

    path = Path("a.cif")

    def by_us() -> list[Crystal]:
        return [crystal for text in texts for crystal in read_cif(path, text) if isinstance(crystal, Crystal)]

    def by_pymatgen() -> list[int]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [len(CifParser.from_str(text).parse_structures(primitive=False)[0]) for text in texts]

    assert [crystal.num_atoms for crystal in by_us()] == by_pymatgen()
    seconds: dict[str, list[float]] = {"dtnn_fast": [], "pymatgen": []}
    for _ in range(1 if quick else NUM_TURNS):
        for name, read in (("dtnn_fast", by_us), ("pymatgen", by_pymatgen)):
            start = time.perf_counter()
            read()
            seconds[name].append(time.perf_counter() - start)
    ours, theirs = (statistics.median(values) / len(texts) * 1e3 for values in seconds.values())
    print(f"\nCIF: {ours:.2f} ms a file, pymatgen {theirs:.2f} ms, {theirs / ours:.1f} times as long")
    if not quick:
        assert theirs >= LEAST_RATIO * ours
