# SPDX-License-Identifier: MIT
"""Sum the values of bond perceptrons over the bonds of each atom."""

from __future__ import annotations

import torch
from torch import Tensor

from .._backend import reference_implementations, uses_reference
from ._bond_ends import order_for
from ._rank2 import matmul_precision
from ._reference_gradients import reference_gradients_with_tangents, second_gradients
from ._registration import check_same_device, register_autocast, register_derivatives, register_vmap
from .neighbor_list import NeighborOrder


def bond_perceptron_sum(
    bond_scalar: Tensor,
    envelope: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    pairs: Tensor,
    row_ptr: Tensor,
    sum_scalar: Tensor | None = None,
    by_neighbor: NeighborOrder | None = None,
) -> tuple[Tensor, Tensor]:
    """Apply M perceptrons to the bonds of a half list and sum their values at both ends; Eq. 8 of arXiv 2405.09052.

    ``value[m, e] = silu(silu(bond_scalar[e] @ weight1[m] + bias1[m]) @ weight2[m] + bias2[m])``

    ``sums[m, n]`` is the sum of ``envelope[e] * value[m, e]`` over the bonds e that have atom n at an end. On the CPU
    no value of a bond is stored, not even in the backward. On CUDA the values of a few members are stored at a time,
    in the backward those of some bonds. On the CPU, products follow
    ``torch.set_float32_matmul_precision``, as in `bond_messages`.

    Args:
        bond_scalar: scalars of the bonds. [E, C], float32 or float64.
        envelope: weights of the bonds, such as the smooth cutoff. [E], dtype of `bond_scalar`.
        weight1: first layers, [inputs, outputs] each. [M, C, H], dtype of `bond_scalar`.
        bias1: [M, H], dtype of `bond_scalar`.
        weight2: second layers. [M, H, D], dtype of `bond_scalar`.
        bias2: [M, D], dtype of `bond_scalar`.
        pairs: centers and neighbors, sorted by center. [2, E], int64.
        row_ptr: the bonds of center n are ``row_ptr[n]:row_ptr[n + 1]``. [N+1], int64.
        sum_scalar: how often a bond counts at its center (row 0) and at its neighbor (row 1); None for once.
            [2, E], dtype of `bond_scalar`.
        by_neighbor: the bonds sorted by neighbor, which CUDA needs; None to sort them here.

    Returns:
        The sums [M, N, D], and the sums of the envelope [N]; dtype of `bond_scalar`.

    Raises:
        RuntimeError: a shape, dtype or device does not fit, or `pairs` disagrees with `row_ptr`.

    Example:
        >>> one, zero = torch.ones(1, 1, 1), torch.zeros(1, 1)
        >>> pairs, row_ptr = torch.tensor([[0, 0], [0, 1]]), torch.tensor([0, 2, 2])
        >>> _, counts = bond_perceptron_sum(torch.ones(2, 1), torch.ones(2), one, zero, one, zero, pairs, row_ptr)
        >>> counts
        tensor([3., 1.])
    """
    arguments = bond_scalar, envelope, weight1, bias1, weight2, bias2, pairs, row_ptr, sum_scalar
    if uses_reference():
        return reference_implementations().bond_perceptron_sum(*arguments)
    # `pairs` of a wrong shape are left to the kernel's check.
    can_sort = pairs.dim() == 2 and pairs.shape[0] == 2 and pairs.dtype == torch.int64
    order = order_for(1, by_neighbor, pairs, row_ptr) if by_neighbor is not None or can_sort else (None, None)
    return torch.ops.dtnn_fast.bond_perceptron_sum(*arguments, *order, matmul_precision())


_NUM_ARGUMENTS = 9  # before the bonds sorted by neighbor


def _check_devices(op: str, *tensors: Tensor | None) -> None:
    names = "bond_scalar envelope weight1 bias1 weight2 bias2 pairs row_ptr sum_scalar grad_sums grad_envelope_sum"
    check_same_device(op, **dict(zip(names.split(), tensors, strict=False)))


@torch.library.register_fake("dtnn_fast::bond_perceptron_sum")
def _fake(
    bond_scalar: Tensor,
    envelope: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    pairs: Tensor,
    row_ptr: Tensor,
    sum_scalar: Tensor | None,
    neighbor_order: Tensor | None = None,
    neighbor_row_ptr: Tensor | None = None,
    precision: int = 0,
) -> tuple[Tensor, Tensor]:
    tensors = bond_scalar, envelope, weight1, bias1, weight2, bias2, pairs, row_ptr, sum_scalar
    _check_devices("bond_perceptron_sum", *tensors)
    sorted_bonds = {"neighbor_order": neighbor_order, "neighbor_row_ptr": neighbor_row_ptr}
    check_same_device("bond_perceptron_sum", bond_scalar=bond_scalar, **sorted_bonds)
    num_atoms = row_ptr.shape[0] - 1
    return bond_scalar.new_empty((weight1.shape[0], num_atoms, weight2.shape[2])), bond_scalar.new_empty((num_atoms,))


