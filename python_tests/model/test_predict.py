# SPDX-License-Identifier: MIT
"""DTNN.predict: what goes in, in which order results come out, and what is refused."""

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from model_cases import (
    anisotropy,
    assert_close,
    asymmetric_crystals,
    config,
    labelled,
    randomised,
    small_crystals,
    unwrapped,
    variant,
)

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.errors import BadCrystalError
from dtnn_fast.model.dtnn import DTNN, DTNNConfig

MODEL = variant("layer4-bonds-residual")
CRYSTALS = [*asymmetric_crystals(), *small_crystals(6)]


def to_pymatgen(crystal):
    core = pytest.importorskip("pymatgen.core")
    numbers = crystal.atomic_numbers.tolist()
    return core.Structure(core.Lattice(crystal.cell), numbers, crystal.positions, coords_are_cartesian=True)


def to_ase(crystal):
    ase = pytest.importorskip("ase")
    return ase.Atoms(crystal.atomic_numbers, positions=crystal.positions, cell=crystal.cell, pbc=True)


@pytest.fixture(scope="module")
def expected():
    tensors = MODEL.predict(CRYSTALS)
    assert tensors.shape == (len(CRYSTALS), 3, 3)
    assert tensors.dtype == np.float64
    assert anisotropy(torch.from_numpy(tensors)) > 0.1
    return tensors


def test_pymatgen_ase_crystals_and_mixed_lists_give_the_same(expected):
    convert = [to_pymatgen, to_ase, lambda crystal: crystal]
    assert_close(MODEL.predict([to_pymatgen(c) for c in CRYSTALS]), expected)
    assert_close(MODEL.predict([to_ase(c) for c in CRYSTALS]), expected)
    mixed = [convert[n % 3](crystal) for n, crystal in enumerate(CRYSTALS)]
    assert_close(MODEL.predict(mixed), expected)
    assert_close(MODEL.predict(tuple(mixed)), expected)
    assert_close(MODEL.predict(iter(mixed)), expected)


@pytest.mark.parametrize("convert", [to_pymatgen, to_ase, lambda crystal: crystal])
def test_a_single_structure_gives_one_tensor(expected, convert):
    assert_close(MODEL.predict(convert(CRYSTALS[3])), expected[3:4])


@pytest.mark.parametrize("batch_atoms", [1, 7, 10**6])
def test_results_come_in_the_order_of_the_structures_for_every_batch_size(expected, batch_atoms):
    order = np.random.RandomState(0).permutation(len(CRYSTALS))
    shuffled = [CRYSTALS[n] for n in order]
    assert_close(MODEL.predict(shuffled, batch_atoms=batch_atoms), expected[order], 1e-12)


def test_no_structures_give_no_tensors():
    assert MODEL.predict([]).shape == (0, 3, 3)


def test_predicting_leaves_the_model_as_it_was():
    model = randomised(config(2, dropout=0.5))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    first, second = model.predict(CRYSTALS), model.predict(CRYSTALS)
    assert (first == second).all()  # without dropout
    assert model.training
    assert all(module.training for module in model.modules())
    with pytest.raises(BadCrystalError):
        model.predict(replace(CRYSTALS[0], positions=CRYSTALS[0].positions * np.nan))
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_float32_is_close_to_float64(expected):
    single = randomised(MODEL.config).float()
    assert single.predict(CRYSTALS).dtype == np.float64
    assert_close(single.predict(CRYSTALS), expected, 1e-4)


@pytest.mark.parametrize("reach", [30, 1000])
def test_float32_does_not_lose_digits_where_atoms_are_far_outside_of_the_cell(expected, reach):
    single = randomised(MODEL.config).float()
    far = [unwrapped(crystal, reach) for crystal in CRYSTALS]
    assert_close(single.predict(far), expected, 1e-4)


