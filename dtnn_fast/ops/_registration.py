# SPDX-License-Identifier: MIT
"""Registers the derivatives of an operation, for reverse and forward mode and for the transforms of torch.func.

``torch.library.register_autograd`` serves ``torch.autograd`` only: under ``torch.func.grad`` its operations raise, and
in forward mode they give no tangents, which callers read as zeros. The kernel below differs from it in three places,
each marked with its reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import _C, Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd.forward_ad import _set_fwd_grad_enabled, unpack_dual

_LIBRARY = torch.library.Library("dtnn_fast", "IMPL")


def _have_tangents(arguments: tuple[Any, ...]) -> bool:
    """Whether an argument is a dual number of forward mode, which would lose its tangent in the kernel."""
    if not _C._len_torch_dispatch_stack():
        return any(isinstance(x, Tensor) and unpack_dual(x).tangent is not None for x in arguments)
    # Where torch.compile replays forward mode, `unpack_dual` does not know of its own that there is a level. And the
    # question is not to become a part of the graph that is traced.
    with _C._DisableTorchDispatch():
        return any(isinstance(x, Tensor) and unpack_dual(x, level=0).tangent is not None for x in arguments)


def register_derivatives(
    name: str,
    *,
    setup_context: Callable[..., None],
    backward: Callable[..., Any],
    twin: Callable[..., Any],
) -> None:
    """Register what ``torch.library.register_autograd`` does, and forward mode.

    Args:
        name: the operation, without the namespace.
        setup_context: keeps for the backward what it needs, as for ``register_autograd``.
        backward: gradients of the inputs from those of the outputs, as for ``register_autograd``.
        twin: the operation, with the same arguments, from operations of torch. It takes the place of the kernel for
            inputs that carry tangents of forward mode.
    """
    op = getattr(torch.ops.dtnn_fast, name).default

    def below_autograd(keyset: _C.DispatchKeySet, arguments: tuple[Any, ...]) -> Any:
        with _C._AutoDispatchBelowAutograd():
            return op.redispatch(keyset & _C._after_autograd_keyset, *arguments)

    def forward(ctx, keyset, *arguments):  # type: ignore[no-untyped-def]
        # Inside a Function torch switches gradients off. Below may be an outer transform of torch.func, for which that
        # would cut the result from its inputs: the derivatives of torch.func.grad(torch.func.grad(f)) would silently be
        # wrong.
        with torch.enable_grad(), _set_fwd_grad_enabled(True):
            result = below_autograd(keyset, arguments)
        setup_context(ctx, arguments, result)
        return result

    def backward_of_all(ctx, *grads):  # type: ignore[no-untyped-def]
        needed = ctx.needs_input_grad
        ctx.needs_input_grad = needed[1:]  # without the keyset
        try:
            result = backward(ctx, *grads)
        finally:
            ctx.needs_input_grad = needed
        return (None, *result) if isinstance(result, tuple) else (None, result)

    # Made by hand, so that the nodes of the graph have the operation's name.
    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward_of_all)}
    derivative: Any = type(name, (torch.autograd.Function,), methods)
    defaults = [argument.default_value for argument in op._schema.arguments]

    def kernel(keyset: _C.DispatchKeySet, *given: Any) -> Any:
        arguments = (*given, *defaults[len(given) :])  # the dispatcher leaves out what equals its default
        if _have_tangents(arguments):
            return twin(*arguments)
        if not (torch.is_grad_enabled() and _C._any_requires_grad(*arguments)):
            return below_autograd(keyset, arguments)
        if not _C._are_functorch_transforms_active():
            return derivative.apply(keyset, *arguments)
        # The dispatcher has come to this kernel for one level of torch.func's transforms. `derivative.apply` would
        # start anew with all of them, and refuses to because of the form of `forward`.
        with enable_single_level_autograd_function():
            return super(torch.autograd.Function, derivative).apply(keyset, *arguments)

    _LIBRARY.impl(name, kernel, "Autograd", with_keyset=True)


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


def register_autocast(name: str) -> None:
    """Cast float16 and bfloat16 arguments of an operation to float32 under ``torch.autocast``; float64 stays.

    The kernels have no 16-bit forms. Outside of autocast such arguments are errors, and so they are everywhere for
    operations on positions, which have no digits left in 16 bits.

    Args:
        name: the operation, without the namespace.
    """
    for device in ("cpu", "cuda"):
        torch.library.register_autocast(f"dtnn_fast::{name}", device, torch.float32)


def check_same_device(op: str, **tensors: Tensor | None) -> None:
    """Reject tensors on different devices with the message of the kernels (csrc/check.h).

    Args:
        op: the operation's name.
        tensors: its tensor arguments by name; the first is the one that the others are compared with.

    Raises:
        RuntimeError: a tensor is on another device than the first.
    """
    first_name, first = next((name, tensor) for name, tensor in tensors.items() if tensor is not None)
    for name, tensor in tensors.items():
        if tensor is not None and tensor.device != first.device:
            raise RuntimeError(
                f"{op}: expected `{name}` on the device of `{first_name}` ({first.device}), got {tensor.device}"
            )
