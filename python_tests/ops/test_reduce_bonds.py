# SPDX-License-Identifier: MIT
"""reduce_bonds: equal to the reference implementation, for half and full lists; errors for lists that do not fit."""

from __future__ import annotations

import pytest
import torch
from helpers import check_same_bits
from test_symmetrise_crystals import ONE, QUARTER, arguments, simple_cubic

from dtnn_fast import ops, reference
from dtnn_fast.ops import NeighborList, neighbor_list, reduce_bonds, symmetrise_crystals

ALL = torch.ones(3, dtype=torch.bool)
CUTOFFS = (3.0, 4.0, 5.0)


def prepared(given, half=True, cutoffs=CUTOFFS):
    """Make crystals symmetric, and return the arguments of `reduce_bonds`."""
    crystals = symmetrise_crystals(**given)
    assert not crystals.faults.any()
    return {
        "crystals": crystals,
        "ptr": given["ptr"],
        "bonds": neighbor_list(crystals.positions, crystals.cell, ALL, cutoffs[-1], given["ptr"], half),
        "half": half,
        "rotations": given["rotations"],
        "operation_ptr": given["operation_ptr"],
        "cutoffs": cutoffs,
    }


@pytest.mark.parametrize("half", [True, False])
def test_equals_the_reference(half):
    call = prepared(arguments(80), half)
    ours, expected = reduce_bonds(**call), reference.reduce_bonds(**call)
    for name, a, b in zip(ours._fields, ours, expected, strict=True):
        assert a.dtype == b.dtype, name
        assert a.shape == b.shape, name
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10 if a.is_floating_point() else 0, msg=name)


def test_every_directed_bond_counts_once():
    given = arguments()
    call = prepared(given)
    reduced = reduce_bonds(**call)
    ends = (reduced.counts * reduced.weight[reduced.pairs]).sum()
    assert ends == 2 * call["bonds"].pairs.shape[1]
    assert reduced.weight.sum() == len(given["positions"])
    assert reduced.pairs.shape[1] < 0.3 * call["bonds"].pairs.shape[1]
    lengths = reduced.vectors.norm(dim=1)
    for level, cutoff in enumerate(CUTOFFS):
        assert torch.equal(reduced.level <= level, lengths < cutoff)
    for mean in (reduced.site_vector, reduced.site_rank2, reduced.projector):
        torch.testing.assert_close(mean @ mean, mean, rtol=0, atol=1e-10)


def test_same_bits_for_any_number_of_threads():
    call = prepared(arguments())
    check_same_bits(lambda: reduce_bonds(**call))


def test_no_crystals():
    empty = {
        "positions": torch.zeros(0, 3, dtype=torch.float64),
        "cell": torch.zeros(0, 3, 3, dtype=torch.float64),
        "ptr": torch.zeros(1, dtype=torch.int64),
        "atomic_numbers": torch.zeros(0, dtype=torch.int64),
        "rotations": torch.zeros(0, 3, 3, dtype=torch.int32),
        "images": torch.zeros(0, dtype=torch.int64),
        "operation_ptr": torch.zeros(1, dtype=torch.int64),
        "tolerance": 1e-3,
    }
    reduced = reduce_bonds(**prepared(empty))
    assert reduced.stored.shape == (0,)
    assert reduced.site_rank2.shape == (0, 6, 6)
    assert reduced.row_ptr.tolist() == [0]


class TestErrors:
    def call(self, **changes):
        return prepared(simple_cubic(), cutoffs=(2.0, 3.2)) | changes

    def refuse(self, message, **changes):
        call = self.call() | changes
        with pytest.raises(RuntimeError, match=f"reduce_bonds: .*{message}"):
            ops.reduce_bonds(**call)

    def test_lists_without_some_images(self):
        pairs, shifts, row_ptr = self.call()["bonds"]
        # One of the eight equivalent bonds between the atoms is left out.
        last = int(row_ptr[1]) - 1
        kept = torch.arange(pairs.shape[1]) != last
        shorter = NeighborList(pairs[:, kept], shifts[kept], row_ptr - (row_ptr > last).long())
        self.refuse("crystal 0: expected `pairs` with every image of every bond, got none from atom", bonds=shorter)
        with pytest.raises(RuntimeError, match="expected `pairs` with every image"):
            reference.reduce_bonds(**self.call(bonds=shorter))

    def test_operations_of_another_crystal(self):
        crystals = self.call()["crystals"]
        self.refuse("that map the crystal onto itself", rotations=torch.stack([ONE, 1 - 2 * ONE]))
        shifts = crystals.shifts.clone()
        shifts[3] = torch.tensor([-1, 0, 0])  # where a quarter turn takes the second atom
        turn = {"rotations": torch.stack([ONE, QUARTER]), "crystals": crystals._replace(shifts=shifts)}
        self.refuse("a group, each once", **turn)
        stretched = crystals.cell * torch.tensor([1.01, 1.0, 1.0], dtype=torch.float64)
        self.refuse("map the crystal", **turn | {"crystals": crystals._replace(cell=stretched)})
        uneven = crystals.shifts + torch.arange(4, dtype=torch.int32)[:, None]
        self.refuse("map the crystal", crystals=crystals._replace(shifts=uneven))
        self.refuse("map the crystal", crystals=crystals._replace(positions=crystals.positions * 1.01))

    def test_values(self):
        crystals = self.call()["crystals"]
        pairs, shifts, row_ptr = self.call()["bonds"]
        self.refuse(
            "expected `atoms` of this crystal, from 0 to 1", crystals=crystals._replace(atoms=crystals.atoms + 1)
        )
        self.refuse("expected `rotations` with entries", rotations=self.call()["rotations"] * 20000)
        self.refuse("both ends in one crystal", bonds=NeighborList(pairs + 1, shifts, row_ptr))
        self.refuse("expected finite `positions`", crystals=crystals._replace(positions=crystals.positions * torch.nan))
        self.refuse("expected a finite `cell`", crystals=crystals._replace(cell=crystals.cell * torch.inf))
        large = torch.full_like(shifts, 2**31 - 1)
        self.refuse("expected `bond_shifts` from", bonds=NeighborList(pairs, large, row_ptr))
        self.refuse(
            "expected `shifts` from", crystals=crystals._replace(shifts=torch.full_like(crystals.shifts, -(2**31)))
        )

    def test_shapes_dtypes_devices_and_cutoffs(self):
        crystals = self.call()["crystals"]
        self.refuse("expected `atoms` of dtype int32", crystals=crystals._replace(atoms=crystals.atoms.long()))
        self.refuse(
            r"expected `atoms` of shape \[M\] with M = 4",
            crystals=crystals._replace(atoms=crystals.atoms[:3], shifts=crystals.shifts[:3]),
        )
        self.refuse(
            "expected `positions` of dtype float64", crystals=crystals._replace(positions=crystals.positions.float())
        )
        self.refuse("on the device of", rotations=self.call()["rotations"].to("meta"))
        self.refuse("expected at least one cutoff", cutoffs=())
        for cutoffs in ((3.0, 2.0), (0.0, 2.0), (2.0, 2.0), (float("nan"),)):
            self.refuse("expected finite `cutoffs` above 0 from short to long", cutoffs=cutoffs)
