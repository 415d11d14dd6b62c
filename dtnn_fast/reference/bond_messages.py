# SPDX-License-Identifier: MIT
"""Reference implementation of `bond_messages`: gathers, invariants, a perceptron and sums in operations of torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..ops.atom_to_bond_gather import atom_to_bond_gather
from ..ops.bond_messages import BondMessages, MessageWeights
from ..ops.bond_to_atom_sum import bond_to_atom_sum
from ..ops.bond_turns import BondTurns, component_rotation
from ..ops.neighbor_list import NeighborOrder


def bond_messages(
    q: Tensor,
    tau: Tensor,
    atom_hidden: Tensor,
    bond_scalar: Tensor,
    bond_vector: Tensor,
    direction: Tensor,
    envelope: Tensor,
    radial: Tensor,
    weights: MessageWeights,
    pairs: Tensor,
    row_ptr: Tensor,
    by_neighbor: NeighborOrder | None = None,
    turns: BondTurns | None = None,
) -> BondMessages:
    """Compute the messages of all bonds and add them to the atoms; see `dtnn_fast.ops.bond_messages`."""

    def gather(values: Tensor, ends: str) -> Tensor:
        return atom_to_bond_gather(values, pairs, row_ptr, ends, by_neighbor)

    def sum_to_atoms(values: Tensor, ends: str) -> Tensor:
        return bond_to_atom_sum(values, pairs, row_ptr, ends, by_neighbor)

    u = direction.unsqueeze(-1)
    q_difference, q_product, tau_sum, tau_product = _end_terms(q, tau, gather, turns)
    tau_u = torch.bmm(_direction_matrix(direction), tau_sum)
    invariants = [
        (u * q_difference).sum(1),
        q_product,
        (u * tau_u).sum(1),
        tau_product,
        (u * bond_vector).sum(1),
    ]
    features = torch.cat([bond_scalar, *invariants, radial], dim=-1)
    hidden = features @ weights.hidden.t() + weights.hidden_bias + gather(atom_hidden, "sum")
    message = envelope.unsqueeze(-1) * (torch.nn.functional.silu(hidden) @ weights.out.t() + weights.out_bias)
    y_scalar, *y = message.split([bond_scalar.shape[-1], *[q.shape[-1]] * 5], dim=-1)
    y1, y2, y3, y4, y5 = (part.unsqueeze(1) for part in y)
    new_scalar = bond_scalar + y_scalar
    new_vector = bond_vector + y1 * u + y2 * q_difference + y3 * tau_u
    # y4 u (x) u + y5 sym(u (x) b) = sym(u (x) (y4 u + y5 b)): one product instead of two.
    rank2 = _symmetric_product(u, y4 * u + y5 * new_vector)
    if turns is None:
        sums = [
            sum_to_atoms(new_scalar, "sum"),
            # "difference" is the neighbor's share minus the center's: the opposite of what leaves the atom.
            -sum_to_atoms(new_vector, "difference"),
            sum_to_atoms(rank2, "sum"),
        ]
    else:
        at_center, at_neighbor = turns.counts.unsqueeze(-1)
        back = turns.rotation.transpose(1, 2)
        starts = (new_scalar, new_vector, rank2)
        ends = (new_scalar, -(back @ new_vector), component_rotation(back) @ rank2)
        sums = [
            sum_to_atoms(_scaled(at_center, start), "center") + sum_to_atoms(_scaled(at_neighbor, end), "neighbor")
            for start, end in zip(starts, ends, strict=True)
        ]
    return BondMessages(new_scalar, new_vector, *sums)


def _end_terms(
    q: Tensor, tau: Tensor, gather: Callable[[Tensor, str], Tensor], turns: BondTurns | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return q_n - q_c, q_c . q_n, tau_c + tau_n and tau_c : tau_n."""
    if turns is None:
        # The products from the squares at the ends and of the difference or sum: two gathers of vectors and tensors
        # fewer.
        difference, tau_sum = gather(q, "difference"), gather(tau, "sum")
        squares = gather(torch.cat([_inner(q, q), _inner(tau, tau)], dim=-1), "sum")
        q_squares, tau_squares = squares.chunk(2, dim=-1)
        q_product = 0.5 * (q_squares - _inner(difference, difference))
        return difference, q_product, tau_sum, 0.5 * (_inner(tau_sum, tau_sum) - tau_squares)
    q_center, tau_center = gather(q, "center"), gather(tau, "center")
    q_neighbor = turns.rotation @ gather(q, "neighbor")
    tau_neighbor = component_rotation(turns.rotation) @ gather(tau, "neighbor")
    return (
        q_neighbor - q_center,
        _inner(q_center, q_neighbor),
        tau_center + tau_neighbor,
        _inner(tau_center, tau_neighbor),
    )


def _scaled(counts: Tensor, values: Tensor) -> Tensor:
    """Multiply the values of each bond. [E, 1] and [E, ...] -> [E, ...]."""
    return values * counts.reshape(-1, *[1] * (values.dim() - 1))


def _direction_matrix(direction: Tensor) -> Tensor:
    """The matrix M(u) with t @ u = M(u) t for the six components t. [E, 3] -> [E, 3, 6]."""
    ux, uy, uz = direction.unbind(-1)
    zero = torch.zeros_like(ux)
    rows = [ux, zero, zero, zero, uz, uy, zero, uy, zero, uz, zero, ux, zero, zero, uz, uy, ux, zero]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 6))


def _inner(left: Tensor, right: Tensor) -> Tensor:
    """Inner products of vectors [E, 3, C] or tensors [E, 6, C], whose off-diagonal elements count twice. -> [E, C]."""
    product = left * right
    if product.shape[1] == 3:
        return product.sum(1)
    diagonal, off_diagonal = product.split(3, dim=1)
    return diagonal.sum(1) + 2.0 * off_diagonal.sum(1)


def _symmetric_product(u: Tensor, w: Tensor) -> Tensor:
    """The symmetric part of u (x) w. [E, 3, 1] and [E, 3, C] -> [E, 6, C]."""
    ux, uy, uz = u.unbind(1)
    wx, wy, wz = w.unbind(1)
    off = [0.5 * (uy * wz + uz * wy), 0.5 * (ux * wz + uz * wx), 0.5 * (ux * wy + uy * wx)]
    return torch.stack([ux * wx, uy * wy, uz * wz, *off], dim=1)
