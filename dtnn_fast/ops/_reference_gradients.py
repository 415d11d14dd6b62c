# SPDX-License-Identifier: MIT
"""Gradients of an operation through its reference implementation, with torch's operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._functorch.eager_transforms import enable_inplace_requires_grad


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
