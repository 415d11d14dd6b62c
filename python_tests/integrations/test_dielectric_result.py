# SPDX-License-Identifier: MIT
"""Predictions for structures of pymatgen, for phonopy and as a data frame of pandas."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from model_cases import config

import dtnn_fast
from dtnn_fast import DTNN
from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.errors import BadCrystalError, BadFileError
from dtnn_fast.integrations import DTNNCalculator, attach_nac, dielectric_of, to_dataframe
from dtnn_fast.model.lattice_model import LatticeModel

CELL = np.array([[2.1, 2.0, 0.1], [0.0, 2.2, 2.1], [2.1, 0.1, 2.3]])
FRACTIONS = [[0, 0, 0], [0.5, 0.5, 0.5]]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def structure():
    core = pytest.importorskip("pymatgen.core")
    return core.Structure(CELL, ["Mg", "O"], FRACTIONS)


def test_a_structure_of_pymatgen(structure):
    tensors = pytest.importorskip("pymatgen.core.tensors")
    model = DTNN.from_pretrained("dielectric")
    result = dielectric_of(structure)
    for target in ("electronic", "ionic", "total"):
        np.testing.assert_array_equal(result.tensor(target), model.predict(structure, target)[0])
        assert result.mean(target) == pytest.approx(np.trace(result.tensor(target)) / 3)
    assert result.electronic is result.tensors["electronic"]
    # The tensor turns as the structure does, by pymatgen's own rotation.
    tensor = result.to_pymatgen_tensor()
    assert isinstance(tensor, tensors.SquareTensor)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turned = structure.__class__(CELL @ turn.T, ["Mg", "O"], FRACTIONS)
    assert np.abs(tensor - np.eye(3) * tensor.trace() / 3).max() > 0.05
    np.testing.assert_allclose(dielectric_of(turned).total, tensor.rotate(turn, tol=1e-6), atol=1e-3)


def test_charges_and_tensors_go_into_a_structure_and_its_json(structure):
    result = dielectric_of(structure, lattice="lattice")
    expected = LatticeModel.from_pretrained("lattice").predict(structure)[0].born_charges
    np.testing.assert_array_equal(result.born_charges, expected)
    labelled = structure.copy(site_properties=result.to_site_properties())
    labelled.properties = result.to_properties()
    read = structure.__class__.from_dict(json.loads(labelled.to_json()))
    np.testing.assert_allclose([site.properties["born_charges"] for site in read], expected)
    np.testing.assert_allclose(read.properties["ionic_dielectric_tensor"], result.ionic)
    assert read.properties["total_mean_error"] == pytest.approx(result.mean_errors["total"])


def test_what_was_not_predicted_is_an_error(structure):
    result = dielectric_of(structure, DTNN(config(targets=("total",))))
    with pytest.raises(KeyError, match="expected one of the predicted tensors total, got 'ionic'"):
        _ = result.ionic
    with pytest.raises(ValueError, match="expected a prediction with Born charges"):
        result.to_site_properties()
    assert list(result.to_properties()) == ["total_dielectric_tensor"]
    with pytest.raises(BadCrystalError, match="Angstrom"):
        dielectric_of(Crystal.make("crowded", [12, 8], [[0, 0, 0], [0.1, 0, 0]], 4 * np.eye(3)))
    with pytest.raises(BadFileError, match="no-such-model"):
        dielectric_of(structure, "no-such-model")


def rocksalt_phonon(symbols="MgO"):
    """Springs to the six nearest neighbors, for which the optical modes at Gamma are known."""
    phonopy = pytest.importorskip("phonopy")
    atoms = pytest.importorskip("phonopy.structure.atoms")
    cell = 2.1 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    unit = atoms.PhonopyAtoms(symbols=["Mg", "O"], cell=cell, scaled_positions=FRACTIONS)
    phonon = phonopy.Phonopy(unit, 2 * np.eye(3, dtype=int), primitive_matrix=np.eye(3))
    places = phonon.supercell.positions
    between = places[:, None] - places[None]
    fractions = between @ np.linalg.inv(phonon.supercell.cell)
    shortest = (fractions - np.round(fractions)) @ phonon.supercell.cell
    near = np.abs(np.linalg.norm(shortest, axis=2) - 2.1) < 0.01
    spring = 3.0
    constants = np.zeros((len(places), len(places), 3, 3))
    constants[near] = -spring * np.eye(3)
    constants[np.arange(len(places)), np.arange(len(places))] = -constants.sum(1)
    phonon.force_constants = constants
    return phonon, spring


def test_phonopy_splits_longitudinal_and_transverse_modes():
    phonon, spring = rocksalt_phonon()
    result = attach_nac(phonon)
    params = phonon.nac_params
    np.testing.assert_allclose(params["dielectric"], result.electronic, atol=1e-3)
    np.testing.assert_allclose(params["born"], result.born_charges, atol=1e-3)
    np.testing.assert_allclose(params["born"].sum(0), 0, atol=1e-6)
    # The Lyddane-Sachs-Teller form: mu (w_LO^2 - w_TO^2) = e^2 Z^2 / (eps0 V eps), with phonopy's own frequencies.
    charge, epsilon = params["born"][0, 0, 0], params["dielectric"][0, 0]
    volume = phonon.primitive.volume
    mass = 1 / (1 / phonon.primitive.masses).sum()
    stiffness = np.array([6 * spring] * 2 + [6 * spring + 180.951 * charge**2 / (volume * epsilon)])
    units = pytest.importorskip("phonopy.physical_units").get_physical_units()
    expected = np.sqrt(stiffness / mass) * units.DefaultToTHz
    phonon.run_qpoints([[0, 0, 0]], nac_q_direction=[1, 0, 0])
    found = np.sort(phonon.qpoints.frequencies[0])
    np.testing.assert_allclose(found[3:], expected, rtol=1e-4)
    assert found[5] > 1.05 * found[4]


def test_phonopy_needs_charges_and_the_electronic_tensor():
    phonon, _ = rocksalt_phonon()
    with pytest.raises(ValueError, match="expected a model of Born charges"):
        attach_nac(phonon, DTNN(config(targets=("electronic",))))
    with pytest.raises(ValueError, match="expected a model of the electronic tensor, got one of total"):
        attach_nac(phonon, "dielectric-total", lattice="lattice")
    assert phonon.nac_params is None


def test_a_screening_as_a_data_frame(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("duckdb")
    crystals = [
        Crystal.from_fractional(f"salt-{size}", [12, 8], FRACTIONS, size / 2 * (1 - np.eye(3)), info={"nsites": 2})
        for size in (4.2, 4.4)
    ]
    crystals[0].info["band_gap"] = 7.8
    table = dtnn_fast.screen(crystals, output=tmp_path)
    frame = to_dataframe(table)
    assert isinstance(frame, pandas.DataFrame)
    assert sorted(frame.id) == ["salt-4.2", "salt-4.4"]
    assert frame["rank"].tolist() == [1, 2]
    parts = to_dataframe(tmp_path).set_index("id")
    for crystal in crystals:
        row = parts.loc[crystal.id]
        assert row.total_mean == pytest.approx(dielectric_of(crystal).mean("total"), abs=1e-4)
        np.testing.assert_allclose(np.stack(row.lattice_vectors), crystal.cell)
    assert parts.num_atoms.tolist() == [2, 2]
    assert parts.band_gap.isna().tolist() == [False, True]


def test_what_is_no_screening_is_an_error(tmp_path):
    with pytest.raises(BadFileError, match=r"part-\*\.parquet"):
        to_dataframe(tmp_path)
    (tmp_path / "part-000000-0000.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(BadFileError, match="the parts cannot be read"):
        to_dataframe(str(tmp_path))
    with pytest.raises(TypeError, match=r"expected the table of dtnn_fast\.screen or a folder, got int"):
        to_dataframe(3)


def test_unknown_names_are_no_attributes():
    import dtnn_fast.integrations as package

    assert DTNNCalculator is package.DTNNCalculator
    assert set(package.__all__) == set(package._MODULE_OF_NAME) == set(dir(package))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = package.no_such_name


@pytest.mark.parametrize(
    ("name", "package", "extra", "distribution"),
    [
        ("DTNNCalculator", "ase", "io", "ase"),
        ("DTNNSimModel", "torch_sim", "torchsim", "torch-sim-atomistic"),
        ("ScreenMaker", "jobflow", "atomate2", "jobflow"),
    ],
)
def test_a_missing_package_is_named_and_stops_no_other_name(name, package, extra, distribution):
    code = f"""
import sys
sys.modules[{package!r}] = None
import dtnn_fast.integrations as package
package.dielectric_of, package.EnergyPotential, package.to_dataframe, package.attach_nac
try:
    package.{name}
except ImportError as error:
    print(type(error).__name__, error)
"""
    result = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert f"MissingPackageError {package} is needed to" in result.stdout
    assert f'pip install "dtnn-fast[{extra}]" or pip install {distribution} (' in result.stdout
