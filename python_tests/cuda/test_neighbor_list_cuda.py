# SPDX-License-Identifier: MIT
"""The CUDA kernels of neighbor_list, run on the host, against the CPU operation to the bit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from cuda_emulator import ORDERS, Emulator

torch = pytest.importorskip("torch")
ops = pytest.importorskip("dtnn_fast.ops")
sys.path.insert(0, str(Path(__file__).parents[1]))
from list_cases import random_case  # noqa: E402  the tests' own module, beside this folder

FAULTS = {1: "ptr", 2: "crystal", 3: "shift", 4: "many bonds", 5: "needs a grid"}


class Batch(NamedTuple):
    """Arguments of neighbor_list as NumPy arrays."""

    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    cutoff: float | np.ndarray
    ptr: np.ndarray | None = None


class FaultError(Exception):
    """What the kernels report instead of a list."""


def cpu_list(batch: Batch, **options: bool) -> list[np.ndarray]:
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in batch[:3]]
    cutoff = torch.from_numpy(batch.cutoff) if isinstance(batch.cutoff, np.ndarray) else batch.cutoff
    ptr = None if batch.ptr is None else torch.from_numpy(batch.ptr)
    return [part.numpy() for part in ops.neighbor_list(*tensors, cutoff, ptr, **options)]


def count(emulator: Emulator, batch: Batch, half: bool, self_pairs: bool, with_large: bool) -> tuple[np.ndarray, int]:
    """Row pointers and the number of bonds."""
    num_atoms = len(batch.positions)
    row_ptr, status = np.full(num_atoms + 1, -7), np.full(3, -7)
    per_crystal_cutoffs = isinstance(batch.cutoff, np.ndarray)
    emulator.call(
        "neighbor_list_count",
        np.ascontiguousarray(batch.positions, dtype=np.float64),
        np.ascontiguousarray(batch.cell, dtype=np.float64),
        np.ascontiguousarray(batch.pbc),
        batch.ptr,
        batch.cutoff if per_crystal_cutoffs else None,
        np.array([0.0 if per_crystal_cutoffs else batch.cutoff]),
        num_atoms,
        1 if batch.ptr is None else len(batch.ptr) - 1,
        int(batch.cell.ndim == 2),
        int(batch.pbc.ndim == 1),
        int(half),
        int(self_pairs),
        int(with_large),
        status,
        row_ptr,
    )
    if status[0] != 0:
        raise FaultError(f"{FAULTS[int(status[0])]} at crystal {status[1]}")
    return row_ptr, int(status[2])


def emulated_list(
    emulator: Emulator, batch: Batch, half: bool = False, self_pairs: bool = False, with_large: bool = True
) -> list[np.ndarray]:
    """The kernels' list; the places after the last bond, which hold sevens, must stay as they are."""
    row_ptr, num_bonds = count(emulator, batch, half, self_pairs, with_large)
    pairs, shifts = np.full((2, num_bonds + 1), 7), np.full((num_bonds + 1, 3), 7, np.int32)
    emulator.call("neighbor_list_fill", pairs[0], pairs[1], shifts, row_ptr, num_bonds)
    assert (pairs[:, -1] == 7).all()
    assert (shifts[-1] == 7).all()
    return [pairs[:, :-1], shifts[:-1], row_ptr]


def assert_same_as_cpu(emulator: Emulator, batch: Batch, label: object = "", **options: bool) -> int:
    """Compare with the CPU, and return the number of bonds, so that the caller can check that there are any."""
    expected = cpu_list(batch, **options)
    for with_large in (True, False):
        if not with_large and batch_has_large(batch):
            continue
        for name, ours, theirs in zip(
            ("pairs", "shifts", "row_ptr"),
            emulated_list(emulator, batch, with_large=with_large, **options),
            expected,
            strict=True,
        ):
            np.testing.assert_array_equal(ours, theirs, f"{label}: {name} {options} with_large={with_large}")
    return expected[0].shape[1]


def batch_has_large(batch: Batch) -> bool:
    sizes = [len(batch.positions)] if batch.ptr is None else np.diff(batch.ptr)
    return max(sizes, default=0) >= 512


