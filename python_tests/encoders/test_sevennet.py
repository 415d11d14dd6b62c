# SPDX-License-Identifier: MIT
"""SevenNet's latents in our form: its own energies, rotations, cells, reflections, and files that are refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from model_cases import asymmetric_crystals, orthogonal, recelled, transformed

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.encoders import pretrained_encoder
from dtnn_fast.encoders.pretrained import PRETRAINED, PretrainedEncoder, check_weights
from dtnn_fast.errors import BadFileError
from dtnn_fast.nn.graph import build_graph
from dtnn_fast.nn.latents import Latents

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", params=list(PRETRAINED))
def encoder(request) -> PretrainedEncoder:
    pytest.importorskip("sevenn")
    return pretrained_encoder(request.param)


def latents_of(encoder: PretrainedEncoder, *crystals: Crystal) -> list[Latents]:
    return encoder(build_graph(crystals, encoder.cutoffs, encoder_dtype(encoder)))


def encoder_dtype(encoder: PretrainedEncoder) -> torch.dtype:
    return next(encoder.potential.parameters()).dtype


def matrices(rank2: torch.Tensor) -> torch.Tensor:
    xx, yy, zz, yz, xz, xy = rank2.unbind(1)
    return torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], dim=-1).unflatten(-1, (3, 3))


def test_shapes(encoder):
    crystals = asymmetric_crystals()
    atoms = sum(crystal.num_atoms for crystal in crystals)
    latents = latents_of(encoder, *crystals)
    assert [tuple(layer.atom_scalar.shape) for layer in latents] == [(atoms, 128)] * 5
    assert [tuple(layer.atom_vector.shape) for layer in latents] == [(atoms, 3, 64)] * 4 + [(atoms, 3, 0)]
    assert [tuple(layer.atom_rank2.shape) for layer in latents] == [(atoms, 6, 32)] * 4 + [(atoms, 6, 0)]
    assert len(pretrained_encoder(encoder.name, num_layers=2)(build_graph(crystals, encoder.cutoffs))) == 2
    assert len(encoder.elements) == 89


def test_energies_are_those_of_the_potential(encoder):
    ase = pytest.importorskip("ase")
    calculator_of = pytest.importorskip("sevenn.calculator").SevenNetCalculator
    calculator = calculator_of(encoder.name.replace("sevennet", "7net"), device="cpu")
    crystals = load_labelled()[:100:20]
    energies = encoder.energy(build_graph(crystals, encoder.cutoffs))
    for crystal, energy in zip(crystals, energies.tolist(), strict=True):
        atoms = ase.Atoms(crystal.atomic_numbers, crystal.positions, cell=crystal.cell, pbc=crystal.pbc)
        assert energy == pytest.approx(calculator.get_potential_energy(atoms), abs=2e-5 * len(atoms))


def test_latents_turn_with_the_crystal(encoder):
    crystals = asymmetric_crystals()
    turn = orthogonal(1, improper=False)
    matrix = torch.from_numpy(turn).float()
    before = latents_of(encoder, *crystals)
    after = latents_of(encoder, *(transformed(crystal, turn) for crystal in crystals))
    for old, new in zip(before, after, strict=True):
        close = {"atol": 2e-5 * old.atom_scalar.abs().max().item() + 1e-6, "rtol": 1e-3}
        torch.testing.assert_close(new.atom_scalar, old.atom_scalar, **close)
        torch.testing.assert_close(new.atom_vector, matrix @ old.atom_vector, **close)
        torch.testing.assert_close(matrices(new.atom_rank2), matrix @ matrices(old.atom_rank2) @ matrix.T, **close)
        if old.atom_vector.shape[-1]:
            assert old.atom_vector.abs().max() > 0.01
            assert old.atom_rank2.abs().max() > 0.01


def test_latents_do_not_depend_on_the_cell(encoder):
    crystal = asymmetric_crystals()[0]
    old = latents_of(encoder, crystal)[3].atom_scalar
    new = latents_of(encoder, recelled(crystal, [[1, 0, 0], [2, 1, 0], [-1, 1, 1]]))[3].atom_scalar
    torch.testing.assert_close(new, old, atol=1e-4, rtol=1e-4)


def test_what_a_reflection_leaves(encoder):
    crystals = load_labelled()[::61]
    inverted = [replace(c, positions=-c.positions, cell=-c.cell) for c in crystals]
    pairs = zip(latents_of(encoder, *crystals), latents_of(encoder, *inverted), strict=True)
    for old, new in list(pairs)[:4]:
        for name, sign in (("atom_scalar", 1), ("atom_vector", -1), ("atom_rank2", 1)):
            a, b = getattr(old, name), getattr(new, name)
            odd = (0.5 * (a - sign * b)).square().sum() / (a - a.mean(0)).square().sum()
            assert odd < 5e-4


def test_an_atom_without_bonds(encoder):
    alone = Crystal("alone", np.array([14]), np.zeros((1, 3)), 20.0 * np.eye(3))
    latents = latents_of(encoder, alone)
    assert all(torch.isfinite(layer.atom_scalar).all() for layer in latents)
    assert latents[3].atom_vector.abs().max() == 0
    assert torch.isfinite(encoder.energy(build_graph([alone], encoder.cutoffs))).all()


def test_nothing_of_it_is_trained_or_saved(encoder):
    assert not list(encoder.parameters())
    assert not encoder.state_dict()
    assert not any(parameter.requires_grad for parameter in encoder.potential.parameters())
    encoder.double()
    assert encoder_dtype(encoder) == torch.float64
    encoder.float()


def test_positions_have_gradients(encoder):
    graph = build_graph(load_labelled()[:1], encoder.cutoffs)
    positions = graph.positions.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(encoder.energy(replace(graph, positions=positions)).sum(), positions)
    assert torch.isfinite(gradient).all()


def test_other_weights_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"other")
    with pytest.raises(BadFileError, match="expected SHA-256 7052cb42"):
        check_weights(path, PRETRAINED["sevennet-0"].digest)
    with pytest.raises(BadFileError, match="cannot be read"):
        check_weights(tmp_path / "none.pth", PRETRAINED["sevennet-0"].digest)


def test_unknown_names_and_layers_are_refused():
    with pytest.raises(ValueError, match="expected a pretrained encoder of sevennet-0, sevennet-l3i5, got 'mace'"):
        pretrained_encoder("mace")
    pytest.importorskip("sevenn")
    with pytest.raises(ValueError, match="expected `num_layers` from 1 to 5, got 6"):
        pretrained_encoder("sevennet-0", num_layers=6)


def test_the_missing_package_is_named():
    program = (
        "import sys; sys.modules['sevenn'] = None\n"
        "from dtnn_fast.encoders import pretrained_encoder\n"
        "try: pretrained_encoder('sevennet-0')\n"
        "except ImportError as error: print(error)"
    )
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 'pip install "dtnn-fast[sevennet]"' in done.stdout
