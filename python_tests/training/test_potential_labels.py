# SPDX-License-Identifier: MIT
"""`tools/potential_labels.py` adds a potential's force constants, and leaves published labels as they are."""

import importlib
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from model_cases import labelled

from dtnn_fast import LatticeModel
from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.formats import read_packed, write_packed
from dtnn_fast.potentials import Potential, PotentialResult
from dtnn_fast.training.lattice_loss import FORCE_CONSTANTS_ARE_PREDICTED, LatticeLabels
from dtnn_fast.training.partial_labels import LABELS_ARE_PREDICTED


class Springs(Potential):
    """Every atom is pulled to its place at rest: force constants of 2 eV/Angstrom^2, less what translations leave."""

    def __init__(self, crystals):
        super().__init__("springs", frozenset(range(1, 84)))
        self.at_rest = {(c.num_atoms, *c.atomic_numbers.tolist()): c for c in crystals}

    def evaluate(self, crystals):
        results = []
        for crystal in crystals:
            rest = self.at_rest[(crystal.num_atoms, *crystal.atomic_numbers.tolist())]
            moved = (crystal.positions - rest.positions) @ np.linalg.inv(crystal.cell)
            forces = -2.0 * (moved - np.round(moved)) @ crystal.cell
            results.append(PotentialResult(0.0, forces, np.zeros((3, 3))))
        return results


@pytest.fixture(scope="module")
def tool():
    return importlib.import_module("potential_labels")


@pytest.fixture(scope="module")
def crystals():
    """Two of PBE, one with a copy; one of PBEsol; one with force constants and a copy; one without labels; a metal."""
    binary = {}
    for crystal in labelled():
        if crystal.num_atoms == 2:
            binary.setdefault(tuple(crystal.atomic_numbers.tolist()), replace(crystal, info={"functional": "PBE"}))
    one, two, sol, known, bare = list(binary.values())[:5]
    copper = Crystal.make("copper", [29, 29], [[0, 0, 0], [1.8, 1.8, 0]], np.diag([3.6, 3.6, 3.6]))
    return [
        one,
        replace(one, id="other/copy", info={"functional": "PBE", "matches": [one.id]}),
        two,
        replace(sol, info={"functional": "PBEsol"}, born_charges=np.zeros((2, 3, 3))),
        replace(known, force_constants=np.eye(6)),
        replace(known, id=f"set/{known.id}", targets={}, diagonals={"electronic": np.ones(3)}),
        replace(bare, targets={}),
        copper,
    ]


def test_crystals_that_need_force_constants(tool, crystals):
    counts = Counter()
    chosen = tool.needed(crystals, 150, counts)
    assert [c.id for c in chosen] == [crystals[row].id for row in (0, 2, 3, 6)]
    assert counts == {"another calculation has them": 2, "metals": 1}
    counts.clear()
    assert not tool.needed(crystals, 1, counts)
    assert counts["too much work"] == 5  # the copy, too


def test_soft_crystals_of_another_functional_are_computed_too(tool, crystals):
    """Their labels of the potential's functional are of stable crystals alone."""
    soft = np.diag([1.0, 1, 1, -1, -1, -1])
    soft = 0.2 * np.outer(np.diag(soft), np.diag(soft))
    known = replace(crystals[4], info={"functional": "PBEsol"}, force_constants=soft)
    for limit, expected in ((0.3, True), (-0.1, False), (-np.inf, False)):
        chosen = tool.needed([known], 150, Counter(), "PBE", limit)
        assert [c.id for c in chosen] == [known.id] * expected
    # Not those whose force constants are of the potential's functional.
    assert not tool.needed([replace(known, info={"functional": "PBE"})], 150, Counter(), "PBE", 0.3)


