# SPDX-License-Identifier: MIT
"""dtnn_fast.numpy: NumPy in, NumPy out, no torch."""

from __future__ import annotations

import subprocess
import sys

import ase.neighborlist
import numpy as np
import pytest
from ase.build import bulk, molecule
from list_cases import Case, assert_same_bonds, random_case, sorted_bonds

from dtnn_fast.numpy import neighbor_list


def test_works_without_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from dtnn_fast.numpy import neighbor_list\n"
        "assert len(neighbor_list('i', [[0.0, 0, 0]], 3.5, [[3.0, 0, 0], [0, 3, 0], [0, 0, 3]])) == 6\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


@pytest.mark.parametrize("atoms", [bulk("Cu"), bulk("NaCl", "rocksalt", a=5.6) * (2, 1, 1), molecule("C6H6")])
def test_takes_atoms_as_ase_does(atoms):
    ours, theirs = (function("ijS", atoms, 5.0) for function in (neighbor_list, ase.neighborlist.neighbor_list))
    case = Case(atoms.positions, atoms.cell.array, atoms.pbc, 5.0)
    assert_same_bonds(np.column_stack(ours), sorted_bonds(*theirs), case, atoms)


def test_same_as_torch():
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("dtnn_fast.ops")
    rng = np.random.default_rng(0)
    for number in range(24):
        case = random_case(rng, number, most_bonds=1e4)
        for half in (False, True):
            i, j, shifts = neighbor_list("ijS", case.positions, case.cutoff, case.cell, case.pbc, half=half)
            bonds = ops.neighbor_list(*map(torch.tensor, case[:3]), case.cutoff, half=half)
            assert np.array_equal(np.stack([i, j]), bonds.pairs.numpy())
            assert np.array_equal(shifts, bonds.shifts.numpy())


def test_quantities_come_in_the_order_asked_for():
    rng = np.random.default_rng(1)
    case = random_case(rng, 7)
    arguments = case.positions, case.cutoff, case.cell, case.pbc
    vectors, lengths, j, shifts, i = neighbor_list("DdjSi", *arguments)
    expected = case.positions[j] - case.positions[i] + shifts @ case.cell
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(lengths, np.linalg.norm(expected, axis=1), rtol=0, atol=1e-12)
    assert (lengths < case.cutoff).all()
    assert np.array_equal(neighbor_list("d", *arguments), lengths)  # one letter: the array itself
    assert (i.dtype, j.dtype, shifts.dtype) == (np.int64, np.int64, np.int32)


def test_batch_and_threads():
    rng = np.random.default_rng(2)
    cases = [random_case(rng, number, most_bonds=1e4) for number in range(30)]
    ptr = np.cumsum([0, *(len(case.positions) for case in cases)])
    arguments = (
        np.concatenate([case.positions for case in cases]),
        3.0,
        np.stack([case.cell for case in cases]),
        np.stack([case.pbc for case in cases]),
    )
    batch = neighbor_list("ijS", *arguments, ptr=ptr, num_threads=2)
    for one, two in zip(neighbor_list("ijS", *arguments, ptr=ptr, num_threads=1), batch, strict=True):
        assert np.array_equal(one, two)
    singles = [neighbor_list("ijS", case.positions, 3.0, case.cell, case.pbc) for case in cases]
    assert np.array_equal(batch[0], np.concatenate([i + first for (i, _, _), first in zip(singles, ptr, strict=False)]))
    assert np.array_equal(batch[2], np.concatenate([shifts for _, _, shifts in singles]))


def test_the_crystal_of_each_atom_in_place_of_ptr():
    rng = np.random.default_rng(4)
    positions, cells = 3 * rng.random((6, 3)), 3 * np.eye(3) + 0.3 * rng.random((4, 3, 3))
    index, ptr = np.array([0, 0, 2, 2, 2, 3]), [0, 2, 2, 5, 6]
    pbc, cutoffs = np.array([[True, True, False]] * 4), np.array([3.0, 3.0, 2.0, 4.0])
    for given in (
        (3.0, cells, True),
        (cutoffs, cells[0], True),
        (3.0, cells[0], pbc),
        (3.0, cells[0], True),
        (cutoffs, cells, pbc),
    ):
        expected = neighbor_list("ijS", positions, *given, ptr=ptr)
        assert len(expected[0]) > 0
        for dtype in (np.int32, np.uint64):
            found = neighbor_list("ijS", positions, *given, batch_idx=index.astype(dtype))
            assert all(map(np.array_equal, found, expected))
    assert len(neighbor_list("i", [], 3.0, cells, batch_idx=[])) == 0


def test_a_cutoff_for_each_crystal():
    rng = np.random.default_rng(3)
    cases = [random_case(rng, number, most_bonds=1e4) for number in range(8)]
    ptr = np.cumsum([0, *(len(case.positions) for case in cases)])
    positions, cells, pbc, cutoffs = (
        np.concatenate([np.atleast_1d(x) for x in part]) for part in zip(*cases, strict=True)
    )
    batch = neighbor_list("ijS", positions, cutoffs, cells.reshape(-1, 3, 3), pbc.reshape(-1, 3), ptr=ptr)
    singles = [neighbor_list("ijS", case.positions, case.cutoff, case.cell, case.pbc) for case in cases]
    for column, offset in ((0, 1), (1, 1), (2, 0)):
        parts = [single[column] + offset * first for single, first in zip(singles, ptr, strict=False)]
        assert np.array_equal(batch[column], np.concatenate(parts))


