# SPDX-License-Identifier: MIT
"""What several tests need: random bond graphs, and the checks that every operation passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck


class Graph(NamedTuple):
    """A random bond graph: pairs sorted by center, with the segments of the centers."""

    pairs: Tensor
    row_ptr: Tensor

    @property
    def num_atoms(self) -> int:
        return self.row_ptr.shape[0] - 1

    @property
    def num_bonds(self) -> int:
        return self.pairs.shape[1]


def random_graph(num_atoms: int, num_bonds: int, seed: int = 0) -> Graph:
    """Bonds between random atoms; some atoms have none, some several to the same neighbor."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randint(num_atoms, (num_bonds,), generator=generator).sort().values
    neighbors = torch.randint(num_atoms, (num_bonds,), generator=generator)
    row_ptr = torch.searchsorted(centers, torch.arange(num_atoms + 1))
    return Graph(torch.stack([centers, neighbors]), row_ptr)


def check_operator(op: Any, *arguments: Any) -> None:
    """torch.library.opcheck with all its tests."""
    torch.library.opcheck(op, arguments)


def check_derivatives(function: Callable[..., Any], *inputs: Tensor) -> None:
    """First and second derivatives of `function` against finite differences; inputs in float64."""
    leaves = [x.detach().clone().requires_grad_() if x.is_floating_point() else x for x in inputs]
    assert gradcheck(function, leaves)
    assert gradgradcheck(function, leaves)
