# SPDX-License-Identifier: MIT
"""Energies: stored in the labels, learned beside the latents, saved and predicted."""

import csv
import json
from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest
import torch
from fake_teacher import SETTINGS as LABEL_SETTINGS
from fake_teacher import FakeTeacher
from safetensors.torch import load_file, save_file
from test_distill_training import ALONE, SETTINGS, StoppedError, run, stop_at

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.distillation.held_out_report import energy_report
from dtnn_fast.distillation.labels import (
    LabelSettings,
    fit_labelled_energies,
    label_crystals,
    read_manifest,
    read_shard,
    rejected_ids,
    shard_path,
)
from dtnn_fast.distillation.made_crystals import MADE_SOURCE, is_held_out
from dtnn_fast.encoders import pretrained_encoder
from dtnn_fast.errors import BadCrystalError, BadFileError, DTNNError
from dtnn_fast.nn.graph import build_graph
from dtnn_fast.potentials.energy_model import HEAD_FILE, load_energy_model
from dtnn_fast.training.energy_readout import EnergyTerm, element_counts, fit_compositions

# Few elements, so that their constants leave residuals to learn.
SALTS = [
    Crystal.from_fractional(
        f"{metal}-{halogen}-{size:.2f}",
        [metal, halogen],
        [[0, 0, 0], [0.5, 0.5, 0.5]],
        size / 2 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]),
        source=MADE_SOURCE if size > 5 else "",
    )
    for metal in (3, 11, 19, 37)
    for halogen in (9, 17, 35, 53)
    for size in np.linspace(4.2, 5.8, 6)
]
WITH_ENERGIES = replace(SETTINGS, energy_weight=1.0)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """The folder of a run that learned the energies of the salts, its report and its labels."""
    labels, folder = tmp_path_factory.mktemp("salts"), tmp_path_factory.mktemp("run")
    label_crystals(SALTS, FakeTeacher(), labels, LABEL_SETTINGS)
    return folder, run(folder, labels, replace(WITH_ENERGIES, epochs=30, learning_rate=0.02)), labels


def stored(folder, name):
    shards = range(read_manifest(folder)["crystals"]["shards"])
    return torch.cat([read_shard(folder, number)[name] for number in shards])


