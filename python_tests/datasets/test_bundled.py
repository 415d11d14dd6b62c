# SPDX-License-Identifier: MIT
"""The bundled crystals are complete, exact and quick to load."""

from dataclasses import replace

import numpy as np
import pytest

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets import bundled
from dtnn_fast.datasets.bundled import compact_structures, expand_structures, to_integers
from dtnn_fast.datasets.cleaning import clean
from dtnn_fast.formats.packed_set import load_arrays


@pytest.fixture(scope="module")
def labelled():
    return bundled.load_labelled()


@pytest.fixture(scope="module")
def structures():
    return bundled.load_structures()


def test_load_labelled(labelled):
    assert len(labelled) == len({crystal.id for crystal in labelled}) == 955
    assert sum(crystal.num_atoms for crystal in labelled) == 7214
    assert len({z for crystal in labelled for z in crystal.atomic_numbers.tolist()}) == 63
    first = labelled[0]
    assert (first.id, first.formula, first.info["space_group"]) == ("mp-441", "Rb2Te", 225)
    assert (first.info["crystal_system"], first.info["band_gap_ev"]) == ("cubic", 1.88)
    assert first.atomic_numbers.tolist() == [37, 37, 52]
    assert first.cell.tolist() == [[5.271776, 0.0, 3.043661], [1.757259, 4.970278, 3.043661], [0.0, 0.0, 6.087323]]
    # (0.25, 0.25, 0.25) in that cell
    np.testing.assert_allclose(first.positions[0], [1.75725875, 1.2425695, 3.04366125], rtol=1e-14)


def test_targets_are_symmetric_and_add_up(labelled):
    first = labelled[0].targets
    assert first["electronic"][0, 1] == (-3.1e-05 + -2.8e-05) / 2
    assert first["total"][0, 0] == 6.234147
    for crystal in labelled:
        assert set(crystal.targets) == {"electronic", "ionic", "total"}
        for tensor in crystal.targets.values():
            assert (tensor.shape, tensor.dtype) == ((3, 3), np.float64)
            np.testing.assert_array_equal(tensor, tensor.T)
        np.testing.assert_array_equal(
            crystal.targets["ionic"], crystal.targets["total"] - crystal.targets["electronic"]
        )


def test_load_structures(structures):
    assert len(structures) == len({crystal.id for crystal in structures}) == 5676
    assert max(crystal.num_atoms for crystal in structures) == 152
    assert sum(crystal.num_atoms for crystal in structures) == 65929
    second = structures[1]
    assert (second.id, second.info["formula"]) == ("mp-10010", "Al(CoSi)2")
    assert second.info["sources"] == ["elastic", "flla"]
    assert second.info["e_above_hull_ev_per_atom"] == 0.0
    assert second.cell[1].tolist() == [-1.966392, 3.40589, 0.0]
    assert "e_above_hull_ev_per_atom" not in structures[0].info
    assert sum("e_above_hull_ev_per_atom" in crystal.info for crystal in structures) == 3938


def test_crystals_own_their_arrays(labelled):
    crystal = bundled.load_labelled()[0]
    crystal.positions[:] += 1.0
    assert crystal.positions.base is None
    assert np.array_equal(crystal.positions, labelled[0].positions + 1.0)


def test_load_screening(labelled, structures):
    screening = bundled.load_screening()
    ids = [crystal.id for crystal in screening]
    assert len(set(ids)) == len(ids) == 3840
    assert ids[:955] == [crystal.id for crystal in labelled]
    assert all(crystal.info["charge_balanced"] for crystal in screening[955:])
    assert len({c.id for c in labelled} & {c.id for c in structures}) == 364


@pytest.mark.parametrize(
    ("formula", "expected"),
    [("SiO2", True), ("Sb2O3", True), ("GaAs", True), ("C", True), ("Nb4CoSi", False), ("Al(CoSi)2", False)],
)
def test_charge_balanced(structures, formula, expected):
    marks = {crystal.info["charge_balanced"] for crystal in structures if crystal.info["formula"] == formula}
    assert marks == {expected}


def test_cleaning_keeps_940(labelled):
    kept, rejected = clean(labelled)
    assert len(kept) == 940
    assert len(rejected) == 15
    assert all(c.targets["total"].min() >= -10 and c.targets["total"].max() <= 100 for c in kept)
    assert "mp-2114" in {r.id for r in rejected}
    assert "120.153" in next(r.reason for r in rejected if r.id == "mp-2114")


def test_cleaning_includes_its_limits(labelled):
    crystal = labelled[0]
    largest, smallest = crystal.targets["total"].max(), crystal.targets["total"].min()
    assert len(clean([crystal], (smallest, largest))[0]) == 1
    assert len(clean([crystal], (smallest, np.nextafter(largest, 0)))[0]) == 0
    crystal_without = type(crystal).make("x", [1], [[0, 0, 0]], np.eye(3))
    assert "total" in clean([crystal_without])[1][0].reason


def test_cleaning_judges_other_tensors_where_the_total_one_is_unknown(labelled):
    crystal = labelled[0]
    electronic = crystal.targets["electronic"]
    alone = replace(crystal, targets={"electronic": electronic})
    assert clean([alone])[0] == [alone]
    kept, rejected = clean([alone], (-10.0, float(electronic.max()) / 2))
    assert kept == []
    assert rejected[0].reason.startswith("electronic dielectric tensor has elements from")
    # The paper's rule is about the total tensor, so where it is known, another one does not count.
    assert clean([crystal], (-10.0, float(crystal.targets["total"].max())))[0] == [crystal]
    large_electronic = replace(crystal, targets=crystal.targets | {"electronic": np.full((3, 3), 1e3)})
    assert clean([large_electronic])[0] == [large_electronic]


def test_to_integers_is_exact():
    values = np.array([[0.1, -7.123456, 0.0], [3.0, 1e-06, 123.654321]])
    np.testing.assert_array_equal(to_integers(values, 10**6) / 10**6, values)
    with pytest.raises(ValueError, match="decimals"):
        to_integers([0.1234567], 10**6)
    with pytest.raises(ValueError, match="decimals"):
        to_integers([np.nan], 10**6)


def test_packing_is_exact_to_the_bit():
    rng = np.random.default_rng(3)
    rows = [
        {
            "id": f"mp-{count}",
            "formula": "X",
            "lattice_angstrom": np.round(rng.normal(size=(3, 3)) * 30, 6).tolist(),
            "atomic_numbers": rng.integers(1, 119, size=count).tolist(),
            "frac_coords": np.round(rng.normal(size=(count, 3)), 8).tolist(),
        }
        for count in (1, 7, 2)
    ]
    for row, crystal in zip(rows, expand_structures(compact_structures(rows), "test"), strict=True):
        expected = Crystal.from_fractional(
            row["id"], row["atomic_numbers"], row["frac_coords"], row["lattice_angstrom"]
        )
        assert (crystal.id, crystal.source, crystal.info) == (row["id"], "test", {"formula": "X"})
        np.testing.assert_array_equal(crystal.atomic_numbers, expected.atomic_numbers)
        np.testing.assert_array_equal(crystal.cell, expected.cell)
        np.testing.assert_array_equal(crystal.positions, expected.positions)


def test_pickled_objects_are_refused(tmp_path):
    np.savez(tmp_path / "bad.npz", id=np.array([{"any": "object"}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load_arrays(tmp_path / "bad.npz")
