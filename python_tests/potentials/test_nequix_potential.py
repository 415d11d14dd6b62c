# SPDX-License-Identifier: MIT
"""Nequix as a potential: files that are refused, a stand-in for its package, and the package itself where installed."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from model_cases import rattled, small_crystals

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.errors import BadFileError, MissingPackageError
from dtnn_fast.potentials import load_potential
from dtnn_fast.potentials.nequix_potential import KNOWN_FILES, check_nequix_file

SETTINGS = {
    "cutoff": 4.0,
    "atomic_numbers": list(range(1, 90)),
    "atom_energies": {str(z): -0.01 * z for z in range(1, 90)},
    "hidden_irreps": "8x0e + 4x1o + 4x2e",
    "lmax": 2,
    "n_layers": 2,
    "radial_basis_size": 4,
    "radial_mlp_size": 8,
    "radial_mlp_layers": 1,
    "radial_polynomial_p": 6.0,
    "mlp_init_scale": 4.0,
    "index_weights": False,
    "layer_norm": True,
    "shift": 0.1,
    "scale": 1.2,
    "avg_n_neighbors": 10.0,
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.nqx"
    path.write_bytes(b'{"cutoff": 4.0}\n' + bytes(100))
    return path


def test_unknown_files_are_refused_before_they_are_read(file):
    with pytest.raises(BadFileError, match=r"expected SHA-256 .*nequix-oam-1.*, got .*--trust") as error:
        load_potential(file)
    assert str(error.value).startswith(str(file))
    assert check_nequix_file(file, trust=True) == "model"
    for name in ("nequix-oam-1", "sevennet-0"):  # whose joins and softening are not for this file
        copy = file.with_name(f"{name}.nqx")
        copy.write_bytes(file.read_bytes())
        assert check_nequix_file(copy, trust=True) == f"unknown {name}"
    with pytest.raises(BadFileError, match="cannot be read"):
        load_potential(file.with_name("missing.nqx"), trust=True)


def test_known_files_have_their_name(file, monkeypatch):
    import hashlib

    monkeypatch.setitem(KNOWN_FILES, "ours", hashlib.sha256(file.read_bytes()).hexdigest())
    assert check_nequix_file(file) == "ours"
    file.write_bytes(file.read_bytes() + b"!")
    with pytest.raises(BadFileError, match="damaged"):
        check_nequix_file(file)


@pytest.mark.parametrize("missing", ["nequix", "jax"])
def test_says_what_to_install(file, monkeypatch, missing):
    for name in [name for name in sys.modules if name.partition(".")[0] == "nequix"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingPackageError, match=r"dtnn-fast\[nequix\].*pip install --no-deps nequix"):
        load_potential(file, trust=True)


class StandIn(torch.nn.Module):
    """Energies that tell senders from receivers and the direction of bonds, with the call of Nequix's torch model."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.linspace(0.5, 1.5, 3))

    def node_energies(self, displacements, species, senders, receivers):
        assert displacements.dtype == self.weight.dtype == torch.float64
        assert (species >= 0).all()
        towards = self.weight[species[senders]] * (displacements @ torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64))
        per_bond = towards * torch.exp(-displacements.square().sum(1))
        return torch.zeros(len(species), 1, dtype=torch.float64).index_add(0, receivers, per_bond[:, None])


@pytest.fixture
def stand_in(monkeypatch):
    """Modules in place of the package nequix."""
    names = ("nequix", "nequix.model", "nequix.torch_impl", "nequix.torch_impl.utils")
    modules = {name: ModuleType(name) for name in names}
    settings = {"atomic_numbers": [9, 3, 17], "cutoff": 4.0}
    modules["nequix.model"].load_model = lambda path, kernel: (json.loads(path.open("rb").readline()), settings)
    modules["nequix.torch_impl.utils"].convert_model_jax_to_torch = lambda model, config, kernel: (StandIn(), config)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def test_a_stand_in(file, stand_in):
    potential = load_potential(file, trust=True)
    assert potential.elements == {3, 9, 17}
    assert (potential.name, potential.cutoff, potential.dtype) == ("model", 4.0, torch.float64)
    crystal = Crystal.make("x", [3, 9], [[0.0, 0.0, 0.0], [0.5, 0.7, 1.3]], 4.5 * np.eye(3))
    steps = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), -1).reshape(-1, 3) * 4.5
    weight = {9: 0.5, 3: 1.0, 17: 1.5}

    def energy(positions):
        total = 0.0
        for i in range(2):
            for j in range(2):
                vectors = positions[j] + steps - positions[i]
                squares = np.square(vectors).sum(1)
                kept = (squares > 0) & (squares < 16)
                terms = weight[int(crystal.atomic_numbers[j])] * (vectors @ [0.1, 0.2, 0.3]) * np.exp(-squares)
                total += terms[kept].sum()
        return total

    [result] = potential.evaluate([crystal])
    assert result.energy == pytest.approx(energy(crystal.positions), rel=1e-9)
    assert abs(result.energy) > 1e-3
    for atom in range(2):
        for axis in range(3):
            step = np.zeros((2, 3))
            step[atom, axis] = 1e-5
            slope = (energy(crystal.positions + step) - energy(crystal.positions - step)) / 2e-5
            assert result.forces[atom, axis] == pytest.approx(-slope, abs=1e-7)


def test_damaged_files_are_refused(file, stand_in):
    file.write_bytes(b"no settings\n")
    with pytest.raises(BadFileError, match="not a file of Nequix that the installed package reads: JSONDecodeError"):
        load_potential(file, trust=True)


@pytest.mark.filterwarnings("ignore")
def test_equals_the_package(tmp_path):
    """A small model with random weights, against Nequix's own calculator on JAX."""
    model = pytest.importorskip("nequix.model")
    jax = pytest.importorskip("jax")
    path = tmp_path / "small.nqx"
    settings = {key: value for key, value in SETTINGS.items() if key not in ("atomic_numbers", "atom_energies")}
    made = model.Nequix(
        key=jax.random.key(1), n_species=89, atom_energies=list(SETTINGS["atom_energies"].values()), **settings
    )
    model.save_model(path, made, SETTINGS)
    potential = load_potential(path, trust=True)
    crystals = [rattled(crystal, 0.05) for crystal in small_crystals(3)]
    for crystal, ours in zip(crystals, potential.evaluate(crystals), strict=True):
        own = _own_results(made, crystal)
        assert ours.energy == pytest.approx(own[0], rel=1e-5)
        np.testing.assert_allclose(ours.forces, own[1], atol=1e-4 * np.abs(own[1]).max())
        np.testing.assert_allclose(ours.stress, own[2], atol=1e-4 * np.abs(own[2]).max())
        assert np.abs(own[1]).max() > 1e-3


def _own_results(model, crystal):
    """Call a model of Nequix on JAX with its own graph of a crystal."""
    ase = pytest.importorskip("ase")
    data = pytest.importorskip("nequix.data")
    atoms = ase.Atoms(crystal.atomic_numbers, crystal.positions, cell=crystal.cell, pbc=True)
    indices = data.atomic_numbers_to_indices(SETTINGS["atomic_numbers"])
    graph = data.dict_to_graphstuple(data.preprocess_graph(atoms, indices, SETTINGS["cutoff"], False))
    jraph = pytest.importorskip("jraph")
    # Its sums leave out the last graph, which holds the padding.
    energy, forces, stress = model(jraph.pad_with_graphs(graph, int(graph.n_node[0]) + 1, int(graph.n_edge[0]) + 8, 2))
    return float(energy[0]), np.asarray(forces)[: crystal.num_atoms], np.asarray(stress)[0]
