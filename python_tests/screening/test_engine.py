# SPDX-License-Identifier: MIT
"""A crystal that makes the model fail is rejected, and never stops the others."""

import dataclasses

import numpy as np
import pytest
import torch

from dtnn_fast import DTNN
from dtnn_fast.crystals import SymmetryOperations
from dtnn_fast.crystals.crystal import Rejected
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.model.predictor import Predictor
from dtnn_fast.nn import reduced_graph
from dtnn_fast.nn.reduced_graph import collected_failures
from dtnn_fast.screening import engine
from dtnn_fast.symmetry import with_operations


class FakeModel(Predictor):
    """Gives each crystal the unit tensor times its number of atoms; some fail, some become NaN."""

    targets, elements, error_scales, mean_error_scales = ("total",), (), (), ()

    def __init__(self, failing=(), broken=(), error_scales=(), mean_error_scales=()):
        super().__init__()
        self.failing, self.broken, self.calls = set(failing), set(broken), 0
        self.error_scales, self.mean_error_scales = error_scales, mean_error_scales

    def predict_members(self, crystals):
        self.calls += 1
        if any(crystal.id in self.failing for crystal in crystals):
            raise RuntimeError("not enough memory")
        scale = np.array([np.nan if c.id in self.broken else float(c.num_atoms) for c in crystals])
        single = scale[:, None, None] * np.eye(3)
        # Two members, 0.1 below and 0.1 above for each atom.
        return {"total": np.stack([0.9 * single, 1.1 * single]) if self.error_scales else single[None]}


@pytest.fixture(scope="module")
def crystals():
    return load_labelled()[:50]


@pytest.mark.parametrize("chunk_size", [7, 2048])
def test_only_the_culprits_are_rejected(crystals, monkeypatch, chunk_size):
    monkeypatch.setattr(engine, "CHUNK_SIZE", chunk_size)
    failing, broken = {crystals[3].id, crystals[31].id}, {crystals[17].id}
    unread = Rejected("line 9", "file.jsonl:9", "not valid JSON")
    done = []
    model = FakeModel(failing, broken)
    screened, rejected = engine.screen_crystals(model, [*crystals[:9], unread, *crystals[9:]], 200, done.append)
    good = [crystal for crystal in crystals if crystal.id not in failing | broken]
    assert screened.ids == [crystal.id for crystal in good]
    sizes = np.array([crystal.num_atoms for crystal in good])
    np.testing.assert_array_equal(screened.tensors["total"], sizes[:, None, None] * np.eye(3))
    reasons = {record.id: record.reason for record in rejected}
    assert reasons.keys() == failing | broken | {"line 9"}
    assert all("not enough memory" in reasons[name] for name in failing)
    assert all("not finite" in reasons[name] for name in broken)
    assert sum(done) == len(crystals) + 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("out of memory"), "out of memory"),
        (RuntimeError(), "RuntimeError"),
        (AssertionError(""), "Assert"),
    ],
)
def test_an_error_without_a_message_is_named_by_its_type(crystals, monkeypatch, error, reason):
    def fail(self, batch):
        raise error

    monkeypatch.setattr(FakeModel, "predict_batch_with_errors", fail)
    _, rejected = engine.screen_crystals(FakeModel(), crystals[:1])
    assert rejected[0].reason.startswith(f"the model failed: {reason}")


def test_batches_are_used(crystals):
    model = FakeModel()
    engine.screen_crystals(model, crystals, batch_atoms=10**6)
    assert model.calls == 1


@pytest.mark.parametrize("chunk_size", [7, 2048])
def test_error_bars_of_an_ensemble(crystals, monkeypatch, chunk_size):
    monkeypatch.setattr(engine, "CHUNK_SIZE", chunk_size)
    screened, _ = engine.screen_crystals(FakeModel(error_scales=(2.0,), mean_error_scales=(3.0,)), crystals, 60)
    sizes = np.array([crystal.num_atoms for crystal in crystals])
    # Three of the six elements deviate by 0.1 for each atom.
    np.testing.assert_allclose(screened.errors["total"], 2 * 0.1 * sizes * np.sqrt(0.5), rtol=1e-6)
    # The mean of each member deviates by as much as each diagonal element.
    np.testing.assert_allclose(screened.mean_errors["total"], 3 * 0.1 * sizes, rtol=1e-6)
    columns = screened.columns()
    np.testing.assert_array_equal(columns["total_tensor_error"], screened.errors["total"])
    np.testing.assert_array_equal(columns["total_mean_error"], screened.mean_errors["total"])
    plain, _ = engine.screen_crystals(FakeModel(), crystals)
    assert not plain.error_bars
    assert not [name for name in plain.columns() if name.endswith("_error")]