def labelled_batch(first: int, last: int, cutoff: float) -> Batch:
    bundled = pytest.importorskip("dtnn_fast.datasets.bundled")
    crystals = bundled.load_labelled()[first:last]
    return Batch(
        np.concatenate([crystal.positions for crystal in crystals]),
        np.stack([crystal.cell for crystal in crystals]),
        np.stack([crystal.pbc for crystal in crystals]),
        cutoff,
        np.cumsum([0, *(crystal.num_atoms for crystal in crystals)]),
    )


def box(num_atoms: int, edge: float, cutoff: float, seed: int = 0) -> Batch:
    """Random atoms in a slightly skewed box."""
    rng = np.random.default_rng(seed)
    cell = edge * (np.eye(3) + rng.uniform(-0.1, 0.1, (3, 3)))
    return Batch(rng.uniform(-1, 2, (num_atoms, 3)) @ cell, cell, np.array([True] * 3), cutoff)


@pytest.mark.parametrize("cutoff", [3.0, 6.0])
def test_bundled_crystals(emulator: Emulator, cutoff: float) -> None:
    for first in range(0, 900, 180):
        assert assert_same_as_cpu(emulator, labelled_batch(first, first + 12, cutoff), first) > 100


@pytest.mark.parametrize("part", range(4))
def test_random_cells(emulator: Emulator, part: int) -> None:
    """Triclinic, left-handed, every mix of periodic directions, atoms outside, cutoffs beyond the cell."""
    rng = np.random.default_rng(part)
    for number in range(16):
        case = random_case(rng, number, most_bonds=2000)
        options = {"half": bool(number & 1), "self_pairs": bool(number & 2)}
        assert_same_as_cpu(emulator, Batch(*case), f"case {number}", **options)


def test_a_cell_that_is_not_reduced(emulator: Emulator) -> None:
    """Its bonds are found along other vectors than the cell's, and sorted afterwards."""
    cell = np.array([[3.0, 0, 0], [1, 3, 0], [0, 1, 3]])
    change = np.array([[1, 0, 0], [300, 1, 0], [-200, 500, 1]])
    positions = np.random.default_rng(0).uniform(0, 3, (2, 3))
    batch = Batch(positions, change @ cell, np.array([True] * 3), 5.0)
    row_ptr = cpu_list(batch)[2]
    assert np.diff(row_ptr).max() < 256  # sorted in shared memory
    assert_same_as_cpu(emulator, batch)
    assert_same_as_cpu(emulator, batch, half=True, self_pairs=True)


def one_image_flags(emulator: Emulator, batch: Batch) -> np.ndarray:
    """Which crystals are searched with one image of each atom."""
    count(emulator, batch, half=False, self_pairs=False, with_large=False)
    flags = np.full(1 if batch.ptr is None else len(batch.ptr) - 1, -7)
    emulator.call("neighbor_list_one_image", flags)
    return flags


def heights(cell: np.ndarray) -> np.ndarray:
    """Distances of the cell's faces."""
    return 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)


@pytest.mark.parametrize("part", range(6))
def test_cutoffs_around_half_a_cell(emulator: Emulator, part: int) -> None:
    """Below half a cell one image of each atom is tested, from there on all that can be near."""
    rng = np.random.default_rng(part)
    sizes = [1, 2, 31, 32, 33, 70, 5, 0, 40, 12]
    cells = 6 * (np.eye(3) + rng.uniform(-0.25, 0.25, (len(sizes), 3, 3)))
    cells[::3] *= [1, 1, -1]  # left-handed
    pbc = rng.random((len(sizes), 3)) < 0.7
    pbc[part % len(sizes)] = False
    least = [heights(cell)[along].min(initial=9) for cell, along in zip(cells, pbc, strict=True)]
    fractions = rng.choice([0.2, 0.7, 0.98, 0.99999, 1 - 1e-9, 1.0, 1 + 1e-9, 1.00001, 1.02, 1.4], len(sizes))
    if part % 2:  # other vectors of the same lattice, along periodic directions
        change = np.array([[1, 0, 0], [2, 1, 0], [-1, 3, 1]])
        cells, pbc = change @ cells, pbc | ~pbc
        least = [heights(np.linalg.inv(change) @ cell).min() for cell in cells]
    positions = [rng.uniform(-3, 4, (size, 3)) @ cell for size, cell in zip(sizes, cells, strict=True)]
    cutoffs = np.array(least) / 2 * fractions
    batch = Batch(np.concatenate(positions), cells, pbc, cutoffs, np.cumsum([0, *sizes]))
    for options in ({}, {"half": True}, {"self_pairs": True}, {"half": True, "self_pairs": True}):
        assert assert_same_as_cpu(emulator, batch, part, **options) > 50
    flags = one_image_flags(emulator, batch)
    assert flags[fractions < 0.99].all()
    assert not flags.all()


