# SPDX-License-Identifier: MIT
"""The form of the dielectric tensor in each crystal system (Table 1 of arXiv 2405.09052) for real crystals."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from model_cases import VARIANTS, labelled, tensors, variant

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.symmetry import CRYSTAL_SYSTEMS, crystal_system_of_group

moyopy = pytest.importorskip("moyopy")

COUNT = 4
# Elements that symmetry makes zero, pairs of elements that it makes equal, and those left that differ or are not zero.
# The monoclinic axis is y.
FORMS = {
    "cubic": (("xy", "xz", "yz"), (("xx", "yy"), ("yy", "zz")), ()),
    "tetragonal": (("xy", "xz", "yz"), (("xx", "yy"),), (("xx", "zz"),)),
    "trigonal": (("xy", "xz", "yz"), (("xx", "yy"),), (("xx", "zz"),)),
    "hexagonal": (("xy", "xz", "yz"), (("xx", "yy"),), (("xx", "zz"),)),
    "orthorhombic": (("xy", "xz", "yz"), (), (("xx", "yy"), ("yy", "zz"), ("xx", "zz"))),
    "monoclinic": (("xy", "yz"), (), (("xx", "yy"), ("yy", "zz"), ("xz", "0"))),
    "triclinic": ((), (), (("xx", "yy"), ("yy", "zz"), ("xy", "0"), ("xz", "0"), ("yz", "0"))),
}


@cache
def standardised(system: str) -> list[Crystal]:
    """Conventional cells of exact symmetry in the standard orientation: z the main axis, y the monoclinic one."""
    found, seen = [], set()
    for crystal in sorted(labelled(), key=lambda c: c.num_atoms):
        if crystal.info["crystal_system"] != system or crystal.info["space_group"] in seen:
            continue
        fractional = crystal.positions @ np.linalg.inv(crystal.cell)
        cell = moyopy.Cell(crystal.cell.tolist(), fractional.tolist(), crystal.atomic_numbers.tolist())
        standard = moyopy.MoyoDataset(cell, symprec=0.01).std_cell
        if standard.num_atoms > 40:
            continue
        group = moyopy.MoyoDataset(standard, symprec=1e-7).number
        if crystal_system_of_group(group) != system:
            continue
        seen.add(crystal.info["space_group"])
        exact = Crystal.from_fractional(crystal.id, standard.numbers, standard.positions, standard.basis)
        found.append(replace(exact, info={"space_group": group}))
        if len(found) == COUNT:
            break
    return found


def elements(tensor):
    at = {"x": 0, "y": 1, "z": 2}
    values = {a + b: float(tensor[at[a], at[b]]) for a in "xyz" for b in "xyz"}
    return values | {"0": 0.0}


@pytest.mark.parametrize("system", CRYSTAL_SYSTEMS)
def test_there_are_crystals_of_several_space_groups_in_each_system(system):
    assert len(standardised(system)) >= (2 if system == "triclinic" else COUNT)


@pytest.mark.parametrize("name", [name for name in VARIANTS if "layer1-" not in name])
@pytest.mark.parametrize("system", CRYSTAL_SYSTEMS)
def test_tensors_have_the_form_of_their_crystal_system(name, system):
    zeros, equal, different = FORMS[system]
    crystals = standardised(system)
    predicted = tensors(variant(name), *crystals)
    seen = dict.fromkeys(different, 0.0)
    for crystal, tensor in zip(crystals, predicted, strict=True):
        values, size = elements(tensor), float(tensor.abs().max())
        assert size > 1e-2
        for element in zeros:
            assert abs(values[element]) < 1e-8 * size, (crystal.id, element)
        for a, b in equal:
            assert abs(values[a] - values[b]) < 1e-8 * size, (crystal.id, a, b)
        for a, b in different:
            seen[a, b] = max(seen[a, b], abs(values[a] - values[b]) / size)
    # The rest is not zero or equal by accident of the model: the tests above could fail.
    for pair, difference in seen.items():
        assert difference > 1e-4, pair


def test_a_cubic_tensor_is_isotropic_only_with_the_symmetry():
    crystal = standardised("cubic")[1]
    moved = replace(crystal, positions=crystal.positions + np.eye(len(crystal.positions), 3) * 0.1)
    tensor = tensors(variant("layer4-bonds-residual"), moved)[0]
    assert (tensor - tensor[0, 0] * torch.eye(3)).abs().max() > 1e-3
