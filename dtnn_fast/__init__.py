# SPDX-License-Identifier: MIT
"""Dielectric tensors of inorganic crystals from the Dielectric Tensor Neural Network (arXiv 2405.09052).

``DTNN`` is the model, ``Ensemble`` the mean of several models on different encoders, and ``LatticeModel`` predicts Born
charges and force constants. ``screen`` predicts and ranks many crystals. ``dtnn_fast.ops`` has the operations that the
models are built from, and ``dtnn_fast.reference`` a readable implementation of each.
Names are imported when first used, so that ``dtnn_fast.numpy`` works without torch and start-up is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

__all__ = ["DTNN", "Ensemble", "LatticeModel", "__version__", "screen", "use_backend"]

if TYPE_CHECKING:
    # Type checkers must know the submodules too: `__getattr__` would make each of them, and each misspelt name, Any.
    from . import candidates as candidates
    from . import crystals as crystals
    from . import datasets as datasets
    from . import dfpt as dfpt
    from . import encoders as encoders
    from . import errors as errors
    from . import formats as formats
    from . import integrations as integrations
    from . import model as model
    from . import nn as nn
    from . import numpy as numpy
    from . import ops as ops
    from . import phonons as phonons
    from . import potentials as potentials
    from . import reference as reference
    from . import refinement as refinement
    from . import screening as screening
    from . import symmetry as symmetry
    from . import training as training
    from ._backend import use_backend
    from .model.dtnn import DTNN
    from .model.ensemble_model import Ensemble
    from .model.lattice_model import LatticeModel
    from .screening.screen_function import screen

_MODULE_OF_NAME = {
    "DTNN": ".model.dtnn",
    "Ensemble": ".model.ensemble_model",
    "LatticeModel": ".model.lattice_model",
    "screen": ".screening.screen_function",
    "use_backend": "._backend",
}
_SUBMODULES = {
    "candidates",
    "crystals",
    "datasets",
    "dfpt",
    "encoders",
    "errors",
    "formats",
    "integrations",
    "model",
    "nn",
    "numpy",
    "ops",
    "phonons",
    "potentials",
    "reference",
    "refinement",
    "screening",
    "symmetry",
    "training",
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _MODULE_OF_NAME:
            return getattr(import_module(_MODULE_OF_NAME[name], __name__), name)
        if name in _SUBMODULES:
            return import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBMODULES])