@pytest.mark.parametrize("order", ORDERS)
def test_two_images_at_half_a_cell(emulator: Emulator, order: str) -> None:
    """The atom in the middle of the cell has two equally near images: at the cutoff none counts, above it both do."""
    emulator.configure(order, 1)
    positions = np.array([[0.0, 0, 0], [2, 0, 0], [0, 2, 1], [2, 2, 1.5]])
    for shift in (0, 4 * 10**6, -(4 * 10**6)):
        moved = positions + np.array([[0], [shift], [0], [-shift]])
        numbers = []
        for cutoff in (2 - 1e-5, 2.0, 2 + 1e-12, 2 + 1e-5):
            batch = Batch(moved, 4 * np.eye(3), np.array([True] * 3), cutoff)
            numbers.append(assert_same_as_cpu(emulator, batch))
            assert shift or one_image_flags(emulator, batch)[0] == (cutoff < 2)  # rounding errors of far atoms widen it
        assert numbers[1] < numbers[2]


def test_one_image_of_atoms_far_outside_the_cell(emulator: Emulator) -> None:
    rng = np.random.default_rng(5)
    positions = rng.integers(0, 512, (60, 3)) / 64
    far = positions + rng.integers(-(10**8), 10**8, (60, 3)) @ np.diag([8, 8, 8])
    batch = Batch(far, 8 * np.eye(3), np.array([True] * 3), 3.0)
    assert one_image_flags(emulator, batch)[0]
    assert assert_same_as_cpu(emulator, batch) > 100


def test_rows_that_do_not_fit_into_shared_memory(emulator: Emulator) -> None:
    """Unsorted rows of more than 256 bonds are sorted where they are written; shorter ones on the way there."""
    cell = np.array([[2.0, 0, 0], [0, 2, 0], [4, 0, 2]])
    bonds = {
        assert_same_as_cpu(emulator, Batch(np.zeros((1, 3)), cell, np.array([True] * 3), cutoff))
        for cutoff in (2.1, 2.9, 5.0, 7.8, 8.1, 10.0, 12.1)
    }
    assert min(bonds) < 8
    assert max(bonds) > 512


@pytest.mark.parametrize("order", ORDERS)
def test_orders_and_grids_of_blocks(emulator: Emulator, order: str) -> None:
    for max_grid in (1, 3):
        emulator.configure(order, max_grid)
        assert_same_as_cpu(emulator, labelled_batch(0, 7, 4.0), order)
        assert_same_as_cpu(emulator, box(600, 14.0, 2.5), order)


@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 0, 1), (0, 0, 0), (0, 1, 0)])
def test_large_crystals_through_the_grid(emulator: Emulator, pbc: tuple[int, ...]) -> None:
    batch = box(700, 16.0, 2.5, sum(pbc))._replace(pbc=np.array(pbc, bool))
    assert assert_same_as_cpu(emulator, batch) > 50
    assert_same_as_cpu(emulator, batch, half=True, self_pairs=True)


def test_a_large_skewed_crystal(emulator: Emulator) -> None:
    batch = box(600, 15.0, 2.5)
    change = np.array([[1, 0, 0], [3, 1, 0], [-2, 5, 1]])
    assert_same_as_cpu(emulator, batch._replace(cell=change @ batch.cell))


