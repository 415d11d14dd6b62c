# SPDX-License-Identifier: MIT
"""The page of ``dtnn-fast predict --html``: predicted tensors drawn in their crystals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..crystals.crystal import Crystal
from ..crystals.elements import SYMBOLS
from .crystal_entries import add_structures, nonmetal_symbols, radii_of, tensor_entry
from .html_page import write_page
from .provenance import provenance_of

# What is known of a prediction, of what `provenance_of` lists, and how it is called.
_LABELS = {"report": "command", "written": "written", "model": "model"}


def write_prediction_page(path: Path, prediction: Mapping[str, Any], crystals: Sequence[Crystal], command: str) -> None:
    """Write predicted crystals as one HTML file that needs no network.

    Args:
        path: the file.
        prediction: the content of ``predict --json``.
        crystals: the predicted crystals, found by their ids.
        command: command line that writes the page.
    """
    by_id = {crystal.id: crystal for crystal in crystals}
    entries = [_entry(predicted, rank) for rank, predicted in enumerate(prediction["crystals"], start=1)]
    add_structures(entries, [_structure(by_id.get(entry["id"])) for entry in entries])
    targets = list(dict.fromkeys(target for entry in entries for target in entry["tensors"]))
    names = ", ".join(entry["formula"] for entry in entries[:3]) + (", …" if len(entries) > 3 else "")
    rejected = [[item["id"], item["source"], item["reason"], None] for item in prediction["rejected"]]
    record = {"command": command, "model": prediction["model"]}
    content = {
        "kind": "prediction",
        "title": f"Dielectric tensors: {names}",
        "version": __version__,
        "counts": {"predicted": len(entries), "rejected": len(rejected)},
        "targets": targets,
        "main_target": "total" if "total" in targets else targets[-1],
        "ranked_by": "In the order of the files",
        "crystals": entries,
        "radii": radii_of(entries),
        "nonmetals": nonmetal_symbols(),
        "figures": [],
        "rejected": {"total": len(rejected), "groups": [], "others": len(rejected), "rows": rejected},
        "provenance": [
            [_LABELS[name], text] for name, text in provenance_of(record, record, command) if name in _LABELS
        ],
    }
    write_page(path, content)


def _entry(predicted: Mapping[str, Any], place: int) -> dict[str, Any]:
    plain = ("id", "formula", "source", "crystal_system", "num_atoms", "warnings")
    return {
        **{name: predicted[name] for name in plain},
        "rank": place,
        "codes": predicted["warning_codes"],
        "refined": predicted.get("refined"),
        "tensors": {
            target: tensor_entry(
                np.array(values["tensor"]), mean_error=values.get("mean_error"), tensor_error=values.get("tensor_error")
            )
            for target, values in predicted["tensors"].items()
        },
    }


def _structure(crystal: Crystal | None) -> dict[str, Any]:
    if crystal is None:
        return {}
    return {
        "lattice_vectors": crystal.cell.tolist(),
        "species_at_sites": [SYMBOLS[z] for z in crystal.atomic_numbers.tolist()],
        "cartesian_site_positions": crystal.positions.tolist(),
    }
