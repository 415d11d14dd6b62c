# SPDX-License-Identifier: MIT
"""Weights that are put together for an operation: kept between calls as long as the parameters do not change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from .._backend import uses_reference
from .layers import MLP, ChannelMix, GatedMix, Linear

# Modules whose weights the fused operations know how to use.
_PLAIN = {Linear, ChannelMix, GatedMix, MLP, nn.Sequential, nn.ModuleList, nn.SiLU, nn.Dropout, nn.LayerNorm}

T = TypeVar("T")


def can_fuse_layers(parts: Sequence[nn.Module], example: Tensor) -> bool:
    """Tell whether one fused operation may do the work of some layers.

    It may on the CPU, where the kernels are, for this package's own layers, and without hooks, which would not be
    called. The reference implementations are to be run layer by layer.

    Args:
        parts: the layers.
        example: one of their inputs.
    """
    if uses_reference() or example.device.type != "cpu":
        return False
    return all(type(module) in _PLAIN and not has_hooks(module) for part in parts for module in part.modules())


def has_hooks(module: nn.Module) -> bool:
    """Tell whether a module (not its children) has hooks on its call."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


def flat_weights(parts: Sequence[Tensor]) -> Tensor:
    """Put weights one after the other, as fused operations take them: transposed matrices and biases. [P]."""
    return torch.cat([part.t().flatten() if part.dim() == 2 else part for part in parts])


class WeightCache(Generic[T]):
    """The last weights made of the parameters and buffers of some modules, for inference.

    With gradients, and while a program is traced, weights are made anew. They are also made anew when a parameter was
    replaced, moved, or changed by an operation of torch (which raises its version), and when a submodule was replaced.
    Only a change behind torch's back, of ``parameter.data`` element by element, is not seen.
    """

    def __init__(self) -> None:
        self._tensors: list[tuple[dict[str, Any], str, Tensor, Tensor, int]] = []
        self._children: list[tuple[dict[str, Any], str, nn.Module]] = []
        self._modules: tuple[nn.Module, ...] = ()
        self._weights: T | None = None

    def get(self, modules: Sequence[nn.Module], make: Callable[[], T]) -> T:
        """Return the weights of the modules.

        Args:
            modules: the modules that `make` reads, submodules included.
            make: puts the weights together.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or _is_traced():
            return make()
        if self._weights is None or not self._is_current(modules):
            self._weights = None
            try:
                self._remember(modules)
            except RuntimeError:  # tensors of torch.inference_mode have no version
                return make()
            self._weights = make()
        return self._weights

    def _is_current(self, modules: Sequence[nn.Module]) -> bool:
        if len(modules) != len(self._modules) or any(a is not b for a, b in zip(modules, self._modules, strict=True)):
            return False
        for children, name, child in self._children:
            if children.get(name) is not child:
                return False
        for tensors, name, tensor, storage, version in self._tensors:
            if tensors.get(name) is not tensor or tensor._version != version:
                return False
            if tensor.data_ptr() != storage.data_ptr():
                return False
        return True

    def _remember(self, modules: Sequence[nn.Module]) -> None:
        self._modules = tuple(modules)
        everything = [module for given in modules for module in given.modules()]
        self._children = [
            (module._modules, name, child)
            for module in everything
            for name, child in module._modules.items()
            if child is not None
        ]
        # The alias keeps the memory: a new parameter cannot come to stand where an old one stood.
        self._tensors = [
            (tensors, name, tensor, tensor.detach(), tensor._version)
            for module in everything
            for tensors in (module._parameters, module._buffers)
            for name, tensor in tensors.items()
            if tensor is not None
        ]

    def __deepcopy__(self, _memo: object) -> WeightCache[T]:
        return WeightCache()

    def __reduce__(self) -> tuple[type[WeightCache[T]], tuple[()]]:
        return WeightCache, ()


def _is_traced() -> bool:
    """Tell whether torch transforms or records the operations, so that tensors are no plain memory."""
    return bool(torch._C._are_functorch_transforms_active() or torch._C._len_torch_dispatch_stack())
