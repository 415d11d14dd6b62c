# SPDX-License-Identifier: MIT
"""Reference implementation of `neighbor_list`: every pair of atoms, every image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..ops._batch_index import ptr_of_batch
from ..ops.neighbor_list import NeighborList

LARGEST_SHIFT = 2**31 - 1
# More candidates than this for one center are probably a mistake: this implementation is for small crystals.
MOST_CANDIDATES = 10**8


def neighbor_list(
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    cutoff: float | Tensor,
    ptr: Tensor | None = None,
    half: bool = False,
    self_pairs: bool = False,
    *,
    batch_idx: Tensor | None = None,
) -> NeighborList:
    """Test every image of every pair of atoms; see `dtnn_fast.ops.neighbor_list`."""
    ptr = ptr_of_batch("neighbor_list", positions.shape[0], ptr, batch_idx, cell, pbc, cutoff)
    if not positions.isfinite().all():
        raise RuntimeError("neighbor_list: expected finite `positions`, got NaN or infinity")
    if not cell.isfinite().all():
        raise RuntimeError("neighbor_list: expected a finite `cell`, got NaN or infinity")
    num_atoms = positions.shape[0]
    bounds = [0, num_atoms] if ptr is None else ptr.tolist()
    num_crystals = len(bounds) - 1
    cutoffs = list_cutoffs("neighbor_list", cutoff, num_crystals)
    cells = cell.to(torch.float64).expand(num_crystals, 3, 3)
    periodic = pbc.expand(num_crystals, 3)
    no_integers = torch.empty(0, dtype=torch.int64, device=positions.device)
    pairs, shifts = [no_integers.view(2, 0)], [no_integers.view(0, 3)]
    for b in range(num_crystals):
        r = positions[bounds[b] : bounds[b + 1]].to(torch.float64)
        dual = _duals(cells[b], periodic[b])
        for i in range(len(r)):
            neighbors, shift = _bonds_of_atom(i, r, cells[b], dual, cutoffs[b], half, self_pairs)
            pairs.append(torch.stack([torch.full_like(neighbors, i), neighbors]) + bounds[b])
            shifts.append(shift)
    all_pairs = torch.cat(pairs, dim=1)
    row_ptr = torch.searchsorted(all_pairs[0].contiguous(), torch.arange(num_atoms + 1, device=positions.device))
    return NeighborList(all_pairs, torch.cat(shifts).to(torch.int32), row_ptr)


def list_cutoffs(op: str, cutoff: float | Tensor, num_crystals: int) -> list[float]:
    """Check the cutoffs and return one for each crystal."""
    per_crystal = isinstance(cutoff, Tensor)
    cutoffs = cutoff.tolist() if isinstance(cutoff, Tensor) else [cutoff] * num_crystals
    for b, value in enumerate(cutoffs):
        if not (value >= 0 and math.isfinite(value)):
            crystal = f"crystal {b}: " if per_crystal and num_crystals > 1 else ""
            raise RuntimeError(f"{op}: {crystal}expected a finite `cutoff` of 0 or more, got {value}")
    return cutoffs


def _bonds_of_atom(
    i: int, r: Tensor, cell: Tensor, dual: Tensor, cutoff: float, half: bool, self_pairs: bool
) -> tuple[Tensor, Tensor]:
    """Find neighbors j and shifts of the bonds of atom i of one crystal, in order."""
    between = r - r[i]
    low, high = _shift_ranges(between, dual, cutoff)
    sizes = (high - low + 1).clamp(min=0)
    images = sizes.prod(dim=1)
    if images.sum() > MOST_CANDIDATES:
        raise RuntimeError("neighbor_list: too many images for the reference: is the `cutoff` too large?")
    # Candidates (j, s0, s1, s2) in lexicographic order: the images of neighbor 0, of neighbor 1, ...
    neighbor = torch.repeat_interleave(torch.arange(len(r), device=r.device), images)
    image = torch.arange(len(neighbor), device=r.device) - torch.repeat_interleave(images.cumsum(0) - images, images)
    _, n1, n2 = sizes[neighbor].unbind(1)
    shift = low[neighbor] + torch.stack([image // (n1 * n2), image // n2 % n1, image % n2], dim=1)
    a, b, c = cell
    s0, s1, s2 = shift.to(torch.float64).unsqueeze(2).unbind(1)
    # This order of operations as in csrc/core/neighbor_list.h, so that both agree to the bit at the cutoff.
    d = between[neighbor] + ((s0 * a + s1 * b) + s2 * c)
    dx, dy, dz = d.unbind(1)
    keep = (dx * dx + dy * dy) + dz * dz < cutoff * cutoff
    first_nonzero = torch.where(shift[:, 0] != 0, shift[:, 0], torch.where(shift[:, 1] != 0, shift[:, 1], shift[:, 2]))
    itself = (neighbor == i) & (first_nonzero == 0)
    if half:
        keep &= (neighbor > i) | ((neighbor == i) & (first_nonzero > 0))
    keep = keep | itself if self_pairs else keep & ~itself
    return neighbor[keep], shift[keep]


def _duals(cell: Tensor, pbc: Tensor) -> Tensor:
    """Compute rows with ``dual_k . cell_k = 1`` in the span of the periodic vectors; 0 where not periodic. [3, 3]."""
    duals, periodic = torch.zeros_like(cell), cell[pbc]
    if torch.linalg.matrix_rank(periodic, rtol=1e-10) < len(periodic):
        raise RuntimeError(
            "neighbor_list: the `cell` has no volume: its periodic vectors are zero or linearly dependent"
        )
    duals[pbc] = torch.linalg.pinv(periodic).T
    return duals


def _shift_ranges(between: Tensor, dual: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """Bound the shifts in each direction that can bring an atom at `between` inside the cutoff.

    The lattice planes of direction k are 1/|dual_k| apart, so bonds have
    ``|dual_k . between + s_k| <= cutoff |dual_k|``.
    """
    middle = -(between @ dual.T)
    reach = cutoff * dual.norm(dim=1)
    slack = 1e-6 * (reach > 0) + 1e-9 * (middle.abs() + reach)  # more than any rounding error
    low, high = torch.ceil(middle - reach - slack), torch.floor(middle + reach + slack)
    if len(between) and max(low.abs().max(), high.abs().max()) > LARGEST_SHIFT:
        raise RuntimeError("neighbor_list: `positions`: atoms too many cells apart for shifts of 32 bits")
    return low.to(torch.int64), high.to(torch.int64)
