# SPDX-License-Identifier: MIT
"""neighbor_list: equal to its reference implementation to the bit, to hand-written lists, in every form of input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import check_operator
from list_cases import Case, random_case, supercell

import dtnn_fast
from dtnn_fast import reference
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.ops import NeighborList, neighbor_list

ORACLES = json.loads((Path(__file__).parents[1] / "oracles" / "neighbor_list.json").read_text())
ALL = torch.tensor([True, True, True])
CUBIC = {"positions": torch.zeros(1, 3), "cell": 3 * torch.eye(3), "pbc": ALL, "cutoff": 3.5}


@pytest.fixture(autouse=True)
def one_thread():
    """Use one thread: the reference implementation makes many small tensors, and waking threads would take longer."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tensors(case, dtype=torch.float64):
    return {
        "positions": torch.tensor(case.positions, dtype=dtype),
        "cell": torch.tensor(case.cell, dtype=dtype),
        "pbc": torch.tensor(case.pbc),
        "cutoff": case.cutoff,
    }


def batch_of(cases):
    """Join crystals into the arguments of one batch, without a cutoff."""
    return {
        "positions": torch.tensor(np.concatenate([case.positions for case in cases])),
        "cell": torch.tensor(np.stack([case.cell for case in cases])),
        "pbc": torch.tensor(np.stack([case.pbc for case in cases])),
        "ptr": torch.tensor([0, *np.cumsum([len(case.positions) for case in cases])]),
    }


def joined(lists, ptr):
    """Join the lists of crystals into one list of their batch."""
    counts = torch.cat([torch.zeros(1, dtype=torch.int64), *(part.row_ptr.diff() for part in lists)])
    return NeighborList(
        torch.cat([part.pairs + first for part, first in zip(lists, ptr, strict=False)], dim=1),
        torch.cat([part.shifts for part in lists]),
        counts.cumsum(0),
    )