def test_a_large_crystal_that_is_thin(emulator: Emulator) -> None:
    """Several images of the cell in two directions, bins in the third; and dense rows of more than 256 bonds."""
    rng = np.random.default_rng(1)
    cell = np.diag([1.5, 2.0, 90.0])
    batch = Batch(rng.uniform(-2, 2, (560, 3)) @ cell, cell, np.array([True] * 3), 3.0)
    bonds = assert_same_as_cpu(emulator, batch)
    assert bonds > 256 * 100


def test_a_large_crystal_where_a_grid_is_of_no_use(emulator: Emulator) -> None:
    assert_same_as_cpu(emulator, box(520, 20.0, 0.0), self_pairs=True)
    assert_same_as_cpu(emulator, box(515, 9.0, 2.9))


def test_large_and_small_crystals_in_one_batch(emulator: Emulator) -> None:
    rng = np.random.default_rng(2)
    sizes = [4, 530, 0, 1, 600, 0, 30]
    cells = 12 * (np.eye(3) + rng.uniform(-0.2, 0.2, (len(sizes), 3, 3)))
    cells[3] *= 0.1
    positions = [rng.uniform(-1, 2, (size, 3)) @ cell for size, cell in zip(sizes, cells, strict=True)]
    cutoffs = np.array([5.0, 2.5, 1.0, 3.0, 0.0, 2.0, 4.0])
    pbc = rng.random((len(sizes), 3)) < 0.7
    batch = Batch(np.concatenate(positions), cells, pbc, cutoffs, np.cumsum([0, *sizes]))
    assert_same_as_cpu(emulator, batch)
    assert_same_as_cpu(emulator, batch, half=True, self_pairs=True)
    with pytest.raises(FaultError, match="needs a grid at crystal 1"):
        count(emulator, batch, half=False, self_pairs=False, with_large=False)


@pytest.mark.parametrize("sizes", [[], [0], [1], [0, 0], [0, 2, 0]])
def test_empty(emulator: Emulator, sizes: list[int]) -> None:
    num_atoms = sum(sizes)
    batch = Batch(np.zeros((num_atoms, 3)), 9 * np.eye(3), np.array([True] * 3), 1.0, np.cumsum([0, *sizes]))
    assert_same_as_cpu(emulator, batch)
    assert_same_as_cpu(emulator, batch, half=True, self_pairs=True)


def test_atoms_at_the_cutoff(emulator: Emulator) -> None:
    """Bonds as long as the cutoff but for rounding: the criterion decides, to the bit."""
    rng = np.random.default_rng(3)
    for edge in rng.uniform(1.5, 3.0, 40):
        cell = edge * np.eye(3) @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
        batch = Batch(rng.uniform(0, 3, (2, 3)), cell, np.array([True] * 3), edge * np.sqrt(rng.integers(1, 6)))
        assert_same_as_cpu(emulator, batch, edge)


