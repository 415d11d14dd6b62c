# SPDX-License-Identifier: MIT
"""Predictions for any functional of the labels: by model, saved folder, ensemble, lattice model and refined tensors.

The shift of a functional is compared with the path of the training, which gives each crystal's functional by itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from lattice_cases import random_lattice_model
from model_cases import VARIANTS, config, labelled, randomised

from dtnn_fast import DTNN, Ensemble
from dtnn_fast.cli.options import load_model
from dtnn_fast.model.lattice_model import LatticeModel
from dtnn_fast.model.predictor import Predictor
from dtnn_fast.refinement.bundled_refiner import load_refiner
from dtnn_fast.screening.screening_run import model_sha256

TWO = ("PBE", "PBEsol")


@pytest.fixture(scope="module")
def crystals():
    return [crystal for crystal in labelled() if crystal.num_atoms <= 6][:5]


@pytest.fixture(scope="module")
def bundled():
    return DTNN.from_pretrained("dielectric")


def of_two(name: str = "several-layers", seed: int = 0) -> DTNN:
    return randomised(replace(VARIANTS[name], functionals=TWO, born_charges=True), seed)


@pytest.mark.parametrize("name", ["several-layers", "joint", "layer3-simple-residual"])
@pytest.mark.parametrize("functional", TWO)
def test_the_shift_is_that_of_the_training(crystals, name, functional):
    model = of_two(name)
    graph = model.graph(crystals)
    encoded = model.encode(graph)._replace(functional=torch.full((len(crystals),), TWO.index(functional)))
    chosen = model.with_functional(functional)
    assert chosen.functional == functional
    with torch.no_grad():
        expected, actual = model(encoded), chosen(graph)
        torch.testing.assert_close(chosen.born_charges(graph), model.born_charges(encoded), rtol=0, atol=1e-12)
    for target in model.targets:
        torch.testing.assert_close(actual[target], expected[target], rtol=0, atol=1e-12)


def test_the_main_functional_changes_no_bit_and_another_one_does(crystals):
    model = of_two()
    plain = model.predict(crystals)
    assert model.functional == "PBE"
    for main in ("", "PBE"):
        np.testing.assert_array_equal(model.with_functional(main).predict(crystals), plain)
    other = model.with_functional("PBEsol")
    assert np.abs(other.predict(crystals) - plain).max() > 1e-3
    np.testing.assert_array_equal(other.with_functional("PBE").predict(crystals), plain)
    np.testing.assert_array_equal(model.predict(crystals), plain)  # the first model stays as it is


def test_weights_are_shared_and_the_mode_is_kept():
    model = of_two()
    other = model.with_functional("PBEsol")
    assert [p.data_ptr() for p in other.parameters()] == [p.data_ptr() for p in model.parameters()]
    assert not other.training
    assert model.train().with_functional("PBEsol").training


def test_a_saved_model_keeps_its_functional(crystals, tmp_path):
    model = of_two().float()
    other = model.with_functional("PBEsol")
    other.save(tmp_path / "other")
    loaded = DTNN.from_pretrained(tmp_path / "other")
    assert (loaded.functional, loaded.functionals) == ("PBEsol", TWO)
    np.testing.assert_array_equal(loaded.predict(crystals), other.predict(crystals))
    assert "functional" not in model.config.to_json()  # as models of earlier versions have it


def test_targets_of_a_functional(crystals):
    model = of_two("joint").with_functional("PBEsol")
    np.testing.assert_array_equal(model.with_targets(["ionic"]).predict(crystals), model.predict(crystals, "ionic"))


@pytest.mark.parametrize(("functionals", "known"), [(TWO, "one of PBE, PBEsol"), ((), "learned from one alone")])
def test_unknown_functionals_are_refused(functionals, known):
    settings = replace(config(2), functionals=functionals)
    with pytest.raises(ValueError, match=f"DTNN: expected as `functional` .*{known}.*got 'LDA'"):
        DTNN(settings).with_functional("LDA")
    with pytest.raises(ValueError, match="got 'LDA'"):
        DTNN(replace(settings, functional="LDA"))


def test_predictors_without_functionals():
    class Other(Predictor):
        targets, elements = ("total",), ()

        def predict_members(self, crystals):
            raise NotImplementedError

    other = Other()
    assert (other.functionals, other.functional) == ((), "")
    assert other.with_functional("") is other
    with pytest.raises(ValueError, match="Other: expected as `functional`"):
        other.with_functional("PBE")


class TestEnsembles:
    """The functional of an ensemble is that of all its models."""

    def test_all_models_predict_for_it(self, crystals):
        models = [of_two(seed=0), of_two(seed=1)]
        ensemble = Ensemble(models, {"total": 2.0}, {"total": 3.0}).with_functional("PBEsol")
        expected = np.mean([model.with_functional("PBEsol").predict(crystals) for model in models], axis=0)
        np.testing.assert_allclose(ensemble.predict(crystals), expected, rtol=1e-12)
        assert ensemble.functional == "PBEsol"
        assert (ensemble.error_scales, ensemble.mean_error_scales) == ((2.0,), (3.0,))

    def test_it_comes_back_from_its_folder(self, crystals, tmp_path):
        ensemble = Ensemble([of_two(seed=0).float(), of_two(seed=1).float()]).with_functional("PBEsol")
        ensemble.save(tmp_path)
        loaded = Ensemble.from_pretrained(tmp_path)
        assert loaded.functional == "PBEsol"
        np.testing.assert_array_equal(loaded.predict(crystals), ensemble.predict(crystals))

    def test_those_that_all_models_know(self):
        other = randomised(replace(VARIANTS["several-layers"], functionals=("PBE", "SCAN")))
        ensemble = Ensemble([of_two(), other])
        assert ensemble.functionals == ("PBE",)
        with pytest.raises(ValueError, match="one of PBE, got 'SCAN'"):
            ensemble.with_functional("SCAN")

    def test_models_of_different_functionals_are_not_joined(self):
        with pytest.raises(ValueError, match="models of one functional, got PBE, PBEsol"):
            Ensemble([of_two(), of_two().with_functional("PBEsol")])


class TestLatticeModels:
    """Born charges and force constants for a functional."""

    def test_the_shift_is_that_of_the_training(self, crystals):
        model = random_lattice_model(functionals=TWO)
        graph = model.graph(crystals)
        with torch.no_grad():
            matrices, charges = model(graph, torch.ones(len(crystals), dtype=torch.int64))
            again, same = model.with_functional("PBEsol")(graph)
            plain, _ = model(graph)
        torch.testing.assert_close(same, charges, rtol=0, atol=1e-12)
        torch.testing.assert_close(again, matrices, rtol=0, atol=1e-12)
        assert max(float((a - b).abs().max()) for a, b in zip(again, plain, strict=True)) > 1e-3
        assert model.functional == "PBE"

    def test_a_saved_model_keeps_it(self, crystals, tmp_path):
        model = random_lattice_model(functionals=TWO).float()
        assert "functional" not in model.config.to_json()
        model.with_functional("PBEsol").save(tmp_path)
        loaded = LatticeModel.from_pretrained(tmp_path)
        assert loaded.functional == "PBEsol"
        (first,) = loaded.predict(crystals[:1])
        (second,) = model.with_functional("PBEsol").predict(crystals[:1])
        np.testing.assert_array_equal(first.force_constants, second.force_constants)

    def test_unknown_ones_are_refused(self):
        with pytest.raises(ValueError, match="LatticeModel: expected as `functional` one of PBE, PBEsol, got 'LDA'"):
            random_lattice_model(functionals=TWO).with_functional("LDA")


class TestBundledModels:
    """The bundled models know PBE and PBEsol; PBEsol's ionic tensors of the same structures are smaller."""

    def test_ionic_tensors(self, bundled, crystals):
        assert (bundled.functionals, bundled.functional) == (TWO, "PBE")
        many = [crystal for crystal in labelled() if crystal.num_atoms <= 4]
        means = {name: bundled.with_functional(name).predict(many, "ionic").trace(axis1=1, axis2=2) for name in TWO}
        assert 0.9 < np.median(means["PBEsol"] / means["PBE"]) < 1.1
        assert not np.allclose(means["PBEsol"], means["PBE"], rtol=1e-3)

    def test_refined_tensors_are_of_the_functional_of_the_direct_model(self, bundled):
        refiner = load_refiner(bundled.with_functional("PBEsol"), "dielectric")
        assert refiner.lattice.functional == "PBEsol"
        assert load_refiner(bundled, "dielectric").lattice.functional == "PBE"

    def test_a_screening_for_another_functional_is_another_screening(self, bundled):
        assert model_sha256(bundled) == model_sha256(bundled.with_functional("PBE"))
        assert model_sha256(bundled) != model_sha256(bundled.with_functional("PBEsol"))

    def test_the_option_of_commands(self):
        import typer

        assert load_model("dielectric", None, "cpu", "predict", "PBEsol").functional == "PBEsol"
        with pytest.raises(typer.BadParameter, match=r"expected one of PBE, PBEsol, got 'LDA' \(dielectric\)"):
            load_model("dielectric", None, "cpu", "predict", "LDA")