class ChargedModel(FakeModel):
    """Gives each atom its number within the crystal as charge, or NaN."""

    has_born_charges = True

    def predict_batch_charges(self, crystals):
        numbers = [np.full(c.num_atoms, np.nan) if c.id in self.broken else np.arange(c.num_atoms) for c in crystals]
        return [n[:, None, None] * np.eye(3) for n in numbers]

    def predict_members_and_charges(self, crystals):
        # The tensors are finite.
        return FakeModel(self.failing).predict_members(crystals), self.predict_batch_charges(crystals)


@pytest.mark.parametrize("chunk_size", [7, 2048])
def test_charges_stay_with_their_atoms(crystals, monkeypatch, chunk_size):
    monkeypatch.setattr(engine, "CHUNK_SIZE", chunk_size)
    model = ChargedModel(failing={crystals[3].id}, broken={crystals[17].id})
    screened, rejected = engine.screen_crystals(model, crystals, 60, born_charges=True)
    assert {record.id: record.reason.split(":")[0] for record in rejected} == {
        crystals[3].id: "the model failed",
        crystals[17].id: "the predicted Born charges are not finite",
    }
    good = [crystal for crystal in crystals if crystal not in (crystals[3], crystals[17])]
    for crystal, numbers, positions, charges in zip(good, *screened.atoms, strict=True):
        np.testing.assert_array_equal(numbers, crystal.atomic_numbers)
        np.testing.assert_array_equal(positions, crystal.positions)
        np.testing.assert_array_equal(charges[:, 0, 0], np.arange(crystal.num_atoms))
    assert engine.screen_crystals(model, good)[0].atoms is None
    assert "born_charges" not in engine.screen_crystals(model, good)[0].columns()


def test_charges_of_a_model_without_are_refused_before_reading(crystals):
    with pytest.raises(ValueError, match="got one without"):
        engine.screen_crystals(FakeModel(), (pytest.fail("was read") for _ in range(1)), born_charges=True)


def test_a_model_of_version_0_1_0_has_no_error_bar_of_the_mean(crystals):
    screened, _ = engine.screen_crystals(FakeModel(error_scales=(2.0,)), crystals)
    assert "total_tensor_error" in screened.columns()
    assert "total_mean_error" not in screened.columns()


@pytest.mark.parametrize("chunk_size", [7, 2048])
def test_lattice_vectors_are_those_of_the_crystals(crystals, monkeypatch, chunk_size):
    monkeypatch.setattr(engine, "CHUNK_SIZE", chunk_size)
    screened, _ = engine.screen_crystals(FakeModel(), crystals)
    np.testing.assert_array_equal(screened.lattice_vectors, [crystal.cell for crystal in crystals])
    assert screened.labelled.all()


def test_labelled_are_crystals_with_the_structure_of_a_labelled_one(crystals):
    known, other = crystals[0], crystals[1]
    renamed = dataclasses.replace(known, id="mine")
    # The structure decides, not the name: this one is expanded by a fifth.
    expanded = dataclasses.replace(other, positions=1.2 * other.positions, cell=1.2 * other.cell)
    screened, _ = engine.screen_crystals(FakeModel(), [renamed, expanded])
    assert dict(zip(screened.ids, screened.labelled.tolist(), strict=True)) == {"mine": True, other.id: False}


def test_known_tensors_are_kept(crystals):
    screened, _ = engine.screen_crystals(FakeModel(), crystals)
    np.testing.assert_array_equal(screened.known["total"], [crystal.targets["total"] for crystal in crystals])


@pytest.mark.parametrize("chunk_size", [7, 2048])
def test_an_interrupt_keeps_what_was_done(crystals, monkeypatch, chunk_size):
    monkeypatch.setattr(engine, "CHUNK_SIZE", chunk_size)
    model = FakeModel(broken={c.id for c in crystals})
    model.broken.remove(min(crystals, key=lambda c: c.num_atoms).id)
    seen = []

    def predict_members(batch):
        if len(seen) >= 12:
            raise KeyboardInterrupt
        seen.extend(c.id for c in batch)
        return FakeModel.predict_members(model, batch)

    monkeypatch.setattr(model, "predict_members", predict_members)
    model.train()
    unread = Rejected("line 9", "file.jsonl:9", "not valid JSON")
    with pytest.raises(engine.ScreeningStopped) as stop:
        engine.screen_crystals(model, [unread, *crystals], batch_atoms=1)
    names = stop.value.screened.ids + [record.id for record in stop.value.rejected]
    assert len(names) == 13
    assert set(names) == {*seen, "line 9"}
    assert model.training


def test_an_interrupt_while_reading_keeps_the_finished_chunks(crystals, monkeypatch):
    monkeypatch.setattr(engine, "CHUNK_SIZE", 10)

    def stream():
        yield from crystals[:25]
        yield Rejected("line 9", "file.jsonl:9", "not valid JSON")
        raise KeyboardInterrupt

    with pytest.raises(engine.ScreeningStopped) as stop:
        engine.screen_crystals(FakeModel(), stream())
    assert stop.value.screened.ids == [c.id for c in crystals[:20]]
    assert [record.id for record in stop.value.rejected] == ["line 9"]