def test_atoms_far_outside_the_cell(emulator: Emulator) -> None:
    rng = np.random.default_rng(4)
    cell = np.diag([2.0, 4.0, 4.0])
    for num_atoms, scale in ((5, 1), (520, 8)):
        positions = rng.integers(0, 256, (num_atoms, 3)) / 64 * scale
        far = positions + rng.integers(-(10**8), 10**8, (num_atoms, 3)) @ (cell * scale)
        assert_same_as_cpu(emulator, Batch(far, cell * scale, np.array([True] * 3), 2.5))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"positions": np.array([[0.0, 0, 0], [0, np.nan, 0]])}, "crystal"),
        ({"positions": np.array([[0.0, 0, 0], [0, np.inf, 0]])}, "crystal"),
        ({"positions": np.array([[0.0, 0, 0], [0, 1e20, 0]])}, "crystal"),
        ({"cell": np.zeros((3, 3))}, "crystal"),
        ({"cell": np.array([[1.0, 0, 0], [0, 1, 0], [1, 1, 0]])}, "crystal"),
        ({"cell": np.array([[1.0, 0, 0], [0, 1, 0], [1e5, 1e5, 0]])}, "crystal"),
        ({"cell": np.full((3, 3), np.nan)}, "crystal"),
        ({"cell": 1e-30 * np.eye(3), "positions": np.zeros((2, 3))}, "many bonds"),
        ({"cell": np.diag([1e-6, 1e-6, 1e3])}, "many bonds"),
        ({"cutoff": np.array([-1.0])}, "crystal"),
        ({"cutoff": np.array([np.nan])}, "crystal"),
        ({"cutoff": np.array([np.inf])}, "crystal"),
        ({"cutoff": 1e6}, "many bonds"),
        ({"cutoff": 1e200}, "many bonds"),
        ({"ptr": np.array([0, 1])}, "ptr"),
        ({"ptr": np.array([1, 2])}, "ptr"),
        ({"ptr": np.array([0, 3])}, "ptr"),
        ({"ptr": np.array([0, -1, 2])}, "ptr"),
        ({"cell": np.array([[3.0, 0, 0], [4e9, 3, 0], [0, 0, 3]]), "cutoff": 7.0}, "crystal"),
        ({"cell": np.array([[3.0, 0, 0], [2.4e9, 3, 0], [0, 0, 3]]), "cutoff": 9.5}, "shift"),
    ],
)
def test_bad_values_are_reported(emulator: Emulator, change: dict[str, object], fault: str) -> None:
    good = Batch(np.array([[0.0, 0, 0], [1, 1, 1]]), 3 * np.eye(3), np.array([True] * 3), 3.5)
    for order in ("forward", "reverse"):
        emulator.configure(order)
        for with_large in (True, False):
            with pytest.raises(FaultError, match=fault):
                count(emulator, good._replace(**change), half=False, self_pairs=False, with_large=with_large)


def test_the_first_bad_crystal_is_named(emulator: Emulator) -> None:
    batch = labelled_batch(0, 9, 3.0)
    for bad in (7, 4):
        batch.cell[bad] = 0
        with pytest.raises(FaultError, match=f"crystal at crystal {bad}"):
            count(emulator, batch, half=False, self_pairs=False, with_large=False)


@pytest.mark.parametrize("n", [0, 1, 32, 33, 8191, 8192, 8193, 20_000])
def test_counts_to_row_pointers(emulator: Emulator, n: int) -> None:
    counts, total = np.random.default_rng(n).integers(0, 10**12, n + 1), np.array([-1])
    expected = np.concatenate([[0], np.cumsum(counts[1:])])
    for max_grid in (1, 2, 100):
        emulator.configure("shuffle:1", max_grid)
        ours = counts.copy()
        emulator.call("prefix_sum", ours, n, total)
        np.testing.assert_array_equal(ours, expected)
        assert total[0] == expected[-1]


@pytest.mark.parametrize("max_grid", [1, 2**31 - 1])
def test_padding(emulator: Emulator, max_grid: int) -> None:
    emulator.configure("shuffle:1", max_grid)
    batch = labelled_batch(0, 6, 3.0)
    pairs, shifts, row_ptr = cpu_list(batch)
    num_bonds, num_atoms = pairs.shape[1], len(batch.positions)
    for capacity in (num_bonds + 700, num_bonds, num_bonds - 1, 0):
        fits = capacity >= num_bonds
        rows, _ = count(emulator, batch, half=False, self_pairs=False, with_large=False)
        ours, our_shifts = np.full((2, capacity), -7), np.full((capacity, 3), -7, np.int32)
        found, status = np.array([-7]), np.array([-7])
        emulator.call("neighbor_list_fill", ours[0], ours[1], our_shifts, rows, capacity)
        emulator.call("neighbor_list_pad", ours[0], ours[1], our_shifts, rows, capacity, found, status)
        assert (found[0], status[0]) == (num_bonds, 0 if fits else 1)
        real = num_bonds if fits else 0
        np.testing.assert_array_equal(ours[:, :real], pairs[:, :real])
        np.testing.assert_array_equal(our_shifts[:real], shifts[:real])
        assert (ours[:, real:] == num_atoms - 1).all()
        assert not our_shifts[real:].any()
        np.testing.assert_array_equal(rows[:-1], row_ptr[:-1] if fits else 0)
        assert rows[-1] == capacity