def test_ionic_tensors_that_lattice_dynamics_contradicts_are_dropped(tool, crystals):
    """By the potential's force constants with predicted charges, and by those of DFT of another set."""
    stiff, soft = 30.0 * np.eye(6), 0.3 * np.eye(6)
    one, two, three = (replace(crystals[row], targets=dict(crystals[row].targets)) for row in (0, 2, 6))
    for crystal in (one, two, three):
        crystal.targets.update(electronic=3.0 * np.eye(3), ionic=2.0 * np.eye(3), total=5.0 * np.eye(3))
    charges = np.array([2.0 * np.eye(3), -2.0 * np.eye(3)])
    dft = {"born_charges": charges, "targets": {}, "info": {"functional": "PBEsol", "matches": [three.id]}}
    of_dft = replace(three, id="set/dft", force_constants=soft, **dft)
    model = LatticeModel.from_pretrained("lattice")
    given = [one, two, three, of_dft]
    kept, lost = tool.drop_contradicted(given, {one.id: soft, two.id: stiff}, "PBE", model)
    assert lost == [one.id, three.id]
    assert [set(c.targets) for c in kept] == [{"electronic"}, {"electronic", "ionic", "total"}, {"electronic"}, set()]
    # Tensors of another functional are not judged.
    assert tool.drop_contradicted(given, {one.id: soft}, "PBEsol", model)[1] == []


def test_labels_are_added(tool, crystals):
    matrices = {crystals[row].id: np.full((6, 6), float(row)) for row in (0, 3, 6)}
    result = {crystal.id: crystal for crystal in tool.add_labels(crystals, matrices, "PBE", "springs")}
    one, sol, bare = crystals[0], crystals[3], crystals[6]
    assert set(result) == {*(c.id for c in crystals[:6]), f"{sol.id}/springs", f"{bare.id}/springs"}
    assert (result[one.id].force_constants == 0).all()
    assert result[one.id].targets == one.targets
    assert result[one.id].info[FORCE_CONSTANTS_ARE_PREDICTED]
    assert LABELS_ARE_PREDICTED not in result[one.id].info
    assert result[sol.id] is sol
    copy = result[f"{sol.id}/springs"]
    assert copy.info == {"functional": "PBE", FORCE_CONSTANTS_ARE_PREDICTED: True, LABELS_ARE_PREDICTED: True}
    assert (copy.targets, copy.born_charges) == ({}, None)
    assert (copy.force_constants == 3).all()
    assert (result[crystals[4].id].force_constants == np.eye(6)).all()


def test_published_ionic_tensors_stay_the_label(crystals):
    """With DFT's force constants the label is that of the formula, which bounds soft modes."""
    whole = replace(crystals[0], force_constants=8 * np.eye(6), born_charges=np.array([np.eye(3), -np.eye(3)]))
    guessed = replace(whole, info={FORCE_CONSTANTS_ARE_PREDICTED: True})
    np.testing.assert_allclose(LatticeLabels.of(guessed).ionic, whole.targets["ionic"], rtol=1e-6)
    assert not np.allclose(LatticeLabels.of(whole).ionic, whole.targets["ionic"])


def test_the_tool_continues_and_shares_the_work(tool, crystals, tmp_path, monkeypatch, capsys):
    write_packed(tmp_path / "some.npz", crystals, {"name": "some"})
    write_packed(tmp_path / "none.npz", [crystals[2]], {"name": "none"})
    monkeypatch.setattr(tool, "load_potential", lambda name, dtype: Springs(crystals))
    calls = []
    whole = tool.gamma_force_constants
    monkeypatch.setattr(tool, "gamma_force_constants", lambda cs, p: calls.append(len(cs)) or whole(cs, p))
    output = tmp_path / "taught.npz"
    for part in ("1/2", "2/2", "1/2"):
        files = [str(output), str(tmp_path / "some.npz")]
        monkeypatch.setattr(sys, "argv", ["tool", *files, "--potential", "x", "--part", part])
        tool.main()
    assert calls == [2, 2]
    assert "4 of 4 crystals have force constants; 8 crystals in" in capsys.readouterr().out
    result = {crystal.id: crystal for crystal in read_packed(output).items}
    # Each atom's spring, less what would resist a translation of the crystal.
    expected = np.kron(np.eye(2) - 0.5, 2 * np.eye(3))
    np.testing.assert_allclose(result[crystals[0].id].force_constants, expected, atol=1e-6)
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--without", str(tmp_path / "none.npz")])
    tool.main()
    assert set(result) - {crystal.id for crystal in read_packed(output).items} == {crystals[2].id}
