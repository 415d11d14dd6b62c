# SPDX-License-Identifier: MIT
"""Index errors that only a kernel can see: what is noted, what becomes NaN, and that nothing else does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from cuda_emulator import ORDERS, EmulationError, Emulator
from test_bond_to_atom_sum_cuda import Bonds, emulated_gather, emulated_sum, make_bonds, numpy_gather, numpy_sum

WRONG_SEGMENT = "in another atom's segment, a bond twice or an index out of range: "
NUM_ATOMS = 40


def check(emulator: Emulator, indices: list[int], limit: int = 10, device: int = 0) -> None:
    emulator.call("device_errors_check", np.array(indices), len(indices), limit, device)


@pytest.mark.parametrize("order", ORDERS)
def test_the_lowest_check_and_then_position_is_kept(emulator: Emulator, order: str) -> None:
    emulator.configure(order)
    indices = [2] * 1000
    check(emulator, indices)
    assert emulator.take_error() is None
    indices[20] = indices[900] = 3
    check(emulator, indices)
    assert emulator.take_error() == "check_indices: expected `indices` that are even, got 3 at indices[20]"
    indices[700], indices[999] = -5, 10**17
    check(emulator, indices)
    expected = "check_indices: expected `indices` in [0, 10), got -5 at indices[700], one of 1000"
    assert emulator.take_error() == expected
    assert emulator.take_error() is None
    check(emulator, [77] * 1000)
    assert emulator.take_error() == "check_indices: expected `indices` in [0, 10), got 77 at indices[0], one of 1000"


def test_the_first_launch_with_an_error_is_kept(emulator: Emulator) -> None:
    check(emulator, [2, 2, 5])
    check(emulator, [99, 2])
    assert emulator.take_error() == "check_indices: expected `indices` that are even, got 5 at indices[2]"
    assert emulator.take_error() is None


def test_each_device_has_its_record(emulator: Emulator) -> None:
    check(emulator, [3], device=2)
    check(emulator, [5], device=3)
    assert emulator.take_error(0) is None
    assert "got 5" in str(emulator.take_error(3))
    assert "got 3" in str(emulator.take_error(2))
    with pytest.raises(EmulationError, match="expected a CUDA device below 64"):
        check(emulator, [1], device=64)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("width", [1, 8, 33])
def test_gather(emulator: Emulator, width: int, order: str) -> None:
    bonds = make_bonds(NUM_ATOMS)
    values = np.random.default_rng(0).normal(size=(NUM_ATOMS, width)).astype(np.float32)
    expected = numpy_gather(bonds, values, -1, 1)
    bonds.pairs[1, 5], bonds.pairs[0, 9], bonds.pairs[0, 11] = NUM_ATOMS, -3, 2**62
    expected[[5, 9, 11]] = np.nan
    for max_grid in (1, 2**31 - 1):
        emulator.configure(order, max_grid)
        np.testing.assert_array_equal(emulated_gather(emulator, bonds, values, -1, 1), expected)
        text = f"expected `pairs` with atoms in [0, {NUM_ATOMS}), got an index outside: -3 at pairs[0, 9]"
        assert emulator.take_error() == f"atom_to_bond_gather: {text}"


def neighbor_segment(bonds: Bonds) -> int:
    """An atom with several bonds at the neighbor's end."""
    return int(np.argmax(np.diff(bonds.neighbor_row_ptr)))


def row_ptr_ahead(b: Bonds) -> tuple[str, list[int]]:
    b.row_ptr[0] = 2
    return f"expected `row_ptr` from 0 to the number of bonds, {b.pairs.shape[1]}, got 2 at row_ptr[0]", [0]


def row_ptr_short(b: Bonds) -> tuple[str, list[int]]:
    b.row_ptr[-1] -= 1
    count = b.pairs.shape[1]
    return f"`row_ptr` from 0 to the number of bonds, {count}, got {count - 1} at row_ptr[40]", [NUM_ATOMS - 1]


def row_ptr_beyond(b: Bonds) -> tuple[str, list[int]]:
    b.row_ptr[7] = 10**15
    return f"{WRONG_SEGMENT}{10**15} at row_ptr[7]", [6, 7]


def row_ptr_negative(b: Bonds) -> tuple[str, list[int]]:
    b.row_ptr[7] = -1
    return f"{WRONG_SEGMENT}-1 at row_ptr[7]", [6, 7]


