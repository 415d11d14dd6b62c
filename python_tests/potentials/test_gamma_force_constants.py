# SPDX-License-Identifier: MIT
"""Force constants of many crystals: the same as one by one, in few calls, and listed rejections."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from model_cases import permuted, rattled, recelled, small_crystals
from pair_potential import crystals_of_many_groups, embedded_forces, forces_of
from potential_cases import PairPotential, named, rocksalt, without

from dtnn_fast.crystals.crystal import Crystal, Rejected
from dtnn_fast.crystals.operations import SymmetryOperations
from dtnn_fast.phonons import ForceConstants, find_force_constants, ionic_tensor
from dtnn_fast.potentials import gamma_force_constants
from dtnn_fast.symmetry import with_operations


def test_equals_one_by_one():
    crystals = [*crystals_of_many_groups()[::9], rattled(small_crystals(1)[0])]
    potential = PairPotential()
    for crystal, found in zip(crystals, gamma_force_constants(crystals, potential), strict=True):
        expected = find_force_constants(crystal if crystal.operations else replace(crystal), forces_of)
        assert isinstance(found, ForceConstants)
        np.testing.assert_array_equal(found.matrix, expected.matrix)
        assert found[1:] == expected[1:]
    assert len(potential.calls) < len(crystals)
    assert list(gamma_force_constants([], potential)) == []


def test_operations_are_searched_for():
    [found] = gamma_force_constants([rocksalt()], PairPotential())
    assert found.num_displacements == 2


def test_operations_that_do_not_fit_are_left_out():
    crystal = rocksalt()
    wrong = SymmetryOperations(np.array([np.eye(3), 2 * np.eye(3)], dtype=np.int32), np.zeros(2, dtype=np.int64))
    expected, found = gamma_force_constants([crystal, replace(crystal, operations=wrong)], PairPotential(), 1e-3)
    assert found.num_displacements == 12
    np.testing.assert_allclose(found.matrix, expected.matrix, atol=1e-4 * np.abs(expected.matrix).max())


def test_the_ionic_tensor_does_not_depend_on_the_cell():
    """Displacements of 0.1 Angstrom are far from harmonic, so that atoms without their copies have other forces."""
    crystal = rocksalt()
    charges = np.stack([np.eye(3), -np.eye(3)])
    conventional = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    cells = [np.eye(3, dtype=int), conventional, np.diag([3, 1, 1]), np.array([[1, 1, 0], [0, 2, 1], [0, 0, 3]])]
    supercells = [permuted(each, np.arange(each.num_atoms)[::-1]) for each in (recelled(crystal, c) for c in cells)]
    # Of many bodies: in a pair potential, a displacement of the copies does not matter.
    potential = PairPotential(change=lambda crystal, result: result._replace(forces=embedded_forces(crystal)))
    found = list(gamma_force_constants(supercells, potential, 0.1))
    tensors = [
        ionic_tensor(one.matrix, charges[(each.atomic_numbers == 9).astype(int)], abs(np.linalg.det(each.cell)))
        for each, one in zip(supercells, found, strict=True)
    ]
    for tensor in tensors[1:]:
        np.testing.assert_allclose(tensor, tensors[0], rtol=1e-9, atol=1e-9)
    for each, one, changes in zip(supercells, found, [False, True, True, True], strict=True):
        crystal = with_operations([each])[0]
        plain = find_force_constants(crystal, lambda moved: [embedded_forces(c) for c in moved], 0.1).matrix
        assert (np.abs(plain - one.matrix).max() > 1e-5 * np.abs(plain).max()) == changes


@pytest.mark.parametrize("displacement", [0.0, np.nan])
def test_displacements_are_positive(displacement):
    with pytest.raises(ValueError, match="positive `displacement`"):
        list(gamma_force_constants([rocksalt()], PairPotential(), displacement))


def test_rejections_are_listed_and_nothing_else_is_lost():
    good = rocksalt()
    crystals = [
        named(good, "first"),
        Crystal.make("helium", [2], np.zeros((1, 3)), 2.5 * np.eye(3)),
        replace(named(good, "flat"), cell=np.ones((3, 3))),
        Crystal.make("large", [3, 9] * 2, np.diag([2.3] * 4)[:, :3], 4.6 * np.eye(3)),
        replace(named(good, "slab"), pbc=np.array([True, True, False])),
        replace(named(good, "hot"), source="hot.cif"),
        named(good, "last"),
    ]
    found = list(gamma_force_constants(crystals, PairPotential(frozenset({3, 9}), fails_on="hot"), max_atoms=3))
    kinds = [type(each) for each in found]
    assert kinds == [ForceConstants, Rejected, Rejected, Rejected, Rejected, Rejected, ForceConstants]
    for rejected, crystal, reason in zip(
        found[1:6],
        crystals[1:6],
        ("element He is unknown", "no volume", "at most 3 atoms for force constants, got 4", "not periodic", "too hot"),
        strict=True,
    ):
        assert (rejected.id, rejected.source) == (crystal.id, crystal.source)
        assert reason in rejected.reason
    assert found[5].reason == "the potential pairs fails on it: RuntimeError: too hot"
    np.testing.assert_array_equal(found[0].matrix, found[6].matrix)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without(forces=np.full((2, 3), np.nan)), "NaN or infinite"),
        (without(forces=np.zeros((3, 3))), r"of shape [2, 3], got [3, 3]"),
    ],
)
def test_bad_forces_are_rejections(change, reason):
    def only_second(crystal, result):
        return change(crystal, result) if crystal.id.startswith("second") else result

    crystals = [named(rocksalt(), "first"), named(rocksalt(), "second")]
    first, second = gamma_force_constants(crystals, PairPotential(change=only_second))
    assert isinstance(first, ForceConstants)
    assert isinstance(second, Rejected)
    assert reason in second.reason
