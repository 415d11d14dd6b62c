# SPDX-License-Identifier: MIT
"""Predicted crystals as JSON, as ``dtnn-fast predict --json`` and ``dtnn-fast serve`` give them."""

from __future__ import annotations

from typing import Any

from .store import ScreenedCrystals, tensor_columns


def predictions_to_json(screened: ScreenedCrystals) -> list[dict[str, Any]]:
    """Describe predicted crystals by values that JSON can hold.

    Args:
        screened: the crystals.

    Returns:
        For each crystal its names, crystal system, cell, warnings and tensors, and Born charges where they are known.
    """
    numbers = {target: tensor_columns(tensors) for target, tensors in screened.tensors.items()}
    warnings = screened.warnings()
    crystals = [
        {
            "id": screened.ids[row],
            "source": screened.sources[row],
            "formula": screened.formulas[row],
            "crystal_system": screened.systems[row],
            "num_atoms": int(screened.num_atoms[row]),
            "lattice_vectors": screened.lattice_vectors[row].tolist(),
            "warnings": [warning.text for warning in warnings[row]],
            "warning_codes": [str(warning.code) for warning in warnings[row]],
            "tensors": {
                target: {
                    "tensor": tensors[row].tolist(),
                    "mean": float(numbers[target]["mean"][row]),
                    "principal_values": [float(numbers[target][name][row]) for name in ("e1", "e2", "e3")],
                    "anisotropy": float(numbers[target]["anisotropy"][row]),
                    **{name: float(by_target[target][row]) for name, by_target in screened.error_bars.items()},
                }
                for target, tensors in screened.tensors.items()
            },
        }
        for row in range(len(screened))
    ]
    if screened.atoms is not None:
        for row, crystal in enumerate(crystals):
            crystal |= {name: values[row].tolist() for name, values in screened.atoms._asdict().items()}
    return crystals
