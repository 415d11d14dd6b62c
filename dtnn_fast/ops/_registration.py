# SPDX-License-Identifier: MIT
"""Registration of an operation with torch: derivatives, ``torch.vmap``, ``torch.autocast``, and the devices of fakes.

The stable ABI has no C++ autograd, so C++ registers the kernels only. Each operation's file ends with calls of the
functions here: `register_derivatives`, `register_vmap` or `register_no_vmap`, and `register_autocast`. Its fake calls
`check_same_device`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import _C, _VF, Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad
from torch.autograd.function import _SingleLevelFunction

_LIBRARY = torch.library.Library("dtnn_fast", "IMPL")


def register_derivatives(
    name: str,
    *,
    setup_context: Callable[..., None],
    backward: Callable[..., Any],
    reference: Callable[..., Any],
) -> None:
    """Register the derivatives of an operation, for reverse and forward mode and for the transforms of torch.func.

    ``torch.library.register_autograd`` serves ``torch.autograd`` only. Under ``torch.func.grad`` its operations raise,
    and in forward mode they give no tangents, which callers read as zeros. The kernel below differs from it in three
    places, each marked with its reason.

    Args:
        name: the operation, without the namespace.
        setup_context: saves what the backward needs, as for ``register_autograd``.
        backward: computes the gradients of the inputs from those of the outputs, as for ``register_autograd``.
        reference: the operation with the same arguments, made of torch's operations. It replaces the kernel for inputs
            that carry tangents of forward mode.
    """
    op = getattr(torch.ops.dtnn_fast, name).default

    def below_autograd(keyset: _C.DispatchKeySet, arguments: tuple[Any, ...]) -> Any:
        with _C._AutoDispatchBelowAutograd():
            return op.redispatch(keyset & _C._after_autograd_keyset, *arguments)

    def forward(ctx, keyset, *arguments):  # type: ignore[no-untyped-def]
        # Inside a Function torch switches gradients off. An outer transform of torch.func may follow below, and that
        # would cut its result from its inputs: torch.func.grad(torch.func.grad(f)) would silently be wrong.
        with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(True):
            result = below_autograd(keyset, arguments)
        setup_context(ctx, arguments, result)
        ctx.tensor_places = [place for place, x in enumerate(arguments) if isinstance(x, Tensor)]
        return result

    def backward_with_keyset(ctx, *grads):  # type: ignore[no-untyped-def]
        needed = ctx.needs_input_grad
        ctx.needs_input_grad = _used_gradients(ctx, needed[1:])  # without the keyset
        try:
            result = backward(ctx, *grads)
        finally:
            ctx.needs_input_grad = needed
        return (None, *result) if isinstance(result, tuple) else (None, result)

    # Created with type() to give the nodes of the graph the operation's name.
    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward_with_keyset)}
    derivative: Any = type(name, (_SingleLevelFunction,), methods)
    defaults = [argument.default_value for argument in op._schema.arguments]

    def kernel(keyset: _C.DispatchKeySet, *given: Any) -> Any:
        arguments = (*given, *defaults[len(given) :])  # the dispatcher leaves out what equals its default
        if _have_tangents(arguments):
            return reference(*arguments)
        if not (_C.is_grad_enabled() and _C._any_requires_grad(*arguments)):
            return below_autograd(keyset, arguments)
        if not _C._are_functorch_transforms_active():
            return derivative.apply(keyset, *arguments)
        # The dispatcher calls this kernel for one level of torch.func's transforms. torch.autograd.Function would start
        # again with all levels, and it refuses to because of the form of `forward`; hence its base class.
        with enable_single_level_autograd_function():
            return derivative.apply(keyset, *arguments)

    _LIBRARY.impl(name, kernel, "Autograd", with_keyset=True)


def _used_gradients(ctx: Any, needed: tuple[bool, ...]) -> tuple[bool, ...]:
    """Tell which gradients the running backward pass goes on with.

    ``torch.autograd.grad(energy, positions, create_graph=True)`` has no use for gradients of weights, but to torch's
    ``ctx.needs_input_grad`` all that require gradients are needed.
    """
    used = list(needed)
    for place, (node, _) in zip(ctx.tensor_places, ctx.next_functions, strict=True):
        if used[place]:
            used[place] = _will_run(node)
    return tuple(used)


def _will_run(node: Any) -> bool:
    try:
        return bool(_C._will_engine_execute_node(node))
    except RuntimeError:  # a leaf whose gradient is a result, or there is no running backward pass that torch knows
        return True


# Whether torch.compile has traced a call with tangents. Its backend "eager" runs the traced calls as they are, and
# enters the level of forward mode without setting `forward_ad._current_level`.
_traced_tangents = False


def _have_tangents(arguments: tuple[Any, ...]) -> bool:
    """Tell whether an argument is a dual number of forward mode, which would lose its tangent in the kernel."""
    global _traced_tangents  # noqa: PLW0603  what is compiled is a matter of the whole process
    if _C._len_torch_dispatch_stack():
        with _C._DisableTorchDispatch():  # the question must not become a part of a traced graph
            found = _any_is_dual(arguments)
        _traced_tangents |= found
        return found
    # A tensor takes a microsecond, so ordinary calls must not ask.
    return (forward_ad._current_level >= 0 or _traced_tangents) and _any_is_dual(arguments)


def _any_is_dual(arguments: tuple[Any, ...]) -> bool:
    # torch has one level only, 0. `forward_ad.unpack_dual` asks the same, three times slower.
    return any(
        isinstance(x, Tensor) and x.is_floating_point() and _VF._unpack_dual(x, level=0)[1] is not None
        for x in arguments
    )


# A rule takes the operation, the number of samples, the batched dimension of each argument (None: not batched) and the
# arguments. It returns the result and its batched dimensions, or None where one call cannot serve all samples.
VmapRule = Callable[..., tuple[Any, Any] | None]


def register_vmap(name: str, rule: VmapRule = lambda *_: None) -> None:
    """Register how ``torch.vmap`` runs an operation.

    Args:
        name: the operation, without the namespace.
        rule: runs all samples in one call where possible; otherwise each sample has its own call.
    """
    op = getattr(torch.ops.dtnn_fast, name).default

    def run(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        if info.batch_size == 0:
            raise RuntimeError(f"{name}: expected at least one sample under torch.vmap, got none")
        joint_result = rule(op, info.batch_size, in_dims, *arguments)
        if joint_result is not None:
            return joint_result
        samples = [op(*_sample(arguments, in_dims, index)) for index in range(info.batch_size)]
        if isinstance(samples[0], Tensor):
            return torch.stack(samples), 0
        return tuple(torch.stack(outputs) for outputs in zip(*samples, strict=True)), (0,) * len(samples[0])

    torch.library.register_vmap(f"dtnn_fast::{name}", run)


def _sample(arguments: tuple[Any, ...], in_dims: tuple[int | None, ...], index: int) -> list[Any]:
    return [x if dim is None else x.select(dim, index) for x, dim in zip(arguments, in_dims, strict=True)]


def samples_as_channels(
    op: Any, _: int, in_dims: tuple[int | None, ...], values: Tensor, *shared: Any
) -> tuple[Any, Any] | None:
    """Add the samples as channels of the first argument: a rule for operations that treat channels independently."""
    if in_dims[0] is None or any(dim is not None for dim in in_dims[1:]):
        return None
    return op(values.movedim(in_dims[0], -1), *shared), -1


def samples_as_rows(*places: int) -> VmapRule:
    """Add the samples as rows of some arguments: a rule for operations that treat rows independently.

    Args:
        places: positions of the arguments with rows. The other arguments must be the same for all samples.
    """

    def rule(op: Any, num_samples: int, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any] | None:
        if any(dim is not None and place not in places for place, dim in enumerate(in_dims)):
            return None
        joined = list(arguments)
        for place in places:
            x, dim = arguments[place], in_dims[place]
            if x is not None:
                x = x.expand(num_samples, *x.shape) if dim is None else x.movedim(dim, 0)
                joined[place] = x.flatten(0, 1)
        result = op(*joined)
        if isinstance(result, Tensor):
            return _split_samples(result, num_samples), 0
        return tuple(_split_samples(output, num_samples) for output in result), (0,) * len(result)

    return rule


def _split_samples(rows: Tensor, num_samples: int) -> Tensor:
    return rows.unflatten(0, (num_samples, rows.shape[0] // num_samples))


def register_no_vmap(name: str) -> None:
    """Refuse ``torch.vmap`` for an operation with results of different sizes for different crystals.

    Args:
        name: the operation, without the namespace.
    """

    def refuse(*_: Any) -> None:
        raise RuntimeError(
            f"{name}: expected one call for all crystals, their atoms one after the other and `ptr` between them, "
            f"got torch.vmap, which needs results of the same size"
        )

    torch.library.register_vmap(f"dtnn_fast::{name}", refuse)


def register_autocast(name: str, devices: Sequence[str] = ("CPU", "CUDA")) -> None:
    """Cast float16 and bfloat16 arguments of an operation to float32 under ``torch.autocast``; float64 stays.

    For operations whose kernels have no 16-bit forms: such arguments are errors outside of autocast. For operations on
    positions they are errors under autocast too: 16 bits are too few for positions.

    ``torch.library.register_autocast`` would forget the first of two devices within compiled functions up to torch
    2.12.

    Args:
        name: the operation, without the namespace.
        devices: where its kernels have no 16-bit forms.
    """
    op = getattr(torch.ops.dtnn_fast, name).default
    for device in devices:
        keyset = _C.DispatchKeySet(getattr(_C.DispatchKey, f"Autocast{device}"))

        def run(*arguments: Any, keyset: _C.DispatchKeySet = keyset) -> Any:
            with _C._ExcludeDispatchKeyGuard(keyset):
                return op(*(x.float() if isinstance(x, Tensor) and x.dtype in _HALVES else x for x in arguments))

        _LIBRARY.impl(name, run, f"Autocast{device}")


_HALVES = (torch.float16, torch.bfloat16)


def check_same_device(op: str, **tensors: Tensor | None) -> None:
    """Reject tensors on different devices with the message of the kernels (csrc/check.h).

    Args:
        op: the operation's name.
        tensors: its tensor arguments by name. All are compared with the first.

    Raises:
        RuntimeError: a tensor is on another device than the first.
    """
    first_name, first = next((name, tensor) for name, tensor in tensors.items() if tensor is not None)
    for name, tensor in tensors.items():
        if tensor is not None and tensor.device != first.device:
            raise RuntimeError(
                f"{op}: expected `{name}` on the device of `{first_name}` ({first.device}), got {tensor.device}"
            )
