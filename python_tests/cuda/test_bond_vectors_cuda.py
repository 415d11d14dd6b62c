# SPDX-License-Identifier: MIT
"""The CUDA kernels of bond_vectors and its backward, run on the host, against NumPy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from cuda_emulator import ORDERS, Emulator

SUFFIX = {np.float32: "f32", np.float64: "f64"}
GRIDS = (1, 3, 2**31 - 1)
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}


@dataclass
class Batch:
    """Bonds between random atoms of the same crystal, sorted by center."""

    positions: np.ndarray  # [N, 3]
    cell: np.ndarray  # [B, 3, 3]
    pairs: np.ndarray  # [2, E]
    shifts: np.ndarray  # [E, 3]
    ptr: np.ndarray  # [B + 1]

    @property
    def sizes(self) -> tuple[int, int, int]:
        return len(self.positions), len(self.cell), self.pairs.shape[1]

    @property
    def crystal(self) -> np.ndarray:
        """Of each bond."""
        return np.searchsorted(self.ptr, self.pairs[0], side="right") - 1


def make_batch(atoms: list[int], bonds_per_atom: int, dtype: type = np.float64) -> Batch:
    rng = np.random.default_rng(sum(atoms) + bonds_per_atom)
    ptr = np.concatenate([[0], np.cumsum(atoms)]).astype(np.int64)
    total = int(ptr[-1])
    center = np.sort(rng.integers(0, max(total, 1), total * bonds_per_atom))
    crystal = np.searchsorted(ptr, center, side="right") - 1
    neighbor = ptr[crystal] + (rng.random(len(center)) * np.diff(ptr)[crystal]).astype(np.int64)
    return Batch(
        (5 * rng.normal(size=(total, 3))).astype(dtype),
        (4 * rng.normal(size=(len(atoms), 3, 3))).astype(dtype),
        np.stack([center, neighbor]),
        rng.integers(-3, 4, (len(center), 3)).astype(np.int32),
        ptr,
    )


BATCHES = {
    "small crystals": ([3, 1, 8, 2, 5] * 20, 5),
    "one": ([90], 20),
    "large and small": ([1, 70, 0, 2, 0, 0, 300, 1], 9),
    "one atom": ([1], 3),
    "no bonds": ([2, 0, 3], 0),
    "no atoms": ([0, 0], 0),
    "no crystals": ([], 0),
}


def emulated(emulator: Emulator, batch: Batch, ptr: np.ndarray | None) -> np.ndarray:
    out = np.full((batch.pairs.shape[1] + 1, 3), 7, batch.positions.dtype)
    name = f"bond_vectors_{SUFFIX[batch.positions.dtype.type]}"
    emulator.call(name, batch.positions, batch.cell, batch.pairs, batch.shifts, ptr, out, *batch.sizes)
    assert (out[-1] == 7).all(), "written past the end"
    return out[:-1]


def numpy_vectors(batch: Batch) -> np.ndarray:
    """The contract; each step is rounded to the dtype."""
    a, b, c = batch.cell[batch.crystal].transpose(1, 0, 2)
    s0, s1, s2 = batch.shifts.T.astype(batch.positions.dtype)[:, :, None]
    center, neighbor = batch.pairs
    return (batch.positions[neighbor] - batch.positions[center]) + ((s0 * a + s1 * b) + s2 * c)


def emulated_backward(emulator: Emulator, batch: Batch, grad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    num_atoms, num_cells, _ = batch.sizes
    row_ptr = np.searchsorted(batch.pairs[0], np.arange(num_atoms + 1)).astype(np.int64)
    order = np.argsort(batch.pairs[1], kind="stable").astype(np.int64)
    order_ptr = np.searchsorted(batch.pairs[1][order], np.arange(num_atoms + 1)).astype(np.int64)
    grad_positions = np.full((num_atoms + 1, 3), 7, grad.dtype)
    grad_cell = np.full((num_cells + 1, 9), 7, grad.dtype)
    indices = batch.pairs, batch.shifts, batch.ptr, row_ptr, order, order_ptr
    name = f"bond_vectors_backward_{SUFFIX[grad.dtype.type]}"
    emulator.call(name, grad, *indices, grad_positions, grad_cell, *batch.sizes)
    assert (grad_positions[-1] == 7).all()
    assert (grad_cell[-1] == 7).all()
    return grad_positions[:-1], grad_cell[:-1].reshape(-1, 3, 3)


def numpy_backward(batch: Batch, grad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the kernel's order, for the same bits; cells in float64 in another one."""
    grad_positions = np.zeros_like(batch.positions)
    for bond, atom in enumerate(batch.pairs[0]):
        grad_positions[atom] -= grad[bond]
    for bond, atom in enumerate(batch.pairs[1]):
        grad_positions[atom] += grad[bond]
    grad_cell = np.zeros(batch.cell.shape)
    np.add.at(grad_cell, batch.crystal, batch.shifts[:, :, None].astype(np.float64) * grad[:, None, :])
    return grad_positions, grad_cell


