# SPDX-License-Identifier: MIT
"""New crystals by element substitution; see docs/candidates.md."""

from .generate import Candidates, CandidateSettings

__all__ = ["CandidateSettings", "Candidates"]
