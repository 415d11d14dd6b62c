# SPDX-License-Identifier: MIT
"""The backward of `bond_messages` in differentiable operations, and its derivatives by torch.

They are the second derivatives on CUDA and in forward mode, and give all third ones. The formulas are those of the
kernel (csrc/ops/cpu/bond_messages_backward_tile.h).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .atom_to_bond_gather import atom_to_bond_gather
from .bond_to_atom_sum import bond_to_atom_sum
from .bond_turns import component_rotation
from .neighbor_list import NeighborOrder

# Gradients of the results of bond_messages, then its tensors, are what its backward is differentiated by.
NUM_GRADS, NUM_FLOATS = 5, 12
NUM_DIFFERENTIATED = NUM_GRADS + NUM_FLOATS


def output_shapes(
    q: Tensor, tau: Tensor, _: Tensor, bond_scalar: Tensor, bond_vector: Tensor, *__: object
) -> list[Sequence[int]]:
    """List the shapes of the results of bond_messages for these arguments."""
    return [bond_scalar.shape, bond_vector.shape, (q.shape[0], bond_scalar.shape[1]), q.shape, tau.shape]


def composed_double_backward(
    gradients: Callable[..., Sequence[Tensor]],
    changes: Sequence[Tensor | None],
    arguments: Sequence[Tensor | None],
    used: Sequence[bool],
) -> list[Tensor | None]:
    """Compute what the operation bond_messages_double_backward computes.

    Args:
        gradients: `reference_gradients`, or `reference_gradients_with_tangents` within a kernel.
        changes: gradients of the results of the backward; None counts as zero.
        arguments: tensors of the backward: gradients (None counts as zero), inputs, indices and turns.
        used: for each of the 17 differentiable tensors whether its gradient is needed.

    Returns:
        For each of these its gradient, or None where not needed.
    """
    function, inputs, wanted = input_gradients(changes, arguments, used)
    results = iter(gradients(function, inputs, [changes[place] for place in wanted]))
    return [next(results) if use else None for use in used]


def input_gradients(
    changes: Sequence[Tensor | None], arguments: Sequence[Tensor | None], used: Sequence[bool]
) -> tuple[Callable[..., tuple[Tensor, ...]], list[Tensor], list[int]]:
    """Return the backward as a function of the used tensors, these, and which of its results have changes."""
    floats: list[Any] = list(arguments[:NUM_DIFFERENTIATED])
    indices: Sequence[Any] = arguments[NUM_DIFFERENTIATED:]
    inputs = floats[NUM_GRADS:]
    for place, shape in enumerate(output_shapes(*inputs)):
        if floats[place] is None and used[place]:
            floats[place] = inputs[0].new_zeros(shape)
    moving = [place for place, use in enumerate(used) if use]
    wanted = [place for place, change in enumerate(changes) if change is not None]

    def function(*values: Tensor) -> tuple[Tensor, ...]:
        given = list(floats)
        for place, value in zip(moving, values, strict=True):
            given[place] = value
        grads = composed_backward(*given, *indices)
        return tuple(grads[place] for place in wanted)

    return function, [floats[place] for place in moving], wanted


def composed_backward(
    grad_scalar: Tensor | None,
    grad_vector: Tensor | None,
    grad_sum_scalar: Tensor | None,
    grad_sum_vector: Tensor | None,
    grad_sum_rank2: Tensor | None,
    q: Tensor,
    tau: Tensor,
    atom_hidden: Tensor,
    bond_scalar: Tensor,
    bond_vector: Tensor,
    direction: Tensor,
    envelope: Tensor,
    radial: Tensor,
    hidden_weight: Tensor,
    hidden_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    pairs: Tensor,
    row_ptr: Tensor,
    order: Tensor,
    order_ptr: Tensor,
    rotation: Tensor | None,
    counts: Tensor | None,
) -> tuple[Tensor, ...]:
    """Compute the gradients of the twelve tensors; arguments as in csrc/ops/bond_messages.h."""
    by_neighbor = NeighborOrder(order, order_ptr)

    def at(end: str, values: Tensor) -> Tensor:
        return atom_to_bond_gather(values, pairs, row_ptr, end, by_neighbor)

    def to_atoms(end: str, values: Tensor) -> Tensor:
        return bond_to_atom_sum(values, pairs, row_ptr, end, by_neighbor)

    scalars, vectors = bond_scalar.shape[1], q.shape[2]
    u, cutoff, turn = direction.unsqueeze(-1), envelope.unsqueeze(-1), _Turn(rotation)
    q_center, q_neighbor, tau_center, tau_neighbor = (
        at("center", q),
        at("neighbor", q),
        at("center", tau),
        at("neighbor", tau),
    )
    q_neighbor, tau_neighbor = turn.vector(q_neighbor), turn.rank2(tau_neighbor)
    # The forward once more.
    d, tau_sum = q_neighbor - q_center, tau_center + tau_neighbor
    m = _apply(tau_sum, u)
    double = q.new_ones(6, 1)
    double[3:] = 2.0
    invariants = [
        *((u * d).sum(1), (q_center * q_neighbor).sum(1), (u * m).sum(1)),
        *((double * tau_center * tau_neighbor).sum(1), (u * bond_vector).sum(1)),
    ]
    features = torch.cat([bond_scalar, *invariants, radial], dim=-1)
    before = features @ hidden_weight.t() + hidden_bias + at("sum", atom_hidden)
    sigmoid = torch.sigmoid(before)
    hidden = before * sigmoid
    out = hidden @ out_weight.t() + out_bias
    _, *y = (cutoff * out).split([scalars, *[vectors] * 5], dim=-1)
    y1, y2, y3, y4, y5 = (part.unsqueeze(1) for part in y)
    new_vector = bond_vector + y1 * u + y2 * d + y3 * m
    # Gradients of new_scalar, new_vector, and of the rank-2 message as a symmetric matrix.
    n_center, n_neighbor = (1.0, 1.0) if counts is None else (counts[0].unsqueeze(-1), counts[1].unsqueeze(-1))
    g_scalar = torch.zeros_like(bond_scalar) if grad_scalar is None else grad_scalar
    g_vector = torch.zeros_like(bond_vector) if grad_vector is None else grad_vector
    if grad_sum_scalar is not None:
        g_scalar = g_scalar + n_center * at("center", grad_sum_scalar) + n_neighbor * at("neighbor", grad_sum_scalar)
    if counts is not None:
        n_center, n_neighbor = counts[0].view(-1, 1, 1), counts[1].view(-1, 1, 1)
    if grad_sum_vector is not None:
        reversed_share = turn.vector(at("neighbor", grad_sum_vector))
        g_vector = g_vector + n_center * at("center", grad_sum_vector) - n_neighbor * reversed_share
    g_message = torch.zeros_like(tau_center)
    if grad_sum_rank2 is not None:
        matrix = grad_sum_rank2 / double
        g_message = n_center * at("center", matrix) + n_neighbor * turn.rank2(at("neighbor", matrix))
    # Back through the messages.
    g_w = _apply(g_message, u)
    g_vector = g_vector + y5 * g_w
    g_y = [
        (g_vector * u).sum(1),
        (g_vector * d).sum(1),
        (g_vector * m).sum(1),
        (g_w * u).sum(1),
        (g_w * new_vector).sum(1),
    ]
    g_message_out = torch.cat([g_scalar, *g_y], dim=-1)
    g_out = cutoff * g_message_out
    g_envelope = (g_message_out * out).sum(-1)
    g_hidden = (g_out @ out_weight) * (sigmoid + hidden * (1.0 - sigmoid))
    g_features = g_hidden @ hidden_weight
    _, *g_invariants, g_radial = g_features.split([scalars, *[vectors] * 5, radial.shape[1]], dim=-1)
    g1, g2, g3, g4, g5 = (part.unsqueeze(1) for part in g_invariants)
    g_d, g_m = y2 * g_vector + g1 * u, y3 * g_vector + g3 * u
    g_u = (
        y1 * g_vector
        + y4 * g_w
        + _apply(g_message, y4 * u + y5 * new_vector)
        + g1 * d
        + g3 * m
        + _apply(tau_sum, g_m)
        + g5 * bond_vector
    )
    g_tau = _outer(g_m, u)
    g_q_neighbor = turn.vector_back(g_d + g2 * q_center)
    g_tau_neighbor = turn.rank2_grad_back(g_tau + g4 * double * tau_center)
    return (
        to_atoms("center", g2 * q_neighbor - g_d) + to_atoms("neighbor", g_q_neighbor),
        to_atoms("center", g_tau + g4 * double * tau_neighbor) + to_atoms("neighbor", g_tau_neighbor),
        to_atoms("sum", g_hidden),
        g_scalar + g_features[:, :scalars],
        g_vector + g5 * u,
        g_u.sum(-1),
        g_envelope,
        g_radial,
        g_hidden.t() @ features,
        g_hidden.sum(0),
        g_out.t() @ hidden,
        g_out.sum(0),
    )


class _Turn:
    """The rotation of the neighbors, or none."""

    def __init__(self, rotation: Tensor | None) -> None:
        self._rotation = rotation
        if rotation is not None:
            self._components = component_rotation(rotation)

    def vector(self, values: Tensor) -> Tensor:
        return values if self._rotation is None else self._rotation @ values

    def rank2(self, values: Tensor) -> Tensor:
        return values if self._rotation is None else self._components @ values

    def vector_back(self, values: Tensor) -> Tensor:
        return values if self._rotation is None else self._rotation.transpose(1, 2) @ values

    def rank2_grad_back(self, grads: Tensor) -> Tensor:
        """Turn gradients of the six components, which transform with the transposed matrix."""
        return grads if self._rotation is None else self._components.transpose(1, 2) @ grads


def _apply(tensor: Tensor, vector: Tensor) -> Tensor:
    """t @ v. [E, 6, C] and [E, 3, C] -> [E, 3, C]."""
    xx, yy, zz, yz, xz, xy = tensor.unbind(1)
    x, y, z = vector.unbind(1)
    return torch.stack([xx * x + xy * y + xz * z, xy * x + yy * y + yz * z, xz * x + yz * y + zz * z], dim=1)


def _outer(g: Tensor, u: Tensor) -> Tensor:
    """The gradient of the six components of t through t @ u. [E, 3, C] and [E, 3, 1] -> [E, 6, C]."""
    gx, gy, gz = g.unbind(1)
    ux, uy, uz = u.unbind(1)
    return torch.stack([gx * ux, gy * uy, gz * uz, gy * uz + gz * uy, gx * uz + gz * ux, gx * uy + gy * ux], dim=1)