@torch.library.register_fake("dtnn_fast::bond_perceptron_sum_backward")
def _fake_backward(
    grad_sums: Tensor | None,
    grad_envelope_sum: Tensor | None,
    bond_scalar: Tensor,
    envelope: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    pairs: Tensor,
    row_ptr: Tensor,
    sum_scalar: Tensor | None,
    need_scalar: bool = True,
    need_envelope: bool = True,
    need_weights: bool = True,
    need_sum_scalar: bool = False,
    precision: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    tensors = bond_scalar, envelope, weight1, bias1, weight2, bias2
    grads = grad_sums, grad_envelope_sum
    _check_devices("bond_perceptron_sum_backward", *tensors, pairs, row_ptr, sum_scalar, *grads)
    needed = (need_scalar, need_envelope, *[need_weights] * 4)
    a, b, c, d, e, f = (x.new_empty(x.shape if need else (0,)) for x, need in zip(tensors, needed, strict=True))
    g = envelope.new_empty((2, envelope.shape[0]) if need_sum_scalar else (0,))
    return a, b, c, d, e, f, g


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs[:_NUM_ARGUMENTS])
    ctx.precision = inputs[-1]
    ctx.set_materialize_grads(False)


def _backward(ctx, grad_sums, grad_envelope_sum):  # type: ignore[no-untyped-def]
    need_scalar, need_envelope, *need_weights = ctx.needs_input_grad[:6]
    if grad_sums is None and grad_envelope_sum is None:
        return (None,) * len(ctx.needs_input_grad)
    needed = need_scalar, need_envelope, any(need_weights), ctx.needs_input_grad[8]
    *grads, grad_factors = torch.ops.dtnn_fast.bond_perceptron_sum_backward(
        grad_sums, grad_envelope_sum, *ctx.saved_tensors, *needed, ctx.precision
    )
    all_grads = (*grads, None, None, grad_factors, *[None] * (len(ctx.needs_input_grad) - _NUM_ARGUMENTS))
    return tuple(grad if need else None for grad, need in zip(all_grads, ctx.needs_input_grad, strict=True))


def _setup_backward(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs[:11])
    ctx.needed = _needed(*inputs[11:15])
    ctx.set_materialize_grads(False)


def _needed(
    need_scalar: bool = True, need_envelope: bool = True, need_weights: bool = True, need_sum_scalar: bool = False
) -> list[bool]:
    """Tell which results of the backward are gradients."""
    return [need_scalar, need_envelope, *[need_weights] * 4, need_sum_scalar]


def _backward_backward(ctx, *grad_grads):  # type: ignore[no-untyped-def]
    grad_sums, grad_envelope_sum, *tensors = ctx.saved_tensors
    reference, inputs = _reference_of(*tensors)
    wanted = [grad if need else None for grad, need in zip(grad_grads, ctx.needed, strict=True)]
    of_grads, of_inputs = second_gradients(reference, inputs, (grad_sums, grad_envelope_sum), wanted[: len(inputs)])
    of_factors = of_inputs[6] if len(inputs) == 7 else None
    return *of_grads, *of_inputs[:6], None, None, of_factors, *[None] * 5


def _reference_of(*tensors):  # type: ignore[no-untyped-def]
    """Return the reference implementation of its differentiable inputs alone, and these."""
    *inputs, pairs, row_ptr, sum_scalar = tensors

    def reference(*moving: Tensor) -> tuple[Tensor, Tensor]:
        return reference_implementations().bond_perceptron_sum(*moving[:6], pairs, row_ptr, *moving[6:])

    return reference, inputs if sum_scalar is None else [*inputs, sum_scalar]


def _reference(*arguments):  # type: ignore[no-untyped-def]
    return reference_implementations().bond_perceptron_sum(*arguments[:_NUM_ARGUMENTS])


def _reference_backward(grad_sums, grad_envelope_sum, *arguments):  # type: ignore[no-untyped-def]
    reference, inputs = _reference_of(*arguments[:9])
    grads = list(reference_gradients_with_tangents(reference, inputs, (grad_sums, grad_envelope_sum)))
    needed = _needed(*arguments[9:13])
    grads += [grads[0]] * (7 - len(grads))  # without `sum_scalar` its gradient is not needed
    return tuple(grad if need else grad.new_empty(0) for grad, need in zip(grads, needed, strict=True))


register_derivatives("bond_perceptron_sum", setup_context=_setup_context, backward=_backward, reference=_reference)
register_derivatives(
    "bond_perceptron_sum_backward",
    setup_context=_setup_backward,
    backward=_backward_backward,
    reference=_reference_backward,
)
register_vmap("bond_perceptron_sum")
register_vmap("bond_perceptron_sum_backward")
register_autocast("bond_perceptron_sum")
