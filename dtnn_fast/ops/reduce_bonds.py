# SPDX-License-Identifier: MIT
"""Keep one atom and one bond of each symmetry orbit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._backend import reference_implementations, uses_reference
from ._registration import check_same_device, register_no_vmap
from .neighbor_list import NeighborList
from .symmetrise_crystals import SymmetrisedCrystals


class ReducedBonds(NamedTuple):
    """The stored N' atoms and E' bonds, and how the others follow from them.

    Args:
        stored: atom of each orbit with the lowest number. [N'], int64.
        weight: number of atoms of its orbit. [N'], float64.
        stored_ptr: crystal b owns the stored atoms ``stored_ptr[b]:stored_ptr[b + 1]``. [B+1], int64.
        projector: mean of the 6x6 rotations of the crystal's operations. [B, 6, 6], float64.
        site_vector: mean rotation of the operations that leave the stored atom in its place. [N', 3, 3], float64.
        site_rank2: the same for six components. [N', 6, 6], float64.
        pairs: stored atom at the center, and the stored atom that stands for the neighbor; sorted by center. [2, E'],
            int64.
        bond_shifts: lattice translation of the neighbor in the whole crystal. [E', 3], int32.
        row_ptr: the bonds of stored atom i are ``row_ptr[i]:row_ptr[i + 1]``. [N'+1], int64.
        level: number of the shortest cutoff above the bond's length. [E'], int64.
        vectors: bond vectors from center to neighbor. [E', 3], float64, Angstrom.
        rotation: rotation that makes the neighbor of its stored atom. [E', 3, 3], float64.
        counts: number of directed bonds of the orbit that start at the center (row 0) and at the stored atom of the
            neighbor (row 1); 0 in row 1 where the bond is an image of its own reverse. [2, E'], float64.
    """

    stored: Tensor
    weight: Tensor
    stored_ptr: Tensor
    projector: Tensor
    site_vector: Tensor
    site_rank2: Tensor
    pairs: Tensor
    bond_shifts: Tensor
    row_ptr: Tensor
    level: Tensor
    vectors: Tensor
    rotation: Tensor
    counts: Tensor


def reduce_bonds(
    crystals: SymmetrisedCrystals,
    ptr: Tensor,
    bonds: NeighborList,
    half: bool,
    rotations: Tensor,
    operation_ptr: Tensor,
    cutoffs: Sequence[float],
) -> ReducedBonds:
    """Keep one atom and one bond of each orbit under the symmetry operations of crystals.

    A bond is kept once for both of its ends, as in a half list. `BondTurns` explains the rotations and counts. An orbit
    of bonds whose length equals the longest cutoff up to rounding is left out. The kernel runs on the CPU, whatever the
    device of the tensors.

    Args:
        crystals: what `symmetrise_crystals` returned, without faults.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``, at least one. [B+1], int64.
        bonds: neighbor list of ``crystals.positions`` at the longest cutoff.
        half: whether `bonds` has each bond once.
        rotations: as for `symmetrise_crystals`. [G, 3, 3], int32.
        operation_ptr: as for `symmetrise_crystals`. [B+1], int64.
        cutoffs: cutoffs from short to long, at least one, each above 0. Angstrom.

    Returns:
        ReducedBonds. A crystal whose only operation is the identity keeps its half list, with rotations of 1.

    Raises:
        RuntimeError: a shape, dtype or device does not fit; `bonds` lack an image of a bond, so that the operations
            are not those of the crystal (the message names crystal and atom); `cutoffs` do not rise.
    """
    positions, cell, atoms, shifts = crystals[:4]
    if uses_reference():
        return reference_implementations().reduce_bonds(crystals, ptr, bonds, half, rotations, operation_ptr, cutoffs)
    return ReducedBonds(
        *torch.ops.dtnn_fast.reduce_bonds(
            positions, cell, ptr, *bonds, half, rotations, operation_ptr, atoms, shifts, [float(c) for c in cutoffs]
        )
    )


@torch.library.register_fake("dtnn_fast::reduce_bonds")
def _fake(
    positions: Tensor,
    cell: Tensor,
    ptr: Tensor,
    pairs: Tensor,
    bond_shifts: Tensor,
    row_ptr: Tensor,
    half: bool,
    rotations: Tensor,
    operation_ptr: Tensor,
    atoms: Tensor,
    shifts: Tensor,
    cutoffs: Sequence[float],
) -> tuple[Tensor, ...]:
    check_same_device(
        "reduce_bonds",
        positions=positions,
        cell=cell,
        ptr=ptr,
        pairs=pairs,
        bond_shifts=bond_shifts,
        row_ptr=row_ptr,
        rotations=rotations,
        operation_ptr=operation_ptr,
        atoms=atoms,
        shifts=shifts,
    )
    context = torch.library.get_ctx()
    num_stored, num_bonds = context.new_dynamic_size(), context.new_dynamic_size()
    num_crystals = cell.shape[0]
    integers: dict[str, tuple[Any, ...]] = {"stored": (num_stored,), "stored_ptr": (num_crystals + 1,)}
    integers |= {"pairs": (2, num_bonds), "row_ptr": (num_stored + 1,), "level": (num_bonds,)}
    floats: dict[str, tuple[Any, ...]] = {"weight": (num_stored,), "projector": (num_crystals, 6, 6)}
    floats |= {
        "site_vector": (num_stored, 3, 3),
        "site_rank2": (num_stored, 6, 6),
        "vectors": (num_bonds, 3),
        "rotation": (num_bonds, 3, 3),
        "counts": (2, num_bonds),
    }
    made = {name: ptr.new_empty(shape) for name, shape in integers.items()}
    made |= {name: positions.new_empty(shape) for name, shape in floats.items()}
    made["bond_shifts"] = bond_shifts.new_empty((num_bonds, 3))
    return tuple(made[name] for name in ReducedBonds._fields)


register_no_vmap("reduce_bonds")
