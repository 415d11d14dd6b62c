# SPDX-License-Identifier: MIT
"""Tensors with their principal axes, structures, and places in the periodic table."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dtnn_fast.crystals.elements import SYMBOLS
from dtnn_fast.reporting.crystal_entries import MOST_ATOMS_OF_CRYSTAL, add_structures, entry_of_row, tensor_entry
from dtnn_fast.reporting.element_counts import count_elements, place_in_table


@given(arrays(np.float64, (3, 3), elements=st.floats(-50, 50)))
def test_principal_axes_give_back_the_tensor(values):
    tensor = values + values.T
    entry = tensor_entry(tensor)
    axes, principal = np.array(entry["axes"]), np.array(entry["principal"])
    assert np.allclose(axes @ axes.T, np.eye(3), atol=1e-5)
    assert np.linalg.det(axes) > 0.99
    assert np.allclose(axes.T @ np.diag(principal) @ axes, tensor, atol=1e-3)
    assert (np.diff(principal) >= 0).all()
    assert np.isclose(entry["mean"], principal.mean(), atol=1e-3)


def test_a_tensor_with_unknown_elements_is_left_out():
    row = {f"{target}_{name}": 1.0 for target in ("total", "ionic") for name in ("xx", "yy", "zz", "yz", "xz", "xy")}
    row |= {"id": "a", "ionic_xx": float("nan"), "warnings": "one; two", "warning_codes": "x y"}
    entry = entry_of_row(row, ("ionic", "total", "electronic"))
    assert list(entry["tensors"]) == ["total"]
    assert entry["warnings"] == ["one", "two"]
    assert entry["codes"] == ["x", "y"]


def test_structures_that_cannot_be_drawn_say_why():
    cell = np.eye(3).tolist()
    many = MOST_ATOMS_OF_CRYSTAL + 1
    rows = [
        {"lattice_vectors": cell, "species_at_sites": ["O"], "cartesian_site_positions": [[0, 0, 0]]},
        {"lattice_vectors": None, "species_at_sites": None, "cartesian_site_positions": None},
        {"lattice_vectors": cell, "species_at_sites": ["O"] * many, "cartesian_site_positions": [[0, 0, 0]] * many},
        {"lattice_vectors": cell, "species_at_sites": ["O"], "cartesian_site_positions": [[0, 0, float("nan")]]},
        {"lattice_vectors": cell, "species_at_sites": ["O", "H"], "cartesian_site_positions": [[0, 0, 0]]},
    ]
    entries = [{} for _ in rows]
    add_structures(entries, rows)
    assert entries[0]["structure"] == {"lattice": cell, "species": ["O"], "positions": [[0, 0, 0]]}
    assert [entry["structure"] for entry in entries[1:]] == [None] * 4
    reasons = [entry["no_structure"] for entry in entries[1:]]
    assert reasons == [
        "the screening has no structure of this crystal",
        "1,001 atoms are too many to be drawn",
        "the structure has numbers that are not finite",
        "the screening has no structure of this crystal",
    ]
    assert entries[4]["elements"] == ["H", "O"]


def test_places_in_the_periodic_table():
    places = {SYMBOLS[z]: place_in_table(z) for z in range(1, len(SYMBOLS))}
    known = {"H": (1, 1), "He": (1, 18), "Li": (2, 1), "Be": (2, 2), "B": (2, 13), "Al": (3, 13), "Sc": (4, 3)}
    known |= {"Zn": (4, 12), "Kr": (4, 18), "Ba": (6, 2), "La": (9, 3), "Lu": (9, 17), "Hf": (6, 4), "Rn": (6, 18)}
    known |= {"Ac": (10, 3), "U": (10, 6), "Lr": (10, 17), "Rf": (7, 4), "Og": (7, 18)}
    assert {symbol: places[symbol] for symbol in known} == known
    assert len(set(places.values())) == len(places)


def test_elements_are_counted_once_a_crystal_and_compared_with_all():
    entries = [{"elements": ["O", "Ti"]}] * 4 + [{"elements": ["O"]}] * 4
    counted = count_elements(entries, {"O": 0.9, "Ti": 0.1})
    cells = {cell["symbol"]: cell for cell in counted["cells"]}
    assert counted["total"] == 8
    assert (cells["O"]["count"], cells["Ti"]["count"], cells["Fe"]["count"]) == (8, 4, 0)
    # Ti: 50 % against 10 %; O is as frequent as everywhere.
    assert counted["enriched"] == ["Ti"]
