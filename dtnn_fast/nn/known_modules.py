# SPDX-License-Identifier: MIT
"""The modules below some roots, listed once; a later look finds replaced, added and removed modules quickly."""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_, itemgetter
from typing import Any

from torch import nn

_HOOKS = tuple(map(itemgetter, ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")))
_is_training = itemgetter("training")


class KnownModules:
    """List of all modules of a tree, for questions that are asked before every small batch.

    A model has hundreds of modules, and a walk through them in Python takes a tenth of the time of a small crystal. The
    loops here run within C.
    """

    def __init__(self) -> None:
        self.modules: list[nn.Module] = []
        self._roots: tuple[nn.Module, ...] = ()
        # Attributes of the modules, and of them the dictionaries of children.
        self._attributes: list[dict[str, Any]] = []
        self._children: list[dict[str, Any]] = []
        self._counts: list[int] = []
        # Every edge of the tree: dictionary, name and child.
        self._edges: tuple[list[dict[str, Any]], list[str], list[Any]] = ([], [], [])

    def update(self, roots: Sequence[nn.Module]) -> bool:
        """Look at the tree; list its modules again if it is not the one of the last call.

        Args:
            roots: the modules on top.

        Returns:
            Whether the tree is another one.
        """
        if len(roots) == len(self._roots) and all(map(is_, roots, self._roots)) and self._is_present():
            return False
        self._roots = tuple(roots)
        self.modules = [module for root in roots for module in root.modules()]
        self._attributes = list(map(vars, self.modules))
        self._children = [module._modules for module in self.modules]
        self._counts = list(map(len, self._children))
        edges = [(children, name, child) for children in self._children for name, child in children.items()]
        self._edges = [edge[0] for edge in edges], [edge[1] for edge in edges], [edge[2] for edge in edges]
        return True

    def any_training(self) -> bool:
        """Tell whether a listed module is in training mode."""
        return any(map(_is_training, self._attributes))

    def any_hooks(self) -> bool:
        """Tell whether a listed module has forward or backward hooks."""
        return any(any(map(hooks, self._attributes)) for hooks in _HOOKS)

    def _is_present(self) -> bool:
        dictionaries, names, children = self._edges
        same_children = all(map(is_, map(dict.get, dictionaries, names), children))
        return same_children and list(map(len, self._children)) == self._counts

    def __deepcopy__(self, _memo: object) -> KnownModules:
        return KnownModules()

    def __reduce__(self) -> tuple[type[KnownModules], tuple[()]]:
        return KnownModules, ()
