# SPDX-License-Identifier: MIT
"""Messages on the bonds of one layer of the native encoder, and their sums on the atoms."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._backend import reference_implementations, uses_reference
from ._bond_ends import order_for
from ._bond_messages_derivatives import (
    NUM_DIFFERENTIATED,
    NUM_FLOATS,
    NUM_GRADS,
    composed_backward,
    composed_double_backward,
    input_gradients,
    output_shapes,
)
from ._rank2 import matmul_precision
from ._reference_gradients import reference_gradients, reference_gradients_with_tangents, second_gradients
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
    and the backward computes them again. On CUDA, derivatives of second order run on the operations of torch.

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
    new_scalar, new_vector, sum_scalar, sum_vector, sum_rank2 = (inputs[0].new_empty(s) for s in output_shapes(*inputs))
    return new_scalar, new_vector, sum_scalar, sum_vector, sum_rank2


@torch.library.register_fake("dtnn_fast::bond_messages_backward")
def _fake_backward(*arguments: Any) -> tuple[Tensor, ...]:
    tensors = len(_GRAD_NAMES) + len(_NAMES)
    grads, inputs = arguments[: len(_GRAD_NAMES)], arguments[len(_GRAD_NAMES) : tensors]
    need_geometry, need_weights = arguments[tensors : tensors + 2]
    named = dict(zip(_NAMES, inputs, strict=True)) | dict(zip(_GRAD_NAMES, grads, strict=True))
    check_same_device("bond_messages_backward", **named)
    needed = _needed(need_geometry, need_weights)
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
    of_groups = any(needs[5:8]), any(needs[8:NUM_FLOATS])
    input_grads = torch.ops.dtnn_fast.bond_messages_backward(*grads, *inputs, *of_groups, ctx.precision)
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
    needed = _needed(ctx.need_geometry, ctx.need_weights)
    changes = tuple(grad if need else None for grad, need in zip(grad_grads, needed, strict=True))
    used = ctx.needs_input_grad[:NUM_DIFFERENTIATED]
    if all(change is None for change in changes) or not any(used):
        return (None,) * len(ctx.needs_input_grad)
    if arguments[NUM_GRADS].is_cuda:
        results = composed_double_backward(reference_gradients, changes, arguments, used)
    else:
        needs = any(used[10:13]), any(used[13:])
        results = torch.ops.dtnn_fast.bond_messages_double_backward(*changes, *arguments, *needs)
    kept = [x if use else None for x, use in zip(results, used, strict=True)]
    return *kept, *[None] * (len(ctx.needs_input_grad) - NUM_DIFFERENTIATED)


def _reference_backward(*arguments):  # type: ignore[no-untyped-def]
    *tensors, need_geometry, need_weights, _ = arguments
    results = composed_backward(*tensors)
    needed = _needed(need_geometry, need_weights)
    return tuple(x if need else x.new_empty(0) for x, need in zip(results, needed, strict=True))


@torch.library.register_fake("dtnn_fast::bond_messages_double_backward")
def _fake_double_backward(*arguments: Any) -> tuple[Tensor, ...]:
    changes, tensors, needs = arguments[:NUM_FLOATS], arguments[NUM_FLOATS:-2], arguments[-2:]
    names = (*_GRAD_NAMES, *_NAMES)
    named = dict(zip(names, tensors, strict=True)) | {
        f"change_{name}": change for name, change in zip(_NAMES, changes, strict=False)
    }
    check_same_device("bond_messages_double_backward", **named)
    inputs = tensors[NUM_GRADS:]
    of_inputs = zip(inputs[:NUM_FLOATS], _needed(*needs), strict=True)
    return *_fake(*inputs), *(inputs[0].new_empty(x.shape if need else (0,)) for x, need in of_inputs)


def _setup_double_backward(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, ctx.need_geometry, ctx.need_weights = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _third_backward(ctx, *grads):  # type: ignore[no-untyped-def]
    changes, arguments = ctx.saved_tensors[:NUM_FLOATS], ctx.saved_tensors[NUM_FLOATS:]
    needed = [True] * NUM_GRADS + _needed(ctx.need_geometry, ctx.need_weights)
    kept = [grad if need else None for grad, need in zip(grads, needed, strict=True)]
    given = [*changes, *arguments[:NUM_DIFFERENTIATED]]
    function, inputs, wanted = input_gradients(changes, arguments, [True] * NUM_DIFFERENTIATED)
    of_wanted, of_inputs = second_gradients(function, inputs, [changes[place] for place in wanted], kept)
    of_changes = dict(zip(wanted, of_wanted, strict=True))
    results = [*(of_changes.get(place) for place in range(NUM_FLOATS)), *of_inputs]
    present = [None if x is None else grad for x, grad in zip(given, results, strict=True)]
    return *present, *[None] * (len(ctx.needs_input_grad) - len(present))


def _reference_double_backward(*arguments):  # type: ignore[no-untyped-def]
    changes, tensors, needs = arguments[:NUM_FLOATS], arguments[NUM_FLOATS:-2], arguments[-2:]
    needed = [True] * NUM_GRADS + _needed(*needs)
    results = composed_double_backward(reference_gradients_with_tangents, changes, tensors, needed)
    return tuple(tensors[NUM_GRADS].new_empty(0) if x is None else x for x in results)


def _needed(need_geometry: bool, need_weights: bool) -> list[bool]:
    """List for the twelve inputs whether their gradients are needed."""
    return [True] * 5 + [need_geometry] * 3 + [need_weights] * 4


register_derivatives("bond_messages", setup_context=_setup_context, backward=_backward, reference=_reference)
register_derivatives(
    "bond_messages_backward", setup_context=_setup_backward, backward=_backward_backward, reference=_reference_backward
)
register_derivatives(
    "bond_messages_double_backward",
    setup_context=_setup_double_backward,
    backward=_third_backward,
    reference=_reference_double_backward,
)
register_vmap("bond_messages")
register_vmap("bond_messages_backward")
register_vmap("bond_messages_double_backward")
register_autocast("bond_messages")
