# SPDX-License-Identifier: MIT
"""Derivatives of fused operations: the backward is a kernel, and the second derivative goes through the reference.

A fused operation is a small network. Its backward kernel computes the values again and returns the gradients of all
differentiable inputs. The derivative of the backward is rarely needed (forces in a loss), so it is taken by torch from
the reference implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._functorch.eager_transforms import enable_inplace_requires_grad

from ._registration import check_same_device, register_autocast, register_derivatives, register_vmap


def reference_gradients(
    reference: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor], grad_outputs: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    """Compute the gradients of `inputs` through the reference implementation, with torch's operations.

    Args:
        reference: takes `inputs` and returns the outputs.
        inputs: the differentiable inputs.
        grad_outputs: gradients of the outputs; None counts as zero.
    """
    outputs, pull, *_ = torch.func.vjp(reference, *inputs)
    grads = tuple(
        torch.zeros_like(output) if grad is None else grad for output, grad in zip(outputs, grad_outputs, strict=True)
    )
    return pull(grads)


def reference_gradients_with_tangents(
    reference: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor], grad_outputs: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    """Do the same as `reference_gradients` for inputs with tangents of forward mode, within a kernel.

    There torch refuses a new transform. So the gradients are recorded at the level of the kernel, from copies of the
    inputs that need gradients and keep their tangents and their history.
    """
    with torch.enable_grad(), enable_inplace_requires_grad(True):
        copies = [x + torch.zeros_like(x).requires_grad_() for x in inputs]
        outputs = reference(*copies)
        present = [(out, grad) for out, grad in zip(outputs, grad_outputs, strict=True) if grad is not None]
        if not any(out.requires_grad for out, _ in present):  # of no members
            return tuple(torch.zeros_like(x) for x in inputs)
        return torch.autograd.grad(
            [out for out, _ in present],
            copies,
            [grad for _, grad in present],
            create_graph=True,
            materialize_grads=True,
        )


def second_gradients(
    reference: Callable[..., tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    grad_outputs: Sequence[Tensor | None],
    grad_grads: Sequence[Tensor | None],
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Differentiate `reference_gradients`.

    Args:
        reference: takes `inputs` and returns the outputs.
        inputs: the differentiable inputs.
        grad_outputs: gradients of the outputs; None counts as zero.
        grad_grads: gradients of the results of `reference_gradients`; None counts as zero.

    Returns:
        The gradients of `grad_outputs` (None where that is None), and of `inputs`.
    """
    present = [place for place, grad in enumerate(grad_outputs) if grad is not None]
    wanted = [place for place, grad in enumerate(grad_grads) if grad is not None]
    if not present or not wanted:
        return [None] * len(grad_outputs), [None] * len(inputs)

    def gradients(*moving: Tensor) -> tuple[Tensor, ...]:
        given: list[Tensor | None] = [None] * len(grad_outputs)
        for place, grad in zip(present, moving, strict=False):
            given[place] = grad
        all_gradients = reference_gradients(reference, moving[len(present) :], given)
        return tuple(all_gradients[place] for place in wanted)

    moving = [grad for grad in grad_outputs if grad is not None]
    _, pull, *_ = torch.func.vjp(gradients, *moving, *inputs)
    results = pull(tuple(grad for grad in grad_grads if grad is not None))
    of_outputs: list[Any] = [None] * len(grad_outputs)
    for place, result in zip(present, results, strict=False):
        of_outputs[place] = result
    return of_outputs, list(results[len(present) :])


