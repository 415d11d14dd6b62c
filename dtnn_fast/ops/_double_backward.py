# SPDX-License-Identifier: MIT
"""Derivatives of the backward of a fused operation: by an operation of its own on the CPU, else by torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from ._reference_gradients import reference_gradients_with_tangents, second_gradients
from ._registration import check_same_device, register_derivatives, register_vmap


def differentiate_backward(
    kernel: str | None,
    reference: Callable[..., tuple[Tensor, ...]],
    groups: Sequence[int],
    changes: Sequence[Tensor | None],
    inputs: Sequence[Tensor | None],
    sizes: Sequence[Any],
    used: Sequence[bool],
) -> list[Tensor | None]:
    """Compute the gradients of the inputs of the backward of an operation, ``<op>``.

    Args:
        kernel: the operation ``<op>_double_backward`` for the CPU, or None where there is none.
        reference: ``<op>`` in torch's operations.
        groups: the group of each tensor of ``<op>``, from 0.
        changes: gradients of the results of the backward; None counts as zero.
        inputs: gradients of the results of ``<op>`` (None counts as zero), then its tensors.
        sizes: its sizes.
        used: for each of the inputs whether its gradient is needed.

    Returns:
        A gradient or None for each of the inputs.
    """
    num_grads = len(inputs) - len(groups)
    grads, tensors = inputs[:num_grads], cast("Sequence[Tensor]", inputs[num_grads:])
    if all(change is None for change in changes) or not any(used):
        return [None] * len(used)
    if kernel is None or tensors[0].is_cuda:
        of_grads, of_tensors = second_gradients(lambda *x: reference(*x, *sizes), tensors, grads, changes)
        results: Sequence[Tensor | None] = [*of_grads, *of_tensors]
    else:
        of_groups = dict.fromkeys(groups, False)
        for group, use in zip(groups, used[num_grads:], strict=True):
            of_groups[group] |= use
        needs = [of_groups[group] for group in sorted(of_groups)]
        results = getattr(torch.ops.dtnn_fast, kernel)(*changes, *inputs, *sizes, *needs)
    return [x if use else None for x, use in zip(results, used, strict=True)]


def register_double_backward(
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
        changes: Sequence[Tensor | None],
        grads: Sequence[Tensor | None],
        tensors: Sequence[Tensor],
        sizes: Sequence[Any],
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
