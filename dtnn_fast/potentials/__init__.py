# SPDX-License-Identifier: MIT
"""Interatomic potentials: energies, forces and stresses, force constants at q = 0, and relaxation.

- ``potential.py``: `Potential`, what all of them can do
- ``energy_model.py``: the native encoder with a readout of the energy, and its files
- ``energy_potential.py``: forces and stresses of such a model, and the model as a potential
- ``ase_potential.py``: any calculator of ASE
- ``bond_potential.py``: potentials in torch whose energies follow from bond vectors, computed in batches
- ``sevennet_potential.py``: SevenNet, with the weights of the package sevenn
- ``nequix_potential.py``: Nequix, with weights from the user's file
- ``load_potential.py``: a potential by name or file
- ``gamma_force_constants.py``: force constants of many crystals
- ``relax.py``: relaxation that keeps the symmetry
"""

from .ase_potential import AsePotential
from .bond_potential import BondPotential
from .energy_model import EnergyModel, load_energy_model
from .energy_potential import EnergyPotential
from .gamma_force_constants import gamma_force_constants
from .load_potential import load_potential
from .potential import Potential, PotentialResult
from .relax import Relaxed, relax

__all__ = [
    "AsePotential",
    "BondPotential",
    "EnergyModel",
    "EnergyPotential",
    "Potential",
    "PotentialResult",
    "Relaxed",
    "gamma_force_constants",
    "load_energy_model",
    "load_potential",
    "relax",
]
