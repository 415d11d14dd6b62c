# SPDX-License-Identifier: MIT
"""Values of atoms brought to their bonds, and values of bonds summed at their atoms, on plain and reduced graphs.

On a reduced graph the neighbor of a bond is an image of a stored atom, so its vectors and tensors are rotated; a sum
takes each stored bond as often as its orbit has bonds there (`BondTurns`, `SiteProjectors`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops import atom_to_bond_gather, bond_to_atom_sum
from ..ops.bond_turns import component_rotation
from .graph import BondTier


def gather_ends(values: Tensor, tier: BondTier, ends: str) -> Tensor:
    """Combine the values at the two ends of each bond; on a plain graph, `atom_to_bond_gather`.

    Args:
        values: scalars [N, C], vectors [N, 3, C] or tensors [N, 6, C] of the atoms.
        tier: the bonds.
        ends: "sum", or "difference" for neighbor minus center.

    Returns:
        Values per bond, of the same rank.
    """
    if tier.turns is None or values.dim() == 2:
        return atom_to_bond_gather(values, tier.pairs, tier.row_ptr, ends, tier.by_neighbor)
    center = atom_to_bond_gather(values, tier.pairs, tier.row_ptr, "center")
    stored = atom_to_bond_gather(values, tier.pairs, tier.row_ptr, "neighbor", tier.by_neighbor)
    rotation = tier.turns.rotation
    neighbor = torch.bmm(rotation if values.shape[1] == 3 else component_rotation(rotation), stored)
    return neighbor + center if ends == "sum" else neighbor - center


def sum_at_ends(values: Tensor, tier: BondTier, ends: str) -> Tensor:
    """Sum values of the bonds over the bonds of each atom; on a plain graph, `bond_to_atom_sum`.

    Args:
        values: scalars [E, C] and tensors [E, 6, C], which are even under exchange of the ends, or vectors [E, 3, C],
            which are odd.
        tier: the bonds.
        ends: "sum" for scalars and tensors. "difference" for vectors: minus the sum of what points away from the atom,
            since the neighbor's value counts positive.

    Returns:
        Sums per atom, of the same rank.

    Raises:
        ValueError: `ends` does not fit the rank of the values on a reduced graph.
    """
    if tier.turns is None:
        return bond_to_atom_sum(values, tier.pairs, tier.row_ptr, ends, tier.by_neighbor)
    is_vector = values.dim() == 3 and values.shape[1] == 3
    if ends != ("difference" if is_vector else "sum"):
        raise ValueError(
            f"sum_at_ends: expected `ends` of 'difference' for vectors and 'sum' for others, got {ends!r} for values "
            f"of shape {list(values.shape)}"
        )
    from_center, from_neighbor = tier.turns.counts.reshape(2, -1, *[1] * (values.dim() - 1)) * values
    if values.dim() == 3:
        back = tier.turns.rotation.transpose(1, 2)
        from_neighbor = torch.bmm(-back if is_vector else component_rotation(back), from_neighbor)
    total = bond_to_atom_sum(from_center, tier.pairs, tier.row_ptr, "center")
    total = total + bond_to_atom_sum(from_neighbor, tier.pairs, tier.row_ptr, "neighbor", tier.by_neighbor)
    total = at_sites(total, tier)
    return -total if is_vector else total


def at_sites(sums: Tensor, tier: BondTier) -> Tensor:
    """Apply the projectors of the atoms' sites to sums over the bonds, where the graph is reduced.

    Args:
        sums: scalars [N, C], vectors [N, 3, C] or tensors [N, 6, C] of the atoms.
        tier: the bonds.
    """
    if tier.sites is None or sums.dim() == 2:
        return sums
    return torch.bmm(tier.sites.vector if sums.shape[1] == 3 else tier.sites.rank2, sums)
