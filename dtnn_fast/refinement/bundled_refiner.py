# SPDX-License-Identifier: MIT
"""Refiners by the names of their models; the bundled two have joins, which were fitted to this pair."""

from __future__ import annotations

from pathlib import Path

import torch

from ..model.bundled_model import BUNDLED_LATTICE_MODEL, bundled_lattice_folder
from ..model.lattice_model import LatticeModel
from ..model.predictor import Predictor
from .ionic_join import IonicJoin
from .refiner import MAX_ATOMS, ForceConstantSource, Refiner

# The direct model of the pair.
BUNDLED_DIRECT_MODEL = "dielectric"


def bundled_refiner(predictor: Predictor, device: torch.device | str = "cpu") -> Refiner:
    """Make the refiner that belongs to the bundled model.

    Args:
        predictor: the bundled model "dielectric".
        device: device of the lattice model.

    Raises:
        BadFileError: the files of the bundled lattice model are missing or damaged.
    """
    return load_refiner(predictor, BUNDLED_DIRECT_MODEL, device=device)


def load_refiner(
    predictor: Predictor,
    model: str,
    lattice: str | Path = BUNDLED_LATTICE_MODEL,
    force_constants: ForceConstantSource | None = None,
    softening: float = 1.0,
    max_atoms: int = MAX_ATOMS,
    device: torch.device | str = "cpu",
    potential: str = "",
    lattice_share: float = 0.0,
) -> Refiner:
    """Load the lattice model of a refiner, and the join if both models are the bundled ones.

    There is a join for the force constants of the lattice model, and one for those of each of a few potentials.

    Both models predict for the functional of the direct model, where the lattice model knows it.

    Args:
        predictor: direct model of electronic and ionic tensors.
        model: name or folder that it was loaded from.
        lattice: "lattice", or the folder of a lattice model.
        force_constants: see `Refiner`.
        softening: see `Refiner`.
        max_atoms: see `Refiner`.
        device: device of the lattice model.
        potential: `Potential.name` of the potential that computes `force_constants` of crystals as they are, with the
            softening and the share that belong to it; empty where this is not so, and there is no join.
        lattice_share: see `Refiner`.

    Raises:
        BadFileError: there is no such lattice model, or its files are damaged.
        ValueError: the direct model lacks the electronic or the ionic tensor.
    """
    is_pair = (model, str(lattice)) == (BUNDLED_DIRECT_MODEL, BUNDLED_LATTICE_MODEL)
    is_known = force_constants is None or potential != ""
    join = IonicJoin.load(bundled_lattice_folder(), potential) if is_pair and is_known else None
    response = LatticeModel.from_pretrained(lattice).to(device)
    if predictor.functional in response.functionals:
        response = response.with_functional(predictor.functional)
    return Refiner(predictor, response, join, force_constants, softening, max_atoms, lattice_share)
