# SPDX-License-Identifier: MIT
"""SevenNet as a potential: its own calculator, and force constants by all displacements."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from model_cases import rattled, small_crystals
from potential_cases import rocksalt

from dtnn_fast.crystals.crystal import Crystal, Rejected
from dtnn_fast.errors import DTNNError, MissingPackageError
from dtnn_fast.phonons import DisplacementPlan
from dtnn_fast.potentials import AsePotential, gamma_force_constants, load_potential
from dtnn_fast.symmetry import with_operations

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def potential():
    pytest.importorskip("sevenn")
    return load_potential("sevennet-0")


def test_equals_its_own_calculator(potential):
    calculator = pytest.importorskip("sevenn.calculator").SevenNetCalculator("7net-0", device="cpu")
    crystals = [rattled(crystal, 0.05, seed=number) for number, crystal in enumerate(small_crystals(4))]
    for ours, own in zip(potential.evaluate(crystals), AsePotential(calculator).evaluate(crystals), strict=True):
        assert ours.forces.dtype == np.float64
        # Its calculator computes in float32.
        assert ours.energy == pytest.approx(own.energy, abs=2e-5)
        np.testing.assert_allclose(ours.forces, own.forces, atol=2e-5)
        np.testing.assert_allclose(ours.stress, own.stress, atol=2e-6)
        assert np.abs(own.forces).max() > 0.05
        assert np.abs(own.stress).max() > 1e-3


def test_force_constants_equal_all_displacements(potential):
    [crystal] = with_operations([next(each for each in small_crystals(40) if each.info["space_group"] == 216)])
    # SevenNet is not quite symmetric under reflections, see dtnn_fast/encoders/sevennet.py.
    [found] = gamma_force_constants([crystal], potential)
    plan = DisplacementPlan.of(crystal)
    step, columns = 0.01, []
    for coordinate in range(3 * crystal.num_atoms):
        move = np.zeros(3 * crystal.num_atoms)
        move[coordinate] = step
        moved = [
            Crystal.make("x", crystal.atomic_numbers, plan.crystal.positions + sign * move.reshape(-1, 3), crystal.cell)
            for sign in (1, -1)
        ]
        ahead, behind = potential.forces(moved)
        columns.append((behind - ahead).reshape(-1) / (2 * step))
    np.testing.assert_allclose(found.matrix, np.array(columns).T, atol=2e-3 * np.abs(found.matrix).max())
    assert found.num_displacements < len(columns)


def test_float32_is_enough_for_force_constants(potential):
    pytest.importorskip("sevenn")
    crystals = small_crystals(3, skip=5)
    single = load_potential("sevennet-0", dtype=torch.float32)
    assert single.dtype == torch.float32
    found = [list(gamma_force_constants(crystals, each)) for each in (potential, single)]
    for exact, rounded in zip(*found, strict=True):
        np.testing.assert_allclose(rounded.matrix, exact.matrix, atol=3e-4 * np.abs(exact.matrix).max())
        assert np.abs(rounded.matrix - exact.matrix).max() > 0


def test_unknown_elements_are_listed(potential):
    radon = Crystal.make("radon", [86], np.zeros((1, 3)), 4.5 * np.eye(3))
    rejected, found = gamma_force_constants([radon, rocksalt()], potential)
    assert isinstance(rejected, Rejected)
    assert "element Rn is unknown" in rejected.reason
    assert not isinstance(found, Rejected)


def test_other_names_are_refused(monkeypatch):
    with pytest.raises(DTNNError, match=r"expected native, sevennet-0, .* or the folder of .* got 'x'"):
        load_potential("x")
    monkeypatch.setitem(__import__("sys").modules, "sevenn", None)
    with pytest.raises(MissingPackageError, match=r"dtnn-fast\[sevennet\]"):
        load_potential("sevennet-0")