@pytest.mark.parametrize("steps", [30, 3000])
def test_float32_does_not_lose_digits_in_a_very_skewed_cell_of_the_same_lattice(expected, steps):
    single = randomised(MODEL.config).float()
    shear = np.array([[1, 0, 0], [steps + 1, 1, 0], [-steps // 3, 2 * steps, 1]])
    assert_close(single.predict([replace(c, cell=shear @ c.cell) for c in CRYSTALS]), expected, 1e-4)


def test_several_targets_need_a_name():
    model = randomised(config(2, targets=("electronic", "total")))
    with pytest.raises(ValueError, match="predict: expected `target` to be one of electronic, total, got None"):
        model.predict(CRYSTALS)
    with pytest.raises(ValueError, match="expected `target` to be one of electronic, total, got 'ionic'"):
        model.predict(CRYSTALS, target="ionic")
    both = model.predict_targets(CRYSTALS)
    assert list(both) == ["electronic", "total"]
    assert (model.predict(CRYSTALS, target="total") == both["total"]).all()
    assert not np.allclose(both["electronic"], both["total"])
    assert (model.with_targets(["electronic"]).predict(CRYSTALS) == both["electronic"]).all()


CUBE = 4.0 * np.eye(3)
BAD = {
    "NaN": (Crystal.make("bad", [8], [[0, np.nan, 0]], CUBE), "position of atom 0 .O. is NaN or infinite"),
    "infinite": (Crystal.make("bad", [8], [[0, np.inf, 0]], CUBE), "NaN or infinite"),
    "infinite cell": (Crystal.make("bad", [8], [[0, 0, 0]], np.diag([np.inf, 4, 4])), "cell has a NaN or infinite"),
    "no volume": (Crystal.make("bad", [8], [[0, 0, 0]], np.ones((3, 3))), "cell has no volume"),
    "not periodic": (Crystal.make("bad", [8], [[0, 0, 0]], CUBE, pbc=[True, True, False]), "not periodic along c"),
    "no atoms": (Crystal.make("bad", [], [], CUBE), "there are no atoms"),
    "two at one place": (Crystal.make("bad", [8, 8], [[0, 0, 0], [4, 0, 0]], CUBE), "two atoms at one place"),
    "element 0": (Crystal.make("bad", [0], [[0, 0, 0]], CUBE), "atomic number 0"),
    "element 119": (Crystal.make("bad", [119], [[0, 0, 0]], CUBE), "atomic number 119"),
}


@pytest.mark.parametrize(("crystal", "message"), BAD.values(), ids=BAD)
def test_a_bad_crystal_is_named_also_among_good_ones(crystal, message):
    for structures in (crystal, [*CRYSTALS, crystal]):
        with pytest.raises(BadCrystalError, match=f"bad: .*{message}"):
            MODEL.predict(structures)


def test_bad_structures_of_other_packages_are_named_by_their_place():
    good = to_pymatgen(CRYSTALS[3])
    disordered = good.copy()
    disordered[0] = {"Fe": 0.5, "Co": 0.5}
    with pytest.raises(BadCrystalError, match="structure 1: partial occupancy"):
        MODEL.predict([good, disordered])
    broken = to_ase(CRYSTALS[3])
    broken.positions[0, 0] = np.nan
    with pytest.raises(BadCrystalError, match=r"structure 2.*NaN"):
        MODEL.predict([good, good, broken])
    for wrong in ("file.cif", 3, None, [3], ["file.cif"]):
        with pytest.raises(TypeError, match="expected a pymatgen Structure, an ASE Atoms or a dtnn_fast Crystal"):
            MODEL.predict(wrong)


def test_an_element_the_model_was_not_trained_on_is_named():
    model = randomised(config(2))
    model.config = DTNNConfig(model.config.encoder, model.config.decoder, ("total",), elements=(8, 12, 14))
    quartz_like = Crystal.make("fine", [14, 8], [[0, 0, 0], [1.7, 0, 0]], CUBE)
    assert np.isfinite(model.predict(quartz_like)).all()
    with pytest.raises(BadCrystalError, match="lead: element Pb is unknown to the model; it knows O Mg Si"):
        model.predict([quartz_like, Crystal.make("lead", [82, 8], [[0, 0, 0], [2, 2, 2]], CUBE)])


def test_symmetrised_predictions_obey_the_symmetry_exactly():
    pytest.importorskip("moyopy")
    model = DTNN.from_pretrained("dielectric-total")
    cubic = [crystal for crystal in labelled() if crystal.info["crystal_system"] == "cubic"][:5]
    plain, exact = model.predict(cubic), model.predict(cubic, symmetrise=True)
    assert (exact[:, ~np.eye(3, dtype=bool)] == 0).all()
    np.testing.assert_allclose(exact, plain, atol=0.05)
    np.testing.assert_allclose(exact[:, 0, 0], exact[:, 2, 2], rtol=1e-6)


def test_threads_that_predict_leave_a_model_in_its_mode():
    """A block that starts within another thread's must not take that thread's mode for the model's own."""
    model = randomised(config(2, targets=("electronic", "total")))
    parts = [model, model.with_targets(["total"])]  # they share the encoder
    model.train()
    parts[1].encoder.layers[0].eval()
    before = [(module, module.training) for part in parts for module in part.modules()]
    with parts[0].evaluating():
        inner = parts[1].evaluating()
        inner.__enter__()
        assert not any(module.training for module, _ in before)
    assert not any(module.training for module in parts[1].modules())  # the other block is not left
    inner.__exit__(None, None, None)
    assert all(module.training == training for module, training in before)

    expected = MODEL.predict(CRYSTALS)
    shared = copy.deepcopy(MODEL).train()
    with ThreadPoolExecutor(8) as pool:
        for tensors in pool.map(lambda _: shared.predict(CRYSTALS, batch_atoms=40), range(24)):
            assert_close(tensors, expected)
    assert all(module.training for module in shared.modules())


def test_predictions_can_be_changed_and_gradients_still_flow():
    """Predictions are made in torch's inference mode, which must not reach what the caller gets or does next."""
    model = randomised(config(2))
    tensors = model.predict(CRYSTALS)
    members = model.predict_members(CRYSTALS)["total"]
    tensors += 1.0
    members += 1.0
    graph = model.graph(CRYSTALS)
    loss = (model(graph)["total"] - torch.from_numpy(members[0])).square().sum()
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    assert any(g is not None and g.any() for g in gradients)
    model.train()
    with torch.enable_grad():
        assert np.array_equal(model.predict(CRYSTALS) + 1.0, tensors)
