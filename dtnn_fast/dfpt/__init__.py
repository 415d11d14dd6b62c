# SPDX-License-Identifier: MIT
"""Density-functional perturbation theory for chosen candidates: VASP inputs, and comparison with predictions.

docs/dfpt.md shows the steps.
"""

from .collect import CollectedRuns, collect_runs
from .predicted import PredictedCrystal, predict_crystals, read_screening
from .vasp_inputs import write_inputs

__all__ = ["CollectedRuns", "PredictedCrystal", "collect_runs", "predict_crystals", "read_screening", "write_inputs"]
