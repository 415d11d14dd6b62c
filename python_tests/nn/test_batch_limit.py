# SPDX-License-Identifier: MIT
"""Sizes of crystals and batches, and a limit that falls when memory runs out."""

import numpy as np
import pytest
import torch
from crystal_examples import thermal_mgo
from hypothesis import given, settings
from hypothesis import strategies as st

from dtnn_fast.crystals import Crystal
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.nn.batch_limit import BONDS_PER_ATOM, BatchLimit, estimate_bonds, is_out_of_memory
from dtnn_fast.nn.graph import build_graph, crystal_batches


@pytest.mark.parametrize("cutoff", [5.0, 8.0])
def test_the_estimate_is_close_to_the_number_of_bonds(cutoff):
    for crystal in [*load_labelled()[:40:4], thermal_mgo((2, 2, 2))]:
        bonds = build_graph([crystal], (cutoff,)).tiers[0].num_bonds
        assert estimate_bonds(crystal, cutoff) == pytest.approx(bonds, rel=0.5)


def test_a_cell_without_volume_is_larger_than_everything():
    flat = Crystal.make("flat", [6], [[0, 0, 0]], np.diag([2.0, 2.0, 0.0]))
    assert estimate_bonds(flat, 5.0) == float("inf")


def test_sizes_are_atoms_until_bonds_are_many():
    mgo = thermal_mgo((1, 1, 1))
    assert BatchLimit(100, 5.0).size(mgo) == BatchLimit(100).size(mgo) == 8
    # 28 bonds at 5 Angstrom are 8 times as many at 10.
    assert BatchLimit(100, 10.0).size(mgo) == pytest.approx(8 * 8 * 28 / BONDS_PER_ATOM, rel=0.05)


cells = st.builds(
    lambda atoms, side: Crystal.make("x", [6] * atoms, np.zeros((atoms, 3)), side * np.eye(3)),
    st.integers(1, 30),
    st.floats(1.5, 9.0),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(cells, max_size=20), st.integers(1, 80), st.sampled_from([None, 4.0, 9.0]))
def test_batches_hold_each_crystal_once_and_stay_within_the_limit(crystals, largest, cutoff):
    limit = BatchLimit(largest, cutoff)
    batches = list(limit.batches(crystals))
    assert sorted(index for batch in batches for index in batch) == list(range(len(crystals)))
    for batch in batches:
        assert len(batch) == 1 or sum(limit.size(crystals[index]) for index in batch) <= largest
    if cutoff is None:
        assert batches == list(crystal_batches(crystals, largest))


def test_a_lower_limit_holds_for_the_rest_of_the_batches():
    crystals = [thermal_mgo((1, 1, 1)) for _ in range(12)]
    limit = BatchLimit(32)
    batches = limit.batches(crystals)
    assert len(next(batches)) == 4
    limit.lower(crystals[:4])
    assert [len(batch) for batch in batches] == [2, 2, 2, 2]
    limit.lower(crystals[:4])
    assert limit.largest == 16
    for _ in range(9):
        limit.lower(crystals[:1])
    assert limit.largest == 4


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_that_mean_too_little_memory(error, expected):
    assert is_out_of_memory(error) is expected


def test_the_error_of_torch_on_the_cpu():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(error.value)