def test_an_interrupt_while_a_chunk_is_finished_loses_nothing(crystals, monkeypatch):
    of, calls = engine.ScreenedCrystals.of, []

    def interrupted_once(*arguments):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return of(*arguments)

    monkeypatch.setattr(engine.ScreenedCrystals, "of", interrupted_once)
    with pytest.raises(engine.ScreeningStopped) as stop:
        engine.screen_crystals(FakeModel(failing={crystals[3].id}), crystals)
    assert stop.value.screened.ids == [c.id for c in crystals if c is not crystals[3]]
    assert [record.id for record in stop.value.rejected] == [crystals[3].id]


def test_an_interrupted_search_for_crystal_systems_is_not_begun_again(crystals, monkeypatch):
    """The search takes up to 1.3 s a crystal, so Ctrl-C would not be answered in time."""
    unlabelled = [dataclasses.replace(crystal, info={}) for crystal in crystals]
    stated = dataclasses.replace(crystals[5], info={"crystal_system": "trigonal"})
    searched = []

    def search(crystal):
        searched.append(crystal.id)
        raise KeyboardInterrupt

    monkeypatch.setattr("dtnn_fast.symmetry.crystal_systems.crystal_system", search)
    with pytest.raises(engine.ScreeningStopped) as stop:
        engine.screen_crystals(FakeModel(), [*unlabelled[:5], stated])
    assert searched == [crystals[0].id]
    assert stop.value.screened.ids == [c.id for c in crystals[:6]]
    assert stop.value.screened.systems == [None] * 5 + ["trigonal"]


class TestOperations:
    """Crystals whose symmetry is known take less work; any failure falls back to all atoms."""

    @pytest.fixture
    def model(self):
        return DTNN.from_pretrained("dielectric-total")

    def test_fall_back_and_count(self, model, crystals):
        pytest.importorskip("moyopy")
        known = frozenset(model.elements)
        chosen = [crystal for crystal in crystals if known.issuperset(crystal.atomic_numbers.tolist())][:12]
        found = with_operations(chosen)
        rattled = np.random.default_rng(0).normal(size=chosen[2].positions.shape)
        # Operations of a crystal whose atoms have moved since.
        moved = dataclasses.replace(found[2], positions=found[2].positions + 0.05 * rattled)
        rotations, images = found[5].operations
        broken = dataclasses.replace(found[5], operations=SymmetryOperations(rotations[:-1], images[:-1]))
        given = [*found[:2], moved, *found[3:5], broken, *found[6:]]
        with collected_failures() as failures:
            screened, rejected = engine.screen_crystals(model, given)
        assert not rejected
        assert failures.keys() == {moved.label, broken.label}
        assert "expected" in failures[moved.label]
        plain = [dataclasses.replace(crystal, operations=None) for crystal in given]
        expected = model.predict(plain)
        for ours, tensor in zip(screened.tensors["total"], expected, strict=True):
            np.testing.assert_allclose(ours, tensor, rtol=0, atol=1e-3 * tensor.max())

    def test_any_error_of_a_batch_falls_back(self, model, crystals, monkeypatch):
        pytest.importorskip("moyopy")
        found = with_operations(crystals[:3])

        def fail(*arguments, **options):
            raise RuntimeError("reduce_bonds: crystal 0: out of luck")

        expected = model.predict(crystals[:3])
        monkeypatch.setattr(reduced_graph, "reduce_bonds", fail)
        with collected_failures() as failures:
            screened, _ = engine.screen_crystals(model, found)
        assert failures == {crystal.label: "reduce_bonds: crystal 0: out of luck" for crystal in found}
        np.testing.assert_array_equal(screened.tensors["total"], expected)

    def test_are_searched_for_where_it_pays(self, model, monkeypatch):
        labelled = load_labelled()
        crystals = labelled[::20] + [crystal for crystal in labelled if crystal.num_atoms == 20][:2]
        searched = []

        def search(found):
            searched.extend(crystal.num_atoms for crystal in found)
            return found

        monkeypatch.setattr(engine, "with_operations", search)
        monkeypatch.setattr(engine, "SEARCH_TO_ATOMS", 24)
        for threads in (1, 2):
            searched.clear()
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            engine.screen_crystals(model, crystals)
            torch.set_num_threads(before)
            sizes = [crystal.num_atoms for crystal in crystals if 10 * threads <= crystal.num_atoms <= 24]
            assert sorted(searched) == sorted(sizes)
            assert sizes
        searched.clear()
        engine.screen_crystals(FakeModel(), crystals)
        assert not searched