def test_the_stored_energies_are_the_teachers(crystals, teacher, labels):
    with torch.no_grad():
        expected = teacher.latents_and_energy(build_graph(crystals, teacher.cutoffs))[1]
    energies = stored(labels, "energy")
    assert energies.dtype == torch.float64
    torch.testing.assert_close(energies, expected.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_the_stored_energies_are_those_of_sevennet(tmp_path):
    pytest.importorskip("sevenn")
    encoder = pretrained_encoder("sevennet-0")
    crystals = [crystal for crystal in load_labelled() if crystal.num_atoms <= 4][:3]
    label_crystals(crystals, encoder, tmp_path, LabelSettings(LABEL_SETTINGS.crystals, dtype="float32"))
    graph = build_graph(crystals, encoder.cutoffs)
    with torch.no_grad():
        # python_tests/encoders/test_sevennet.py compares `energy` with SevenNet's own calculator.
        latents, energies = encoder(graph), encoder.energy(graph)
    shard = read_shard(tmp_path, 0)
    assert torch.equal(shard["energy"], energies.double())
    assert (energies / graph.ptr.diff() < -1).all()
    assert torch.equal(shard["scalar_5"], latents[4].atom_scalar)
    assert torch.equal(shard["vector_4"], latents[3].atom_vector)


def test_a_crystal_without_a_finite_energy_is_left_out_and_named(crystals, teacher, tmp_path):
    whole = teacher.latents_and_energy

    def broken(graph):
        layers, energies = whole(graph)
        energies[1] = nan
        return layers, energies

    teacher.latents_and_energy = broken
    label_crystals(crystals[:5], teacher, tmp_path, LABEL_SETTINGS)
    assert rejected_ids(tmp_path) == [crystals[1].id]
    shard = read_shard(tmp_path, 0)
    assert len(shard["energy"]) == len(shard["cell"]) == 4
    assert torch.isfinite(shard["energy"]).all()


def test_the_fit_of_linear_energies_is_exact():
    random = np.random.default_rng(0)
    constants = torch.from_numpy(random.normal(size=119) * 5)
    sizes = random.integers(1, 9, size=200)
    numbers = torch.from_numpy(random.integers(1, 30, size=sizes.sum()))
    counts = element_counts(numbers, torch.tensor([0, *sizes.cumsum()]))
    assert counts.sum(1).tolist() == sizes.tolist()
    fit = fit_compositions(counts, counts @ constants)
    torch.testing.assert_close(fit.constants[1:30], constants[1:30], rtol=1e-9, atol=1e-9)
    assert fit.elements == tuple(range(1, 30))
    assert fit.constants[30:].abs().max() == fit.constants[0] == 0
    assert fit.deviation == 1e-3  # the lower limit: the fit is exact but for rounding
    scattered = fit_compositions(counts, counts @ constants + torch.from_numpy(sizes * random.normal(size=200)))
    assert 0.8 < scattered.deviation < 1.1


def test_elements_that_only_occur_together_can_be_fitted():
    counts = element_counts(torch.tensor([11, 17, 11, 17, 11, 17, 19]), torch.tensor([0, 2, 6, 7]))
    fit = fit_compositions(counts, torch.tensor([-8.0, -16.0, -1.0], dtype=torch.float64))
    assert fit.constants[[11, 17, 19]].tolist() == pytest.approx([-4, -4, -1])


def test_a_new_readout_gives_the_constants_of_the_elements(labels, crystals):
    fit = fit_labelled_energies(labels)
    training = [crystal for crystal in crystals if not is_held_out(crystal, 0.3)]
    assert set(fit.elements) == {z for crystal in training for z in crystal.atomic_numbers.tolist()}
    term = EnergyTerm(4, fit)
    graph = build_graph(training[:3], (2.5,))
    counts = element_counts(graph.atomic_numbers, graph.ptr)
    energies = counts @ fit.constants + counts.sum(1) * torch.tensor([0.5, 0.0, -2.0])
    with torch.no_grad():
        result = term.errors(torch.randn(graph.num_atoms, 4), graph, energies)
    assert result.residuals.tolist() == pytest.approx([0.5, 0.0, -2.0])
    assert result.errors.tolist() == pytest.approx([-0.5, 0.0, 2.0])
    assert result.known.all()
    unknown = next(z for z in range(1, 119) if z not in fit.elements)
    graph.atomic_numbers[0] = unknown
    assert term.errors(torch.zeros(graph.num_atoms, 4), graph, energies).known.tolist() == [False, True, True]


def test_the_report_of_known_errors():
    rows = torch.tensor([[0.1, -0.3, 9.0], [1.0, -2.0, 9.0], [1, 1, 0]], dtype=torch.float64)
    report = energy_report([rows[:, :1], rows[:, 1:]])
    assert (report.crystals, report.left_out) == (2, 1)
    assert report.quality.mae_mev == pytest.approx(200)
    assert report.quality.composition_mae_mev == pytest.approx(1500)
    assert report.quality.explained == pytest.approx(1 - 0.1 / 5)
    assert "200.0 meV per atom" in report.sentence()
    assert "1 left out" in report.sentence()
    nothing = energy_report([])
    assert nothing.quality is None
    assert nothing.sentence() == "energies: no crystals"


def test_energies_are_learned_saved_and_predicted(learned):
    folder, held_out, labels = learned
    history = list(csv.DictReader((folder / "history.csv").open()))
    assert float(history[-1]["training_mev"]) < 0.5 * float(history[0]["training_mev"])
    report = json.loads((folder / "report.json").read_text())["held_out_energies"]
    assert report["made"]["quality"]["mae_mev"] == held_out["made"].energies.quality.mae_mev
    assert history[-1]["made_mev"] == str(held_out["made"].energies.quality.mae_mev)
    assert history[0]["made_mev"] == ""
    model = load_energy_model(folder)
    assert model.elements == (3, 9, 11, 17, 19, 35, 37, 53)
    errors = (model.predict_energies(SALTS, batch_atoms=30) - stored(labels, "energy").numpy()) / 2
    for source, is_made in (("real", False), ("made", True)):
        chosen = [is_held_out(c, 0.3) and (c.source == MADE_SOURCE) == is_made for c in SALTS]
        energies = held_out[source].energies
        assert (energies.crystals, energies.left_out) == (sum(chosen), 0)
        assert energies.quality.mae_mev == pytest.approx(1000 * np.abs(errors[chosen]).mean(), rel=1e-3)
        assert energies.quality.mae_mev < 0.5 * energies.quality.composition_mae_mev
        assert energies.quality.explained > 0.7
    assert model.predict_energies(SALTS[0]).shape == (1,)
    stranger = load_labelled()[0]
    with pytest.raises(BadCrystalError, match=stranger.id):
        model.predict_energies([SALTS[0], stranger])


def test_predicted_energies_have_forces(learned):
    model = load_energy_model(learned[0])
    model.encoder.double()
    graph = build_graph(SALTS[:2], model.encoder.cutoffs, torch.float64)
    torch.manual_seed(0)
    graph = replace(graph, positions=graph.positions + 0.1 * torch.randn_like(graph.positions))

    def energy(positions):
        return model(replace(graph, positions=positions)).sum()

    positions = graph.positions.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energy(positions), positions)
    direction = torch.linspace(-1, 1, positions.numel(), dtype=torch.float64).view_as(positions)
    with torch.no_grad():
        step = 1e-5 * direction
        difference = (energy(graph.positions + step) - energy(graph.positions - step)) / 2e-5
    assert abs(difference) > 1e-4
    assert (gradient * direction).sum().item() == pytest.approx(difference.item(), rel=1e-4)


