# SPDX-License-Identifier: MIT
"""Candidates: prototypes, all substitutions of them once, neutral, new, and the same for the same seed."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from dtnn_fast.candidates import Candidates, CandidateSettings
from dtnn_fast.candidates.generate import RADIOACTIVE, allowed_elements, candidate_id
from dtnn_fast.candidates.ions import guess_ions, load_ions
from dtnn_fast.candidates.prototypes import find_prototypes
from dtnn_fast.candidates.substitutions import list_substitutions
from dtnn_fast.crystals.checks import check_crystal
from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.crystals.elements import atomic_number
from dtnn_fast.crystals.structure_index import StructureIndex
from dtnn_fast.datasets.bundled import load_all
from dtnn_fast.errors import DTNNError

PEROVSKITE = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
FACES = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
ELPASOLITE = [[0.25] * 3, [0.75] * 3, [0, 0, 0], [0.5] * 3]
ELPASOLITE += [[s * x for x in axis] for s in (1, -1) for axis in ([0.26, 0.26, -0.26], [0.26, -0.26, 0.26])]
ELPASOLITE += [[0.26 * s, -0.26 * s, -0.26 * s] for s in (-1, 1)]


def numbers(*names):
    return [atomic_number(name) for name in names]


def perovskite(a, b, x, size):
    return Crystal.from_fractional(f"{a}{b}{x}3", numbers(a, b, x, x, x), PEROVSKITE, size * np.eye(3))


def rock_salt(a, x, size):
    return Crystal.from_fractional(f"{a}{x}", numbers(a, x), [[0, 0, 0], [0.5] * 3], size * FACES)


def elpasolite(a, b, c, size):
    elements = numbers(a, a, b, c, *["O"] * 6)
    return Crystal.from_fractional(f"{a}2{b}{c}O6", elements, ELPASOLITE, size * FACES)


@pytest.fixture(scope="module")
def table():
    return load_ions()


@pytest.fixture(scope="module")
def parents():
    """Bundled crystals of up to 10 atoms, metals among them."""
    return [crystal for crystal in load_all() if crystal.num_atoms <= 10][:400]


@pytest.fixture(scope="module")
def made(parents):
    return list(Candidates(CandidateSettings(count=2000), parents))


class TestPrototypes:
    """Crystals of one structure have one prototype, whatever the order, size, cell and orientation."""

    def test_roles_do_not_depend_on_the_elements(self, table):
        # Of CaTiO3 the lighter cation is on the cuboctahedral site, of BaTiO3 and CsPbCl3 the heavier one.
        crystals = [
            perovskite("Ca", "Ti", "O", 3.9),
            perovskite("Ba", "Ti", "O", 4.0),
            perovskite("Cs", "Ca", "F", 4.5),
            rock_salt("Na", "Cl", 5.6),
            rock_salt("Mg", "O", 4.2),
        ]
        prototypes, left_out = find_prototypes(crystals, table, 40)
        assert [[p.crystal.id for p in prototype.parents] for prototype in prototypes] == [
            ["CaTiO3", "BaTiO3", "CsCaF3"],
            ["NaCl", "MgO"],
        ]
        assert not left_out
        assert prototypes[0].name == "ABC3 221 CaTiO3"
        roles = [list(parent.elements) for parent in prototypes[0].parents]
        anion = roles[0].index(8)
        cuboctahedral = roles[0].index(20)
        assert [r[anion] for r in roles] == [8, 8, 9]
        assert [r[cuboctahedral] for r in roles] == [20, 56, 55]

    def test_cations_and_anions_do_not_mix(self, table):
        fluorite = [[0, 0, 0], [0.25] * 3, [0.75] * 3]
        crystals = [
            Crystal.from_fractional("CaF2", numbers("Ca", "F", "F"), fluorite, 5.5 * FACES),
            Crystal.from_fractional("Li2O", numbers("O", "Li", "Li"), fluorite, 4.6 * FACES),
        ]
        assert len(find_prototypes(crystals, table, 40)[0]) == 2

    def test_polytypes_differ_and_distorted_crystals_do_not(self, table):
        prototypes, _ = find_prototypes(load_all(), table, 10)
        of_crystal = {parent.crystal.id: p.name for p in prototypes for parent in p.parents}
        by_formula = {(c.formula, c.info["space_group"]): of_crystal.get(c.id) for c in load_all()}
        assert by_formula["GaN", 216] == by_formula["BP", 216]
        assert by_formula["GaN", 216] != by_formula["GaN", 186]

    def test_equivalent_sites_are_found(self, table):
        prototypes, _ = find_prototypes([elpasolite("Ba", "Sm", "Ta", 8.5)], table, 40)
        assert len(prototypes[0].symmetries) == 2
        prototypes, _ = find_prototypes([perovskite("Ba", "Ti", "O", 4.0)], table, 40)
        assert len(prototypes[0].symmetries) == 1

    def test_reasons_for_leaving_crystals_out(self, table):
        copper = Crystal.from_fractional("Cu", [29], [[0, 0, 0]], 3.6 * FACES)
        alloy = Crystal.from_fractional("NiAl", numbers("Ni", "Al"), [[0, 0, 0], [0.5] * 3], 2.9 * np.eye(3))
        prototypes, left_out = find_prototypes([copper, alloy, elpasolite("Ba", "Sm", "Ta", 8.5)], table, 9)
        assert prototypes == []
        assert sorted(left_out.values()) == [1, 1, 1]
        assert "too many atoms" in left_out

    def test_no_more_crystals_of_a_kind_than_can_be_compared(self, table, monkeypatch):
        monkeypatch.setattr("dtnn_fast.candidates.prototypes.MOST_OF_A_KIND", 2)
        crystals = [rock_salt(a, x, 5.0) for a, x in (("Na", "Cl"), ("K", "Cl"), ("Mg", "O"))]
        crystals.append(perovskite("Ba", "Ti", "O", 4.0))
        prototypes, left_out = find_prototypes(crystals, table, 40)
        assert [len(prototype.parents) for prototype in prototypes] == [2, 1]
        assert left_out == {"a formula that 2 parents have already": 1}

    def test_a_crystal_without_a_known_space_group_is_a_parent(self, table, monkeypatch):
        monkeypatch.setattr("dtnn_fast.candidates.prototypes.search_symmetry", lambda *_: None)
        (prototype,), _ = find_prototypes([rock_salt("Na", "Cl", 5.6), rock_salt("Mg", "O", 4.2)], table, 40)
        assert prototype.name == "AB P? NaCl"
        assert len(prototype.parents) == 2


class TestSubstitutions:
    """The list is that of a search over all combinations."""

    @pytest.mark.parametrize(
        "crystals",
        [
            [rock_salt("Na", "Cl", 5.64), rock_salt("Mg", "O", 4.21)],
            [elpasolite("Ba", "Sm", "Ta", 8.5), elpasolite("Sr", "Y", "Nb", 8.3)],
        ],
        ids=["rock salt", "elpasolite"],
    )
    def test_all_neutral_combinations_occur_once(self, table, crystals):
        elements = set(numbers("Li", "Na", "K", "Mg", "Ca", "Ba", "Sr", "Y", "Sm", "Ti", "Nb", "Ta", "W", "O", "S"))
        elements |= set(numbers("F", "Cl"))
        limit = 1e-5
        (prototype,), _ = find_prototypes(crystals, table, 40)
        found = list_substitutions(prototype, table, elements, limit)

        wanted: dict[frozenset, float] = {}
        usable = [ion for ion in table.ions if ion.atomic_number in elements]
        for parent in prototype.parents:
            choices = [[new for new in usable if new.charge * old.charge > 0] for old in parent.ions]
            for ions in itertools.product(*choices):
                z = tuple(ion.atomic_number for ion in ions)
                charge = sum(n * ion.charge for n, ion in zip(prototype.counts, ions, strict=True))
                log = sum(
                    table.log_probability[table.places[a], table.places[b]]
                    for a, b in zip(parent.ions, ions, strict=True)
                )
                if charge == 0 and log >= math.log(limit) and len(set(z)) == len(z):
                    key = frozenset(tuple(z[place] for place in order) for order in prototype.symmetries)
                    wanted[key] = max(log, wanted.get(key, -math.inf))
        for parent in prototype.parents:
            wanted.pop(frozenset(tuple(parent.elements[p] for p in order) for order in prototype.symmetries), None)
        got = {
            frozenset(tuple(table.ions[row[p]].atomic_number for p in order) for order in prototype.symmetries): log
            for row, log in zip(found.ions.tolist(), found.log_probability.tolist(), strict=True)
        }
        assert len(got) == len(found) > 10
        missing = wanted.keys() - got.keys()
        # Only overlapping atoms are left out beyond that: ions too large for their places.
        assert got.keys() <= wanted.keys()
        assert len(missing) <= 0.1 * len(wanted)
        assert all(got[key] == pytest.approx(wanted[key]) for key in got)

    def test_lengths_follow_shannons_radii(self, table):
        (prototype,), _ = find_prototypes([rock_salt("Na", "Cl", 5.64)], table, 40)
        found = list_substitutions(prototype, table, set(numbers("K", "Br")), 1e-6)
        assert [[str(table.ions[place]) for place in row] for row in found.ions.tolist()] in (
            [["K+", "Br-"]],
            [["Br-", "K+"]],
        )
        assert found.scale[0] == pytest.approx((1.38 + 1.96) / (1.02 + 1.81))

    def test_ions_that_are_not_in_the_table_stay(self, table):
        (prototype,), _ = find_prototypes([rock_salt("Ba", "Te", 7.0)], table, 40)
        found = list_substitutions(prototype, table, set(numbers("Ba", "Sr", "Ca", "Te", "Se")), 1e-4)
        elements = [{str(table.ions[place]) for place in row} for row in found.ions.tolist()]
        assert {"Sr2+", "Te2-"} in elements
        assert all("Te2-" in pair for pair in elements)


class TestCandidates:
    """The crystals that are made."""

    def test_they_are_neutral_sound_and_have_allowed_elements(self, made, table):
        assert len(made) == 2000
        known = allowed_elements(CandidateSettings())
        assert not known & RADIOACTIVE
        for crystal in made:
            check_crystal(crystal, known)
            ions = crystal.info["oxidation_states"].split()
            assert len(ions) == len(np.unique(crystal.atomic_numbers))
            charge = {str(ion): ion for ion in table.ions}
            counts = Counter(crystal.atomic_numbers.tolist())
            assert sum(counts[charge[name].atomic_number] * charge[name].charge for name in ions) == 0
            assert crystal.info["volume_scale"] > 0
            assert not crystal.has_label

    def test_none_occurs_twice_or_is_known(self, made, parents):
        assert len({crystal.id for crystal in made}) == len(made)
        structures = StructureIndex(made)
        twice = [c.formula for c in made if len(structures.find_all(c)) > 1]
        assert twice == []
        known = StructureIndex(load_all())
        assert [c.formula for c in made if known.find_all(c, similar=True)] == []

    def test_symmetry_and_shape_are_those_of_the_parent(self, made, parents):
        by_id = {crystal.id: crystal for crystal in parents}
        for crystal in made[::50]:
            parent = by_id[crystal.info["parent"]]
            scale = crystal.info["volume_scale"] ** (1 / 3)
            np.testing.assert_allclose(crystal.cell, scale * parent.cell)
            np.testing.assert_allclose(crystal.positions, scale * parent.positions)
            _, old = np.unique(parent.atomic_numbers, return_inverse=True)
            _, new = np.unique(crystal.atomic_numbers, return_inverse=True)
            assert len(set(zip(old.tolist(), new.tolist(), strict=True))) == old.max() + 1
            replaced = dict(pair.split(">") for pair in crystal.info["substitution"].split())
            assert replaced
            assert set(replaced.values()) <= set(crystal.info["oxidation_states"].split())
            assert crystal.id == candidate_id(parent.id, crystal.info["substitution"])

    def test_same_seed_same_crystals_and_more_of_them_hold_the_first(self, made, parents):
        settings = CandidateSettings(count=2000)
        again = list(Candidates(settings, parents))
        assert [c.id for c in again] == [c.id for c in made]
        assert all((a.positions == b.positions).all() for a, b in zip(again, made, strict=True))
        few = {c.id for c in Candidates(replace(settings, count=100), parents)}
        assert len(few) == 100
        assert few <= {c.id for c in made}
        other = {c.id for c in Candidates(replace(settings, seed=1), parents)}
        assert 0 < len(other & {c.id for c in made}) < 2000

    def test_ids_never_change(self):
        assert candidate_id("mp-5229", "Ti4+>Hf4+") == "sub-15275c8ea1eaa180"

    def test_the_first_limit_with_enough_candidates_is_taken(self, parents):
        few = Candidates(CandidateSettings(count=10), parents)
        many = Candidates(CandidateSettings(count=few.available), parents)
        assert few.smallest_probability == 1e-4
        assert many.smallest_probability < 1e-4
        assert many.available > few.available
        every = list(Candidates(CandidateSettings(count=10**6, smallest_probability=1e-2), parents))
        assert 0 < len(every) <= Candidates(CandidateSettings(smallest_probability=1e-2), parents).available
        assert all(c.info["substitution_probability"] >= 1e-2 * (1 - 1e-9) for c in every)

    def test_likely_ions_are_drawn_more_often(self, made):
        logs = np.log([crystal.info["substitution_probability"] for crystal in made])
        every = Candidates(CandidateSettings(count=10**6, smallest_probability=1e-4), load_all()[:400])
        assert np.median(logs) > np.median([np.log(c.info["substitution_probability"]) for c in every])

    def test_elements_and_sizes_can_be_restricted(self, parents):
        wanted = frozenset(numbers("O", "Ti", "Zr", "Sr", "Ba", "Pb", "Hf", "Ca"))
        settings = CandidateSettings(20, 5, wanted, frozenset(numbers("Pb")), smallest_probability=1e-6)
        crystals = list(Candidates(settings, parents))
        assert crystals
        assert all(set(c.atomic_numbers.tolist()) <= wanted - {82} for c in crystals)
        assert all(c.num_atoms <= 5 for c in crystals)

    def test_volumes_are_closer_to_the_true_ones_than_those_of_the_parents(self, table):
        crystals = [c for c in load_all() if c.num_atoms <= 10]
        prototypes, _ = find_prototypes(crystals, table, 10)
        scaled, unscaled = [], []
        for prototype in prototypes:
            for a, b in itertools.permutations(prototype.parents[:6], 2):
                old, new = ([table.places[ion] for ion in parent.ions] for parent in (a, b))
                if table.log_probability[old, new].sum() < math.log(1e-4):
                    continue
                ratio = (table.radii[new] @ a.bonds / (table.radii[old] @ a.bonds)) ** 3
                volumes = [abs(np.linalg.det(p.crystal.cell)) / p.crystal.num_atoms for p in (a, b)]
                scaled.append(abs(volumes[0] * ratio / volumes[1] - 1))
                unscaled.append(abs(volumes[0] / volumes[1] - 1))
        assert len(scaled) > 1000
        assert np.median(scaled) < 0.035
        assert np.median(unscaled) > 0.08

    def test_bad_crystals_are_rejected_and_do_not_stop_the_others(self):
        good = rock_salt("Na", "Cl", 5.64)
        overlapping = replace(rock_salt("K", "Br", 1.0), id="small")
        made = Candidates(CandidateSettings(count=3), [good, overlapping])
        assert [rejected.id for rejected in made.rejected] == ["small"]
        assert len(list(made)) == 3

    def test_crystals_without_candidates_are_an_error(self):
        copper = Crystal.from_fractional("Cu", [29], [[0, 0, 0]], 3.6 * FACES)
        with pytest.raises(DTNNError, match="no element of the 1 given crystals can be replaced"):
            Candidates(CandidateSettings(), [copper])

    @pytest.mark.parametrize(
        "wrong", [{"count": 0}, {"max_atoms": 0}, {"seed": -1}, {"smallest_probability": 0.0}], ids=str
    )
    def test_settings_out_of_range(self, wrong):
        with pytest.raises(ValueError, match="CandidateSettings: expected"):
            CandidateSettings(**wrong)


def test_guesses_of_the_made_crystals_are_neutral_again(made, table):
    """The states that the composition suggests may differ, but a state of zero charge exists for nearly all."""
    guessed = [guess_ions(Counter(c.atomic_numbers.tolist()), table) for c in made]
    assert sum(ions is not None for ions in guessed) > 0.95 * len(made)
