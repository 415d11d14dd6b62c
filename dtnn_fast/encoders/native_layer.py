# SPDX-License-Identifier: MIT
"""One layer of the native encoder: messages on the bonds, their sums on the atoms, and the update of the atoms.

The scheme is TeaNet's (S. Takamoto et al., Comput. Mater. Sci. 207, 111280, 2022): scalars, vectors and rank-2 tensors
on the atoms, scalars and vectors on the bonds. Every bond is treated once, for both of its ends. Bond scalars and
rank-2 messages are even under exchange of the ends. Bond vectors are odd: a sum over the bonds of an atom takes them
with opposite signs at the two ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from .._backend import uses_reference
from ..nn.bond_ends import at_sites
from ..nn.graph import BondTier
from ..nn.latents import Channels
from ..nn.layers import MLP, ChannelMix, Linear
from ..nn.radial import bessel_basis, smooth_cutoff
from ..nn.symmetric_tensors import norm_squared, square, times_vector, trace
from ..nn.weight_cache import WeightCache, flat_weights
from ..ops import MessageWeights, atom_update, bond_geometry, bond_messages


@dataclass
class BondGeometry:
    """Geometry of the bonds of one tier, computed once for all layers with this cutoff.

    Args:
        tier: the bonds.
        length: bond lengths. [E], Angstrom.
        direction: unit vectors from center to neighbor. [E, 3].
        envelope: the smooth cutoff. [E].
        radial: the radial basis. [E, radial].
    """

    tier: BondTier
    length: Tensor
    direction: Tensor
    envelope: Tensor
    radial: Tensor

    @classmethod
    def from_vectors(cls, tier: BondTier, vectors: Tensor, num_radial: int) -> BondGeometry:
        """Compute the geometry from the bond vectors [E, 3]."""
        if vectors.device.type in ("cpu", "cuda") and not uses_reference():
            length, direction, envelope, radial = bond_geometry(vectors, tier.cutoff, num_radial)
            return cls(tier, length, direction, envelope, radial)
        length = torch.linalg.vector_norm(vectors, dim=-1)
        envelope = smooth_cutoff(length, tier.cutoff)
        radial = bessel_basis(length, tier.cutoff, num_radial)
        return cls(tier, length, vectors / length.unsqueeze(-1), envelope, radial)


def soft_scale(squares: Tensor) -> Tensor:
    """Compute the smooth factor that keeps the root mean square of an atom's channels below 1. [N, C] -> [N, 1]."""
    return torch.rsqrt(1.0 + squares.mean(-1, keepdim=True))


def _soft_normalised(components: Tensor, norm: Tensor) -> tuple[Tensor, Tensor]:
    """Scale the channels of an atom together so that their root mean square stays below 1; smooth and equivariant."""
    scale = soft_scale(norm * norm)
    return components * scale.unsqueeze(1), norm * scale