def test_a_loss_on_forces_has_gradients_of_the_weights(learned):
    model = load_energy_model(learned[0])
    model.encoder.double()
    graph = build_graph(SALTS[:2], model.encoder.cutoffs, torch.float64)
    torch.manual_seed(0)
    positions = (graph.positions + 0.1 * torch.randn_like(graph.positions)).requires_grad_()
    graph = replace(graph, positions=positions)
    parameters = list(model.encoder.parameters())

    def loss():
        (forces,) = torch.autograd.grad(model(graph).sum(), positions, create_graph=True)
        return forces.square().sum()

    loss().backward(inputs=parameters)
    directions = [torch.randn_like(parameter) for parameter in parameters]
    along = sum(
        (parameter.grad * direction).sum().item()
        for parameter, direction in zip(parameters, directions, strict=True)
        if parameter.grad is not None
    )
    values = []
    for step in (1e-5, -2e-5):
        with torch.no_grad():
            torch._foreach_add_(parameters, directions, alpha=step)
        values.append(loss().item())
    assert along == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4)
    assert abs(along) > 1e-4


def test_a_stopped_run_goes_on_to_the_same_energies(labels, tmp_path):
    whole = run(tmp_path / "whole", labels, WITH_ENERGIES)
    for step in (10, 15):
        with pytest.raises(StoppedError):
            run(tmp_path / "parts", labels, WITH_ENERGIES, on_record=stop_at(step))
    assert run(tmp_path / "parts", labels, WITH_ENERGIES) == whole
    for name in (HEAD_FILE, "encoder/model.safetensors", "checkpoint.safetensors"):
        first, second = (load_file(tmp_path / place / name) for place in ("whole", "parts"))
        assert first.keys() == second.keys()
        assert all(torch.equal(value, second[key]) for key, value in first.items()), name
    first, second = (
        [{**row, "seconds": ""} for row in csv.DictReader((tmp_path / place / "history.csv").open())]
        for place in ("whole", "parts")
    )
    assert first == second
    with pytest.raises(BadFileError, match="other settings"):
        run(tmp_path / "parts", labels, replace(SETTINGS, energy_weight=0.5))


def without_energies(labels, folder):
    """Make labels of an older version, without energies."""
    folder.mkdir()
    (folder / "manifest.json").write_bytes((labels / "manifest.json").read_bytes())
    for number in range(read_manifest(labels)["crystals"]["shards"]):
        shard = read_shard(labels, number)
        del shard["energy"]
        save_file(shard, shard_path(folder, number), metadata={"rejected": "[]"})
    return folder


def test_labels_without_energies_teach_latents_only(crystals, teacher, labels, tmp_path):
    old = without_energies(labels, tmp_path / "old")
    label_crystals(crystals, teacher, old, LABEL_SETTINGS)
    assert teacher.calls == 0
    with pytest.raises(DTNNError, match=r"have no energies, .*: label again in another folder"):
        run(tmp_path / "run", old, WITH_ENERGIES)
    assert not (tmp_path / "run").exists()
    assert run(tmp_path / "run", old) == run(tmp_path / "other", labels)


@pytest.mark.parametrize("weight", [-1.0, nan, inf])
def test_wrong_weights_are_refused(weight):
    with pytest.raises(ValueError, match="expected a finite `energy_weight` of 0 or more, got"):
        replace(SETTINGS, energy_weight=weight)


def test_settings_without_energies_are_those_of_older_versions():
    assert "energy_weight" not in SETTINGS.to_json()
    assert WITH_ENERGIES.to_json()["energy_weight"] == 1.0


def test_damaged_and_foreign_readouts_are_named(labels, tmp_path):
    run(tmp_path, labels, replace(WITH_ENERGIES, epochs=1), ALONE)
    path = tmp_path / HEAD_FILE
    whole, tensors = path.read_bytes(), load_file(path)
    path.write_bytes(whole[:200])
    with pytest.raises(BadFileError, match="not a complete energy readout"):
        load_energy_model(tmp_path)
    save_file(tensors, path)
    with pytest.raises(BadFileError, match="expected the format"):
        load_energy_model(tmp_path)
    path.unlink()
    with pytest.raises(BadFileError, match="missing: the run learned no energies"):
        load_energy_model(tmp_path)
    path.write_bytes(whole.replace(b"F64", b"I64"))
    with pytest.raises(BadFileError, match="expected finite weights"):
        load_energy_model(tmp_path)
    path.write_bytes(whole)
    load_energy_model(tmp_path)
    weights = tmp_path / "encoder" / "model.safetensors"
    state = load_file(weights)
    save_file({name: 2 * value for name, value in state.items()}, weights)
    with pytest.raises(BadFileError, match="belongs to another encoder"):
        load_energy_model(tmp_path)
