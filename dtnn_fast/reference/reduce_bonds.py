# SPDX-License-Identifier: MIT
"""Reference implementation of `reduce_bonds`: all images of a bond under all operations, in dictionaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..ops.neighbor_list import NeighborList
from ..ops.reduce_bonds import ReducedBonds
from ..ops.symmetrise_crystals import SymmetrisedCrystals

# Places of the six components in the 3x3 matrix.
_SIX = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
# Bonds this near to the cutoff, relative to it, may be missing in the list.
_AT_CUTOFF = 1e-9

Directed = tuple[int, int, tuple[int, int, int]]


@dataclass
class _Rows:
    """The results, crystal after crystal."""

    stored: list[int] = field(default_factory=list)
    weight: list[int] = field(default_factory=list)
    stored_ptr: list[int] = field(default_factory=lambda: [0])
    projector: list[np.ndarray] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    bond_shifts: list[tuple[int, int, int]] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)
    rotation: list[np.ndarray] = field(default_factory=list)
    counts: list[tuple[int, int]] = field(default_factory=list)
    site_vector: list[np.ndarray] = field(default_factory=list)
    site_rank2: list[np.ndarray] = field(default_factory=list)


def reduce_bonds(
    crystals: SymmetrisedCrystals,
    ptr: Tensor,
    bonds: NeighborList,
    half: bool,
    rotations: Tensor,
    operation_ptr: Tensor,
    cutoffs: Sequence[float],
) -> ReducedBonds:
    """Form all images of each bond; see `dtnn_fast.ops.reduce_bonds`.

    Operations that are no group are not noticed here.
    """
    rows = _Rows()
    first_row = 0
    for b in range(len(crystals.cell)):
        atoms = slice(int(ptr[b]), int(ptr[b + 1]))
        operations = slice(int(operation_ptr[b]), int(operation_ptr[b + 1]))
        num_atoms, num_operations = atoms.stop - atoms.start, operations.stop - operations.start
        last_row = first_row + num_atoms * num_operations
        listed = slice(int(bonds.row_ptr[atoms.start]), int(bonds.row_ptr[atoms.stop]))
        try:
            _reduce(
                rows,
                atoms.start,
                crystals.positions[atoms].cpu().numpy(),
                crystals.cell[b].cpu().numpy(),
                rotations[operations].cpu().numpy(),
                crystals.atoms[first_row:last_row].cpu().numpy().reshape(num_operations, num_atoms),
                crystals.shifts[first_row:last_row].cpu().numpy().reshape(num_operations, num_atoms, 3),
                (bonds.pairs[:, listed] - atoms.start).cpu().numpy(),
                bonds.shifts[listed].cpu().numpy(),
                half,
                max(cutoffs),
            )
        except LookupError as error:
            raise RuntimeError(f"reduce_bonds: crystal {b}: {error.args[0]}") from error
        first_row = last_row
    return _to_tensors(rows, cutoffs, crystals.positions, ptr, rotations)


def _reduce(
    rows: _Rows,
    first_atom: int,
    positions: np.ndarray,
    cell: np.ndarray,
    rotations: np.ndarray,
    atoms: np.ndarray,
    shifts: np.ndarray,
    pairs: np.ndarray,
    bond_shifts: np.ndarray,
    half: bool,
    cutoff: float,
) -> None:
    # A crystal with the identity alone needs no volume.
    identity = np.eye(3)
    is_identity = (rotations == identity).all((1, 2))
    inverse = identity if is_identity.all() else np.linalg.inv(cell.T)
    cartesian = np.where(is_identity[:, None, None], identity, cell.T @ rotations @ inverse)
    six = rank2_rotations(cartesian)
    stored_of = atoms.min(0)
    stored = np.unique(stored_of)
    place = {int(atom): len(rows.stored) + k for k, atom in enumerate(stored)}
    rows.projector.append(six.mean(0))

    listed: list[Directed] = []
    for (i, j), s in zip(pairs.T.tolist(), bond_shifts.tolist(), strict=True):
        listed.append((i, j, tuple(s)))
        if half:
            listed.append((j, i, (-s[0], -s[1], -s[2])))
    known = set(listed)

    def image(g: int, bond: Directed) -> Directed:
        i, j, s = bond
        moved = rotations[g] @ np.array(s) + shifts[g, j] - shifts[g, i]
        return int(atoms[g, i]), int(atoms[g, j]), tuple(moved.tolist())

    seen: set[Directed] = set()
    for center in stored.tolist():
        for bond in listed:
            if bond[0] != center or bond in seen:
                continue
            i, j, s = bond
            vector = positions[j] - positions[i] + np.array(s) @ cell
            images = [image(g, bond) for g in range(len(rotations))]
            reverses = [(b, a, (-t[0], -t[1], -t[2])) for a, b, t in images]
            seen.update(images, reverses)
            missing = [other for other in images + reverses if other[0] in place and other not in known]
            if missing and abs(np.linalg.norm(vector) - cutoff) > _AT_CUTOFF * cutoff:
                a, b, t = missing[0]
                raise LookupError(
                    f"expected `pairs` with every image of every bond, got none from atom {a} to atom {b} with shift "
                    f"{list(t)}"
                )
            if missing:
                continue
            end = int(stored_of[j])
            at_center = len({other for other in images if other[0] == i})
            is_self_reverse = reverses[0] in images
            at_neighbor = 0 if is_self_reverse else len({other for other in reverses if other[0] == end})
            # The identity for a stored atom, otherwise the first operation.
            makers = [g for g in range(len(rotations)) if atoms[g, end] == j]
            maker = next((g for g in makers if j == end and (rotations[g] == np.eye(3)).all()), makers[0])
            rows.pairs.append((place[i], place[end]))
            rows.bond_shifts.append(s)
            rows.vectors.append(vector)
            rows.rotation.append(cartesian[maker])
            rows.counts.append((at_center, at_neighbor))
    rows.stored += [first_atom + atom for atom in stored.tolist()]
    rows.weight += [int((stored_of == atom).sum()) for atom in stored]
    rows.stored_ptr.append(len(rows.stored))
    for atom in stored:
        keeps = atoms[:, atom] == atom
        rows.site_vector.append(cartesian[keeps].mean(0))
        rows.site_rank2.append(six[keeps].mean(0))


def rank2_rotations(rotations: np.ndarray) -> np.ndarray:
    """Compute the matrices of t -> R t R^T on six components. [..., 3, 3] -> [..., 6, 6]."""
    result = np.zeros((*rotations.shape[:-2], 6, 6))
    for a, (i, j) in enumerate(_SIX):
        for b, (k, m) in enumerate(_SIX):
            result[..., a, b] = rotations[..., i, k] * rotations[..., j, m]
            if k != m:
                result[..., a, b] += rotations[..., i, m] * rotations[..., j, k]
    return result


def _to_tensors(
    rows: _Rows, cutoffs: Sequence[float], positions: Tensor, ptr: Tensor, rotations: Tensor
) -> ReducedBonds:
    num_bonds = len(rows.pairs)

    def floats(values: object, *shape: int) -> Tensor:
        return positions.new_tensor(np.array(values)).reshape(shape)

    pairs = ptr.new_tensor(rows.pairs).reshape(num_bonds, 2).T.contiguous()
    vectors = floats(rows.vectors, num_bonds, 3)
    lengths = torch.linalg.vector_norm(vectors, dim=1)
    shorter = torch.stack([lengths >= cutoff for cutoff in cutoffs[:-1]]) if len(cutoffs) > 1 else lengths.new_zeros(1)
    return ReducedBonds(
        ptr.new_tensor(rows.stored),
        floats(rows.weight, len(rows.stored)),
        ptr.new_tensor(rows.stored_ptr),
        floats(rows.projector, len(rows.projector), 6, 6),
        floats(rows.site_vector, len(rows.stored), 3, 3),
        floats(rows.site_rank2, len(rows.stored), 6, 6),
        pairs,
        rotations.new_tensor(rows.bond_shifts).reshape(num_bonds, 3),
        torch.searchsorted(pairs[0].contiguous(), torch.arange(len(rows.stored) + 1, device=ptr.device)),
        shorter.sum(0).to(torch.int64) if num_bonds else ptr.new_zeros(0),
        vectors,
        floats(rows.rotation, num_bonds, 3, 3),
        floats(rows.counts, num_bonds, 2).T.contiguous(),
    )
