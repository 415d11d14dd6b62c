# SPDX-License-Identifier: MIT
"""Random bond graphs, and checks that every operation passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode


class Graph(NamedTuple):
    """A random bond graph: pairs sorted by center, with `row_ptr`."""

    pairs: Tensor
    row_ptr: Tensor

    @property
    def num_atoms(self) -> int:
        return self.row_ptr.shape[0] - 1

    @property
    def num_bonds(self) -> int:
        return self.pairs.shape[1]


def random_graph(num_atoms: int, num_bonds: int, seed: int = 0) -> Graph:
    """Draw bonds between random atoms; some atoms have none, some several to the same neighbor."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randint(max(1, num_atoms), (num_bonds,), generator=generator).sort().values
    neighbors = torch.randint(max(1, num_atoms), (num_bonds,), generator=generator)
    row_ptr = torch.searchsorted(centers, torch.arange(num_atoms + 1))
    return Graph(torch.stack([centers, neighbors]), row_ptr)


def check_operator(op: Any, *arguments: Any) -> None:
    """Run torch.library.opcheck with all its tests."""
    torch.library.opcheck(op, arguments)


def check_first_and_second_derivatives(function: Callable[..., Any], *inputs: Tensor, fast_mode: bool = False) -> None:
    """Compare first and second derivatives of `function` with finite differences; inputs in float64.

    With `fast_mode` along random directions, else number by number.
    """
    leaves = [x.detach().clone().requires_grad_() if x.is_floating_point() else x for x in inputs]
    assert gradcheck(function, leaves, fast_mode=fast_mode)
    assert gradgradcheck(function, leaves, fast_mode=fast_mode)


def check_compiled(function: Callable[..., Any], *batches: tuple[Tensor, ...]) -> None:
    """Compare `function` under torch.compile(fullgraph=True, dynamic=True) with eager, for batches of several sizes.

    `function` maps tensors to one tensor. Gradients of a nonlinear scalar of it are compared too.
    """
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch in batches:
        results = []
        for call in (function, compiled):
            inputs = [x.detach().clone().requires_grad_() if x.is_floating_point() else x for x in batch]
            out = call(*inputs)
            out.sin().sum().backward()
            results.append((out, [x.grad for x in inputs if x.is_floating_point()]))
        torch.testing.assert_close(results[1], results[0])


class CallsOf(TorchDispatchMode):
    """A mode that records the arguments of an operation's calls in the block, with the defaults filled in."""

    def __init__(self, op: Any) -> None:
        super().__init__()
        self._op = op
        self.arguments: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if function is self._op:
            defaults = [argument.default_value for argument in function._schema.arguments]
            self.arguments.append((*args, *defaults[len(args) :]))
        return function(*args, **(kwargs or {}))


@contextmanager
def num_threads(count: int) -> Iterator[None]:
    """Run the block with this number of threads in torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_same_bits(function: Callable[[], Sequence[Tensor]]) -> None:
    """Check that `function` returns the same bits with one and two threads, and on repetition."""
    with num_threads(1):
        single = function()
    with num_threads(2):
        double = [function(), function()]
    for other in double:
        assert all(torch.equal(a, b) for a, b in zip(single, other, strict=True))
