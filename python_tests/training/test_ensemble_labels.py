# SPDX-License-Identifier: MIT
"""`tools/ensemble_labels.py` fills what is unknown by the mean of the models, and leaves what is known."""

import importlib
import sys
from dataclasses import replace

import numpy as np
import pytest
from lattice_cases import random_lattice_model
from model_cases import config, labelled

from dtnn_fast import DTNN
from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.formats import read_packed, write_packed
from dtnn_fast.model.predictor import mean_permittivity
from dtnn_fast.refinement.refiner import Refiner
from dtnn_fast.symmetry import with_operations
from dtnn_fast.training.partial_labels import LABELS_ARE_PREDICTED

TWO = ("PBE", "PBEsol")


@pytest.fixture(scope="module")
def tool():
    return importlib.import_module("ensemble_labels")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of two models that know PBE and PBEsol, and not the element O."""
    import torch

    folders = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        settings = replace(config(2, targets=("electronic", "ionic", "total"), joint=True), functionals=TWO)
        model = DTNN(replace(settings, elements=tuple(z for z in range(1, 84) if z != 8))).eval()
        torch.nn.init.normal_(model.functional_shifts.shifts)
        for part in model.decoders.parameters():
            torch.nn.init.normal_(part, std=0.3)  # tensors far from zero
        folders.append(tmp_path_factory.mktemp("models") / str(seed))
        model.save(folders[-1])
    return folders


@pytest.fixture(scope="module")
def crystals():
    """Crystals of two to four atoms: all labels, an electronic diagonal alone, none, none for PBEsol, and an oxide."""
    small = [crystal for crystal in labelled() if crystal.num_atoms <= 4]
    without_oxygen = [crystal for crystal in small if 8 not in crystal.atomic_numbers]
    whole, part, bare, sol = without_oxygen[:4]
    oxide = next(crystal for crystal in small if 8 in crystal.atomic_numbers)
    copper = Crystal.make("copper", [29], [[0, 0, 0]], 1.8 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]))
    return [
        whole,
        replace(part, targets={}, diagonals={"electronic": np.array([2.0, 3.0, 4.0])}),
        replace(bare, targets={}),
        replace(sol, targets={}, info={"functional": "PBEsol"}),
        replace(oxide, targets={}),
        copper,
    ]


def run(tool, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["ensemble_labels.py", *map(str, arguments)])
    tool.main()


def test_unknown_tensors_are_the_mean_of_the_models(tool, models, crystals, monkeypatch, tmp_path, capsys):
    write_packed(tmp_path / "given.npz", crystals, {})
    run(tool, monkeypatch, tmp_path / "out.npz", tmp_path / "given.npz", *(f"--model={folder}" for folder in models))
    filled = {crystal.id: crystal for crystal in read_packed(tmp_path / "out.npz").items}
    whole, part, bare, sol, oxide, _ = crystals
    assert filled.keys() == {whole.id, part.id, bare.id, sol.id}  # the models do not know O; copper is a metal
    assert oxide.id not in filled
    marked = {id for id, crystal in filled.items() if crystal.info.get(LABELS_ARE_PREDICTED)}
    assert marked == {bare.id, sol.id}
    assert "4 crystals" in capsys.readouterr().out
    loaded = [DTNN.from_pretrained(folder) for folder in models]

    def expected(crystal, target, functional="PBE"):
        return np.mean([model.with_functional(functional).predict(crystal, target)[0] for model in loaded], axis=0)

    for target in ("electronic", "ionic", "total"):
        np.testing.assert_allclose(filled[whole.id].targets[target], whole.targets[target], atol=1e-12)
        np.testing.assert_allclose(filled[bare.id].targets[target], expected(bare, target), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(
            filled[sol.id].targets[target], expected(sol, target, "PBEsol"), rtol=1e-4, atol=1e-4
        )
    assert np.abs(expected(sol, "ionic") - filled[sol.id].targets["ionic"]).max() > 1e-2
    # A known diagonal stays alone: no tensor is made up beside it, nor a total tensor.
    assert filled[part.id].targets.keys() == {"ionic"}
    np.testing.assert_allclose(filled[part.id].targets["ionic"], expected(part, "ionic"), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(filled[part.id].diagonals["electronic"], [2.0, 3.0, 4.0])


def test_lattice_dynamics_has_a_say_in_ionic_tensors(tool, models, crystals, monkeypatch, tmp_path):
    write_packed(tmp_path / "given.npz", crystals, {})
    lattice = random_lattice_model(functionals=TWO)
    lattice.save(tmp_path / "lattice")
    both = [f"--model={folder}" for folder in models]
    filled = {}
    for name, more in (("direct", []), ("joined", ["--lattice", tmp_path / "lattice"])):
        run(tool, monkeypatch, tmp_path / f"{name}.npz", tmp_path / "given.npz", *both, *more)
        filled[name] = {crystal.id: crystal.targets for crystal in read_packed(tmp_path / f"{name}.npz").items}
    _, part, bare, sol, _, _ = crystals
    one = DTNN.from_pretrained(models[0])
    changed = []
    for crystal, functional in ((part, "PBE"), (bare, "PBE"), (sol, "PBEsol")):
        direct, joined = (filled[name][crystal.id] for name in ("direct", "joined"))
        refiner = Refiner(one.with_functional(functional), lattice.with_functional(functional))
        physical = next(refiner.refine(with_operations([crystal]))).lattice
        sizes = [max(0.0, mean_permittivity(tensor)) for tensor in (direct["ionic"], physical)]
        size = mean_permittivity(joined["ionic"])
        assert size == pytest.approx(np.sqrt(sizes[0] * sizes[1]), rel=1e-4, abs=1e-8)
        changed.append(np.abs(joined["ionic"] - direct["ionic"]).max() > 1e-3)
        if all(sizes):
            shape = (direct["ionic"] + physical) / sum(sizes)
            np.testing.assert_allclose(joined["ionic"] / size, shape, rtol=1e-4, atol=1e-6)
        if "total" in joined:  # not where a known diagonal stays alone
            np.testing.assert_array_equal(joined["electronic"], direct["electronic"])
            np.testing.assert_allclose(joined["total"], joined["electronic"] + joined["ionic"], rtol=1e-5, atol=1e-5)
    assert any(changed)


def test_mean_of_both_is_geometric_in_size(tool):
    direct, physical = np.diag([1.0, 2.0, 3.0]), np.diag([10.0, 6.0, 8.0])
    mean = tool.mean_of_both(direct, physical)
    assert np.trace(mean) / 3 == pytest.approx(4.0)  # sqrt(2 * 8)
    np.testing.assert_allclose(np.diag(mean), np.array([11.0, 8.0, 11.0]) * 0.4)
    np.testing.assert_array_equal(tool.mean_of_both(direct, np.zeros((3, 3))), np.zeros((3, 3)))
    np.testing.assert_array_equal(tool.mean_of_both(-direct, physical), np.zeros((3, 3)))


def test_chemical_systems_are_left_out_and_unlabelled_crystals_are_limited(
    tool, models, crystals, monkeypatch, tmp_path, capsys
):
    write_packed(tmp_path / "given.npz", crystals, {})
    write_packed(tmp_path / "held.npz", crystals[2:3], {})
    models = [f"--model={folder}" for folder in models]
    run(tool, monkeypatch, tmp_path / "a.npz", tmp_path / "given.npz", *models, "--without", tmp_path / "held.npz")
    ids = {crystal.id for crystal in read_packed(tmp_path / "a.npz").items}
    assert ids == {crystals[index].id for index in (0, 1, 3)}
    assert "a chemical system that is left out': 1" in capsys.readouterr().out
    run(tool, monkeypatch, tmp_path / "b.npz", tmp_path / "given.npz", *models, "--most", 1)
    ids = {crystal.id for crystal in read_packed(tmp_path / "b.npz").items}
    assert {crystals[0].id, crystals[1].id} <= ids
    assert len(ids) <= 3


def test_bundled_crystals_have_no_labels(tool):
    assert not any(crystal.targets for crystal in tool.unlabelled_bundled())
    assert len(tool.unlabelled_bundled()) > 2000
