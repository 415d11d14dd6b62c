# SPDX-License-Identifier: MIT
"""A random call of an operation, and the comparison with the reference implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

# Relative to the largest number of the tensor; sums of up to a few hundred terms.
TOLERANCE = {torch.float32: 3e-4, torch.float64: 1e-9, torch.float16: 2e-3, torch.bfloat16: 1e-2}


class MismatchError(Exception):
    """The operation and its reference implementation disagree."""


@dataclass(frozen=True)
class Call:
    """An operation, its reference implementation, and arguments for both, by name."""

    native: Callable[..., Any]
    reference: Callable[..., Any]
    arguments: dict[str, Any]

    @property
    def op(self) -> str:
        return self.native.__name__

    def with_argument(self, name: str, value: object) -> Call:
        return replace(self, arguments=self.arguments | {name: value})

    def leaves(self) -> list[str]:
        """Return the names of the arguments to differentiate."""
        return [
            name
            for name, value in self.arguments.items()
            if isinstance(value, Tensor) and value.is_floating_point() and name != "cutoff"
        ]

    def describe(self) -> str:
        return f"{self.op}({', '.join(f'{name}={_describe(value)}' for name, value in self.arguments.items())})"


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)} strides {value.stride()} {value.device}"
    return repr(value)


def tensors_of(results: object) -> list[Tensor]:
    """Return the tensors of a result: a tensor, or a (nested) tuple of tensors."""
    if isinstance(results, Tensor):
        return [results]
    return [tensor for item in results for tensor in tensors_of(item)] if isinstance(results, tuple | list) else []


def check_equal(native: object, reference: object, together: bool = False) -> None:
    """Raise `MismatchError` unless both have the same tensors: integers to the bit, floats within rounding.

    Args:
        native: results of the operation.
        reference: results of the reference implementation.
        together: whether the largest number of all tensors says how large rounding errors may be, not that of each.
    """
    ours, theirs = tensors_of(native), tensors_of(reference)
    largest = max((_largest(b) for b in theirs), default=0.0) if together else 0.0
    if len(ours) != len(theirs):
        raise MismatchError(f"{len(ours)} tensors, and {len(theirs)} from the reference implementation")
    for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise MismatchError(
                f"tensor {number}: {_describe(a)}, and {_describe(b)} from the reference implementation"
            )
        if not _equal(a.detach(), b.detach(), largest):
            raise MismatchError(
                f"tensor {number} of shape {list(a.shape)}: values differ from the reference implementation's"
            )


def _largest(b: Tensor) -> float:
    finite = b.detach()[b.isfinite()] if b.is_floating_point() else b.new_empty(0)
    return float(finite.abs().max()) if finite.numel() else 0.0


def _equal(a: Tensor, b: Tensor, largest: float) -> bool:
    if not a.is_floating_point():
        return torch.equal(a, b)
    # Only finite numbers are compared: a sum that is infinite in one order may be NaN in another.
    finite = b.isfinite() & a.isfinite()
    if not finite.all() and a.isfinite().all():
        return False
    largest = max(largest, _largest(b))
    return bool(((a - b)[finite].abs() <= TOLERANCE[a.dtype] * (1 + largest)).all())


def derivatives(function: Callable[..., Any], call: Call, order: int, seed: int) -> Iterator[Tensor]:
    """Yield gradients of a random scalar of the results, then (order 2) of a random scalar of these gradients."""
    names = call.leaves()
    leaves = [call.arguments[name].detach().clone().requires_grad_() for name in names]
    outputs = tensors_of(function(**(call.arguments | dict(zip(names, leaves, strict=True)))))
    generator = torch.Generator().manual_seed(seed)
    for level in range(order):
        floats = [out for out in outputs if out.is_floating_point()]
        # Drawn for every output, because a gradient of 0 may require gradients in only one of both implementations.
        factors = [torch.randn(out.shape, generator=generator, dtype=out.dtype) for out in floats]
        terms = [(out * factor).sum() for out, factor in zip(floats, factors, strict=True) if out.requires_grad]
        if not terms:
            return
        outputs = list(
            torch.autograd.grad(
                torch.stack(terms).sum(), leaves, create_graph=level + 1 < order, materialize_grads=True
            )
        )
        yield from outputs