@pytest.mark.parametrize("dtype", SUFFIX)
@pytest.mark.parametrize("name", BATCHES)
def test_vectors_have_the_bits_of_the_contract(emulator: Emulator, name: str, dtype: type) -> None:
    batch = make_batch(*BATCHES[name], dtype)
    expected = numpy_vectors(batch)
    for order in ORDERS:
        for max_grid in GRIDS:
            emulator.configure(order, max_grid)
            np.testing.assert_array_equal(emulated(emulator, batch, batch.ptr), expected, f"{order} {max_grid}")
    if len(batch.cell) == 1:
        np.testing.assert_array_equal(emulated(emulator, batch, None), expected)
    mixed = np.random.default_rng(0).permutation(len(expected))
    unsorted = replace(batch, pairs=batch.pairs[:, mixed].copy(), shifts=batch.shifts[mixed])
    np.testing.assert_array_equal(emulated(emulator, unsorted, batch.ptr), expected[mixed])


@pytest.mark.parametrize("dtype", SUFFIX)
@pytest.mark.parametrize("name", BATCHES)
def test_backward(emulator: Emulator, name: str, dtype: type) -> None:
    batch = make_batch(*BATCHES[name], dtype)
    grad = np.random.default_rng(1).normal(size=(batch.pairs.shape[1], 3)).astype(dtype)
    grad_positions, grad_cell = numpy_backward(batch, grad)
    first = None
    for order in ORDERS:
        for max_grid in GRIDS:
            emulator.configure(order, max_grid)
            sums = emulated_backward(emulator, batch, grad)
            np.testing.assert_array_equal(sums[0], grad_positions)
            np.testing.assert_allclose(sums[1], grad_cell, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
            first = sums[1] if first is None else first
            np.testing.assert_array_equal(sums[1], first)


def test_bad_pairs(emulator: Emulator) -> None:
    good = make_batch([4, 3, 5], 3)
    expected = numpy_vectors(good)
    last = int(np.flatnonzero(good.pairs[0] == 3)[-1])  # of the first crystal
    cases = [
        (1, last, 12, f"`pairs` with atoms in [0, 12), got an index outside: 12 at pairs[1, {last}]"),
        (0, last, -1, f"`pairs` with atoms in [0, 12), got an index outside: -1 at pairs[0, {last}]"),
        (1, last, 4, f"`pairs` with both ends in one crystal of `ptr`, got a bond between two: 4 at pairs[1, {last}]"),
        (0, 0, 2**61, "`pairs` with atoms in [0, 12), got an index outside: 2305843009213693952 at pairs[0, 0]"),
    ]
    for row, bond, value, message in cases:
        pairs, vectors = good.pairs.copy(), expected.copy()
        pairs[row, bond], vectors[bond] = value, np.nan
        for order in ORDERS:
            emulator.configure(order, 1)
            np.testing.assert_array_equal(emulated(emulator, replace(good, pairs=pairs), good.ptr), vectors)
            assert emulator.take_error() == f"bond_vectors: expected {message}"
            _, cells = emulated_backward(emulator, replace(good, pairs=pairs), np.ones_like(expected))
            assert np.isnan(cells[0]).all()
            assert str(emulator.take_error()).startswith("bond_vectors_backward: expected `pairs`")


@pytest.mark.parametrize(
    ("ptr", "message", "bad_crystals"),
    [
        ([1, 4, 7, 12], "`ptr` from 0 to the number of atoms, 12, got 1 to 12", [0]),
        ([0, 4, 7, 11], "`ptr` from 0 to the number of atoms, 12, got 0 to 11", [2]),
        ([0, 4, 7, 99], "`ptr` from 0 to the number of atoms, 12, got 0 to 99", [2]),
        (
            [0, 4, -2, 12],
            "`ptr` in ascending order, got -2 after 4 at ptr[2]",
            [1, 2],
        ),
        (
            [0, 40, 7, 12],
            "`ptr` in ascending order, got 7 after 40 at ptr[2]",
            [0, 1],
        ),
    ],
)
def test_bad_ptr(emulator: Emulator, ptr: list[int], message: str, bad_crystals: list[int]) -> None:
    good = make_batch([4, 3, 5], 6)
    batch = replace(good, ptr=np.array(ptr))
    grad = np.ones((good.pairs.shape[1], 3))
    _, grad_cell = numpy_backward(good, grad)
    vectors = numpy_vectors(good)
    for order in ORDERS:
        emulator.configure(order)
        found = emulated(emulator, batch, batch.ptr)
        assert ((found == vectors) | np.isnan(found)).all()
        assert np.isnan(found).any()
        assert str(emulator.take_error()).startswith(f"bond_vectors: expected {message}")
        _, cells = emulated_backward(emulator, batch, grad)
        assert np.isnan(cells[bad_crystals]).all()
        # A crystal beside a bad one may not be found any more.
        assert (np.isclose(cells, grad_cell) | np.isnan(cells)).all()
        assert str(emulator.take_error()).startswith(f"bond_vectors_backward: expected {message}")


def test_bonds_that_are_not_sorted_by_center_are_an_error_of_the_backward(emulator: Emulator) -> None:
    batch = make_batch([4, 3], 3)
    batch.pairs[0, 3] = 3
    grad = np.ones((batch.pairs.shape[1], 3))
    emulated_backward(emulator, batch, grad)
    assert "bond_vectors_backward: expected `pairs` sorted by center as `row_ptr` says" in str(emulator.take_error())
