# SPDX-License-Identifier: MIT
"""Dielectric tensors of inorganic crystals from the Dielectric Tensor Neural Network (arXiv 2405.09052).

``DTNN`` is the model, ``MixedEnsemble`` several on different encoders, ``dtnn_fast.ops`` the operations they are built
from, ``dtnn_fast.reference`` their reference implementations.
Names are imported when first used, so that ``dtnn_fast.numpy`` works without torch and start-up is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["DTNN", "MixedEnsemble", "__version__", "use_backend"]

if TYPE_CHECKING:
    from ._backend import use_backend
    from .model.dtnn import DTNN
    from .model.ensemble import MixedEnsemble

_HOME = {"DTNN": ".model.dtnn", "MixedEnsemble": ".model.ensemble", "use_backend": "._backend"}
_SUBMODULES = {
    "crystals",
    "datasets",
    "encoders",
    "formats",
    "model",
    "nn",
    "numpy",
    "ops",
    "reference",
    "screening",
    "training",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name], __name__), name)
    if name in _SUBMODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBMODULES])
