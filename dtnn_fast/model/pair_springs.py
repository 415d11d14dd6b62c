# SPDX-License-Identifier: MIT
"""Force constants at q = 0, predicted for pairs of atoms: no energy is differentiated.

The force constants of a lattice-periodic displacement are those of springs between the atoms and all images of others,

E = 1/2 sum over bonds (u_i - u_j)^T K (u_i - u_j) + sum over bonds u_i^T A u_j,   A = -A^T,

with a symmetric 3x3 matrix K and an antisymmetric one A for each bond shorter than the cutoff. Rotations turn them with
the crystal, exchanging the ends of a bond leaves K and reverses A, and moving all atoms together costs nothing. That a
network which gives second derivatives directly is both faster and closer than one whose energy is differentiated twice
was shown for molecules by A. Burger et al., arXiv 2509.21624; the form here, for crystals, is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from ..nn.layers import MLP, ChannelMix, Linear
from ..nn.radial import bessel_basis, smooth_cutoff
from ..nn.symmetric_tensors import (
    cross_matrices,
    norm_squared,
    square,
    symmetric_matrices,
    symmetric_product,
    times_vector,
)

# Channels of the vectors and tensors that the ends of a bond contribute.
_PRODUCTS = 16
_RADIAL = 16
# Springs are given in units of 5 eV/Angstrom^2 (2 Angstrom / r)^4, about their size in crystals.
_STIFFNESS, _LENGTH, _POWER = 5.0, 2.0, 4


class AtomPairs(NamedTuple):
    """Pairs of different atoms of crystals, each once, with all images within the cutoff.

    Args:
        first: index of the first atom. [E], int64.
        second: index of the second atom. [E], int64.
        vectors: from the first to the image of the second. [E, 3], Angstrom.
    """

    first: Tensor
    second: Tensor
    vectors: Tensor

    def to(self, device: torch.device | str) -> AtomPairs:
        """Copy the pairs to another device."""
        return AtomPairs(self.first.to(device), self.second.to(device), self.vectors.to(device))


class PairSprings(nn.Module):
    """The matrices -K + A of bonds, from the channels of the atoms at their ends.

    K = s(r) f(r) (a I + b r r^T + r . (sum g1 d + g2 t r) + sum g3 d . d + sum g4 m . m + sum g5 t)

    A = s(r) f(r) ([r x sum h1 m]_x + sum h2 (r (t' r)^T - (t' r) r^T))

    with the direction r, the difference d and the sum m of the ends' vectors, the sum t and the difference t' of their
    tensors, the symmetric product ".", a common size s(r) and the smooth cutoff f(r). The factors a, b, g, h come from
    a perceptron on the scalars of the ends, a radial basis and the invariants r d and r t r.

    Args:
        latent: channels of the atoms.
        cutoff: Angstrom.
        hidden: channels inside the perceptron.
    """

    def __init__(self, latent: int, cutoff: float, hidden: int = 128) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.ends = Linear(latent, hidden // 2)
        self.vectors = ChannelMix(latent, _PRODUCTS)
        self.tensors = ChannelMix(latent, _PRODUCTS)
        self.factors = MLP((_RADIAL + hidden + 2 * _PRODUCTS, hidden, hidden, 2 + 7 * _PRODUCTS))
        last = cast(nn.Linear, self.factors[-1])
        with torch.no_grad():
            # Start from central springs.
            last.weight.mul_(0.1)
            last.bias.zero_()
            last.bias[1] = 1.0

    def forward(self, scalar: Tensor, vector: Tensor, rank2: Tensor, pairs: AtomPairs) -> Tensor:
        """Compute the block of the force constants that each bond adds, rows of its first atom.

        Args:
            scalar: [N, C].
            vector: [N, 3, C].
            rank2: [N, 6, C].
            pairs: the bonds.

        Returns:
            -K + A. [E, 3, 3], eV/Angstrom^2.
        """
        length = torch.linalg.vector_norm(pairs.vectors, dim=-1)
        direction = pairs.vectors / length.unsqueeze(-1)
        x, t = self.vectors(vector), self.tensors(rank2)
        # Products of vectors and tensors stay of the order of 1 for large states.
        x = x * torch.rsqrt(1.0 + norm_squared(x)).unsqueeze(1)
        t = t * torch.rsqrt(1.0 + norm_squared(t)).unsqueeze(1)
        ends = self.ends(scalar)
        first, second = (ends.index_select(0, index) for index in pairs[:2])
        x_first, x_second = (x.index_select(0, index) for index in pairs[:2])
        t_first, t_second = (t.index_select(0, index) for index in pairs[:2])
        difference, mean = x_second - x_first, x_second + x_first
        tensor, tensor_difference = t_second + t_first, t_second - t_first
        towards = direction.unsqueeze(-1)
        turned = times_vector(tensor, towards)
        along = (difference * towards).sum(1), (turned * towards).sum(1)
        radial = bessel_basis(length, self.cutoff, _RADIAL)
        factors = self.factors(torch.cat([radial, first + second, first * second, *along], dim=-1))
        isotropic, central, rest = factors.split([1, 1, 7 * _PRODUCTS], dim=-1)
        g1, g2, g3, g4, g5, h1, h2 = (part.unsqueeze(1) for part in rest.chunk(7, dim=-1))
        springs = (g3 * square(difference) + g4 * square(mean) + g5 * tensor).sum(-1, keepdim=True)
        springs = springs + symmetric_product(towards, (g1 * difference + g2 * turned).sum(-1, keepdim=True))
        springs = springs + central.unsqueeze(1) * square(towards)
        identity = torch.eye(3, dtype=length.dtype, device=length.device)
        symmetric = symmetric_matrices(springs).squeeze(1) + isotropic.unsqueeze(1) * identity
        across = (h2 * times_vector(tensor_difference, towards)).sum(-1)
        dyad = direction.unsqueeze(2) * across.unsqueeze(1)
        axis = torch.linalg.cross(direction, (h1 * mean).sum(-1))
        antisymmetric = cross_matrices(axis) + dyad - dyad.transpose(1, 2)
        size = _STIFFNESS * (_LENGTH / length) ** _POWER * smooth_cutoff(length, self.cutoff)
        return size[:, None, None] * (antisymmetric - symmetric)


def assemble(blocks: Tensor, pairs: AtomPairs, sizes: Sequence[int]) -> list[Tensor]:
    """Sum the blocks of bonds to the force constants of each crystal.

    Args:
        blocks: -K + A; see `PairSprings`. [E, 3, 3].
        pairs: the bonds.
        sizes: number of atoms of each crystal, which follow one another.

    Returns:
        For each crystal a symmetric matrix, rows and columns x, y, z of the first atom and so on, whose rows sum to
        zero over the atoms. [3 N_b, 3 N_b], eV/Angstrom^2.
    """
    counts = torch.tensor(sizes, dtype=torch.int64, device=blocks.device)
    squares = [size * size for size in sizes]
    crystal = torch.repeat_interleave(counts, output_size=sum(sizes))
    of_bond = crystal.index_select(0, pairs.first)
    place = (counts.cumsum(0) - counts).index_select(0, of_bond)
    row, column = pairs.first - place, pairs.second - place
    width, starts = counts.index_select(0, of_bond), counts.square().cumsum(0) - counts.square()
    start = starts.index_select(0, of_bond)
    flat = blocks.flatten(1)
    reverse = blocks.transpose(1, 2).flatten(1)
    on_site = -0.5 * (flat + reverse)
    total = flat.new_zeros(sum(squares), 9)
    for r, c, values in ((row, column, flat), (column, row, reverse), (row, row, on_site), (column, column, on_site)):
        total = total.index_add(0, start + r * width + c, values)
    matrices = []
    for part, count in zip(total.split(squares), sizes, strict=True):
        matrix = part.unflatten(0, (count, count))
        # The antisymmetric parts of an atom's bonds need not cancel: what moving all atoms would cost is taken out.
        matrix = matrix - matrix.mean(0, keepdim=True)
        matrix = matrix - matrix.mean(1, keepdim=True)
        matrices.append(matrix.unflatten(2, (3, 3)).permute(0, 2, 1, 3).reshape(3 * count, 3 * count))
    return matrices
