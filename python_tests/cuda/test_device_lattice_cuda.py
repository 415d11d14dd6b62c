# SPDX-License-Identifier: MIT
"""The GPU's reduction of a cell, run on the host, against the CPU's."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
from cuda_emulator import Emulator

PERIODIC = [np.array(pbc) for pbc in product((False, True), repeat=3)]
# A vector is replaced when the square of its length falls by more than this: lengths of two reductions may differ by as
# much.
TOLERANCE = 1e-6


class ReducedCell(NamedTuple):
    """Result of a reduction. Vector k belongs to direction k on the GPU; on the CPU periodic vectors come first."""

    basis: np.ndarray  # [3, 3]
    combination: np.ndarray  # [3, 3]: basis = combination @ cell for periodic vectors
    dual: np.ndarray  # [3, 3]
    height: np.ndarray  # [3]
    rounding_length: np.ndarray  # [3]
    flags: np.ndarray  # [2]: has a volume, keeps the cell


def reduce_cell(emulator: Emulator, function: str, cell: np.ndarray, periodic: np.ndarray) -> ReducedCell:
    matrices = [np.zeros((3, 3)), np.zeros((3, 3), np.int64), np.zeros((3, 3))]
    reduced = ReducedCell(*matrices, np.zeros(3), np.zeros(3), np.zeros(2, np.int64))
    emulator.call(function, cell, periodic, *reduced)
    return reduced


def check_basis(reduced: ReducedCell, cell: np.ndarray, periodic: np.ndarray, periodic_vectors: np.ndarray) -> None:
    """The basis spans the lattice of the periodic cell vectors, and dual and height fit it."""
    combination = reduced.combination[periodic_vectors]
    np.testing.assert_allclose(reduced.basis[periodic_vectors], combination @ cell, rtol=1e-12, atol=1e-9)
    assert (combination[:, ~periodic] == 0).all()
    assert periodic.sum() == 0 or round(abs(np.linalg.det(combination[:, periodic]))) == 1
    np.testing.assert_allclose(reduced.dual @ reduced.basis.T, np.eye(3), atol=1e-7)
    np.testing.assert_allclose(reduced.height, 1 / np.linalg.norm(reduced.dual, axis=1), rtol=1e-9)


def check_agreement(emulator: Emulator, cell: np.ndarray, periodic: np.ndarray) -> bool:
    """Compare the two reductions of a cell; return whether it has a volume."""
    host = reduce_cell(emulator, "host_lattice", cell, periodic)
    device = reduce_cell(emulator, "device_lattice", cell, periodic)
    np.testing.assert_array_equal(device.flags, host.flags)
    if not host.flags[0]:
        return False
    first = np.arange(3) < periodic.sum()
    check_basis(host, cell, periodic, first)
    check_basis(device, cell, periodic, periodic)
    assert np.isclose(abs(np.linalg.det(device.basis)), abs(np.linalg.det(host.basis)), rtol=1e-9)
    lengths = [np.sort(np.linalg.norm(reduced.basis, axis=1)) for reduced in (host, device)]
    np.testing.assert_allclose(lengths[1], lengths[0], rtol=TOLERANCE)
    if host.flags[1]:
        order = [*np.flatnonzero(periodic), *np.flatnonzero(~periodic)]
        np.testing.assert_array_equal(device.basis[periodic], host.basis[first])
        np.testing.assert_allclose(device.height[order][first], host.height[first], rtol=1e-12)
        np.testing.assert_allclose(device.rounding_length[order], host.rounding_length, rtol=1e-12)
    return True


@pytest.mark.parametrize("periodic", PERIODIC, ids=lambda pbc: "".join("np"[int(p)] for p in pbc))
def test_ordinary_and_skewed_cells(emulator: Emulator, periodic: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    for round_ in range(60):
        cell = rng.normal(0, 1, (3, 3)) + 4 * np.eye(3) * rng.choice([-1, 1], 3)
        if round_ % 2:  # the same lattice by long vectors
            cell = np.tril(rng.integers(-7, 8, (3, 3)), -1) @ cell + cell
        assert check_agreement(emulator, np.ascontiguousarray(cell), periodic)


def test_cells_with_equally_short_vectors(emulator: Emulator) -> None:
    """Cubic, hexagonal, face- and body-centred cells, whose reduced basis is not unique."""
    cubic, hexagonal = np.eye(3), np.array([[1, 0, 0], [-0.5, 0.75**0.5, 0], [0, 0, 1.6]])
    for primitive in (cubic, hexagonal, (1 - cubic) / 2, 0.5 - cubic):
        for shear in (
            [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
            [[1, 3, 0], [0, 1, -2], [0, 0, 1]],
            [[1, 0, 0], [5, 1, 0], [4, -3, 1]],
        ):
            cell = np.ascontiguousarray(3.5 * np.array(shear, dtype=float) @ primitive)
            for periodic in PERIODIC:
                assert check_agreement(emulator, cell, periodic)


def test_the_same_cells_have_no_volume(emulator: Emulator) -> None:
    """Zero, dependent, nearly dependent and infinite vectors are found by both."""
    flat = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [0.0, 0.0, 1.0]])
    nearly_flat = flat + np.array([[0, 0, 0], [1e-9, 0, 0], [0, 0, 0]])
    cells = [
        np.zeros((3, 3)),
        flat,
        nearly_flat,
        1e200 * np.eye(3),
        np.diag([1.0, 1.0, 1e-200]),
        np.diag([1.0, 0.0, 1.0]),
    ]
    volumes = [check_agreement(emulator, cell, periodic) for cell in cells for periodic in PERIODIC]
    assert 0 < sum(volumes) < len(volumes)
