# SPDX-License-Identifier: MIT
"""The CUDA kernels of bonds_within and bond_reverses, run on the host, against the CPU operations."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_emulator import ORDERS, Emulator
from test_neighbor_list_cuda import Batch, cpu_list, labelled_batch, ops, torch


def emulated_selection(emulator: Emulator, batch: Batch, bonds: list[np.ndarray]) -> list[np.ndarray] | None:
    """Kept bonds and the list of them at the batch's cutoff, or None when something is bad."""
    pairs, shifts, row_ptr = bonds
    status, new_row_ptr = np.full(2, -7), np.full(len(row_ptr), -7)
    per_crystal_cutoffs = isinstance(batch.cutoff, np.ndarray)
    emulator.call(
        "bonds_within_count",
        batch.positions,
        np.ascontiguousarray(batch.cell),
        batch.ptr,
        batch.cutoff if per_crystal_cutoffs else None,
        pairs,
        shifts,
        row_ptr,
        np.array([0.0 if per_crystal_cutoffs else batch.cutoff]),
        len(batch.positions),
        1 if batch.ptr is None else len(batch.ptr) - 1,
        pairs.shape[1],
        int(batch.cell.ndim == 2),
        status,
        new_row_ptr,
    )
    if status[0] != 0:
        return None
    kept, new_pairs = np.full(status[1] + 1, 7), np.full((2, status[1] + 1), 7)
    new_shifts = np.full((status[1] + 1, 3), 7, np.int32)
    emulator.call("bonds_within_write", kept, new_pairs[0], new_pairs[1], new_shifts)
    assert (kept[-1], new_pairs[0, -1], new_pairs[1, -1], new_shifts[-1, 2]) == (7, 7, 7, 7)
    return [kept[:-1], new_pairs[:, :-1], new_shifts[:-1], new_row_ptr]


def cpu_selection(batch: Batch, bonds: list[np.ndarray]) -> list[np.ndarray]:
    cutoff = torch.from_numpy(batch.cutoff) if isinstance(batch.cutoff, np.ndarray) else batch.cutoff
    ptr = None if batch.ptr is None else torch.from_numpy(batch.ptr)
    tensors = map(torch.from_numpy, (batch.positions, batch.cell, *bonds))
    return [part.numpy() for part in ops.bonds_within(*tensors, cutoff, ptr)]


def emulated_reverses(emulator: Emulator, bonds: list[np.ndarray]) -> np.ndarray | None:
    """The reverses, or None when the list is not a sorted, full one."""
    pairs, shifts, row_ptr = bonds
    reverses, bad = np.full(pairs.shape[1] + 1, 7), np.array([-7])
    emulator.call("bond_reverses", pairs, shifts, row_ptr, reverses, bad, len(row_ptr) - 1, pairs.shape[1])
    assert reverses[-1] == 7
    return None if bad[0] else reverses[:-1]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("max_grid", [2, 2**31 - 1])
def test_selection_equals_the_cpu_operation(emulator: Emulator, order: str, max_grid: int) -> None:
    emulator.configure(order, max_grid)
    batch = labelled_batch(20, 32, 5.0)
    for kinds in ({"half": False, "self_pairs": True}, {"half": True, "self_pairs": False}):
        bonds = cpu_list(batch, **kinds)
        moved = batch._replace(positions=batch.positions + 0.01, cell=batch.cell * 1.01)
        each = np.linspace(0, 5, len(batch.cell))
        for cutoff in (0.0, 3.0, 5.0, each):
            selected = moved._replace(cutoff=cutoff)
            ours = emulated_selection(emulator, selected, bonds)
            assert ours is not None
            for part, expected in zip(ours, cpu_selection(selected, bonds), strict=True):
                np.testing.assert_array_equal(part, expected)


def test_selection_without_atoms_bonds_or_crystals(emulator: Emulator) -> None:
    for sizes in ([], [0, 0], [3]):
        batch = Batch(10.0 * np.eye(3)[: sum(sizes)], np.eye(3), np.zeros(3, bool), 1.0, np.cumsum([0, *sizes]))
        ours = emulated_selection(emulator, batch, cpu_list(batch))
        assert ours is not None
        assert [part.shape for part in ours] == [(0,), (2, 0), (0, 3), (sum(sizes) + 1,)]
        assert not ours[3].any()


@pytest.mark.parametrize("name", ["positions", "cell", "ptr", "cutoff", "pairs", "row_ptr"])
def test_bad_values_in_a_selection_are_seen(emulator: Emulator, name: str) -> None:
    batch = labelled_batch(0, 5, 3.0)
    batch = batch._replace(cutoff=np.full(5, 3.0))
    bonds = cpu_list(batch)
    array = {"pairs": bonds[0], "row_ptr": bonds[2], **batch._asdict()}[name].reshape(-1)
    for index in (0, len(array) // 2, len(array) - 1):
        for bad in (-1, 10**15) if array.dtype == np.int64 else (np.nan, np.inf):
            good, array[index] = array[index], bad
            assert emulated_selection(emulator, batch, bonds) is None
            array[index] = good
    assert emulated_selection(emulator, batch, bonds) is not None


@pytest.mark.parametrize("order", ORDERS)
def test_reverses_equal_the_cpu_operation(emulator: Emulator, order: str) -> None:
    for max_grid in (1, 2**31 - 1):
        emulator.configure(order, max_grid)
        for self_pairs in (False, True):
            bonds = cpu_list(labelled_batch(50, 60, 5.0), self_pairs=self_pairs)
            expected = ops.bond_reverses(*map(torch.from_numpy, bonds)).numpy()
            np.testing.assert_array_equal(emulated_reverses(emulator, bonds), expected)


def test_lists_without_all_reverses_are_seen(emulator: Emulator) -> None:
    batch = labelled_batch(0, 5, 4.0)
    assert emulated_reverses(emulator, cpu_list(batch, half=True)) is None
    for place, change in ((0, 1), (2, 1), (1, -1)):
        bonds = cpu_list(batch)
        array = bonds[place].reshape(-1)
        for index in (0, len(array) // 3, len(array) - 1):
            array[index] += change
            assert emulated_reverses(emulator, bonds) is None, (place, index)
            array[index] -= change
        assert emulated_reverses(emulator, bonds) is not None
    pairs, shifts, row_ptr = cpu_list(batch)
    pairs[:, [3, 4]], shifts[[3, 4]] = pairs[:, [4, 3]], shifts[[4, 3]]
    assert emulated_reverses(emulator, [pairs, shifts, row_ptr]) is None


def test_reverses_of_no_bonds(emulator: Emulator) -> None:
    nothing = [np.zeros((2, 0), np.int64), np.zeros((0, 3), np.int32)]
    for num_atoms in (0, 4):
        found = emulated_reverses(emulator, [*nothing, np.zeros(num_atoms + 1, np.int64)])
        assert found is not None
        assert found.shape == (0,)
