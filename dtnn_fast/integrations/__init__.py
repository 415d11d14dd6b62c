# SPDX-License-Identifier: MIT
"""Predictions where users already work: ASE, pymatgen, phonopy, pandas, torch-sim, atomate2.

- ``ase_calculator.py``: `DTNNCalculator`, a calculator of ASE
- ``dielectric_result.py``: `dielectric_of`, for structures of pymatgen and ASE
- ``phonopy_nac.py``: `attach_nac`, the non-analytical correction of phonopy
- ``data_frame.py``: `to_dataframe`, for pandas
- ``torch_sim_model.py``: `DTNNSimModel`, a model of torch-sim
- ``atomate2_maker.py``: `ScreenMaker` and `ScreenThenDFPTMaker`, for jobflow and atomate2
- `EnergyPotential` is that of `dtnn_fast.potentials`

Names are imported when first used, so that only the package of the one that is used must be installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..potentials.energy_potential import EnergyPotential
    from .ase_calculator import DTNNCalculator
    from .atomate2_maker import ScreenMaker, ScreenThenDFPTMaker
    from .data_frame import to_dataframe
    from .dielectric_result import DielectricResult, dielectric_of
    from .phonopy_nac import attach_nac
    from .torch_sim_model import DTNNSimModel

_MODULE_OF_NAME = {
    "DTNNCalculator": ".ase_calculator",
    "DTNNSimModel": ".torch_sim_model",
    "DielectricResult": ".dielectric_result",
    "EnergyPotential": "..potentials.energy_potential",
    "ScreenMaker": ".atomate2_maker",
    "ScreenThenDFPTMaker": ".atomate2_maker",
    "attach_nac": ".phonopy_nac",
    "dielectric_of": ".dielectric_result",
    "to_dataframe": ".data_frame",
}

__all__ = [
    "DTNNCalculator",
    "DTNNSimModel",
    "DielectricResult",
    "EnergyPotential",
    "ScreenMaker",
    "ScreenThenDFPTMaker",
    "attach_nac",
    "dielectric_of",
    "to_dataframe",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF_NAME:
        return getattr(import_module(_MODULE_OF_NAME[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
