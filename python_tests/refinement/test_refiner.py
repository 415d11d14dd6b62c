# SPDX-License-Identifier: MIT
"""Refined tensors: what they are made of, rejections that lose nothing else, force constants of other sources."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from bonding_examples import methane
from lattice_cases import random_lattice_model
from model_cases import labelled

from dtnn_fast import DTNN
from dtnn_fast.crystals.crystal import Crystal, Rejected
from dtnn_fast.datasets.bundled import load_screening
from dtnn_fast.datasets.textbook_crystals import load_textbook
from dtnn_fast.phonons import SOFTEST, ionic_tensor
from dtnn_fast.refinement.bundled_refiner import bundled_refiner
from dtnn_fast.refinement.ionic_join import IonicEstimates, IonicJoin
from dtnn_fast.refinement.refiner import SOFT_BELOW, Refinement, Refiner
from dtnn_fast.symmetry import with_operations

DIAMOND = Crystal.from_fractional(
    "diamond", [6, 6], [[0, 0, 0], [0.25] * 3], 1.784 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
)
COPPER = Crystal.from_fractional("copper", [29], [[0, 0, 0]], 1.8 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]))


@pytest.fixture(scope="module")
def direct():
    return DTNN.from_pretrained("dielectric")


@pytest.fixture(scope="module")
def lattice():
    model = random_lattice_model()
    with torch.no_grad():
        for layer in (model.born_head.symmetric, model.born_head.charge[-1]):
            layer.weight.mul_(30.0)  # charges of the size of real ones
    return model


@pytest.fixture(scope="module")
def crystals():
    return [crystal for crystal in labelled() if 2 <= crystal.num_atoms <= 8][:12]


def test_the_lattice_model_goes_to_the_device(direct):
    assert bundled_refiner(direct).lattice.device == torch.device("cpu")
    assert bundled_refiner(direct, "meta").lattice.device == torch.device("meta")


def test_the_lattice_tensor_is_that_of_its_charges_and_force_constants(direct, lattice, crystals):
    # Exactly symmetric, as the refiner makes them: the files' digits are worth 1e-4 of a tensor.
    predicted = direct.predict_targets(with_operations(crystals))
    for index, result in enumerate(Refiner(direct, lattice).refine(crystals)):
        crystal = crystals[index]
        assert result.crystal.id == crystal.id
        np.testing.assert_allclose(result.electronic, predicted["electronic"][index], atol=2e-5)
        np.testing.assert_allclose(result.direct, predicted["ionic"][index], atol=2e-5)
        (response,) = lattice.predict(with_operations([crystal]))
        volume = abs(np.linalg.det(crystal.cell))
        expected = ionic_tensor(response.force_constants, response.born_charges, volume, SOFTEST, condensed=True)
        np.testing.assert_allclose(result.lattice, expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(result.ionic, result.lattice)
        np.testing.assert_allclose(result.total, result.electronic + result.ionic)
        assert len(result.modes) == 3 * crystal.num_atoms - 3
        assert result.ionic_error is None


def test_the_join_and_its_error_bars_are_applied(direct, lattice, crystals):
    calibration = replace(direct.mean_calibrations[0], sizes=(1.0,), factors=(2.0,), size_weight=0.1, vacuum=0.0)
    join = IonicJoin((0.5, 0.2), 1.1, calibration, calibration)
    for result in Refiner(direct, lattice, join).refine(crystals):
        estimates = IonicEstimates(result.direct[None], result.lattice[None], np.array([result.softest[1]]))
        np.testing.assert_allclose(result.ionic, join.join(estimates)[0])
        assert result.ionic_error == pytest.approx(join.error_bars(estimates)[0][0])
        assert result.total_mean_error >= max(result.ionic_mean_error, result.electronic_mean_error)


def test_a_supercell_has_the_tensor_and_softest_polar_mode_of_its_primitive_cell(direct):
    # Both have modes whose squared charge reaches the threshold of polar modes only in several cells together.
    crystals = [crystal for crystal in load_screening() if crystal.id in ("mp-34293", "mp-764673")]
    assert len(crystals) == 2

    def double(crystal):
        positions = np.concatenate([crystal.positions, crystal.positions + crystal.cell[2]])
        cell = crystal.cell * np.array([[1.0], [1.0], [2.0]])
        return Crystal.make(crystal.id, np.tile(crystal.atomic_numbers, 2), positions, cell)

    refiner = bundled_refiner(direct)
    doubled = refiner.refine([double(crystal) for crystal in crystals])
    for one, two in zip(refiner.refine(crystals), doubled, strict=True):
        assert two.softest[1] == pytest.approx(one.softest[1], abs=1e-3)
        np.testing.assert_allclose(two.ionic, one.ionic, rtol=1e-4, atol=1e-4)
        assert two.soft_share == pytest.approx(one.soft_share, rel=1e-3, abs=1e-4)


def test_what_symmetry_forbids_is_exactly_zero(direct, lattice):
    join = IonicJoin((0.5, 0.2), 1.1)
    (result,) = Refiner(direct, lattice, join).refine([DIAMOND])
    for tensor in (result.direct, result.lattice, result.ionic):
        np.testing.assert_array_equal(tensor, 0.0)
    assert result.softest[1] == np.inf
    assert not result.is_nearly_ferroelectric


def test_rejections_lose_nothing_else(direct, lattice, crystals):
    broken = replace(crystals[0], id="broken", positions=np.full_like(crystals[0].positions, np.nan))
    known = Rejected("unreadable", "a.cif", "truncated")
    large = replace(crystals[1], id="large")
    items = [crystals[0], broken, known, COPPER, large, crystals[2]]
    refiner = Refiner(
        direct, lattice, max_atoms=large.num_atoms - 1 if large.num_atoms > crystals[0].num_atoms else 400
    )
    results = list(refiner.refine(items))
    assert [isinstance(result, Rejected) for result in results[:4]] == [False, True, True, True]
    assert [r.id if isinstance(r, Rejected) else r.crystal.id for r in results] == [item.id for item in items]
    assert results[2] is known
    assert "metals only" in results[3].reason


def test_large_cells_are_rejected(direct, lattice, crystals):
    (result,) = Refiner(direct, lattice, max_atoms=1).refine(crystals[:1])
    assert isinstance(result, Rejected)
    assert "at most 1 atoms in the cell" in result.reason


def test_force_constants_of_another_source(direct, lattice, crystals):
    stiff = [4.0 * np.eye(3 * crystal.num_atoms) for crystal in crystals[:3]]
    reasons = [stiff[0], Rejected(crystals[1].id, "", "the potential does not know it"), stiff[2]]
    refiner = Refiner(direct, lattice, force_constants=lambda given: iter(reasons), softening=2.0)
    first, second, third = refiner.refine(crystals[:3])
    assert isinstance(second, Rejected)
    for crystal, result in ((crystals[0], first), (crystals[2], third)):
        assert isinstance(result, Refinement)
        volume = abs(np.linalg.det(crystal.cell))
        expected = ionic_tensor(8.0 * np.eye(3 * crystal.num_atoms), result.born_charges, volume, SOFTEST)
        np.testing.assert_allclose(result.lattice, expected, rtol=1e-6, atol=1e-6)
        assert result.softest[0] == pytest.approx(8.0)
        assert not result.is_unstable


def test_the_mean_with_the_lattice_models_force_constants(direct, lattice, crystals):
    crystal = crystals[0]
    own = lattice.predict(with_operations([crystal]))[0]
    given = 4.0 * np.eye(3 * crystal.num_atoms)
    refiner = Refiner(direct, lattice, None, lambda _: iter([given]), softening=2.0, lattice_share=0.25)
    (result,) = refiner.refine([crystal])
    mixed = 0.75 * 8.0 * np.eye(3 * crystal.num_atoms) + 0.25 * own.force_constants
    volume = abs(np.linalg.det(crystal.cell))
    expected = ionic_tensor(mixed, result.born_charges, volume, SOFTEST, condensed=True)
    np.testing.assert_allclose(result.lattice, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="`lattice_share` from 0 to 1, got 2"):
        Refiner(direct, lattice, lattice_share=2)


@pytest.mark.parametrize(
    ("stiffness", "unstable", "soft"), [(-1.0, True, True), (0.5, False, True), (5.0, False, False)]
)
def test_soft_and_unstable_crystals_are_marked(direct, lattice, crystals, stiffness, unstable, soft):
    polar = next(r for r in Refiner(direct, lattice).refine(crystals) if np.square(r.born_charges).sum() > 1.0)
    matrix = stiffness * np.eye(3 * polar.crystal.num_atoms)
    (result,) = Refiner(direct, lattice, force_constants=lambda given: iter([matrix])).refine([polar.crystal])
    assert result.is_unstable == unstable
    assert result.is_nearly_ferroelectric == soft
    assert any("unstable:" in remark for remark in result.remarks) == unstable
    assert any("ferroelectric" in remark for remark in result.remarks) == soft
    assert (result.modes[0] < 0) == unstable
    # Every mode is soft, or none.
    assert result.soft_share == pytest.approx(np.trace(result.lattice) / 3 if soft else 0.0)


def test_soft_modes_that_hardly_matter_mark_no_instability(direct):
    """A molecule in a box turns and moves nearly freely, and some of these modes are polar."""
    water = Crystal.make("water", [8, 1, 1], [[0, 0, 0], [0.757, 0.586, 0], [-0.757, 0.586, 0]], 12.0 * np.eye(3))
    hydrogen_fluoride = Crystal.make("HF", [9, 1], [[0, 0, 0], [0, 0, 0.917]], 12.0 * np.eye(3))
    found = list(bundled_refiner(direct).refine([water, hydrogen_fluoride, methane()]))
    assert any(result.softest[1] < SOFT_BELOW for result in found)
    for result in found:
        assert not result.is_nearly_ferroelectric
        assert not any("ferroelectric" in remark for remark in result.remarks)


def test_textbook_crystals_near_an_instability(direct):
    known = {one.crystal.id: one for one in load_textbook()}
    soft, stiff = ("SrTiO3", "KTaO3", "TiO2-rutile", "CsPbBr3"), ("NaCl", "MgO", "GaN", "LiNbO3", "HfO2", "Si")
    results = bundled_refiner(direct).refine([known[id].crystal for id in (*soft, *stiff)])
    assert [result.is_nearly_ferroelectric for result in results] == [True] * len(soft) + [False] * len(stiff)


def test_models_without_the_tensors_are_refused(lattice):
    with pytest.raises(ValueError, match="electronic and ionic"):
        Refiner(DTNN.from_pretrained("dielectric-total"), lattice)
