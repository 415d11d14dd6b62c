# SPDX-License-Identifier: MIT
"""The refiner of the bundled models, whose join was fitted to this pair."""

from __future__ import annotations

from ..model.bundled_model import BUNDLED_LATTICE_MODEL, bundled_lattice_folder
from ..model.lattice_model import LatticeModel
from ..model.predictor import Predictor
from .ionic_join import IonicJoin
from .refiner import Refiner


def bundled_refiner(predictor: Predictor) -> Refiner:
    """Make the refiner that belongs to the bundled model.

    Args:
        predictor: the bundled model "dielectric".

    Raises:
        BadFileError: the files of the bundled lattice model are missing or damaged.
    """
    lattice = LatticeModel.from_pretrained(BUNDLED_LATTICE_MODEL)
    return Refiner(predictor, lattice, IonicJoin.load(bundled_lattice_folder()))
