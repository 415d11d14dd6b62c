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
