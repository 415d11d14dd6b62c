# SPDX-License-Identifier: MIT
"""A screening whose model runs out of memory: nothing is lost, and it does not run out again and again."""

import weakref

import numpy as np
import pytest
import torch
from crystal_examples import thermal_mgo

from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.model.predictor import Predictor
from dtnn_fast.nn.batch_limit import estimate_bonds
from dtnn_fast.screening import engine
from dtnn_fast.screening.input_chunks import plan_crystals
from dtnn_fast.screening.parts import Parts
from dtnn_fast.screening.screening_run import ScreeningOptions, make_manifest, run_screening

CUTOFF = 9.0


class Greedy(Predictor):
    """Gives each crystal the unit tensor times its number of atoms, and has memory for so many bonds at a time."""

    targets, elements = ("total",), ()
    bond_cutoff = CUTOFF

    def __init__(self, most_bonds, error=torch.OutOfMemoryError):
        super().__init__()
        self.most_bonds, self.error = most_bonds, error
        self.failures, self.batches = 0, []
        self.failed = None

    def predict_members(self, crystals):
        if self.failed is not None:
            assert self.failed() is None, "the tensors of the batch that failed are still in memory"
        bonds = sum(estimate_bonds(crystal, CUTOFF) for crystal in crystals)
        scratch = torch.zeros(3)
        if bonds > self.most_bonds:
            self.failures += 1
            self.failed = weakref.ref(scratch)
            raise self.error("out of memory: tried to allocate 2 GiB")
        self.batches.append((len(crystals), bonds))
        return {"total": np.array([float(c.num_atoms) for c in crystals])[None, :, None, None] * np.eye(3)}


@pytest.fixture(scope="module")
def crystals():
    return load_labelled()[:120]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_the_limit_is_lowered_for_good(crystals, error):
    bonds = [estimate_bonds(crystal, CUTOFF) for crystal in crystals]
    model = Greedy(1.5 * max(bonds), error)
    limit = engine.batch_limit(model, 10**6)
    screened, rejected = engine.screen_crystals(model, crystals, limit=limit)
    assert not rejected
    assert screened.ids == [crystal.id for crystal in crystals]
    sizes = np.array([crystal.num_atoms for crystal in crystals])
    np.testing.assert_array_equal(screened.tensors["total"], sizes[:, None, None] * np.eye(3))
    # At most one failure for each halving of the first batch, which had all crystals.
    assert 0 < model.failures <= 7
    before = model.failures
    again, _ = engine.screen_crystals(model, crystals, limit=limit)
    assert model.failures == before
    np.testing.assert_array_equal(again.tensors["total"], screened.tensors["total"])


def test_other_errors_leave_the_limit(crystals):
    model = Greedy(0, ValueError)
    limit = engine.batch_limit(model, 500)
    _, rejected = engine.screen_crystals(model, crystals[:5], limit=limit)
    assert len(rejected) == 5
    assert limit.largest == 500


def test_one_crystal_that_is_too_large_is_rejected(crystals):
    large = thermal_mgo((6, 6, 6))
    most = max(estimate_bonds(crystal, CUTOFF) for crystal in crystals)
    assert estimate_bonds(large, CUTOFF) > most
    screened, rejected = engine.screen_crystals(Greedy(most), [*crystals, large])
    assert len(screened) == len(crystals)
    assert [(reject.id, reject.reason[:32]) for reject in rejected] == [("MgO", "the model failed: out of memory:")]


def test_the_limit_stays_over_the_pieces_of_a_screening(crystals, tmp_path, monkeypatch):
    from dtnn_fast.screening import input_chunks

    monkeypatch.setattr(input_chunks, "PIECE_CRYSTALS", 20)
    model = Greedy(1.2 * max(estimate_bonds(crystal, CUTOFF) for crystal in crystals))
    alike = sorted(crystals, key=lambda crystal: estimate_bonds(crystal, CUTOFF))[-1:] * 100
    inputs, parts, options = plan_crystals(alike), Parts(tmp_path), ScreeningOptions(batch_atoms=10**6)
    parts.begin(make_manifest(model, "greedy", inputs, [], options, ""))
    assert run_screening(model, "greedy", inputs, parts, options) == (100, 0, False)
    assert len(parts.part_files()) == 5
    # 20, 10, 5 and 2 crystals, in the first piece only.
    assert model.failures == 4


def test_batches_are_smaller_where_crystals_are_dense(crystals):
    def largest_batch(batch_atoms):
        model = Greedy(float("inf"))
        engine.screen_crystals(model, crystals, batch_atoms)
        return max(bonds for number, bonds in model.batches if number > 1)

    assert largest_batch(100) <= 100 * 64
    assert largest_batch(200) > 100 * 64
