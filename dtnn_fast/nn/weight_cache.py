# SPDX-License-Identifier: MIT
"""Weights that are put together for an operation: kept between calls as long as the parameters do not change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from .._backend import uses_reference
from .known_modules import KnownModules
from .layers import MLP, ChannelMix, GatedMix, Linear
from .model_watch import SeenTensors, optimizer_steps, trusted_state

# Classes of layers whose weights the fused operations know how to use.
PLAIN_LAYERS: frozenset[type[nn.Module]] = frozenset(
    {Linear, ChannelMix, GatedMix, MLP, nn.Sequential, nn.SiLU, nn.Dropout, nn.LayerNorm}
)

# Types of devices with kernels of the fused operations.
_DEVICES_WITH_KERNELS = ("cpu", "cuda")

T = TypeVar("T")


def flat_weights(parts: Sequence[Tensor]) -> Tensor:
    """Put weights one after the other, as fused operations take them: transposed matrices and biases. [P]."""
    return torch.cat([part.t().flatten() if part.dim() == 2 else part for part in parts])


class WeightCache(Generic[T]):
    """The weights that a fused operation takes from some modules, kept between calls for inference.

    With gradients, and while a program is traced, weights are put together in every call. This also happens when a
    parameter was replaced, moved, or changed by an operation of torch (which raises its version), when a submodule was
    replaced, and after a step of any optimizer. Only a change behind torch's back, of ``parameter.data`` element by
    element, is not seen. Within `ModelWatch.trusted`, a cache that looked once does not look again before a change.

    Args:
        plain: classes of modules whose work the operation does.
    """

    def __init__(self, plain: frozenset[type[nn.Module]] = PLAIN_LAYERS) -> None:
        self._plain_types = plain
        self._known = KnownModules()
        self._is_plain = False
        self._tensors: SeenTensors | None = None
        self._weights: T | None = None
        self._made_at_step = 0
        # The state of a whole model at which this cache looked; None for none.
        self._state: object | None = None
        self.dropouts: list[nn.Dropout] = []

    def can_fuse(self, roots: Sequence[nn.Module], example: Tensor) -> bool:
        """Tell whether one fused operation may do the work of some modules.

        It may for modules of this package's classes, and without hooks, which would not be called. The reference
        implementations are to be run module by module.

        Args:
            roots: the modules, which stand for their submodules too.
            example: one of their inputs.
        """
        if uses_reference() or example.device.type not in _DEVICES_WITH_KERNELS:
            return False
        if torch.compiler.is_compiling():
            return all(type(m) in self._plain_types and not _has_hooks(m) for root in roots for m in root.modules())
        if self.is_trusted():
            return self._is_plain
        self._see(roots)
        return self._is_plain and not self._known.any_hooks()

    def is_trusted(self) -> bool:
        """Tell whether the weights are those of the modules, because the whole model is as it was at the last look."""
        state = trusted_state()
        return state is not None and state is self._state

    def get(self, roots: Sequence[nn.Module], make: Callable[[], T]) -> T:
        """Return the weights of some modules.

        Args:
            roots: the modules that `make` reads, submodules included.
            make: puts the weights together.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or _is_traced():
            return make()
        if self.is_trusted():
            return cast(T, self._weights)
        self._state = None
        self._see(roots)
        steps = optimizer_steps()
        is_current = self._weights is not None and self._made_at_step == steps
        if not is_current or self._tensors is None or not self._tensors.are_unchanged():
            self._weights, self._made_at_step = None, steps
            try:
                self._tensors = SeenTensors.of(self._known.modules)
            except RuntimeError:  # tensors of torch.inference_mode have no version
                return make()
            self._weights = make()
        self._state = trusted_state()
        return cast(T, self._weights)

    def _see(self, roots: Sequence[nn.Module]) -> None:
        """Make the list of all modules, if it is not the present one."""
        if self._known.update(roots):
            self._weights, self._tensors = None, None
            modules = self._known.modules
            self._is_plain = all(type(module) in self._plain_types for module in modules)
            self.dropouts = [module for module in modules if isinstance(module, nn.Dropout)]

    def __deepcopy__(self, _memo: object) -> WeightCache[T]:
        return WeightCache(self._plain_types)

    def __reduce__(self) -> tuple[type[WeightCache[T]], tuple[frozenset[type[nn.Module]]]]:
        return WeightCache, (self._plain_types,)


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


def _is_traced() -> bool:
    """Tell whether torch transforms or records the operations, so that tensors are no plain memory."""
    return bool(torch._C._are_functorch_transforms_active() or torch._C._len_torch_dispatch_stack())
