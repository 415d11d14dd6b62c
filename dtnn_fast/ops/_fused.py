# SPDX-License-Identifier: MIT
"""Derivatives of fused operations: the backward is a kernel, and mostly the second derivative goes by the reference.

A fused operation is a small network. Its backward kernel computes the values again and returns the gradients of all
differentiable inputs. The derivative of the backward is needed for forces in a loss. There is a kernel of it for the
networks of the encoder on the CPU; others take it from the reference implementation, by torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ._double_backward import differentiate_backward, register_double_backward
from ._reference_gradients import reference_gradients_with_tangents
from ._registration import check_same_device, register_autocast, register_derivatives, register_vmap


def register_network(
    op: str,
    *,
    names: Sequence[str],
    groups: Sequence[int],
    grad_names: Sequence[str] = ("grad_scalar", "grad_vector", "grad_rank2"),
    autocast: bool = True,
    fake: Callable[..., tuple[Tensor, ...]],
    reference: Callable[..., tuple[Tensor, ...]],
    double_backward_on_cpu: bool = False,
) -> None:
    """Register fakes, derivatives, vmap and autocast of an operation all of whose tensors are differentiable.

    The operation takes its tensors, then sizes, then the precision of its products if it has any. ``<op>_backward``
    takes the gradients of the results, the tensors and sizes, for each group of tensors whether their gradients are
    needed, and the precision.

    Args:
        op: the operation, without the namespace.
        names: names of its tensors.
        groups: the group of each tensor, from 0.
        grad_names: names of the gradients of its results.
        autocast: whether torch.autocast casts 16-bit tensors to float32.
        fake: makes empty results.
        reference: the operation in torch's operations.
        double_backward_on_cpu: whether there is an operation ``<op>_double_backward`` for the CPU. It takes the
            gradients of the results of ``<op>_backward``, then the tensors, sizes and needs of that.
    """
    count, num_groups = len(names), max(groups) + 1
    num_grads = len(grad_names)
    backward_op = f"{op}_backward"
    double_op = f"{op}_double_backward" if double_backward_on_cpu else None
    num_inputs = _num_arguments(backward_op) - num_grads - num_groups

    def split(arguments: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], list[bool]]:
        """Split tensors, sizes and needs. Needs that are left out are true."""
        needs = list(arguments[num_inputs : num_inputs + num_groups])
        needs += [True] * (num_groups - len(needs))
        return arguments[:count], arguments[count:num_inputs], [needs[group] for group in groups]

    def fake_forward(*arguments: Any) -> tuple[Tensor, ...]:
        check_same_device(op, **dict(zip(names, arguments, strict=False)))
        return fake(*arguments[:num_inputs])

    def fake_backward(*arguments: Any) -> Any:
        tensors, _, needed = split(arguments[num_grads:])
        check_same_device(backward_op, **dict(zip((*names, *grad_names), (*tensors, *arguments), strict=False)))
        empty = tuple(x.new_empty(x.shape if need else (0,)) for x, need in zip(tensors, needed, strict=True))
        return empty if count > 1 else empty[0]

    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
        ctx.sizes, ctx.precision = inputs[count:num_inputs], inputs[num_inputs:]
        ctx.save_for_backward(*inputs[:count])
        ctx.set_materialize_grads(False)

    def backward(ctx, *grads):  # type: ignore[no-untyped-def]
        needs = ctx.needs_input_grad
        if all(grad is None for grad in grads):
            return (None,) * len(needs)
        of_groups = [any(needs[i] for i in range(count) if groups[i] == group) for group in range(num_groups)]
        results = getattr(torch.ops.dtnn_fast, backward_op)(
            *grads, *ctx.saved_tensors, *ctx.sizes, *of_groups, *ctx.precision
        )
        results = (results,) if count == 1 else results
        return *(g if need else None for g, need in zip(results, needs, strict=False)), *[None] * (len(needs) - count)

    def setup_backward(ctx, inputs, output):  # type: ignore[no-untyped-def]
        _, ctx.sizes, ctx.needed = split(inputs[num_grads:])
        ctx.num_arguments = len(inputs)
        ctx.save_for_backward(*inputs[: num_grads + count])
        ctx.set_materialize_grads(False)

    def backward_backward(ctx, *grad_grads):  # type: ignore[no-untyped-def]
        wanted = [grad if need else None for grad, need in zip(grad_grads, ctx.needed, strict=True)]
        used = ctx.needs_input_grad[: num_grads + count]
        results = differentiate_backward(double_op, reference, groups, wanted, ctx.saved_tensors, ctx.sizes, used)
        return *results, *[None] * (ctx.num_arguments - num_grads - count)

    def forward_by_reference(*arguments: Any) -> tuple[Tensor, ...]:
        return reference(*arguments[:num_inputs])

    def backward_by_reference(*arguments: Any) -> Any:
        tensors, sizes, needed = split(arguments[num_grads:])
        grads = reference_gradients_with_tangents(lambda *x: reference(*x, *sizes), tensors, arguments[:num_grads])
        results = tuple(grad if need else grad.new_empty(0) for grad, need in zip(grads, needed, strict=True))
        return results if count > 1 else results[0]

    torch.library.register_fake(f"dtnn_fast::{op}", fake_forward)
    torch.library.register_fake(f"dtnn_fast::{backward_op}", fake_backward)
    register_derivatives(op, setup_context=setup_context, backward=backward, reference=forward_by_reference)
    register_derivatives(
        backward_op,
        setup_context=setup_backward,
        backward=backward_backward,
        reference=backward_by_reference,
    )
    register_vmap(op)
    register_vmap(backward_op)
    if double_op is not None:
        register_double_backward(double_op, names, grad_names, split, fake_forward, reference)
    if autocast:
        register_autocast(op)


def _num_arguments(op: str) -> int:
    """Count the arguments of an operation, without the precision of its products."""
    arguments = getattr(torch.ops.dtnn_fast, op).default._schema.arguments
    return len(arguments) - (arguments[-1].name == "precision")
