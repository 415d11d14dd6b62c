# SPDX-License-Identifier: MIT
"""Lattice dynamics at the zone centre: what Born charges and force constants say about the ionic tensor."""

from .ionic_tensor import (
    E2_OVER_EPS0,
    SOFTEST,
    GammaModes,
    compliance,
    gamma_modes,
    ionic_tensor,
    without_translations,
)

__all__ = [
    "E2_OVER_EPS0",
    "SOFTEST",
    "GammaModes",
    "compliance",
    "gamma_modes",
    "ionic_tensor",
    "without_translations",
]
