# SPDX-License-Identifier: MIT
"""A benchmark case: inputs, the operation, its reference implementation, its peers, and the floor under all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dtnn_fast import ops

from .traffic import Traffic

# Each pass includes those before it: that is how a training step runs them.
FORWARD, BACKWARD, SECOND = "forward", "forward+backward", "double backward"
PASSES = (FORWARD, BACKWARD, SECOND)


class Inputs(NamedTuple):
    """Arguments of an operation: ``op(*leaves, *constants)``, differentiated with respect to the leaves."""

    leaves: tuple[Tensor, ...]
    constants: tuple[Any, ...] = ()


class Peer(NamedTuple):
    """The same work by other means.

    Args:
        name: name for the table.
        prepare: makes the call and its inputs from those of the case; ImportError where the peer is not installed.
        devices: where it runs.
        passes: the passes that it can do.
    """

    name: str
    prepare: Callable[[Inputs], tuple[Callable[..., Any], Inputs]]
    devices: tuple[str, ...] = ("cpu", "cuda")
    passes: tuple[str, ...] = PASSES


@dataclass(frozen=True, repr=False)
class Case:
    """One operation on inputs of one shape.

    Args:
        op: name of the operation.
        name: short description of the inputs.
        inputs: makes inputs on a device from a seed.
        native: the operation.
        reference: the reference implementation, or None where it would take minutes.
        stages: bytes and operations of forward, backward and second backward, each by itself.
        passes: the passes that are measured.
        peers: other ways to do the same work.
        compiled: the reference implementation is measured under torch.compile too.
        promises: by device and pass, the smallest ratio of a side's time to ours (on a GPU of times in CUDA graphs).
        bandwidth_promise: the share of the copy bandwidth that the first pass must reach on a GPU where memory is the
            limit.
        seconds_promise: by device, the longest time that the forward pass may take.
        published: times of others on other machines in seconds, by a short text that says whose and where.
        reference_devices: where the reference implementation runs.
        kernels: the operations that must have a kernel for the device; `op` itself when empty.
        count: the number of results of a call, on which batched peers must agree; None for floating-point results.
    """

    op: str
    name: str
    inputs: Callable[[torch.device, int], Inputs]
    native: Callable[..., Any]
    reference: Callable[..., Any] | None
    stages: Callable[[Inputs], tuple[Traffic, ...]]
    passes: tuple[str, ...] = PASSES
    peers: tuple[Peer, ...] = ()
    compiled: bool = True
    reference_devices: tuple[str, ...] = ("cpu", "cuda")
    promises: Mapping[tuple[str, str], Mapping[str, float]] = field(default_factory=dict)
    bandwidth_promise: float | None = None
    seconds_promise: Mapping[str, float] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)
    kernels: tuple[str, ...] = ()
    count: Callable[[Any], int] | None = None

    def __repr__(self) -> str:
        return self.label

    @property
    def capturable(self) -> bool:
        """A CUDA graph can hold it: the sizes of its outputs do not depend on values."""
        return self.native not in (
            ops.neighbor_list,
            ops.bonds_within,
            ops.nested_neighbor_lists,
            ops.nearest_neighbors,
            ops.bond_reverses,  # waits to see that each bond has a reverse
        )

    @property
    def label(self) -> str:
        """Operation and inputs."""
        return f"{self.op}, {self.name}"

    def traffic(self, inputs: Inputs, pass_name: str) -> Traffic:
        """The bytes and operations of a pass, with those before it."""
        stages = self.stages(inputs)[: PASSES.index(pass_name) + 1]
        return sum(stages[1:], stages[0])


def as_tuple(outputs: Any) -> tuple[Any, ...]:
    """Outputs of an operation as a tuple."""
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


def bind(pass_name: str, call: Callable[..., Any], inputs: Inputs) -> Callable[[], Any]:
    """A call without arguments that runs one pass of ``call(*leaves, *constants)``."""
    leaves, constants = inputs
    if pass_name == FORWARD:

        def forward() -> Any:
            with torch.no_grad():
                return call(*leaves, *constants)

        return forward

    wanted = [x.detach().clone().requires_grad_() for x in leaves]
    grads = _random_like(as_tuple(call(*wanted, *constants)), wanted[0].device)
    if pass_name == BACKWARD:
        return lambda: torch.autograd.grad(as_tuple(call(*wanted, *constants)), wanted, grads)

    moving = [g.requires_grad_() for g in grads]
    seconds = _random_like(wanted, wanted[0].device)

    def second() -> Any:
        first = torch.autograd.grad(as_tuple(call(*wanted, *constants)), wanted, moving, create_graph=True)
        # Of a linear operation the first derivative does not depend on the leaves.
        return torch.autograd.grad(first, [*wanted, *moving], seconds, allow_unused=True)

    return second


def compiled_binder(
    pass_name: str, reference: Callable[..., Any], backend: str
) -> Callable[[Inputs], Callable[[], Any]]:
    """As `bind`, with the reference implementation under torch.compile; made once for all inputs of one shape.

    AOT autograd differentiates a compiled function once. For the second derivative the compiled function is the first
    derivative itself, by torch.func.vjp, which the compiler traces through.
    """
    torch.compiler.reset()
    options: dict[str, Any] = {"dynamic": False, "fullgraph": True, "backend": backend}
    if pass_name != SECOND:
        return partial(bind, pass_name, torch.compile(reference, **options))

    def first_derivative(wanted: list[Tensor], grads: list[Tensor], constants: tuple[Any, ...]) -> tuple[Tensor, ...]:
        _, pull = torch.func.vjp(lambda *x: as_tuple(reference(*x, *constants)), *wanted)
        return pull(tuple(grads))

    compiled = torch.compile(first_derivative, **options)

    def bind_second(inputs: Inputs) -> Callable[[], Any]:
        leaves, constants = inputs
        wanted = [x.detach().clone().requires_grad_() for x in leaves]
        with torch.no_grad():
            outputs = as_tuple(reference(*wanted, *constants))
        moving = [g.requires_grad_() for g in _random_like(outputs, wanted[0].device)]
        seconds = _random_like(wanted, wanted[0].device)
        return lambda: torch.autograd.grad(
            compiled(wanted, moving, constants), [*wanted, *moving], seconds, allow_unused=True
        )

    return bind_second


def _random_like(tensors: Any, device: torch.device) -> list[Tensor]:
    """Gradients to begin with, the same for every side."""
    generator = torch.Generator(device).manual_seed(1)
    return [torch.randn(t.shape, dtype=t.dtype, device=device, generator=generator) for t in tensors]
