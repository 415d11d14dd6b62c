# SPDX-License-Identifier: MIT
"""Thirty crystals that everybody tries first, with permittivities by theory and by experiment.

bundled/SOURCES.md says where structures and values come from; bundled/textbook.jsonl names the source of each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..crystals.crystal import Crystal
from ..errors import BadFileError
from ..formats.json_lines import read_jsonl
from .bundled import FOLDER

TEXTBOOK_FILE = FOLDER / "textbook.jsonl"
TEXTBOOK_SOURCE = "textbook crystals"


@dataclass(frozen=True)
class TextbookCrystal:
    """A well-known crystal with reference values.

    Args:
        crystal: structure, with the tensors of density-functional perturbation theory (DFPT) as far as they mean
            something: none where the functional closes the band gap, no ionic one of a crystal that is unstable in it.
        name: its name in words.
        functional: functional of the tensors; empty without tensors.
        theory: source of the tensors; empty without.
        structure: source of the structure.
        measured: measured principal values of "electronic" (optical, far below the gap) and "total" (static)
            permittivity, those across the axis first; a single one for cubic crystals. [1] or [3] each.
        measured_by: source of each of `measured`.
        near_instability: whether the crystal is near a ferroelectric or another displacive instability, where the
            static permittivity depends on temperature and theory is off by any factor.
        remark: what else to know; may be empty.
    """

    crystal: Crystal
    name: str
    functional: str
    theory: str
    structure: str
    measured: Mapping[str, np.ndarray]
    measured_by: Mapping[str, str]
    near_instability: bool
    remark: str

    def measured_mean(self, target: str) -> float | None:
        """Return the measured mean permittivity, a third of the trace; None where unknown.

        Args:
            target: "electronic" or "total".
        """
        values = self.measured.get(target)
        return None if values is None else float(values.mean())

    def theory_mean(self, target: str) -> float | None:
        """Return the mean permittivity by DFPT, a third of the trace; None where unknown.

        Args:
            target: "electronic", "ionic" or "total".
        """
        tensor = self.crystal.targets.get(target)
        return None if tensor is None else float(np.trace(tensor) / 3.0)


def load_textbook() -> list[TextbookCrystal]:
    """Load the thirty textbook crystals, from elements to perovskites."""
    text = TEXTBOOK_FILE.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return [_textbook_crystal(crystal, row) for crystal, row in zip(read_jsonl(TEXTBOOK_FILE, text), rows, strict=True)]


def _textbook_crystal(crystal: Any, row: Mapping[str, Any]) -> TextbookCrystal:
    if not isinstance(crystal, Crystal):
        raise BadFileError(f"{crystal.source}: {crystal.reason}")
    crystal.info.clear()
    crystal.info.update({"formula": crystal.formula, "space_group": row["space_group"]})
    experiment = row["experiment"]
    measured = {name: np.array(experiment[name], dtype=np.float64) for name in _MEASURED if name in experiment}
    return TextbookCrystal(
        crystal,
        row["name"],
        row.get("functional", ""),
        row.get("theory", ""),
        row["structure"],
        measured,
        {name: experiment[f"{name}_source"] for name in measured},
        row["near_instability"],
        row.get("remark", ""),
    )


_MEASURED = ("electronic", "total")
