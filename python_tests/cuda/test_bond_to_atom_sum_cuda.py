# SPDX-License-Identifier: MIT
"""The CUDA kernels of bond_to_atom_sum and atom_to_bond_gather, run on the host, against NumPy to the bit."""

from __future__ import annotations

import mmap
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from cuda_emulator import ORDERS, EmulationError, Emulator

WIDTHS = (1, 2, 3, 4, 5, 32, 96, 128, 192, 768)
COEFFICIENTS = ((1, 0), (0, 1), (1, 1), (-1, 1))
SUFFIX = {np.float32: "f32", np.float64: "f64"}


@dataclass
class Bonds:
    """Random bonds, sorted by center, and the same by neighbor."""

    num_atoms: int
    pairs: np.ndarray  # [2, E] int64
    row_ptr: np.ndarray  # [N + 1] int64
    neighbor_order: np.ndarray  # [E] int64
    neighbor_row_ptr: np.ndarray  # [N + 1] int64


def make_bonds(num_atoms: int, degrees: np.ndarray | None = None) -> Bonds:
    """Bonds with these numbers of neighbors; by default 0 to 6 of them, and a run of atoms with none."""
    rng = np.random.default_rng(num_atoms)
    if degrees is None:
        degrees = rng.integers(0, 7, num_atoms)
        degrees[num_atoms // 3 : num_atoms // 2] = 0
    center = np.repeat(np.arange(num_atoms), degrees)
    neighbor = rng.integers(0, max(num_atoms, 1), len(center))
    counts = np.bincount(neighbor, minlength=num_atoms)[:num_atoms]
    return Bonds(
        num_atoms=num_atoms,
        pairs=np.stack([center, neighbor]).astype(np.int64),
        row_ptr=np.concatenate([[0], np.cumsum(degrees)]).astype(np.int64),
        neighbor_order=np.argsort(neighbor, kind="stable").astype(np.int64),
        neighbor_row_ptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


def random_values(count: int, width: int, dtype: type) -> np.ndarray:
    return np.random.default_rng(width).normal(size=(count, width)).astype(dtype)


def filled_with_nan(rows: int, width: int, dtype: np.dtype) -> np.ndarray:
    """NaN in every dtype, the bits of bfloat16 too."""
    return np.full((rows, width), 0xFFFF, dtype) if dtype == np.uint16 else np.full((rows, width), np.nan, dtype)


def emulated_sum(
    emulator: Emulator, bonds: Bonds, values: np.ndarray, center: int, neighbor: int, suffix: str | None = None
) -> np.ndarray:
    """The kernel's sum, in an output that was NaN before; a row of sevens after it must stay."""
    width = values.shape[1]
    out = filled_with_nan(bonds.num_atoms + 1, width, values.dtype)
    out[-1] = 7
    order, row_ptr = (bonds.neighbor_order, bonds.neighbor_row_ptr) if neighbor else (None, None)
    name = f"bond_to_atom_sum_{suffix or SUFFIX[values.dtype.type]}"
    row_ptr_or_null = bonds.row_ptr if center else None
    sizes = bonds.num_atoms, bonds.pairs.shape[1], width
    emulator.call(name, values, bonds.pairs, row_ptr_or_null, order, row_ptr, out, *sizes, center, neighbor)
    assert (out[-1] == 7).all(), "written past the end"
    return out[:-1]


def numpy_sum(bonds: Bonds, values: np.ndarray, center: int, neighbor: int) -> np.ndarray:
    """The contract, bond by bond in the contract's order; it knows pairs and not the row pointers."""
    out = np.zeros((bonds.num_atoms, values.shape[1]), values.dtype)
    if center:
        for bond, atom in enumerate(bonds.pairs[0]):
            out[atom] += center * values[bond]
    if neighbor:
        for bond, atom in enumerate(bonds.pairs[1]):
            out[atom] += neighbor * values[bond]
    return out


def emulated_gather(
    emulator: Emulator, bonds: Bonds, values: np.ndarray, center: int, neighbor: int, suffix: str | None = None
) -> np.ndarray:
    num_bonds, width = bonds.pairs.shape[1], values.shape[1]
    out = filled_with_nan(num_bonds + 1, width, values.dtype)
    out[-1] = 7
    name = f"atom_to_bond_gather_{suffix or SUFFIX[values.dtype.type]}"
    emulator.call(name, values, bonds.pairs, out, bonds.num_atoms, num_bonds, width, center, neighbor)
    assert (out[-1] == 7).all(), "written past the end"
    return out[:-1]


def numpy_gather(bonds: Bonds, values: np.ndarray, center: int, neighbor: int) -> np.ndarray:
    return (center * values[bonds.pairs[0]] + neighbor * values[bonds.pairs[1]]).astype(values.dtype)


@pytest.mark.parametrize("dtype", SUFFIX)
@pytest.mark.parametrize("width", WIDTHS)
def test_sum_equals_numpy(emulator: Emulator, width: int, dtype: type) -> None:
    for num_atoms in (0, 1, 1000 if width < 100 else 200):
        bonds = make_bonds(num_atoms)
        values = random_values(bonds.pairs.shape[1], width, dtype)
        for ends in COEFFICIENTS:
            expected = numpy_sum(bonds, values, *ends)
            np.testing.assert_array_equal(
                emulated_sum(emulator, bonds, values, *ends), expected, f"N={num_atoms} {ends}"
            )


@pytest.mark.parametrize("dtype", SUFFIX)
@pytest.mark.parametrize("width", WIDTHS)
def test_gather_equals_numpy(emulator: Emulator, width: int, dtype: type) -> None:
    for num_atoms in (0, 1, 1000 if width < 100 else 200):
        bonds = make_bonds(num_atoms)
        values = random_values(num_atoms, width, dtype)
        for ends in COEFFICIENTS:
            expected = numpy_gather(bonds, values, *ends)
            np.testing.assert_array_equal(
                emulated_gather(emulator, bonds, values, *ends), expected, f"N={num_atoms} {ends}"
            )


def to_float16(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return values.astype(np.float16)


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Bits of the nearest bfloat16, ties to even, of finite float32."""
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


SIXTEEN_BITS = {"f16": (to_float16, lambda values: values.astype(np.float32)), "bf16": (to_bfloat16, from_bfloat16)}


@pytest.mark.parametrize("suffix", SIXTEEN_BITS)
@pytest.mark.parametrize(("width", "num_atoms"), [(1, 300), (3, 300), (7, 40), (8, 300), (96, 40), (256, 2100)])
def test_16_bits_are_added_in_float32_and_rounded_once(
    emulator: Emulator, suffix: str, width: int, num_atoms: int
) -> None:
    narrow, widen = SIXTEEN_BITS[suffix]
    bonds = make_bonds(num_atoms)
    rng = np.random.default_rng(width)
    for rows, ours, numpys in (
        (bonds.pairs.shape[1], emulated_sum, numpy_sum),
        (num_atoms, emulated_gather, numpy_gather),
    ):
        # Normal, subnormal and so large that sums overflow to infinity.
        values = narrow(rng.normal(size=(rows, width)) * 10.0 ** rng.choice([0, 0, 0, -6, 4.0], (rows, width)))
        for ends in COEFFICIENTS if num_atoms < 1000 else COEFFICIENTS[-1:]:
            found = ours(emulator, bonds, values, *ends, suffix=suffix)
            np.testing.assert_array_equal(found + 0, narrow(numpys(bonds, widen(values), *ends) + np.float32(0)) + 0)


@pytest.mark.parametrize("width", [1, 3, 7, 8, 96])
def test_bits_do_not_depend_on_the_order_of_threads_or_the_grid(emulator: Emulator, width: int) -> None:
    bonds = make_bonds(300)
    bond_values = random_values(bonds.pairs.shape[1], width, np.float32)
    atom_values = random_values(300, width, np.float32)
    expected_sum = numpy_sum(bonds, bond_values, -1, 1)
    expected_gather = numpy_gather(bonds, atom_values, -1, 1)
    for order in ORDERS:
        for max_grid in (1, 2, 2**31 - 1):
            emulator.configure(order, max_grid)
            where = f"{order}, {max_grid} blocks"
            np.testing.assert_array_equal(emulated_sum(emulator, bonds, bond_values, -1, 1), expected_sum, where)
            np.testing.assert_array_equal(emulated_gather(emulator, bonds, atom_values, -1, 1), expected_gather, where)


@pytest.mark.parametrize("dtype", SUFFIX)
@pytest.mark.parametrize("width", [1, 3, 5, 32])
def test_an_atom_with_thousands_of_bonds(emulator: Emulator, width: int, dtype: type) -> None:
    """More than a tile of shared memory holds, so that rows are cut by tiles."""
    degrees = np.full(20, 3)
    degrees[7] = 9000
    bonds = make_bonds(20, degrees)
    values = random_values(bonds.pairs.shape[1], width, dtype)
    for ends in COEFFICIENTS:
        np.testing.assert_array_equal(emulated_sum(emulator, bonds, values, *ends), numpy_sum(bonds, values, *ends))


@pytest.mark.parametrize("width", [1, 8])
def test_no_bonds_at_all_gives_zeros(emulator: Emulator, width: int) -> None:
    bonds = make_bonds(300, np.zeros(300, np.int64))
    out = emulated_sum(emulator, bonds, np.empty((0, width), np.float32), 1, 1)
    np.testing.assert_array_equal(out, np.zeros((300, width)))


def test_no_payload_writes_nothing(emulator: Emulator) -> None:
    bonds = make_bonds(5)
    assert emulated_sum(emulator, bonds, np.empty((bonds.pairs.shape[1], 0), np.float32), 1, 1).shape == (5, 0)
    assert emulated_gather(emulator, bonds, np.empty((5, 0), np.float32), 1, 1).shape[1] == 0


@pytest.mark.parametrize("dtype", SUFFIX)
@pytest.mark.parametrize("width", [32, 96])
def test_unaligned_memory(emulator: Emulator, width: int, dtype: type) -> None:
    """A view that starts one number into a buffer cannot be read in packs of 16 bytes, though its width could."""
    bonds = make_bonds(50)
    num_bonds = bonds.pairs.shape[1]
    buffer = random_values(1, num_bonds * width + 1, dtype)[0]
    bond_values = buffer[1:].reshape(num_bonds, width)
    atom_values = buffer[1 : 1 + 50 * width].reshape(50, width)
    assert bond_values.ctypes.data % 16 != 0
    np.testing.assert_array_equal(emulated_sum(emulator, bonds, bond_values, 1, 1), numpy_sum(bonds, bond_values, 1, 1))
    np.testing.assert_array_equal(
        emulated_gather(emulator, bonds, atom_values, 1, 1), numpy_gather(bonds, atom_values, 1, 1)
    )


def sparse_zeros(count: int, dtype: type) -> np.ndarray:
    """Zeros of which only the pages in use take memory."""
    no_reserve = 0x4000  # MAP_NORESERVE of Linux, which the module mmap does not have in all versions
    size = count * np.dtype(dtype).itemsize
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
    except OSError as error:
        pytest.skip(f"this machine gives no {size} bytes of address space: {error}")
    return np.frombuffer(memory, dtype)


@pytest.mark.skipif(sys.platform != "linux", reason="needs address space without memory, as Linux gives it")
@pytest.mark.parametrize("width", [3, 8, 33])
def test_offsets_beyond_32_bits(emulator: Emulator, width: int) -> None:
    """The bonds of the middle one of three atoms are at the far end of a huge array; the others' rows are bad."""
    first = (2**32 + 2**20) // width
    num_bonds = first + 5
    values = sparse_zeros(num_bonds * width, np.float32).reshape(num_bonds, width)
    values[first:] = random_values(5, width, np.float32)
    rows = values[first:]
    pairs = sparse_zeros(2 * num_bonds, np.int64).reshape(2, num_bonds)
    pairs[:, first:] = 1
    row_ptr = np.array([first, first, first + 3, first + 3])
    order = np.array([first + 3, first + 4])
    order_ptr = np.array([0, 0, 2, 2])
    out = np.empty((3, width), np.float32)
    emulator.call("bond_to_atom_sum_f32", values, pairs, row_ptr, order, order_ptr, out, 3, num_bonds, width, 1, 1)
    np.testing.assert_array_equal(out[1], (((rows[0] + rows[1]) + rows[2]) + rows[3]) + rows[4])
    assert np.isnan(out[[0, 2]]).all()
    assert f"expected `row_ptr` from 0 to the number of bonds, {num_bonds}, got {first} to {first + 3}" in str(
        emulator.take_error()
    )
    ends = np.array([[first], [first + 4]])
    emulator.call("atom_to_bond_gather_f32", values, ends, out, num_bonds, 1, width, -1, 1)
    np.testing.assert_array_equal(out[0], rows[4] - rows[0])


def test_a_row_that_is_too_wide_is_refused(emulator: Emulator) -> None:
    with pytest.raises(EmulationError, match=r"expected rows of fewer than 2\^31 numbers"):
        emulator.call("bond_to_atom_sum_f32", *[None] * 6, 1, 1, 2**31, 1, 0)
    with pytest.raises(EmulationError, match=r"expected rows of fewer than 2\^31 numbers"):
        emulator.call("atom_to_bond_gather_f32", None, None, None, 1, 1, 2**31, 1, 0)


def test_an_end_with_coefficient_0_is_not_read(emulator: Emulator) -> None:
    """A NaN at that end must not reach the output as 0 * NaN."""
    bonds = make_bonds(2, np.array([1, 0]))
    bonds.pairs[1, 0] = 1
    values = np.array([[1.0], [np.nan]], np.float32)
    np.testing.assert_array_equal(emulated_gather(emulator, bonds, values, 1, 0), [[1.0]])


@pytest.mark.parametrize("width", [1, 3, 8, 33])
def test_the_cpu_operation_gives_the_same_bits(emulator: Emulator, width: int) -> None:
    ops = pytest.importorskip("dtnn_fast.ops")
    torch = pytest.importorskip("torch")
    bonds = make_bonds(200)
    pairs, row_ptr = torch.from_numpy(bonds.pairs), torch.from_numpy(bonds.row_ptr)
    by_neighbor = ops.neighbor_order(pairs, bonds.num_atoms)
    np.testing.assert_array_equal(by_neighbor.order, bonds.neighbor_order)
    bond_values = random_values(bonds.pairs.shape[1], width, np.float32)
    atom_values = random_values(bonds.num_atoms, width, np.float32)
    for ends, coefficients in zip(("center", "neighbor", "sum", "difference"), COEFFICIENTS, strict=True):
        sums = ops.bond_to_atom_sum(torch.from_numpy(bond_values), pairs, row_ptr, ends, by_neighbor)
        np.testing.assert_array_equal(emulated_sum(emulator, bonds, bond_values, *coefficients), sums)
        gathered = ops.atom_to_bond_gather(torch.from_numpy(atom_values), pairs, row_ptr, ends, by_neighbor)
        np.testing.assert_array_equal(emulated_gather(emulator, bonds, atom_values, *coefficients), gathered)