def assert_identical(ours, expected, label=""):
    for name, a, b in zip(NeighborList._fields, ours, expected, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b), f"{label}: {name} differs"


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: oracle["name"].split(":")[0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("module", [dtnn_fast.ops, reference])
def test_hand_written_case(oracle, dtype, module):
    bonds = module.neighbor_list(
        torch.tensor(oracle["positions"], dtype=dtype),
        torch.tensor(oracle["cell"], dtype=dtype),
        torch.tensor(oracle["pbc"]),
        oracle["cutoff"],
        half=oracle["half"],
    )
    expected = torch.tensor(oracle["bonds"], dtype=torch.int64).reshape(-1, 5)
    assert torch.cat([bonds.pairs.T, bonds.shifts], dim=1).tolist() == expected.tolist()
    counts = torch.bincount(expected[:, 0], minlength=len(oracle["positions"]))
    assert bonds.row_ptr.diff().tolist() == counts.tolist()


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_reference_to_the_bit(dtype, half):
    rng = np.random.default_rng(1)
    for number in range(80):
        arguments = tensors(random_case(rng, number, most_bonds=1e4), dtype)
        assert_identical(
            neighbor_list(**arguments, half=half), reference.neighbor_list(**arguments, half=half), arguments
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_crystal_equals_reference_to_the_bit(dtype):
    """The cell list: all mixes of pbc, skewed cells wider and narrower than the cutoff, atoms far outside."""
    rng = np.random.default_rng(2)
    for number in range(8):
        cell = np.array([[20.0, 0, 0], [9, 18, 0], [-6, 20 - 4 * number, 6 + 2 * number]])
        case = random_case(rng, number)._replace(
            positions=rng.uniform(-2, 2, (300, 3)) @ cell, cell=cell, cutoff=3.0 + 0.5 * number
        )
        for half in (False, True):
            arguments = tensors(case, dtype)
            expected = reference.neighbor_list(**arguments, half=half)
            assert_identical(neighbor_list(**arguments, half=half), expected, number)


@pytest.mark.parametrize("half", [False, True])
def test_hundreds_of_bonds_an_atom_in_a_large_crystal(half):
    """Some rows have more bonds than the counting sort handles."""
    positions = 12 * torch.rand(500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    arguments = positions, 12 * torch.eye(3, dtype=torch.float64), ALL, 6.0
    bonds = neighbor_list(*arguments, half=half)
    assert bonds.row_ptr.diff().max() > 256
    assert half or bonds.row_ptr.diff().min() < 256
    assert_identical(bonds, reference.neighbor_list(*arguments, half=half))


def test_ties_at_the_cutoff_equal_reference():
    """Highly symmetric crystals have many neighbors at one distance; the cutoff is put exactly there."""
    for crystal in load_labelled()[:40]:
        positions, cell = torch.tensor(crystal.positions), torch.tensor(crystal.cell)
        wide = neighbor_list(positions, cell, ALL, 5.0)
        lengths = dtnn_fast.ops.bond_vectors(positions, cell, wide.pairs, wide.shifts).norm(dim=1)
        for cutoff in lengths.unique()[-3:].tolist():
            expected = reference.neighbor_list(positions, cell, ALL, cutoff)
            assert_identical(neighbor_list(positions, cell, ALL, cutoff), expected, crystal.label)
    # The same for the cell list: a grid of atoms, all at multiples of the spacing.
    positions, cell = map(torch.tensor, supercell(np.zeros((1, 3)), 1.1 * np.eye(3), 8))
    for cutoff in (1.1, 2.2, 1.1 * 2**0.5, 1.1 * 5**0.5):
        expected = reference.neighbor_list(positions, cell, ALL, cutoff)
        assert_identical(neighbor_list(positions, cell, ALL, cutoff), expected, cutoff)


@pytest.mark.parametrize("half", [False, True])
def test_batch_is_its_crystals_one_after_another(half):
    rng = np.random.default_rng(3)
    cases = [random_case(rng, number, most_bonds=1e4) for number in range(40)]
    cases.insert(7, cases[0]._replace(positions=np.zeros((0, 3))))
    cases.append(cases[3]._replace(positions=rng.uniform(0, 30, (2000, 3)), cell=30 * np.eye(3), pbc=np.ones(3, bool)))
    singles = [neighbor_list(**(tensors(case) | {"cutoff": 3.0}), half=half) for case in cases]
    batch = batch_of(cases)
    assert_identical(neighbor_list(**batch, cutoff=3.0, half=half), joined(singles, batch["ptr"]))


@pytest.mark.parametrize("half", [False, True])
def test_a_cutoff_for_each_crystal(half):
    """The list of each crystal is that of its own cutoff; the last one is a large crystal, some cutoffs are 0."""
    rng = np.random.default_rng(8)
    cases = [random_case(rng, number, most_bonds=1e4) for number in range(24)]
    cases = [case._replace(cutoff=0.0) if number % 5 == 0 else case for number, case in enumerate(cases)]
    cases.append(Case(rng.uniform(0, 30, (2000, 3)), 30 * np.eye(3), np.ones(3, bool), 3.0))
    batch = batch_of(cases) | {"cutoff": torch.tensor([case.cutoff for case in cases]).double()}
    ours = neighbor_list(**batch, half=half)
    assert_identical(ours, joined([neighbor_list(**tensors(case), half=half) for case in cases], batch["ptr"]))
    small = batch_of(cases[:-1]) | {"cutoff": batch["cutoff"][:-1]}
    assert_identical(neighbor_list(**small, half=half), reference.neighbor_list(**small, half=half))


def test_a_cutoff_of_another_dtype_and_stride():
    positions, ptr = torch.rand(9, 3) * 3, torch.tensor([0, 4, 9])
    expected = neighbor_list(positions, CUBIC["cell"], ALL, torch.tensor([2.5, 3.5]).double(), ptr)
    assert_identical(neighbor_list(positions, CUBIC["cell"], ALL, torch.tensor([2.5, 3.5]), ptr), expected)
    strided = torch.tensor([[2.5, 9.0], [3.5, 9.0]]).double()[:, 0]
    assert_identical(neighbor_list(positions, CUBIC["cell"], ALL, strided, ptr), expected)


@pytest.mark.parametrize("cutoff", [0.0, 5e-324, 1e-200])
@pytest.mark.parametrize("num_atoms", [1, 2, 400])
@pytest.mark.parametrize("pbc", [True, False])
def test_cutoff_of_nothing(cutoff, num_atoms, pbc):
    """A cutoff with a square of 0 gives no bonds, not even between coinciding atoms; self pairs are still added."""
    arguments = torch.zeros(num_atoms, 3), 3 * torch.eye(3), torch.tensor([pbc] * 3), cutoff
    assert neighbor_list(*arguments).pairs.shape == (2, 0)
    selves = neighbor_list(*arguments, self_pairs=True)
    assert selves.pairs.tolist() == [list(range(num_atoms))] * 2
    assert not selves.shifts.any()
    assert_identical(selves, reference.neighbor_list(*arguments, self_pairs=True))


@pytest.mark.parametrize("half", [False, True])
def test_self_pairs_are_added_in_order(half):
    rng = np.random.default_rng(9)
    cases = [random_case(rng, number, most_bonds=1e4) for number in range(24)]
    cases.append(Case(rng.uniform(0, 30, (2000, 3)), 30 * np.eye(3), np.ones(3, bool), 3.0))
    for number, case in enumerate(cases):
        arguments = tensors(case)
        plain, selves = (neighbor_list(**arguments, half=half, self_pairs=flag) for flag in (False, True))
        added = (selves.pairs[0] == selves.pairs[1]) & (selves.shifts == 0).all(dim=1)
        assert selves.pairs[0][added].tolist() == list(range(len(case.positions)))
        assert torch.equal(selves.pairs[:, ~added], plain.pairs)
        assert torch.equal(selves.shifts[~added], plain.shifts)
        assert torch.equal(selves.row_ptr, plain.row_ptr + torch.arange(len(plain.row_ptr)))
        if number < 24:
            assert_identical(selves, reference.neighbor_list(**arguments, half=half, self_pairs=True))


def test_one_cell_and_pbc_for_all_crystals():
    positions, ptr = torch.rand(9, 3) * 3, torch.tensor([0, 4, 9])
    shared = neighbor_list(positions, CUBIC["cell"], ALL, 3.5, ptr)
    each = neighbor_list(positions, CUBIC["cell"].expand(2, 3, 3), ALL.expand(2, 3), 3.5, ptr)
    assert_identical(shared, each)
    assert_identical(shared, reference.neighbor_list(positions, CUBIC["cell"], ALL, 3.5, ptr))


def test_half_list_is_the_full_list_filtered():
    rng = np.random.default_rng(4)
    for number in range(40):
        arguments = tensors(random_case(rng, number, most_bonds=1e4))
        full, half = neighbor_list(**arguments), neighbor_list(**arguments, half=True)
        (i, j), s = full.pairs, full.shifts
        zero = s[:, 0] == 0
        positive = (s[:, 0] > 0) | zero & ((s[:, 1] > 0) | (s[:, 1] == 0) & (s[:, 2] > 0))
        keep = (i < j) | (i == j) & positive
        assert torch.equal(half.pairs, full.pairs[:, keep])
        assert torch.equal(half.shifts, s[keep])
        assert 2 * half.pairs.shape[1] == full.pairs.shape[1]


def test_same_for_permuted_atoms():
    rng = np.random.default_rng(5)
    for num_atoms in (12, 1500):
        positions, cell = torch.tensor(rng.uniform(0, 20, (num_atoms, 3))), 20 * torch.eye(3, dtype=torch.float64)
        order = torch.tensor(rng.permutation(num_atoms))
        plain, permuted = neighbor_list(positions, cell, ALL, 4.0), neighbor_list(positions[order], cell, ALL, 4.0)
        rows = torch.cat([order[permuted.pairs], permuted.shifts.T]).T
        expected = torch.cat([plain.pairs, plain.shifts.T]).T
        assert sorted(rows.tolist()) == expected.tolist()


def lists_of_everything():
    rng = np.random.default_rng(6)
    crystals = load_labelled()[:300]
    yield neighbor_list(
        torch.tensor(np.concatenate([c.positions for c in crystals])),
        torch.tensor(np.stack([c.cell for c in crystals])),
        ALL,
        6.0,
        torch.tensor([0, *np.cumsum([c.num_atoms for c in crystals])]),
    )
    yield neighbor_list(torch.tensor(rng.uniform(0, 40, (5000, 3))), 40 * torch.eye(3, dtype=torch.float64), ALL, 5.0)


def test_same_bits_for_any_number_of_threads():
    single = list(lists_of_everything())
    torch.set_num_threads(2)
    for one, two in zip(single, lists_of_everything(), strict=True):
        assert_identical(one, two)


FINGERPRINT = """
import hashlib
from test_neighbor_list import lists_of_everything
arrays = [part.numpy().tobytes() for bonds in lists_of_everything() for part in bonds]
print(hashlib.sha256(b"".join(arrays)).hexdigest())
"""


def test_same_bits_for_any_instruction_set():
    """Run processes, because the vector kernels are chosen when the library loads."""
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parent), *sys.path]
    prints = set()
    for cap in ("baseline", "avx2", "avx512"):
        environment = os.environ | {"DTNN_SIMD": cap, "PYTHONPATH": os.pathsep.join(paths)}
        run = subprocess.run(
            [sys.executable, "-P", "-c", FINGERPRINT], env=environment, capture_output=True, text=True, check=True
        )
        prints.add(run.stdout)
    assert len(prints) == 1


@pytest.mark.parametrize("sizes", [[], [0], [1], [0, 0], [0, 2, 0]])
def test_empty(sizes):
    ptr = torch.tensor([0, *np.cumsum(sizes)], dtype=torch.int64)
    num_atoms = int(ptr[-1])
    bonds = neighbor_list(torch.zeros(num_atoms, 3), 9 * torch.eye(3), ALL, 1.0, ptr)
    expected = 2 if num_atoms == 2 else 0  # two coinciding atoms
    assert bonds.pairs.shape == (2, expected)
    assert bonds.shifts.shape == (expected, 3)
    assert bonds.row_ptr.shape == (num_atoms + 1,)
    assert_identical(bonds, reference.neighbor_list(torch.zeros(num_atoms, 3), 9 * torch.eye(3), ALL, 1.0, ptr))


def test_non_contiguous_inputs():
    positions = torch.rand(3, 20, dtype=torch.float64).t() * 5
    cell = (torch.eye(3, dtype=torch.float64) * 5 + 0.5 * torch.rand(3, 3, dtype=torch.float64)).t()
    pbc = torch.tensor([True, False, False, False, True, False])[::2]
    assert not positions.is_contiguous()
    expected = neighbor_list(positions.contiguous(), cell.contiguous(), pbc.contiguous(), 4.0)
    assert_identical(neighbor_list(positions, cell, pbc, 4.0), expected)
    assert_identical(reference.neighbor_list(positions, cell, pbc, 4.0), expected)


def test_atoms_far_outside_the_cell_stay_exact():
    """Moving atoms by whole cells changes shifts only, here up to 10^8 cells of an exactly representable lattice."""
    rng = np.random.default_rng(7)
    cell = torch.diag(torch.tensor([2.0, 4.0, 4.0], dtype=torch.float64))
    for num_atoms in (6, 3000):
        size = 1 if num_atoms == 6 else 16
        positions = torch.tensor(rng.integers(0, 256, (num_atoms, 3)) / 64 * size)
        cells = torch.tensor(rng.integers(-(10**8), 10**8, (num_atoms, 3)))
        near = neighbor_list(positions, cell * size, ALL, 3.0)
        far = neighbor_list(positions + cells.double() @ (cell * size), cell * size, ALL, 3.0)
        back = far.shifts.long() + cells[far.pairs[1]] - cells[far.pairs[0]]
        rows = torch.cat([far.pairs.T, back], dim=1)
        assert sorted(rows.tolist()) == torch.cat([near.pairs.T, near.shifts], dim=1).tolist()


def test_skewed_basis_gives_the_same_bonds():
    """Vectors of a thousand Angstrom that span a lattice of 3 Angstrom."""
    cell = torch.tensor([[3.0, 0, 0], [1, 3, 0], [0, 1, 3]], dtype=torch.float64)
    change = torch.tensor([[1, 0, 0], [300, 1, 0], [-200, 500, 1]], dtype=torch.float64)
    positions = torch.rand(4, 3, dtype=torch.float64) * 3
    plain, skewed = (neighbor_list(positions, vectors, ALL, 6.0) for vectors in (cell, change @ cell))
    rows = torch.cat([skewed.pairs.T, skewed.shifts.double() @ change], dim=1)
    assert sorted(rows.tolist()) == torch.cat([plain.pairs.T, plain.shifts], dim=1).tolist()


def test_gradients_do_not_disturb():
    positions = torch.zeros(1, 3, requires_grad=True)
    bonds = neighbor_list(positions, CUBIC["cell"], ALL, 3.5)
    assert not any(part.requires_grad for part in bonds)


def test_opcheck():
    op = torch.ops.dtnn_fast.neighbor_list.default
    positions = torch.rand(5, 3, dtype=torch.float64) * 3
    check_operator(op, positions, 3 * torch.eye(3, dtype=torch.float64), ALL, None, 3.5, None, False, False)
    check_operator(
        op, positions.float(), 3 * torch.eye(3).expand(2, 3, 3), ALL, torch.tensor([0, 2, 5]), 3.5, None, True, True
    )
    cutoffs = torch.tensor([3.5, 0.0], dtype=torch.float64)
    check_operator(op, positions, 3 * torch.eye(3).double(), ALL, torch.tensor([0, 2, 5]), 0.0, cutoffs, False, True)


def test_compiled_as_one_graph_with_a_dynamic_number_of_bonds():
    @torch.compile(fullgraph=True, dynamic=True, backend="aot_eager")
    def mean_length(positions, cell):
        bonds = neighbor_list(positions, cell, ALL, 4.0)
        vectors = positions[bonds.pairs[1]] - positions[bonds.pairs[0]] + bonds.shifts.to(cell.dtype) @ cell
        return vectors.norm(dim=1).mean()

    for num_atoms in (3, 5, 11):
        positions = torch.rand(num_atoms, 3, dtype=torch.float64) * 3
        cell = 3 * torch.eye(3, dtype=torch.float64)
        bonds = neighbor_list(positions, cell, ALL, 4.0)
        vectors = dtnn_fast.ops.bond_vectors(positions, cell, bonds.pairs, bonds.shifts)
        torch.testing.assert_close(mean_length(positions, cell), vectors.norm(dim=1).mean())


def test_backend_switch():
    with dtnn_fast.use_backend("reference"):
        expected = neighbor_list(**CUBIC)
    assert_identical(expected, neighbor_list(**CUBIC))


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": torch.zeros(3)}, r"expected `positions` of shape \[N, 3\], got \[3\]"),
        ({"positions": torch.zeros(4, 2)}, r"expected `positions` of shape \[N, 3\], got \[4, 2\]"),
        ({"positions": torch.zeros(1, 3, dtype=torch.int64)}, "expected `positions` of dtype float32 or float64"),
        ({"positions": torch.tensor([[0, 0, 0], [0, NAN, 0]])}, "expected finite `positions`, .* at atom 1"),
        ({"positions": torch.tensor([[0, INF, 0]])}, "expected finite `positions`"),
        ({"positions": torch.tensor([[0, 0, 0], [0, 1e20, 0]])}, "`positions`: atoms too many cells apart"),
        ({"cell": torch.eye(3, dtype=torch.float64)}, "expected `cell` of the dtype of `positions`"),
        ({"cell": torch.eye(2)}, r"expected `cell` of shape \[3, 3\] or \[B, 3, 3\]"),
        ({"cell": torch.eye(3).expand(2, 3, 3)}, r"expected `cell` of shape \[3, 3\] or \[B, 3, 3\] with B = 1"),
        ({"cell": torch.zeros(3, 3)}, "the `cell` has no volume"),
        ({"cell": torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 1, 0]])}, "the `cell` has no volume"),
        ({"cell": torch.full((3, 3), NAN)}, "expected a finite `cell`"),
        ({"cell": 1e-30 * torch.eye(3)}, "(does not fit into memory|32-bit)"),
        ({"pbc": torch.ones(3)}, "expected `pbc` of dtype bool, got float32"),
        ({"pbc": ALL.expand(2, 3)}, r"expected `pbc` of shape \[3\] or \[B, 3\] with B = 1"),
        ({"ptr": torch.tensor([0, 2])}, "expected `ptr` from 0 to the number of atoms, 1, got 0 to 2"),
        ({"ptr": torch.tensor([0, 1, 0, 1])}, "expected `ptr` that never falls"),
        ({"ptr": torch.tensor([0.0, 1.0])}, "expected `ptr` of dtype int64, got float32"),
        ({"ptr": torch.tensor([], dtype=torch.int64)}, r"expected `ptr` of shape \[B\+1\]"),
        ({"cutoff": -1.0}, "expected a finite `cutoff` of 0 or more, got -1"),
        ({"cutoff": NAN}, "expected a finite `cutoff` of 0 or more, got nan"),
        ({"cutoff": INF}, "expected a finite `cutoff` of 0 or more, got inf"),
        ({"cutoff": torch.tensor([-1.0])}, "expected a finite `cutoff` of 0 or more, got -1"),
        ({"cutoff": torch.tensor([1.0, 1.0])}, r"expected `cutoff` of shape \[B\] with B = 1 crystals, got \[2\]"),
        ({"cutoff": torch.tensor(1.0)}, r"expected `cutoff` of shape \[B\] with B = 1 crystals, got \[\]"),
        ({"cutoff": torch.tensor([1])}, "expected `cutoff` of a floating-point dtype, got torch.int64"),
        ({"cutoff": torch.ones(1, device="meta")}, "expected `cutoff` on the device of `positions`"),
        ({"cutoff": 1e6}, "does not fit into memory"),
        ({"cutoff": 1e200}, "does not fit into memory"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(RuntimeError, match=f"neighbor_list: .*{message}|neighbor_list: {message}"):
        neighbor_list(**(CUBIC | change))


def test_error_names_the_crystal():
    cells = torch.eye(3).repeat(3, 1, 1)
    cells[1] = 0
    with pytest.raises(RuntimeError, match="neighbor_list: crystal 1: the `cell` has no volume"):
        neighbor_list(torch.zeros(3, 3), cells, ALL, 0.5, torch.tensor([0, 1, 2, 3]))


@pytest.mark.parametrize("module", [dtnn_fast.ops, reference])
@pytest.mark.parametrize("bad", [-1.0, NAN, INF])
def test_error_names_the_crystal_of_a_bad_cutoff(module, bad):
    cutoffs = torch.tensor([1.0, 0.0, bad, 1.0])
    with pytest.raises(RuntimeError, match="neighbor_list: crystal 2: expected a finite `cutoff` of 0 or more, got "):
        module.neighbor_list(torch.zeros(4, 3), torch.eye(3), ALL, cutoffs, torch.tensor([0, 1, 2, 3, 4]))


def test_one_cutoff_and_one_for_each_crystal_do_not_go_together():
    with pytest.raises(RuntimeError, match="neighbor_list: expected one cutoff or `cutoffs` for each crystal"):
        torch.ops.dtnn_fast.neighbor_list(
            torch.zeros(1, 3), torch.eye(3), ALL, None, 1.0, torch.ones(1).double(), False, False
        )