@pytest.mark.parametrize("atoms", [bulk("Cu"), molecule("C6H6")])
def test_self_interaction_as_in_ase(atoms):
    ours, theirs = (
        function("ijS", atoms, 5.0, self_interaction=True)
        for function in (neighbor_list, ase.neighborlist.neighbor_list)
    )
    case = Case(atoms.positions, atoms.cell.array, atoms.pbc, 5.0)
    assert_same_bonds(np.column_stack(ours), sorted_bonds(*theirs), case, atoms)
    assert len(neighbor_list("i", atoms, 0.0, self_interaction=True)) == len(atoms)
    assert len(neighbor_list("i", atoms, 0.0)) == 0


def test_forms_of_input():
    cell = 3 * np.eye(3)
    assert len(neighbor_list("i", [[0, 0, 0]], 3.5, cell, [True, False, False])) == 2
    assert len(neighbor_list("i", [[0, 0, 0]], 3.5, cell, False)) == 0
    assert len(neighbor_list("i", [[0, 0, 0], [1, 0, 0]], 3.5)) == 2
    assert len(neighbor_list("i", np.zeros((1, 3), np.float32), np.float32(3.5), cell.T[::-1])) == 6
    assert [len(part) for part in neighbor_list("ijdDS", [], 3.5, cell)] == [0] * 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantities": "ijk"}, "expected `quantities` of the letters ijdDS, got 'ijk'"),
        ({"quantities": ""}, "expected `quantities`"),
        ({"atoms": [[0.0, 0.0]]}, r"expected `positions` of shape \[N, 3\], got \[1, 2\]"),
        ({"atoms": [["a", "b", "c"]]}, "expected `positions` to be an array of numbers"),
        ({"atoms": [[0.0, np.nan, 0.0]]}, "expected finite `positions`"),
        ({"atoms": [[0.0], [0.0, 0.0]]}, "expected `positions` to be an array of numbers"),
        ({"atoms": bulk("Cu")}, "expected no `cell` and `pbc` beside an Atoms object"),
        ({"cell": None, "pbc": True}, "expected a `cell` for periodic directions"),
        ({"cell": np.eye(2)}, r"expected `cell` of shape \[3, 3\] or \[1, 3, 3\], got \[2, 2\]"),
        ({"cell": np.zeros((3, 3))}, "the `cell` has no volume"),
        ({"pbc": [1, 1, 1]}, "expected `pbc` of dtype bool"),
        ({"pbc": [True, True]}, "expected `pbc` of shape"),
        ({"ptr": [0, 2]}, "expected `ptr` that rises from 0 to the number of atoms, 1"),
        ({"ptr": [0.0, 1.0]}, "expected `ptr` of shape"),
        ({"ptr": [0, 1], "batch_idx": [0]}, "expected `ptr` or `batch_idx`, got both"),
        ({"batch_idx": [0, 0]}, r"expected `batch_idx` of shape \[1\], integer, got \[2\]"),
        ({"batch_idx": [0.0]}, r"expected `batch_idx` of shape \[1\], integer, got \[1\] float64"),
        ({"atoms": np.eye(3), "batch_idx": [0, 1, 0]}, "expected `batch_idx` sorted by crystal"),
        ({"batch_idx": [-1]}, "expected `batch_idx` of 0 or more, got -1"),
        ({"cell": [3 * np.eye(3)], "batch_idx": [1]}, "expected `batch_idx` below 1, the number of crystals, got 1"),
        ({"cutoff": -1.0}, "expected a finite `cutoff` of 0 or more"),
        ({"cutoff": {"H": 1.0}}, "expected one number as `cutoff`, .* got dict"),
        ({"cutoff": [1.0]}, "expected one number as `cutoff`, .* got list"),
        ({"cutoff": "6"}, "expected one number as `cutoff`, .* got str"),
        ({"cutoff": True}, "expected one number as `cutoff`, .* got bool"),
        ({"cutoff": [1.0, 2.0], "ptr": [0, 1]}, r"expected `cutoff` of shape \[1\], got \[2\]"),
        ({"cutoff": [1.0, np.nan], "ptr": [0, 1, 1]}, "crystal 1: expected a finite `cutoff` of 0 or more, got nan"),
        ({"cutoff": 1e7}, "does not fit into memory"),
        ({"num_threads": 0}, "expected `num_threads` of at least 1, an integer, got 0"),
        ({"num_threads": "2"}, "expected `num_threads` of at least 1, an integer, got '2'"),
    ],
)
def test_bad_input(change, message):
    arguments = {"quantities": "ij", "atoms": [[0.0, 0.0, 0.0]], "cutoff": 3.0, "cell": 3 * np.eye(3), "pbc": True}
    with pytest.raises(ValueError, match=f"neighbor_list: .*{message}|neighbor_list: {message}") as error:
        neighbor_list(**(arguments | change))
    assert str(error.value).count("neighbor_list: ") == 1