def register_network(
    op: str,
    *,
    names: Sequence[str],
    groups: Sequence[int],
    grad_names: Sequence[str] = ("grad_scalar", "grad_vector", "grad_rank2"),
    autocast: bool = True,
    fake: Callable[..., tuple[Tensor, ...]],
    reference: Callable[..., tuple[Tensor, ...]],
) -> None:
    """Register fakes, derivatives, vmap and autocast of an operation all of whose tensors are differentiable.

    The operation takes its tensors and then sizes. ``<op>_backward`` takes the gradients of the results, the same
    arguments, and for each group of tensors whether their gradients are needed.

    Args:
        op: the operation, without the namespace.
        names: names of its tensors.
        groups: the group of each tensor, from 0.
        grad_names: names of the gradients of its results.
        autocast: whether torch.autocast casts 16-bit tensors to float32.
        fake: makes empty results.
        reference: the operation in torch's operations.
    """
    count, num_groups = len(names), max(groups) + 1
    num_grads = len(grad_names)
    backward_op = f"{op}_backward"
    schema = getattr(torch.ops.dtnn_fast, backward_op).default._schema
    num_sizes = len(schema.arguments) - num_grads - count - num_groups

    def split(arguments: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], list[bool]]:
        """Split tensors, sizes and needs. Needs that are left out are true."""
        needs = list(arguments[count + num_sizes :])
        needs += [True] * (num_groups - len(needs))
        return arguments[:count], arguments[count : count + num_sizes], [needs[group] for group in groups]

    def fake_forward(*arguments: Any) -> tuple[Tensor, ...]:
        check_same_device(op, **dict(zip(names, arguments, strict=False)))
        return fake(*arguments)

    def fake_backward(*arguments: Any) -> Any:
        tensors, _, needed = split(arguments[num_grads:])
        check_same_device(backward_op, **dict(zip((*names, *grad_names), (*tensors, *arguments), strict=False)))
        empty = tuple(x.new_empty(x.shape if need else (0,)) for x, need in zip(tensors, needed, strict=True))
        return empty if count > 1 else empty[0]

    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
        ctx.sizes = inputs[count:]
        ctx.save_for_backward(*inputs[:count])
        ctx.set_materialize_grads(False)

    def backward(ctx, *grads):  # type: ignore[no-untyped-def]
        needs = ctx.needs_input_grad
        if all(grad is None for grad in grads):
            return (None,) * len(needs)
        of_groups = [any(needs[i] for i in range(count) if groups[i] == group) for group in range(num_groups)]
        results = getattr(torch.ops.dtnn_fast, backward_op)(*grads, *ctx.saved_tensors, *ctx.sizes, *of_groups)
        results = (results,) if count == 1 else results
        return *(g if need else None for g, need in zip(results, needs, strict=False)), *[None] * num_sizes

    def setup_backward(ctx, inputs, output):  # type: ignore[no-untyped-def]
        _, ctx.sizes, ctx.needed = split(inputs[num_grads:])
        ctx.num_arguments = len(inputs)
        ctx.save_for_backward(*inputs[: num_grads + count])
        ctx.set_materialize_grads(False)

    def backward_backward(ctx, *grad_grads):  # type: ignore[no-untyped-def]
        saved = ctx.saved_tensors
        wanted = [grad if need else None for grad, need in zip(grad_grads, ctx.needed, strict=True)]
        of_grads, of_inputs = second_gradients(
            lambda *x: reference(*x, *ctx.sizes), saved[num_grads:], saved[:num_grads], wanted
        )
        return *of_grads, *of_inputs, *[None] * (ctx.num_arguments - num_grads - count)

    def backward_by_reference(*arguments: Any) -> Any:
        tensors, sizes, needed = split(arguments[num_grads:])
        grads = reference_gradients_with_tangents(lambda *x: reference(*x, *sizes), tensors, arguments[:num_grads])
        results = tuple(grad if need else grad.new_empty(0) for grad, need in zip(grads, needed, strict=True))
        return results if count > 1 else results[0]

    torch.library.register_fake(f"dtnn_fast::{op}", fake_forward)
    torch.library.register_fake(f"dtnn_fast::{backward_op}", fake_backward)
    register_derivatives(op, setup_context=setup_context, backward=backward, reference=reference)
    register_derivatives(
        backward_op,
        setup_context=setup_backward,
        backward=backward_backward,
        reference=backward_by_reference,
    )
    register_vmap(op)
    register_vmap(backward_op)
    if autocast:
        register_autocast(op)
