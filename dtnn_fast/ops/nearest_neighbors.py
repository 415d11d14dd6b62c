# SPDX-License-Identifier: MIT
"""The k nearest neighbors of each atom, periodic images included."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._backend import reference_implementations, uses_reference
from ._batch_index import ptr_of_batch
from .bond_vectors import bond_vectors, times_matrix
from .neighbor_list import NeighborList, neighbor_list

# The first cutoff is chosen for _FIRST_FACTOR * k + _FIRST_EXTRA neighbors, so that one search is mostly enough.
_FIRST_FACTOR, _FIRST_EXTRA = 1.6, 8.0
_SHORTEST_CUTOFF = 0.1  # Angstrom; the start where the atoms have no extent
_LEAST_GROWTH, _MOST_GROWTH = 1.15, 2.0


def nearest_neighbors(
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    k: int,
    ptr: Tensor | None = None,
    *,
    batch_idx: Tensor | None = None,
) -> NeighborList:
    """Find the k nearest neighbors of each atom, exactly; each periodic image counts as a separate neighbor.

    Every atom has k bonds, except in crystals without periodic directions and with at most k atoms: there each atom has
    all others. At equal distances the neighbor with the smaller j, then the smaller shift S is nearer. Distances are
    compared as |d|^2 in float64, so the result is the same on every run. Each crystal is searched with a cutoff that
    grows until all its atoms have k neighbors. A bond (i, j, S) may be in the list without its reverse.

    Args:
        positions: Cartesian positions. [N, 3], float32 or float64, Angstrom.
        cell: lattice vectors as rows, [B, 3, 3], or [3, 3] for all crystals; dtype of `positions`, Angstrom.
        pbc: periodic directions, [B, 3], or [3] for all crystals. bool.
        k: number of neighbors, 0 or more.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``; None for one crystal. [B+1], int64.
        batch_idx: as in `neighbor_list`. [N], any integer dtype.

    Returns:
        NeighborList, sorted as in `neighbor_list`: by i, then j, then S.

    Raises:
        ValueError: `k` is not an integer of 0 or more.
        RuntimeError: as in `neighbor_list`.

    Example:
        >>> positions, cell = torch.zeros(1, 3), torch.diag(torch.tensor([1.0, 2.0, 3.0]))
        >>> nearest_neighbors(positions, cell, torch.tensor([True, True, True]), k=4).shifts.tolist()
        [[-2, 0, 0], [-1, 0, 0], [0, -1, 0], [1, 0, 0]]
    """
    ptr = ptr_of_batch("nearest_neighbors", positions.shape[0], ptr, batch_idx, cell, pbc)
    if uses_reference():
        return reference_implementations().nearest_neighbors(positions, cell, pbc, k, ptr)
    check_k(k)
    # A search with cutoff 0 checks the arguments.
    bonds = neighbor_list(positions, cell, pbc, 0.0, ptr)
    device, num_atoms = positions.device, positions.shape[0]
    bounds = torch.tensor([0, num_atoms], device=device) if ptr is None else ptr
    sizes = bounds.diff()
    crystal = torch.repeat_interleave(torch.arange(len(sizes), device=device), sizes)
    cells, periodic = cell.expand(len(sizes), 3, 3), pbc.expand(len(sizes), 3)
    wanted = num_wanted(k, sizes, periodic)
    row_ptr = torch.cat([bounds.new_zeros(1), wanted[crystal].cumsum(0)])
    pairs = bonds.pairs.new_empty((2, int(row_ptr[-1])))
    shifts = bonds.shifts.new_empty((pairs.shape[1], 3))

    cutoffs = _first_cutoffs(positions.double(), cells.double(), periodic, sizes, crystal, k)
    unfinished = (wanted * sizes).nonzero().squeeze(1)
    while len(unfinished):
        atoms = _ranges(bounds[unfinished], sizes[unfinished])
        searched_ptr = torch.cat([bounds.new_zeros(1), sizes[unfinished].cumsum(0)])
        searched = positions[atoms], cells[unfinished], periodic[unfinished]
        bonds = neighbor_list(*searched, cutoffs[unfinished], searched_ptr)
        counts = bonds.row_ptr.diff()
        owner = torch.repeat_interleave(torch.arange(len(unfinished), device=device), sizes[unfinished])
        fewest = torch.full_like(unfinished, torch.iinfo(torch.int64).max)
        fewest = fewest.scatter_reduce(0, owner, counts, "amin")
        done = fewest >= wanted[unfinished]
        vectors = bond_vectors(searched[0].double(), searched[1].double(), bonds.pairs, bonds.shifts, searched_ptr)
        chosen = _shortest(vectors, bonds, k)
        # The rows of the result are full, so the place of a bond follows from its rank in its row.
        center, neighbor = bonds.pairs.index_select(1, chosen)
        num_chosen = counts.clamp(max=k)
        first = num_chosen.cumsum(0) - num_chosen
        place = torch.arange(len(chosen), device=device) + (row_ptr[atoms] - first)[center]
        keep = slice(None) if bool(done.all()) else done[owner[center]]
        place, chosen, center, neighbor = place[keep], chosen[keep], center[keep], neighbor[keep]
        pairs[0, place], pairs[1, place], shifts[place] = atoms[center], atoms[neighbor], bonds.shifts[chosen]
        growth = 1.05 * (wanted[unfinished] / fewest.clamp(min=1)) ** (1 / 3)
        cutoffs[unfinished] *= growth.clamp(_LEAST_GROWTH, _MOST_GROWTH)
        unfinished = unfinished[~done]
    return NeighborList(pairs, shifts, row_ptr)


def check_k(k: int) -> None:
    """Reject a `k` that is not an integer of 0 or more."""
    if not isinstance(k, int) or isinstance(k, bool) or k < 0:
        raise ValueError(f"nearest_neighbors: expected `k` to be an integer of 0 or more, got {k!r}")


def num_wanted(k: int, sizes: Tensor, pbc: Tensor) -> Tensor:
    """Count the neighbors that each atom of a crystal has, at most k. [B], int64."""
    return torch.where(pbc.any(dim=1), k, (sizes - 1).clamp(min=0, max=k))


def _shortest(vectors: Tensor, bonds: NeighborList, k: int) -> Tensor:
    """Select the k shortest bonds of each row, the earlier one first at equal lengths; in stored order."""
    dx, dy, dz = vectors.unbind(1)
    by_length = ((dx * dx + dy * dy) + dz * dz).argsort(stable=True)
    order = by_length[bonds.pairs[0][by_length].argsort(stable=True)]
    rank = torch.arange(len(order), device=order.device) - bonds.row_ptr[bonds.pairs[0]]
    return order[rank < k].sort().values


def _ranges(begin: Tensor, sizes: Tensor) -> Tensor:
    """List the integers ``begin[0], ..., begin[0] + sizes[0] - 1, begin[1], ...``."""
    offset = begin - (sizes.cumsum(0) - sizes)
    return torch.repeat_interleave(offset, sizes) + torch.arange(int(sizes.sum()), device=begin.device)


def _first_cutoffs(positions: Tensor, cells: Tensor, pbc: Tensor, sizes: Tensor, crystal: Tensor, k: int) -> Tensor:
    """Estimate radii of spheres with somewhat more than k atoms, from the mean density of each crystal.

    Directions that are not periodic count with the extent of the atoms across the periodic ones.
    """
    identity = torch.eye(3, dtype=torch.float64, device=positions.device)
    lattice = torch.where(pbc[:, :, None], cells, 0.0)
    # Projection onto the complement of the periodic vectors, and the largest length across them.
    across = identity - torch.linalg.pinv(lattice) @ lattice
    origin = positions[(sizes.cumsum(0) - sizes).clamp(max=max(len(positions) - 1, 0))] if len(positions) else None
    extent = torch.zeros(len(sizes), dtype=torch.float64, device=positions.device)
    if origin is not None:
        length = torch.linalg.vector_norm(times_matrix(positions - origin[crystal], across, crystal), dim=1)
        extent = extent.scatter_reduce(0, crystal, 2 * length, "amax")
    # The volume of the cell, completed by orthogonal vectors as long as the extent where it is not periodic.
    gram = lattice @ lattice.mT + torch.diag_embed(torch.where(pbc, 0.0, extent[:, None] ** 2))
    volume = torch.linalg.det(gram).clamp(min=0).sqrt()
    wanted = _FIRST_FACTOR * k + _FIRST_EXTRA
    radius = (wanted * volume / sizes.clamp(min=1) / (4 / 3 * math.pi)) ** (1 / 3)
    return radius.clamp(min=_SHORTEST_CUTOFF)
