# SPDX-License-Identifier: MIT
"""Tables of ions, and oxidation states guessed from a composition."""

import math
from collections import Counter

import numpy as np
import pytest

from dtnn_fast.candidates.ions import Ion, guess_ions, load_ions
from dtnn_fast.crystals.elements import atomic_number


@pytest.fixture(scope="module")
def table():
    return load_ions()


def composition(**counts):
    return {atomic_number(name): count for name, count in counts.items()}


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"Sr": 1, "Ti": 1, "O": 3}, "Sr2+ Ti4+ O2-"),
        ({"Ba": 2, "Sm": 1, "Ta": 1, "O": 6}, "Ba2+ Sm3+ Ta5+ O2-"),
        ({"Ca": 1, "F": 2}, "Ca2+ F-"),
        ({"Ga": 1, "As": 1}, "Ga3+ As3-"),
        ({"Cs": 1, "Ag": 2, "I": 3}, "Cs+ Ag+ I-"),
        ({"Nb": 1, "Ru": 3}, None),
        ({"Fe": 3, "O": 4}, None),
        ({"Rb": 1, "O": 2}, None),
    ],
)
def test_guessed_ions_are_those_of_chemistry(table, counts, expected):
    found = guess_ions(composition(**counts), table)
    assert (None if found is None else " ".join(map(str, found.values()))) == expected


def test_radii_and_probabilities_are_those_of_the_publications(table):
    radii = dict(zip(map(str, table.ions), table.radii, strict=True))
    expected = {"Ba2+": 1.35, "O2-": 1.40, "Fe3+": 0.645, "K+": 1.38, "Te2-": 2.21, "P3-": 2.12}
    assert {name: radii[name] for name in expected} == expected
    barium, strontium = table.places[Ion(56, 2)], table.places[Ion(38, 2)]
    module = pytest.importorskip("pymatgen.analysis.structure_prediction.substitution_probability")
    probability = math.exp(table.log_probability[strontium, barium])
    assert probability == pytest.approx(module.SubstitutionProbability().cond_prob("Ba2+", "Sr2+"))
    assert 0.1 < probability < 0.2
    # Of the ions that his table lacks, none is replaced and none comes in.
    telluride = table.places[Ion(52, -2)]
    assert np.isneginf(table.log_probability[telluride]).all()
    assert np.isneginf(table.log_probability[:, telluride]).all()


def test_ions_are_sorted_and_unique(table):
    assert list(table.ions) == sorted(set(table.ions))
    assert len(table.ions) == len(table.radii) == len(table.log_probability)
    assert max(Counter(str(ion) for ion in table.ions).values()) == 1
    assert str(Ion(11, 1)) == "Na+"
    assert str(Ion(8, -2)) == "O2-"
