# SPDX-License-Identifier: MIT
"""torch.vmap over the operations: one call of the kernel where samples can stand side by side, else one for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Takes the operation, the number of samples, the batched dimension of each argument (None: not batched) and the
# arguments. Returns the result and its batched dimensions, or None where samples cannot stand side by side.
Rule = Callable[..., tuple[Any, Any] | None]


def register_vmap(name: str, rule: Rule = lambda *_: None) -> None:
    """Register how ``torch.vmap`` runs an operation.

    Args:
        name: the operation, without the namespace.
        rule: runs all samples in one call if it can; if not, each has a call of its own.
    """
    op = getattr(torch.ops.dtnn_fast, name).default

    def run(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        if info.batch_size == 0:
            raise RuntimeError(f"{name}: expected at least one sample under torch.vmap, got none")
        together = rule(op, info.batch_size, in_dims, *arguments)
        if together is not None:
            return together
        samples = [op(*_sample(arguments, in_dims, index)) for index in range(info.batch_size)]
        if isinstance(samples[0], Tensor):
            return torch.stack(samples), 0
        return tuple(torch.stack(parts) for parts in zip(*samples, strict=True)), (0,) * len(samples[0])

    torch.library.register_vmap(f"dtnn_fast::{name}", run)


def register_no_vmap(name: str) -> None:
    """Refuse ``torch.vmap`` for an operation whose result differs in size from crystal to crystal.

    Args:
        name: the operation, without the namespace.
    """

    def refuse(*_: Any) -> None:
        raise RuntimeError(
            f"{name}: expected one call for all crystals, their atoms one after the other and `ptr` between them, "
            f"got torch.vmap, which needs results of the same size"
        )

    torch.library.register_vmap(f"dtnn_fast::{name}", refuse)


def _sample(arguments: tuple[Any, ...], in_dims: tuple[int | None, ...], index: int) -> list[Any]:
    return [x if dim is None else x.select(dim, index) for x, dim in zip(arguments, in_dims, strict=True)]


def payload_of_first(
    op: Any, _: int, in_dims: tuple[int | None, ...], values: Tensor, *shared: Any
) -> tuple[Any, Any] | None:
    """Samples as further channels of the first argument, for an operation that treats each channel by itself."""
    if in_dims[0] is None or any(dim is not None for dim in in_dims[1:]):
        return None
    return op(values.movedim(in_dims[0], -1), *shared), -1


def rows_of(*rows: int) -> Rule:
    """Samples as further rows of some arguments, for an operation that treats each row by itself.

    Args:
        rows: places of the arguments with rows; the others must be the same for all samples.
    """

    def rule(op: Any, count: int, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any] | None:
        if any(dim is not None and place not in rows for place, dim in enumerate(in_dims)):
            return None
        joined = list(arguments)
        for place in rows:
            x, dim = arguments[place], in_dims[place]
            if x is not None:
                x = x.expand(count, *x.shape) if dim is None else x.movedim(dim, 0)
                joined[place] = x.flatten(0, 1)
        result = op(*joined)
        if isinstance(result, Tensor):
            return _apart(result, count), 0
        return tuple(_apart(part, count) for part in result), (0,) * len(result)

    return rule


def _apart(rows: Tensor, count: int) -> Tensor:
    return rows.unflatten(0, (count, rows.shape[0] // count))
