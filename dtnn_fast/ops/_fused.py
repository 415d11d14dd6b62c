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
    backward_on_cuda: bool = False,
    double_backward_on_cpu: bool = False,
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
        backward_on_cuda: whether there is a CUDA kernel of the backward; otherwise the reference implementation runs.
        double_backward_on_cpu: whether there is an operation ``<op>_double_backward`` for the CPU. It takes the
            gradients of the results of ``<op>_backward``, then its arguments.
        fake: makes empty results.
        reference: the operation in torch's operations.
    """
    count, num_groups = len(names), max(groups) + 1
    num_grads = len(grad_names)
    backward_op, double_op = f"{op}_backward", f"{op}_double_backward"
    schema = getattr(torch.ops.dtnn_fast, backward_op).default._schema
    num_sizes = len(schema.arguments) - num_grads - count - num_groups

    def split(arguments: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], list[bool]]:
        """Split tensors, sizes and needs. Needs that are left out are true."""
        needs = list(arguments[count + num_sizes :])
        needs += [True] * (num_groups - len(needs))
        return arguments[:count], arguments[count : count + num_sizes], [needs[group] for group in groups]

    def needs_of_groups(needs: Sequence[bool]) -> list[bool]:
        return [any(needs[i] for i in range(count) if groups[i] == group) for group in range(num_groups)]

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
        needed = needs_of_groups(needs)
        results = getattr(torch.ops.dtnn_fast, backward_op)(*grads, *ctx.saved_tensors, *ctx.sizes, *needed)
        results = (results,) if count == 1 else results
        return *(g if need else None for g, need in zip(results, needs, strict=False)), *[None] * num_sizes

    def setup_backward(ctx, inputs, output):  # type: ignore[no-untyped-def]
        _, ctx.sizes, ctx.needed = split(inputs[num_grads:])
        ctx.num_arguments = len(inputs)
        ctx.save_for_backward(*inputs[: num_grads + count])
        ctx.set_materialize_grads(False)

    def backward_backward(ctx, *grad_grads):  # type: ignore[no-untyped-def]
        saved = ctx.saved_tensors
        grads, tensors = saved[:num_grads], saved[num_grads:]
        wanted = [grad if need else None for grad, need in zip(grad_grads, ctx.needed, strict=True)]
        used = ctx.needs_input_grad[: num_grads + count]
        if all(grad is None for grad in wanted) or not any(used):
            return (None,) * ctx.num_arguments
        if double_backward_on_cpu and not tensors[0].is_cuda:
            needs = needs_of_groups(used[num_grads:])
            results = getattr(torch.ops.dtnn_fast, double_op)(*wanted, *grads, *tensors, *ctx.sizes, *needs)
        else:
            of_grads, of_inputs = second_gradients(lambda *x: reference(*x, *ctx.sizes), tensors, grads, wanted)
            results = *of_grads, *of_inputs
        kept = (x if use else None for x, use in zip(results, used, strict=True))
        return *kept, *[None] * (ctx.num_arguments - num_grads - count)

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
        reference_on_cuda=not backward_on_cuda,
    )
    register_vmap(op)
    register_vmap(backward_op)
    if double_backward_on_cpu:
        _register_double_backward(double_op, names, grad_names, split, fake_forward, reference)
    if autocast:
        register_autocast(op)


def _register_double_backward(
    op: str,
    names: Sequence[str],
    grad_names: Sequence[str],
    split: Callable[[Sequence[Any]], tuple[Sequence[Any], Sequence[Any], list[bool]]],
    fake_forward: Callable[..., tuple[Tensor, ...]],
    reference: Callable[..., tuple[Tensor, ...]],
) -> None:
    """Register fakes, derivatives and vmap of an operation that differentiates a backward.

    Its derivatives are taken by torch from the reference implementation.

    Args:
        op: the operation ``<op>_double_backward``.
        names: names of the tensors of ``<op>``.
        grad_names: names of the gradients of its results.
        split: splits the arguments of ``<op>`` into tensors, sizes and which gradients are needed.
        fake_forward: makes empty results of ``<op>``.
        reference: ``<op>`` in torch's operations.
    """
    count, num_grads = len(names), len(grad_names)
    change_names = [f"change_{name}" for name in names]

    def parts(arguments: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
        """Split into gradients of gradients, gradients, and the arguments of ``<op>``."""
        return arguments[:count], arguments[count : count + num_grads], arguments[count + num_grads :]

    def fake(*arguments: Any) -> tuple[Tensor, ...]:
        changes, grads, inputs = parts(arguments)
        tensors, sizes, needed = split(inputs)
        named = dict(zip(names, tensors, strict=True)) | dict(zip(grad_names, grads, strict=True))
        check_same_device(op, **named, **dict(zip(change_names, changes, strict=True)))
        of_inputs = (x.new_empty(x.shape if need else (0,)) for x, need in zip(tensors, needed, strict=True))
        return *fake_forward(*tensors, *sizes), *of_inputs

    def first_gradients(
        changes: Sequence[Tensor | None], grads: Sequence[Tensor | None], tensors: Sequence[Tensor], sizes: Sequence[Any]
    ) -> tuple[Callable[..., tuple[Tensor, ...]], list[Tensor], list[int]]:
        """Return the backward as a function of gradients and tensors, these, and which of its results have changes."""
        outputs = fake_forward(*tensors, *sizes)
        given = [torch.zeros_like(out) if grad is None else grad for out, grad in zip(outputs, grads, strict=True)]
        wanted = [place for place, change in enumerate(changes) if change is not None]

        def function(*moving: Tensor) -> tuple[Tensor, ...]:
            results = reference_gradients_with_tangents(
                lambda *x: reference(*x, *sizes), moving[num_grads:], moving[:num_grads]
            )
            return tuple(results[place] for place in wanted)

        return function, [*given, *tensors], wanted

    def by_reference(*arguments: Any) -> tuple[Tensor, ...]:
        changes, grads, inputs = parts(arguments)
        tensors, sizes, needed = split(inputs)
        function, moving, wanted = first_gradients(changes, grads, tensors, sizes)
        results = reference_gradients_with_tangents(function, moving, [changes[place] for place in wanted])
        needed = [True] * num_grads + needed
        return tuple(x if need else x.new_empty(0) for x, need in zip(results, needed, strict=True))

    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
        _, ctx.sizes, ctx.needed = split(parts(inputs)[2])
        ctx.num_arguments = len(inputs)
        ctx.save_for_backward(*inputs[: 2 * count + num_grads])
        ctx.set_materialize_grads(False)

    def backward(ctx, *third_grads):  # type: ignore[no-untyped-def]
        changes, grads, tensors = parts(ctx.saved_tensors)
        function, moving, wanted = first_gradients(changes, grads, tensors, ctx.sizes)
        needed = [True] * num_grads + ctx.needed
        present = [grad if need else None for grad, need in zip(third_grads, needed, strict=True)]
        of_wanted, of_moving = second_gradients(function, moving, [changes[place] for place in wanted], present)
        of_changes: list[Tensor | None] = [None] * count
        for place, grad in zip(wanted, of_wanted, strict=True):
            of_changes[place] = grad
        kept = [None if x is None else grad for x, grad in zip((*grads, *tensors), of_moving, strict=True)]
        return *of_changes, *kept, *[None] * (ctx.num_arguments - 2 * count - num_grads)

    torch.library.register_fake(f"dtnn_fast::{op}", fake)
    register_derivatives(op, setup_context=setup_context, backward=backward, reference=by_reference)
    register_vmap(op)
