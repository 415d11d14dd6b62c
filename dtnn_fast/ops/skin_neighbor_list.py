# SPDX-License-Identifier: MIT
"""Neighbor list of moving atoms, for molecular dynamics and relaxation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ._batch_index import ptr_of_batch
from .bond_vectors import times_matrix
from .bonds_within import bonds_within
from .neighbor_list import NeighborList, neighbor_list

# Rounding errors are smaller than this times the lengths involved.
_RELATIVE_TOLERANCE = 1e-12
_LARGEST_SHIFT = 2**31 - 1


class SkinNeighborList:
    """Neighbor lists of moving atoms: one search is reused until a bond could be missed.

    The search is made at ``cutoff + skin``; `update` selects the bonds shorter than the cutoff and searches again only
    when needed. Every list is equal to that of `neighbor_list` for the same arguments, to the bit, for any change of
    atoms and cells in between.

    The criterion for reuse: a crystal had the positions r0_i and the lattice vectors H0 (rows), and now has r_i and H.
    F = I + H0^+ (H - H0), with the pseudo-inverse H0^+ over the periodic directions, maps the old lattice to the new
    one, H0 F = H, and leaves the directions across it unchanged. This strain does not explain the displacements
    u_i = r_i - r0_i F - w_i H - c, for any integers w_i and any drift c of the whole crystal. (Programs that wrap atoms
    into the cell move them by lattice vectors; these stay the same atoms with other shifts.) A bond that was
    d0 = r0_j - r0_i + S H0 is now d = d0 F + u_j - u_i. Hence::

        |d| >= sigma_min(F) |d0| - 2 max_i |u_i|

    A bond outside of the old search has |d0| >= cutoff + skin, so it is not shorter than the cutoff while::

        sigma_min(F) (cutoff + skin) - 2 max_i |u_i| >= cutoff

    in every crystal. Otherwise all crystals are searched again, and also when the number of atoms or crystals, `pbc`,
    dtype or device change. (The code bounds sigma_min(F)^2 from below by q - 2p, with q the mean of the eigenvalues of
    F F^T and 2 p^2 their variance; this is exact for isotropic or uniaxial compression. It allows for rounding errors.)

    On the CPU an update without a search takes longer than `neighbor_list` itself: 1.2 times as long for the 955
    labelled crystals at 6 Angstrom (benchmarks/test_skin_neighbor_list.py, AMD EPYC, one thread).

    Args:
        cutoff: length of the longest bonds, exclusive. float, or a tensor with one value per crystal, [B], Angstrom.
        skin: added to the cutoff of the search. About 1 is usual; a larger skin needs fewer searches. float, at least
            0, Angstrom.
        half: as in `neighbor_list`.
        self_pairs: as in `neighbor_list`.

    Raises:
        ValueError: `skin` is negative or not finite.

    Example:
        >>> positions, cell, pbc = torch.rand(20, 3), 5 * torch.eye(3), torch.tensor([True, True, True])
        >>> lists = SkinNeighborList(cutoff=4.0, skin=1.0)
        >>> for _ in range(10):
        ...     positions = positions + 0.01 * torch.rand(20, 3)
        ...     pairs, shifts, row_ptr = lists.update(positions, cell, pbc)
        >>> lists.num_rebuilds
        0
    """

    def __init__(self, cutoff: float | Tensor, skin: float, half: bool = False, self_pairs: bool = False) -> None:
        if not (skin >= 0 and math.isfinite(skin)):
            raise ValueError(f"SkinNeighborList: expected a finite `skin` of 0 or more, got {skin}")
        self.cutoff = cutoff.to(torch.float64) if isinstance(cutoff, Tensor) else float(cutoff)
        self.skin = float(skin)
        self.half = half
        self.self_pairs = self_pairs
        self._num_searches = 0
        self._search: _Search | None = None

    @property
    def num_rebuilds(self) -> int:
        """Number of searches after the first one."""
        return max(self._num_searches - 1, 0)

    def update(
        self,
        positions: Tensor,
        cell: Tensor,
        pbc: Tensor,
        ptr: Tensor | None = None,
        *,
        batch_idx: Tensor | None = None,
    ) -> NeighborList:
        """Return the neighbor list at these positions.

        Args:
            positions: Cartesian positions. [N, 3], float32 or float64, Angstrom.
            cell: lattice vectors as rows, [B, 3, 3], or [3, 3] for all crystals; dtype of `positions`, Angstrom.
            pbc: periodic directions, [B, 3], or [3] for all crystals. bool.
            ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``; None for one crystal. [B+1], int64.
            batch_idx: as in `neighbor_list`. [N], any integer dtype.

        Returns:
            NeighborList, as from `neighbor_list`.

        Raises:
            RuntimeError: as in `neighbor_list`.
        """
        ptr = ptr_of_batch("neighbor_list", positions.shape[0], ptr, batch_idx, cell, pbc, self.cutoff)
        positions, cell = positions.detach(), cell.detach()
        bonds = self._search.bonds_for(positions, cell, pbc, ptr, self.cutoff) if self._search is not None else None
        if bonds is None:
            reach = self.cutoff + self.skin
            bonds = neighbor_list(positions, cell, pbc, reach, ptr, self.half, self.self_pairs)
            self._search = _Search.made_at(positions, cell, pbc, ptr, bonds, reach)
            self._num_searches += 1
        return NeighborList(*bonds_within(positions, cell, *bonds, self.cutoff, ptr)[1:])


@dataclass
class _Search:
    """A search for all bonds shorter than `reach`, and the crystals in which it was made."""

    arguments: tuple[Tensor | None, ...]  # copies of positions, cell, pbc, ptr
    positions: Tensor  # [N, 3], float64
    lattice: Tensor  # cells with zeros for directions that are not periodic. [B, 3, 3], float64
    inverse: Tensor  # pseudo-inverses of `lattice`. [B, 3, 3]
    periodic: Tensor  # [B, 3, 1], bool
    crystal: Tensor  # index of each atom's crystal. [N]
    bonds: NeighborList
    reach: float | Tensor
    wraps: Tensor | None = None  # lattice vectors by which atoms had moved when `wrapped` was made. [N, 3], int64
    wrapped: NeighborList | None = None  # `bonds` with shifts for `wraps`

    @classmethod
    def made_at(
        cls,
        positions: Tensor,
        cell: Tensor,
        pbc: Tensor,
        ptr: Tensor | None,
        bonds: NeighborList,
        reach: float | Tensor,
    ) -> _Search:
        sizes = torch.tensor([len(positions)], device=positions.device) if ptr is None else ptr.diff()
        periodic = pbc.expand(len(sizes), 3)[:, :, None]
        lattice = torch.where(periodic, cell.to(torch.float64), 0.0)
        crystal = torch.repeat_interleave(torch.arange(len(sizes), device=positions.device), sizes)
        # Copies: the caller may move atoms in place.
        arguments = tuple(None if x is None else x.clone() for x in (positions, cell, pbc, ptr))
        inverse = torch.linalg.pinv(lattice)
        return cls(arguments, positions.to(torch.float64, copy=True), lattice, inverse, periodic, crystal, bonds, reach)

    def bonds_for(
        self, positions: Tensor, cell: Tensor, pbc: Tensor, ptr: Tensor | None, cutoff: float | Tensor
    ) -> NeighborList | None:
        """Return all bonds shorter than the cutoff, and longer ones; None when a new search is needed."""
        before = self.arguments
        if not (_same_form(before[0], positions) and _same_form(before[1], cell)):
            return None
        if not (_same_values(before[2], pbc) and _same_values(before[3], ptr)):
            return None
        r = positions.to(torch.float64)
        lattice = torch.where(self.periodic, cell.to(torch.float64), 0.0)
        strain = self.inverse @ (lattice - self.lattice)
        moved = r - self.positions - times_matrix(self.positions, strain, self.crystal)
        wraps = times_matrix(moved, self.inverse, self.crystal).round()
        if bool(wraps.any()):
            moved = moved - times_matrix(wraps, lattice, self.crystal)
        if not self._is_still_valid(r, lattice, strain, moved, cutoff):
            return None
        return self._with_shifts_for(wraps.to(torch.int64))

    def _is_still_valid(
        self, positions: Tensor, lattice: Tensor, strain: Tensor, moved: Tensor, cutoff: float | Tensor
    ) -> bool:
        """Check the criterion of `SkinNeighborList` in every crystal; False for NaN too."""
        if len(positions) == 0:
            return True
        # The rounding error of the lattice, H - H0 F, as a map of d0 - (r0_j - r0_i) = S H0.
        lattice_error = torch.linalg.matrix_norm(self.inverse @ (lattice - self.lattice - self.lattice @ strain))
        length = self.positions.abs().max() + positions.abs().max()
        skewness = torch.linalg.matrix_norm(self.inverse) * torch.linalg.matrix_norm(lattice)
        tolerance = (_RELATIVE_TOLERANCE * (1 + skewness) + 4 * lattice_error) * (4 * length + self.reach)
        stretch = strain + torch.eye(3, dtype=strain.dtype, device=strain.device)
        shortest = _smallest_singular_value(stretch)
        displacement = _largest_displacements(moved, self.crystal, len(lattice))
        return bool((shortest * self.reach - 2 * displacement - tolerance >= cutoff).all())

    def _with_shifts_for(self, wraps: Tensor) -> NeighborList | None:
        """Return the bonds with shifts for atoms that moved by these lattice vectors; their order does not change."""
        if not bool(wraps.any()):
            return self.bonds
        if self.wraps is None or self.wrapped is None or not torch.equal(wraps, self.wraps):
            center, neighbor = self.bonds.pairs
            shifts = self.bonds.shifts + (wraps[center] - wraps[neighbor])
            if bool((shifts.abs() > _LARGEST_SHIFT).any()):
                return None
            self.wraps, self.wrapped = wraps, self.bonds._replace(shifts=shifts.to(torch.int32))
        return self.wrapped


def _same_form(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device


def _same_values(a: Tensor | None, b: Tensor | None) -> bool:
    return _same_form(a, b) and (a is None or b is None or torch.equal(a, b))


def _smallest_singular_value(matrices: Tensor) -> Tensor:
    """Bound it from below: no eigenvalue of three is below their mean minus sqrt(2) standard deviations. [B]."""
    squared = matrices @ matrices.mT
    mean = squared.diagonal(dim1=1, dim2=2).mean(dim=1)
    deviation = squared - mean[:, None, None] * torch.eye(3, dtype=squared.dtype, device=squared.device)
    least = mean - 2 * torch.sqrt((deviation * deviation).sum(dim=(1, 2)) / 6)
    return least.clamp(min=0).sqrt()


def _largest_displacements(moved: Tensor, crystal: Tensor, num_crystals: int) -> Tensor:
    """Find the largest |u_i| of each crystal, without its drift; 0 for crystals without atoms. [B]."""
    crystals = crystal[:, None].expand(-1, 3)
    zeros = moved.new_zeros((num_crystals, 3))
    highest = zeros.scatter_reduce(0, crystals, moved, "amax", include_self=False)
    lowest = zeros.scatter_reduce(0, crystals, moved, "amin", include_self=False)
    lengths = torch.linalg.vector_norm(moved - (0.5 * (highest + lowest))[crystal], dim=1)
    return zeros[:, 0].scatter_reduce(0, crystal, lengths, "amax")
