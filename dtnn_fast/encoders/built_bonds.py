# SPDX-License-Identifier: MIT
"""Bond latents for encoders without them, built from the latents of the two ends and the bond itself.

Nothing here is trained: the decoder's first layer on the bonds mixes the channels. With u the direction of a bond, e
the radial basis, f the smooth cutoff, s, v and t the scalars, vectors and rank-2 tensors of its ends,

b_s = [s_i + s_j, u.(v_j - v_i), v_i.v_j, u.(t_i + t_j).u, t_i:t_j, e]        (even under exchange of the ends)
b_v = f [v_j - v_i, (t_i + t_j) u, e u]                                      (odd)
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..nn.bond_ends import gather_ends
from ..nn.graph import CrystalGraph
from ..nn.latents import Channels, Latents
from ..nn.radial import bessel_basis, smooth_cutoff
from ..nn.symmetric_tensors import direction_matrix, norm_squared

NUM_RADIAL = 8


def built_bond_channels(atoms: Channels) -> Channels:
    """Return the channels of built bond latents for these channels of the atoms."""
    vectors = atoms.vector + atoms.rank2 + NUM_RADIAL
    return Channels(atoms.scalar + 2 * atoms.vector + 2 * atoms.rank2 + NUM_RADIAL, vectors, atoms.rank2)


def with_built_bonds(latents: Latents, graph: CrystalGraph, cutoff: float) -> Latents:
    """Add bond latents for the bonds within a cutoff.

    Args:
        latents: latents of the atoms; their bond latents are ignored.
        graph: the crystals, built with this cutoff among others.
        cutoff: Angstrom.

    Returns:
        The same latents of atoms, with bond latents of `built_bond_channels`.
    """
    tier = graph.tier(cutoff)
    bond_vectors = graph.vectors(tier)
    length = torch.linalg.vector_norm(bond_vectors, dim=-1)
    direction = bond_vectors / length.unsqueeze(-1)
    u = direction.unsqueeze(-1)
    radial = bessel_basis(length, cutoff, NUM_RADIAL)

    def gather(values: Tensor, ends: str) -> Tensor:
        return gather_ends(values, tier, ends)

    difference, total = gather(latents.atom_vector, "difference"), gather(latents.atom_rank2, "sum")
    total_u = torch.bmm(direction_matrix(direction), total)
    # Products of the two ends from the squares at the ends and of the difference or sum: see NativeLayer.
    squares = torch.cat([norm_squared(latents.atom_vector), norm_squared(latents.atom_rank2)], dim=-1)
    vector_squares, rank2_squares = gather(squares, "sum").split([difference.shape[-1], total.shape[-1]], dim=-1)
    scalar = [
        gather(latents.atom_scalar, "sum"),
        (u * difference).sum(1),
        0.5 * (vector_squares - norm_squared(difference)),
        (u * total_u).sum(1),
        0.5 * (norm_squared(total) - rank2_squares),
        radial,
    ]
    vector = torch.cat([difference, total_u, u * radial.unsqueeze(1)], dim=-1)
    envelope = smooth_cutoff(length, cutoff).view(-1, 1, 1)
    return latents._replace(
        bond_scalar=torch.cat(scalar, dim=-1), bond_vector=envelope * vector, bond_length=length, bonds=tier
    )
