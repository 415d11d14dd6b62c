# SPDX-License-Identifier: MIT
"""Known insulators: what shows one, and what keeps the knowledge without the labels."""

from dataclasses import replace

import numpy as np
import pytest

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.crystals.insulators import info_without_labels, is_known_insulator, is_metals_only

GOLD = Crystal.from_fractional("CsAu", [55, 79], [[0, 0, 0], [0.5] * 3], 4.26 * np.eye(3))
SALT = Crystal.from_fractional("CsCl", [55, 17], [[0, 0, 0], [0.5] * 3], 4.12 * np.eye(3))


@pytest.mark.parametrize(
    "known",
    [
        {"targets": {"total": np.eye(3)}},
        {"diagonals": {"electronic": np.ones(3)}},
        {"means": {"electronic": 2.0}},
        {"born_charges": np.zeros((2, 3, 3))},
        {"info": {"band_gap_ev": 1.2}},
        {"info": {"band_gap_ev": np.float32(0.1)}},
    ],
)
def test_labels_and_gaps_show_an_insulator(known):
    crystal = replace(GOLD, **known)
    assert is_known_insulator(crystal)
    assert not is_metals_only(crystal)
    bare = replace(GOLD, info=info_without_labels(crystal))
    assert not is_metals_only(bare)
    assert bare.info.items() >= crystal.info.items()


@pytest.mark.parametrize("gap", [0.0, -1.0, None, float("nan"), "1.2 eV", True, "", [1.0]])
def test_values_that_are_no_gap_show_nothing(gap):
    crystal = replace(GOLD, info={"band_gap_ev": gap})
    assert not is_known_insulator(crystal)
    assert is_metals_only(crystal)
    assert info_without_labels(crystal) == crystal.info


def test_crystals_with_a_nonmetal_are_not_metals_only():
    assert not is_metals_only(SALT)
    assert not is_known_insulator(SALT)
