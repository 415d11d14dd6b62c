# SPDX-License-Identifier: MIT
"""Partial labels: the loss sees what is known and nothing else, and further crystals stay out of the split."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from model_cases import TINY, config, rattled, small_crystals

from dtnn_fast import DTNN
from dtnn_fast.datasets.splits import split
from dtnn_fast.encoders import NativeEncoder
from dtnn_fast.errors import BadCrystalError, BadFileError, DTNNError
from dtnn_fast.training.held_out import without_held_out
from dtnn_fast.training.labelled_data import LabelledGraphs, make_labelled_data
from dtnn_fast.training.metrics import isotropic_scale, mae_ten
from dtnn_fast.training.partial_labels import PartiallyLabelledGraphs, partial_loss
from dtnn_fast.training.run_folder import PREDICTIONS_FILE, load_predictions
from dtnn_fast.training.train_run import known_elements, train_run
from dtnn_fast.training.trainer import Trainer
from dtnn_fast.training.training_settings import TrainingSettings

TARGETS = ("electronic", "ionic", "total")
CRYSTALS = small_crystals(24, max_atoms=4)
MORE = small_crystals(12, max_atoms=4, skip=24)
CUTOFFS = config(2).encoder.cutoffs[:2]
MODEL = replace(config(2, channels=TINY, latent=8, dropout=0.0, targets=TARGETS, joint=True), elements=())
SCALES = {"electronic": 2.0, "ionic": 5.0, "total": 7.0}


def model_with(functionals=(), born_charges=False):
    torch.manual_seed(0)
    return DTNN(replace(MODEL, functionals=functionals, born_charges=born_charges)).double().eval()


def loss(model, crystals, power=0.0, born_weight=0.0, step=None, functionals=()):
    data = PartiallyLabelledGraphs(crystals, TARGETS, CUTOFFS, functionals)
    indices = range(len(crystals)) if step is None else step
    graph, labels = data.batch(indices, range(len(crystals)))
    return partial_loss(model, graph.to(dtype=torch.float64), labels, SCALES, power, born_weight)


def charged(crystal, seed=0):
    charges = np.random.default_rng(seed).normal(size=(crystal.num_atoms, 3, 3))
    return replace(crystal, born_charges=charges - charges.mean(0))


def test_full_labels_give_the_usual_loss():
    model = model_with()
    crystals = CRYSTALS[:5]
    graph, expected = LabelledGraphs(crystals, TARGETS, CUTOFFS).batch(range(5))
    predicted = model.member_tensors(graph.to(dtype=torch.float64))
    usual = sum(mae_ten(predicted[target], expected[target]) / SCALES[target] for target in TARGETS)
    torch.testing.assert_close(loss(model, crystals), usual)


def test_each_target_is_a_mean_over_the_crystals_that_have_it():
    model = model_with()
    full, unknown = CRYSTALS[:3], [replace(crystal, targets={}) for crystal in CRYSTALS[3:6]]
    torch.testing.assert_close(loss(model, [*full, *unknown]), loss(model, full))
    part = replace(CRYSTALS[3], targets={"electronic": CRYSTALS[3].targets["electronic"]})
    predicted = model.member_tensors(model.graph([*full, part]))["electronic"][0]
    labels = torch.from_numpy(np.array([c.targets["electronic"] for c in [*full, part]]))
    electronic = mae_ten(predicted, labels) / SCALES["electronic"]
    before = mae_ten(predicted[:3], labels[:3]) / SCALES["electronic"]
    torch.testing.assert_close(
        loss(model, [*full, part]) - loss(model, full), electronic - before, rtol=1e-5, atol=1e-6
    )


def test_diagonals_and_means_count_alone():
    model = model_with()
    crystal = replace(CRYSTALS[0], targets={})
    predicted = model.member_tensors(model.graph([crystal]))["electronic"][0, 0].detach()
    diagonal = replace(crystal, diagonals={"electronic": predicted.diagonal().numpy() + np.array([3.0, 0, 0])})
    torch.testing.assert_close(loss(model, [diagonal]).item(), 1.0 / SCALES["electronic"], rtol=1e-5, atol=1e-6)
    mean = replace(crystal, means={"electronic": predicted.diagonal().mean().item() - 0.5})
    torch.testing.assert_close(loss(model, [mean]).item(), 0.5 / SCALES["electronic"], rtol=1e-5, atol=1e-6)


def test_power_weighs_large_tensors_less():
    model = model_with()
    crystal = replace(CRYSTALS[0], targets={"ionic": 45.0 * np.eye(3)})
    ratio = loss(model, [crystal], power=0.5) / loss(model, [crystal])
    torch.testing.assert_close(ratio.item(), (5.0 / 50.0) ** 0.5, rtol=1e-6, atol=0.0)


def test_born_charges_of_all_atoms_count():
    model = model_with(born_charges=True)
    crystals = [charged(rattled(CRYSTALS[0])), charged(rattled(CRYSTALS[1]), 1), rattled(CRYSTALS[2])]
    terms = loss(model, crystals, born_weight=2.0) - loss(model, crystals)
    with torch.no_grad():
        predicted = model.born_charges(model.graph(crystals[:2]))
    expected = torch.from_numpy(np.concatenate([crystal.born_charges for crystal in crystals[:2]]))
    errors = (predicted - expected).abs().mean((1, 2)) / (0.5 + expected.abs().mean((1, 2)))
    torch.testing.assert_close(terms, 2.0 * errors.mean(), rtol=1e-5, atol=1e-6)


def test_processes_add_up_to_the_step():
    model = model_with(("PBE", "PBEsol"), born_charges=True)
    crystals = [
        *CRYSTALS[:2],
        charged(CRYSTALS[2]),
        replace(CRYSTALS[3], targets={}, diagonals={"electronic": np.full(3, 2.0)}),
        replace(charged(CRYSTALS[4]), info={"functional": "PBEsol"}),
    ]
    options = {"power": 0.5, "born_weight": 1.0, "functionals": ("PBE", "PBEsol")}
    parts = [loss(model, crystals, step=step, **options) for step in ([0, 2, 4], [1, 3])]
    torch.testing.assert_close(sum(parts), loss(model, crystals, **options))


def test_unknown_labels_have_no_gradient():
    model = model_with(born_charges=True)
    crystal = replace(CRYSTALS[0], targets={"electronic": CRYSTALS[0].targets["electronic"]})
    loss(model, [crystal], power=0.5, born_weight=1.0).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert all(g is None or torch.isfinite(g).all() for g in gradients.values())
    of = {
        name: sum(float(g.abs().sum()) for key, g in gradients.items() if name in key and g is not None)
        for name in ("readouts.electronic", "readouts.ionic", "born_readout")
    }
    assert of["readouts.electronic"] > 0
    assert of["readouts.ionic"] == 0
    assert of["born_readout"] == 0


def test_crystals_of_an_unknown_functional_are_named():
    crystal = replace(CRYSTALS[1], info={"functional": "SCAN"})
    with pytest.raises(BadCrystalError, match=f"{crystal.id}.*PBE, PBEsol, got 'SCAN'"):
        PartiallyLabelledGraphs([crystal], TARGETS, CUTOFFS, ("PBE", "PBEsol"))


def test_crystals_that_are_held_out_are_left_out():
    held_out = CRYSTALS[:2]
    same_structure = replace(CRYSTALS[0], id="renamed")
    listed = replace(MORE[0], info={"matches": [CRYSTALS[1].id]})
    same_id = replace(MORE[1], id=CRYSTALS[0].id)
    # As another functional relaxes it: a tenth more volume, and atoms a little displaced.
    shifts = np.random.default_rng(0).normal(scale=0.02, size=CRYSTALS[1].positions.shape)
    moved = 1.03 * (CRYSTALS[1].positions + shifts)
    relaxed = replace(CRYSTALS[1], id="relaxed", positions=moved, cell=1.03 * CRYSTALS[1].cell)
    assert without_held_out([same_structure, listed, same_id, relaxed, MORE[2]], held_out) == [MORE[2]]


def test_systems_that_are_held_out_are_left_out():
    other = replace(MORE[0], atomic_numbers=CRYSTALS[0].atomic_numbers[[0] * MORE[0].num_atoms])
    same = replace(MORE[1], atomic_numbers=np.resize(CRYSTALS[0].atomic_numbers, MORE[1].num_atoms))
    assert len(set(CRYSTALS[0].atomic_numbers)) > 1
    assert without_held_out([other, same], CRYSTALS[:1]) == [other, same]
    assert without_held_out([other, same], CRYSTALS[:1], by_system=True) == [other]


def test_rare_elements_of_further_crystals_are_not_offered():
    rare = [replace(MORE[0], atomic_numbers=np.full(MORE[0].num_atoms, 86))] * 4
    frequent = [replace(MORE[0], atomic_numbers=np.full(MORE[0].num_atoms, 92))] * 5
    elements = known_elements(CRYSTALS, [*rare, *frequent])
    assert 86 not in elements
    assert set(known_elements(CRYSTALS)) | {92} == set(elements)


def test_frozen_encoders_are_refused():
    settings = TrainingSettings(replace(MODEL, born_charges=True))
    with pytest.raises(DTNNError, match="--encoder distilled --finetune"):
        make_labelled_data(settings, CRYSTALS, latents=object())


class TestRuns:
    """Runs with further crystals."""

    @pytest.fixture
    def settings(self):
        model = replace(MODEL, functionals=("PBE", "PBEsol"), born_charges=True)
        return TrainingSettings(model, epochs=3, batch_size=8, learning_rate=1e-2, label_power=0.5, born_weight=1.0)

    @pytest.fixture
    def more(self):
        solid = [replace(charged(crystal), info={"functional": "PBEsol"}) for crystal in MORE[:4]]
        diagonals = [replace(c, targets={}, diagonals={"electronic": np.full(3, 3.0)}) for c in MORE[4:8]]
        return [*solid, *diagonals, replace(CRYSTALS[int(split([c.id for c in CRYSTALS], 0).test[0])], id="twin")]

    def test_they_are_learned_from_but_not_judged(self, tmp_path, settings, more):
        results = train_run(settings, CRYSTALS, tmp_path, more=more)
        assert results["more_crystals"] == {"given": 9, "learned_from": 8}
        assert sorted(load_predictions(tmp_path / PREDICTIONS_FILE).ids) == sorted(crystal.id for crystal in CRYSTALS)
        model = DTNN.from_pretrained(tmp_path / "model")
        assert model.functional_shifts.shifts.abs().max() > 0
        assert sum(model.training_set.element_counts.values()) > 0
        assert len(model.predict_born_charges(CRYSTALS[0])[0]) == CRYSTALS[0].num_atoms

    def test_splits_by_system_judge_systems_that_were_never_seen(self, tmp_path, settings):
        train_run(replace(settings, split_by="systems"), CRYSTALS, tmp_path, more=MORE)
        predictions = load_predictions(tmp_path / PREDICTIONS_FILE)
        known = {crystal.id: crystal.chemical_system for crystal in CRYSTALS}
        parts = {}
        for id, part in zip(predictions.ids, predictions.parts, strict=True):
            parts.setdefault(part, set()).add(known[id])
        assert not parts["test"] & parts["train"]
        assert not parts["validation"] & parts["train"]

    def test_too_few_systems_are_an_error(self, tmp_path, settings):
        same = [replace(c, atomic_numbers=np.full(c.num_atoms, 12)) for c in CRYSTALS]
        with pytest.raises(DTNNError, match="cannot be split by chemical system"):
            train_run(replace(settings, split_by="systems"), same, tmp_path)

    def test_the_size_of_a_single_target_is_its_spread(self, settings, more):
        model = replace(settings.model, targets=("ionic",), decoder=replace(settings.model.decoder, joint=False))
        data = PartiallyLabelledGraphs([*CRYSTALS, *more], ("ionic",), CUTOFFS, model.functionals)
        parts = split([crystal.id for crystal in CRYSTALS], 0)
        weights = Trainer(replace(settings, model=model), data, parts).target_weights
        assert weights["ionic"] == pytest.approx(1 / isotropic_scale(data.tensors["ionic"][parts.train])[1])

    def test_a_resumed_run_is_the_same_to_the_bit(self, tmp_path, settings, more):
        class StopError(Exception):
            pass

        def stop(trainer, epoch):
            trainer.checkpoint()
            raise StopError

        whole = train_run(settings, CRYSTALS, tmp_path / "whole", more=more)
        with pytest.raises(StopError):
            train_run(settings, CRYSTALS, tmp_path / "parts", more=more, on_epoch=stop)
        parts = train_run(settings, CRYSTALS, tmp_path / "parts", more=more)
        assert parts["errors"] == whole["errors"]

    def test_a_run_goes_on_with_the_same_further_crystals_only(self, tmp_path, settings, more):
        train_run(settings, CRYSTALS, tmp_path, more=more)
        other = [replace(more[0], born_charges=2 * more[0].born_charges), *more[1:]]
        for changed in ((), more[1:], other):
            with pytest.raises(BadFileError, match="other settings or data"):
                train_run(settings, CRYSTALS, tmp_path, more=changed)

    def test_the_encoder_can_learn_slower_or_not_at_all(self, tmp_path, settings, more):
        moved = {}
        for rate in (1.0, 0.1, 0.0):
            torch.manual_seed(0)
            encoder = NativeEncoder(settings.model.encoder, settings.model.decoder.layer)
            before = [parameter.detach().clone() for parameter in encoder.parameters()]
            folder = tmp_path / str(rate)
            train_run(replace(settings, encoder_rate=rate), CRYSTALS, folder, more=more, encoder=encoder)
            trained = DTNN.from_pretrained(folder / "model").encoder.parameters()
            moved[rate] = max((a - b).abs().max().item() for a, b in zip(before, trained, strict=True))
        assert moved[0.0] == 0.0
        assert 0.0 < moved[0.1] < 0.5 * moved[1.0]

    def test_a_run_with_two_rates_resumes(self, tmp_path, settings, more):
        slow = replace(settings, encoder_rate=0.1)
        whole = train_run(slow, CRYSTALS, tmp_path / "whole", more=more)

        def stop(trainer, epoch):
            trainer.checkpoint()
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train_run(slow, CRYSTALS, tmp_path / "parts", more=more, on_epoch=stop)
        assert train_run(slow, CRYSTALS, tmp_path / "parts", more=more)["errors"] == whole["errors"]

    def test_settings_without_them_are_those_of_earlier_versions(self, settings):
        assert not {"label_power", "born_weight", "encoder_rate"} & TrainingSettings().to_json().keys()
        assert TrainingSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
