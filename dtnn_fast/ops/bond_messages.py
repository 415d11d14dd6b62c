# SPDX-License-Identifier: MIT
"""Messages on the bonds of one layer of the native encoder, and their sums on the atoms."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._backend import reference_implementations, uses_reference
from ._bond_ends import order_for
from ._bond_messages_derivatives import composed_backward
from ._rank2 import matmul_precision
from ._registration import check_same_device, register_autocast, register_derivatives, register_vmap
from .bond_turns import BondTurns
from .neighbor_list import NeighborOrder


class MessageWeights(NamedTuple):
    """Weights of the perceptron on the bonds.

    Args:
        hidden: weight of the hidden layer. [H, C + 5 V + R].
        hidden_bias: [H].
        out: weight of the output layer. [C + 5 V, H].
        out_bias: [C + 5 V].
    """

    hidden: Tensor
    hidden_bias: Tensor
    out: Tensor
    out_bias: Tensor


class BondMessages(NamedTuple):
    """New latents of the bonds, and the sums of the messages at the atoms.

    Args:
        bond_scalar: [E, C].
        bond_vector: from center to neighbor. [E, 3, V].
        sum_scalar: sum of the bond scalars of each atom. [N, C].
        sum_vector: sum of the bond vectors, each away from the atom. [N, 3, V].
        sum_rank2: sum of the rank-2 messages, stored xx yy zz yz xz xy. [N, 6, V].
    """

    bond_scalar: Tensor
    bond_vector: Tensor
    sum_scalar: Tensor
    sum_vector: Tensor
    sum_rank2: Tensor


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
    """Compute the messages on the bonds of a layer, and add them to the atoms, in one pass over the bonds.

    For a bond from c to n with direction u and latents s and b, and for every channel::

        d = q_n - q_c,  m = (tau_c + tau_n) u
        h = silu(W [s, u.d, q_c.q_n, u.m, tau_c:tau_n, u.b, radial] + bias + atom_hidden_c + atom_hidden_n)
        y = envelope (W_out h + bias_out),  split into y_s [C] and y_1 ... y_5 [V]
        s' = s + y_s,  b' = b + y_1 u + y_2 d + y_3 m,  t = sym(u (x) (y_4 u + y_5 b'))

    The sums of s', b' (away from the atom) and t go over the bonds of each atom. The scheme is TeaNet's (S. Takamoto et
    al., Comput. Mater. Sci. 207, 111280, 2022). No tensor of features or messages of all bonds is written to memory,
    and the backward computes them again. Derivatives of second order run on the operations of torch.

    Products of float32 follow ``torch.set_float32_matmul_precision``, on CUDA as in `rank2_linear`. On CPUs with
    AVX-512 BF16, "medium" rounds the factors to bfloat16 and sums in float32, except for gradients of weights; other
    settings and CPUs compute in float32.

    Args:
        q: vectors of the atoms. [N, 3, V], float32 or float64.
        tau: symmetric tensors of the atoms, stored xx yy zz yz xz xy. [N, 6, V], dtype of `q`, as all that follow.
        atom_hidden: what each atom adds to the hidden layer of its bonds. [N, H].
        bond_scalar: scalars of the bonds. [E, C].
        bond_vector: vectors of the bonds, from center to neighbor. [E, 3, V].
        direction: unit vectors from center to neighbor. [E, 3].
        envelope: smooth cutoff. [E].
        radial: radial basis. [E, R].
        weights: the perceptron.
        pairs: centers and neighbors, sorted by center; each bond once. [2, E], int64.
        row_ptr: segments of the centers. [N+1], int64.
        by_neighbor: the bonds sorted by neighbor, or None to sort them here.
        turns: rotations, where only symmetry-distinct bonds are stored; None for ordinary lists.

    Returns:
        New latents of the bonds and the sums at the atoms; see `BondMessages`.

    Raises:
        RuntimeError: a shape, dtype, device or index does not fit.

    Example:
        >>> one = torch.ones(1)
        >>> weights = MessageWeights(torch.zeros(1, 7), torch.zeros(1), torch.zeros(6, 1), torch.ones(6))
        >>> atoms = torch.zeros(2, 3, 1), torch.zeros(2, 6, 1), torch.zeros(2, 1)
        >>> bonds = torch.zeros(1, 1), torch.zeros(1, 3, 1), torch.tensor([[0.0, 0.0, 1.0]]), one, one[None]
        >>> out = bond_messages(*atoms, *bonds, weights, torch.tensor([[0], [1]]), torch.tensor([0, 1, 1]))
        >>> out.sum_vector.flatten()
        tensor([ 0.,  0.,  1., -0., -0., -1.])
    """
    arguments = (q, tau, atom_hidden, bond_scalar, bond_vector, direction, envelope, radial)
    if uses_reference():
        reference: BondMessages = reference_implementations().bond_messages(
            *arguments, weights, pairs, row_ptr, by_neighbor, turns
        )
        return reference
    order = order_for(1, by_neighbor, pairs, row_ptr)
    rotation, counts = (None, None) if turns is None else turns
    indices = (pairs, row_ptr, *order, rotation, counts)
    return BondMessages(*torch.ops.dtnn_fast.bond_messages(*arguments, *weights, *indices, matmul_precision()))


# Arguments of the operation: twelve tensors that are differentiated, then indices and turns.
NUM_FLOATS = 12
_NAMES = (
    *("q", "tau", "atom_hidden", "bond_scalar", "bond_vector", "direction", "envelope", "radial"),
    *("hidden_weight", "hidden_bias", "out_weight", "out_bias"),
    *("pairs", "row_ptr", "neighbor_order", "neighbor_row_ptr", "turn", "turn_counts"),
)
_GRAD_NAMES = ("grad_scalar", "grad_vector", "grad_sum_scalar", "grad_sum_vector", "grad_sum_rank2")


@torch.library.register_fake("dtnn_fast::bond_messages")
def _fake(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    inputs = arguments[: len(_NAMES)]  # without the precision, which a call may leave out
    check_same_device("bond_messages", **dict(zip(_NAMES, inputs, strict=True)))
    q, tau, _, bond_scalar, bond_vector = inputs[:5]
    num_atoms, scalars = q.shape[0], bond_scalar.shape[1]
    shapes = (bond_scalar.shape, bond_vector.shape, (num_atoms, scalars), q.shape, tau.shape)
    new_scalar, new_vector, sum_scalar, sum_vector, sum_rank2 = (q.new_empty(shape) for shape in shapes)
    return new_scalar, new_vector, sum_scalar, sum_vector, sum_rank2


@torch.library.register_fake("dtnn_fast::bond_messages_backward")
def _fake_backward(*arguments: Any) -> tuple[Tensor, ...]:
    tensors = len(_GRAD_NAMES) + len(_NAMES)
    grads, inputs = arguments[: len(_GRAD_NAMES)], arguments[len(_GRAD_NAMES) : tensors]
    need_geometry, need_weights = arguments[tensors : tensors + 2]
    named = dict(zip(_NAMES, inputs, strict=True)) | dict(zip(_GRAD_NAMES, grads, strict=True))
    check_same_device("bond_messages_backward", **named)
    needed = [True] * 5 + [need_geometry] * 3 + [need_weights] * 4
    return tuple(
        inputs[0].new_empty(x.shape if need else (0,)) for x, need in zip(inputs[:NUM_FLOATS], needed, strict=True)
    )


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, ctx.precision = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _backward(ctx, *grads):  # type: ignore[no-untyped-def]
    inputs = ctx.saved_tensors
    needs = ctx.needs_input_grad
    if all(grad is None for grad in grads):
        return (None,) * (len(inputs) + 1)
    needed = [True] * 5 + [any(needs[5:8])] * 3 + [any(needs[8:NUM_FLOATS])] * 4
    input_grads = torch.ops.dtnn_fast.bond_messages_backward(*grads, *inputs, needed[5], needed[8], ctx.precision)
    kept = [grad if need else None for grad, need in zip(input_grads, needs[:NUM_FLOATS], strict=True)]
    return *kept, *[None] * (len(inputs) + 1 - NUM_FLOATS)


def _reference(*arguments):  # type: ignore[no-untyped-def]
    floats, (pairs, row_ptr, order, order_ptr, rotation, counts, _) = arguments[:NUM_FLOATS], arguments[NUM_FLOATS:]
    turns = None if rotation is None else BondTurns(rotation, counts)
    by_neighbor = NeighborOrder(order, order_ptr)
    weights = MessageWeights(*floats[8:])
    return tuple(reference_implementations().bond_messages(*floats[:8], weights, pairs, row_ptr, by_neighbor, turns))


def _setup_backward(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, ctx.need_geometry, ctx.need_weights, _ = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _backward_backward(ctx, *grad_grads):  # type: ignore[no-untyped-def]
    arguments = ctx.saved_tensors
    needed = [True] * 5 + [ctx.need_geometry] * 3 + [ctx.need_weights] * 4
    grad_grads = tuple(grad if need else None for grad, need in zip(grad_grads, needed, strict=True))
    results: list[Tensor | None] = [None] * (len(arguments) + 3)
    if all(grad is None for grad in grad_grads):
        return tuple(results)
    places = range(len(_GRAD_NAMES) + NUM_FLOATS)
    differentiated = [place for place in places if arguments[place] is not None and ctx.needs_input_grad[place]]

    def input_grads(*values: Tensor) -> tuple[Tensor, ...]:
        replaced = list(arguments)
        for place, value in zip(differentiated, values, strict=True):
            replaced[place] = value
        results = composed_backward(*replaced)
        return tuple(x for x, grad in zip(results, grad_grads, strict=True) if grad is not None)

    _, vjp = torch.func.vjp(input_grads, *(arguments[place] for place in differentiated))
    for place, grad in zip(differentiated, vjp(tuple(g for g in grad_grads if g is not None)), strict=True):
        results[place] = grad
    return tuple(results)


def _reference_backward(*arguments):  # type: ignore[no-untyped-def]
    *tensors, need_geometry, need_weights, _ = arguments
    needed = [True] * 5 + [need_geometry] * 3 + [need_weights] * 4
    results = composed_backward(*tensors)
    return tuple(x if need else x.new_empty(0) for x, need in zip(results, needed, strict=True))


register_derivatives("bond_messages", setup_context=_setup_context, backward=_backward, reference=_reference)
register_derivatives(
    "bond_messages_backward", setup_context=_setup_backward, backward=_backward_backward, reference=_reference_backward
)
register_vmap("bond_messages")
register_vmap("bond_messages_backward")
register_autocast("bond_messages")
