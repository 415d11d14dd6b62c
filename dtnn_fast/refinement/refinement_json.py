# SPDX-License-Identifier: MIT
"""Refined crystals as JSON, as ``dtnn-fast refine``, ``predict`` and ``serve`` give them."""

from __future__ import annotations

from typing import Any

from ..model.predictor import mean_permittivity
from .refiner import Refinement


def refinement_numbers(one: Refinement) -> dict[str, Any]:
    """Return the numbers of a refined crystal that a table lists, by name; docs/refine.md explains them."""

    def mean(tensor: Any) -> float:
        return float(mean_permittivity(tensor))

    return {
        "id": one.crystal.id,
        "formula": one.crystal.formula,
        "num_atoms": one.crystal.num_atoms,
        "electronic_mean": mean(one.electronic),
        "ionic_direct_mean": mean(one.direct),
        "ionic_lattice_mean": mean(one.lattice),
        "ionic_mean": mean(one.ionic),
        "ionic_mean_error": one.ionic_mean_error,
        "total_mean": mean(one.total),
        "total_mean_error": one.total_mean_error,
        "lowest_frequency_thz": float(one.modes[0]) if len(one.modes) else None,
        "softest_polar_stiffness": one.softest[1] if one.softest[1] < float("inf") else None,
        "unstable": one.is_unstable,
        "nearly_ferroelectric": one.is_nearly_ferroelectric,
        "remarks": one.remarks,
        "warnings": [warning.text for warning in one.warnings],
        "warning_codes": list(dict.fromkeys(str(warning.code) for warning in one.warnings)),
    }


def refinement_to_json(one: Refinement) -> dict[str, Any]:
    """Return everything that is known of a refined crystal, as plain values."""
    return {
        **refinement_numbers(one),
        "source": one.crystal.source,
        "lattice_vectors": one.crystal.cell.tolist(),
        "electronic": one.electronic.tolist(),
        "ionic_direct": one.direct.tolist(),
        "ionic_lattice": one.lattice.tolist(),
        "ionic": one.ionic.tolist(),
        "ionic_error": one.ionic_error,
        "total": one.total.tolist(),
        "frequencies_thz": one.modes.tolist(),
        "born_charges": one.born_charges.tolist(),
    }
