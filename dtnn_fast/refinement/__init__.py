# SPDX-License-Identifier: MIT
"""Ionic tensors by lattice dynamics, joined with the direct prediction."""

from .bundled_refiner import bundled_refiner
from .ionic_join import IonicEstimates, IonicJoin, fit_join
from .refiner import Refinement, Refiner

__all__ = ["IonicEstimates", "IonicJoin", "Refinement", "Refiner", "bundled_refiner", "fit_join"]