class NativeLayer(nn.Module):
    """One layer: messages on the bonds, their sums on the atoms, and the update of the atoms.

    Args:
        channels: channels of the state.
        mean_bonds: the mean number of bonds of an atom at this layer's cutoff, which scales the sums.
        bounded_messages: see `NativeEncoderConfig`.
    """

    def __init__(self, channels: Channels, mean_bonds: float, bounded_messages: bool = True) -> None:
        super().__init__()
        self.bounded_messages = bounded_messages
        scalar, vector, rank2 = channels.scalar, channels.vector, channels.rank2
        self.scale = 1.0 / math.sqrt(mean_bonds)
        self.num_message = vector
        self.norm = nn.LayerNorm(scalar, elementwise_affine=False)
        self._update_weights: WeightCache[Tensor] = WeightCache()
        self.from_atoms = Linear(scalar, scalar, bias=False)
        self.vector_in = ChannelMix(vector, vector)
        self.rank2_in = ChannelMix(rank2, vector)
        self.bond_hidden = Linear(scalar + 5 * vector + channels.radial, scalar)
        self.bond_out = Linear(scalar, scalar + 5 * vector)
        self.vector_mix = ChannelMix(2 * vector, vector)
        self.rank2_mix = ChannelMix(rank2 + vector, vector)
        self.rank2_out = ChannelMix(vector, rank2)
        self.update = MLP((2 * scalar + 4 * vector, scalar, scalar + 4 * vector))
        self._start_with_a_signal(scalar, vector)

    def _start_with_a_signal(self, scalar: int, vector: int) -> None:
        """Choose biases with which vectors and tensors are of order 1 before any training.

        With torch's default biases, vectors and tensors after the first layer are a hundred times smaller than the
        scalars, and so are their gradients.
        """
        message_bias = self.bond_out.bias
        update_bias = cast(nn.Linear, self.update[-1]).bias
        with torch.no_grad():
            nn.init.normal_(message_bias[scalar:], std=0.5)
            # Of the four gates: X into vectors (first) and T into tensors (third) start open.
            update_bias[scalar : scalar + vector] = 1.0
            update_bias[scalar + 2 * vector : scalar + 3 * vector] = 1.0

    def forward(
        self,
        atoms: tuple[Tensor, Tensor, Tensor],
        bonds: tuple[Tensor, Tensor],
        geometry: BondGeometry,
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Advance the state by one layer.

        Args:
            atoms: atom scalars [N, Cs], vectors [N, 3, Cv] and rank-2 tensors [N, 6, Ct].
            bonds: bond scalars [E, Cs] and bond vectors [E, 3, Cv].
            geometry: the bonds of this layer.

        Returns:
            Atoms and bonds, of the same shapes.
        """
        atom_scalar, atom_vector, atom_rank2 = atoms
        tier = geometry.tier
        weights = MessageWeights(
            self.bond_hidden.weight, self.bond_hidden.bias, self.bond_out.weight, self.bond_out.bias
        )
        messages = bond_messages(
            *self._for_messages(atom_vector, atom_rank2),
            self.from_atoms(self.norm(atom_scalar)),
            *bonds,
            geometry.direction,
            geometry.envelope,
            geometry.radial,
            weights,
            tier.pairs,
            tier.row_ptr,
            tier.by_neighbor,
            tier.turns,
        )
        sums = messages.sum_scalar, at_sites(messages.sum_vector, tier), at_sites(messages.sum_rank2, tier)
        return self._updated(atoms, sums), (messages.bond_scalar, messages.bond_vector)

    def _for_messages(self, atom_vector: Tensor, atom_rank2: Tensor) -> tuple[Tensor, Tensor]:
        q, tau = self.vector_in(atom_vector), self.rank2_in(atom_rank2)
        if not self.bounded_messages:
            return q, tau
        # The invariants are quadratic in q and tau: without a bound, large weights grow from layer to layer.
        return q * soft_scale(norm_squared(q)).unsqueeze(1), tau * soft_scale(norm_squared(tau)).unsqueeze(1)

    def _updated(
        self, atoms: tuple[Tensor, Tensor, Tensor], sums: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Update the atoms by the sums of their bonds' messages, which are not scaled yet."""
        parts = self.vector_mix, self.rank2_mix, self.update, self.rank2_out
        if self._update_weights.can_fuse(parts, atoms[0]):
            return atom_update(*atoms, *sums, self._update_weights.get(parts, self._make_update_weights))
        atom_scalar, atom_vector, atom_rank2 = atoms
        sum_scalar, sum_vector, sum_rank2 = (self.scale * values for values in sums)
        x, x_norm = _soft_normalised(*self.vector_mix.with_norm(torch.cat([atom_vector, sum_vector], dim=-1)))
        t, t_norm = _soft_normalised(*self.rank2_mix.with_norm(torch.cat([atom_rank2, sum_rank2], dim=-1)))
        m = times_vector(t, x)
        invariants = [self.norm(atom_scalar), sum_scalar, x_norm, t_norm, trace(t), (x * m).sum(1)]
        update = self.update(torch.cat(invariants, dim=-1))
        change, *gates = update.split([atom_scalar.shape[-1], *[self.num_message] * 4], dim=-1)
        g1, g2, g3, g4 = (gate.unsqueeze(1) for gate in gates)
        return (
            atom_scalar + change,
            atom_vector + g1 * x + g2 * m,
            atom_rank2 + self.rank2_out(g3 * t + g4 * square(x)),
        )

    def _make_update_weights(self) -> Tensor:
        """Put the weights of `atom_update` together, with the scale of the sums included."""
        first, second = cast(nn.Linear, self.update[0]), cast(nn.Linear, self.update[-1])
        own_scalar, own_vector, own_rank2 = (
            self.norm.normalized_shape[0],
            self.num_message,
            self.rank2_out.weight.shape[0],
        )
        return flat_weights(
            [
                self._scaled(self.vector_mix.weight, own_vector, self.num_message),
                self._scaled(self.rank2_mix.weight, own_rank2, self.num_message),
                self._scaled(first.weight, own_scalar, own_scalar),
                first.bias,
                second.weight,
                second.bias,
                self.rank2_out.weight,
            ]
        )

    def _scaled(self, weight: Tensor, first: int, count: int) -> Tensor:
        """Scale the columns from `first` on, as many as `count`: those that read sums."""
        last = weight.shape[1] - first - count
        before, sums, after = weight.split([first, count, last], dim=1)
        return torch.cat([before, self.scale * sums, after], dim=1)