def center_elsewhere(b: Bonds) -> tuple[str, list[int]]:
    bond = int(b.row_ptr[3])
    assert b.pairs[0, bond] == 3
    b.pairs[0, bond] = 4
    return f"{WRONG_SEGMENT}4 at pairs[0, {bond}]", [3]


def neighbor_elsewhere(b: Bonds) -> tuple[str, list[int]]:
    atom = int(b.pairs[1, 5])
    b.pairs[1, 5] = 2**60
    return f"{WRONG_SEGMENT}{2**60} at pairs[1, 5]", [atom]


def order_twice(b: Bonds) -> tuple[str, list[int]]:
    atom = neighbor_segment(b)
    rank = int(b.neighbor_row_ptr[atom]) + 1
    b.neighbor_order[rank] = b.neighbor_order[rank - 1]
    return f"{WRONG_SEGMENT}{b.neighbor_order[rank]} at neighbor_order[{rank}]", [atom]


def order_beyond(b: Bonds) -> tuple[str, list[int]]:
    atom = neighbor_segment(b)
    rank = int(b.neighbor_row_ptr[atom]) + 1
    b.neighbor_order[rank] = b.pairs.shape[1]
    return f"{WRONG_SEGMENT}{b.pairs.shape[1]} at neighbor_order[{rank}]", [atom]


def neighbors_out_of_range(b: Bonds) -> tuple[str, list[int]]:
    """As neighbor_order leaves it when a neighbor is N."""
    atom = int(b.pairs[1, 8])
    b.pairs[1, 8] = NUM_ATOMS
    counts = np.bincount(b.pairs[1], minlength=NUM_ATOMS + 1)[:NUM_ATOMS]
    b.neighbor_order[:] = np.argsort(b.pairs[1], kind="stable")
    b.neighbor_row_ptr[:] = np.concatenate([[0], np.cumsum(counts)])
    count = b.pairs.shape[1]
    text = (
        f"expected `neighbor_row_ptr` from 0 to the number of bonds, {count}, got {count - 1} at neighbor_row_ptr[40]"
    )
    return f"{text}: are all neighbors in `pairs` in [0, 40)?", [atom, NUM_ATOMS - 1]


MISTAKES = [
    row_ptr_ahead,
    row_ptr_short,
    row_ptr_beyond,
    row_ptr_negative,
    center_elsewhere,
    neighbor_elsewhere,
    order_twice,
    order_beyond,
    neighbors_out_of_range,
]


@pytest.mark.parametrize("width", [1, 3, 8, 33, 300])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_sum(emulator: Emulator, mistake: Callable[[Bonds], tuple[str, list[int]]], width: int) -> None:
    bonds = make_bonds(NUM_ATOMS)
    values = np.random.default_rng(0).normal(size=(bonds.pairs.shape[1], width)).astype(np.float32)
    expected = numpy_sum(bonds, values, -1, 1)
    message, touched = mistake(bonds)
    expected[touched] = np.nan
    for order in ORDERS:
        for max_grid in (1, 2**31 - 1):
            emulator.configure(order, max_grid)
            sums = emulated_sum(emulator, bonds, values, -1, 1)
            # The row that a bond was taken from has one bond less: right for the indices that are there.
            rows = [n for n in range(NUM_ATOMS) if mistake is not neighbors_out_of_range or n not in touched[:1]]
            np.testing.assert_array_equal(sums[rows], expected[rows])
            error = emulator.take_error()
            assert error is not None
            assert error.startswith("bond_to_atom_sum: ")
            assert message in error


def test_a_good_row_in_a_block_that_cannot_be_followed_is_nan(emulator: Emulator) -> None:
    """The rows of a block come together; [5, 3, 4, 2] has a good one in the middle."""
    pairs = np.array([[0, 0, 1, 1, 2], [0, 0, 0, 0, 0]])
    bonds = Bonds(3, pairs, np.array([5, 3, 4, 2]), np.arange(5), np.array([0, 5, 5, 5]))
    sums = emulated_sum(emulator, bonds, np.ones((5, 1), np.float32), 1, 0)
    assert np.isnan(sums).all()
    assert "got 5 at row_ptr[0]" in str(emulator.take_error())
