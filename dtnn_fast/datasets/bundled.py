# SPDX-License-Identifier: MIT
"""The crystals that come with dtnn_fast; bundled/SOURCES.md says where they are from and how to cite them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..crystals.crystal import Crystal, dielectric_targets
from ..formats.packed_set import TENSOR_SCALE, load_arrays, unpack_structures

FOLDER = Path(__file__).parent / "bundled"
LABELLED_FILE = FOLDER / "labelled.npz"
STRUCTURES_FILE = FOLDER / "structures.npz"
LABELLED_SOURCE = "Petousis 2017"
STRUCTURES_SOURCE = "Materials Project 2015"

# Place p of this tuple is bit p of the packed `sources`.
SOURCE_NAMES = ("elastic", "piezo", "flla")


def load_labelled() -> list[Crystal]:
    """Load the 955 crystals with dielectric tensors from density-functional perturbation theory.

    Returns:
        Crystals with the targets "electronic", "ionic" and "total", symmetrised, and in `info`: formula, space_group
        (international number), crystal_system, band_gap_ev (PBE) and charge_balanced (see `load_screening`).
    """
    arrays = load_arrays(LABELLED_FILE)
    electronic = arrays["eps_electronic"] / TENSOR_SCALE
    total = arrays["eps_total"] / TENSOR_SCALE
    crystals = list(unpack_structures(arrays, LABELLED_SOURCE))
    _add_info(crystals, arrays)
    for crystal, e, t, gap in zip(crystals, electronic, total, arrays["band_gap_ev"].tolist(), strict=True):
        crystal.targets.update(dielectric_targets(e, t))
        crystal.info["band_gap_ev"] = gap
    return crystals


def load_structures() -> list[Crystal]:
    """Load the 5,676 crystals without labels; metals are among them, and 364 ids are among the labelled ones too.

    Returns:
        Crystals with, in `info`: formula, sources (of "elastic", "piezo", "flla"), space_group and crystal_system
        (found by spglib with symprec 0.1), charge_balanced (see `load_screening`) and, for those of "flla",
        e_above_hull_ev_per_atom.
    """
    arrays = load_arrays(STRUCTURES_FILE)
    crystals = list(unpack_structures(arrays, STRUCTURES_SOURCE))
    _add_info(crystals, arrays)
    energies = arrays["e_above_hull_ev_per_atom"].tolist()
    for crystal, bits, energy in zip(crystals, arrays["sources"].tolist(), energies, strict=True):
        crystal.info["sources"] = [name for place, name in enumerate(SOURCE_NAMES) if bits >> place & 1]
        if not np.isnan(energy):
            crystal.info["e_above_hull_ev_per_atom"] = energy
    return crystals


def load_screening() -> list[Crystal]:
    """Load the crystals that a screening without arguments looks at: those of both sets that can be insulators.

    A dielectric constant has no meaning for a metal. The labelled crystals all have a band gap and come first; of the
    others, those follow whose `charge_balanced` is true and whose id was not there yet. That mark is a heuristic on the
    composition alone (tools/pack_bundled.py): common oxidation states can add up to zero with the most electronegative
    element as an anion. It keeps intermetallics out, but lets some metallic compounds such as oxides with partly filled
    d shells through.
    """
    crystals = load_labelled()
    known = {crystal.id for crystal in crystals}
    crystals += [c for c in load_structures() if c.info["charge_balanced"] and c.id not in known]
    return crystals


def _add_info(crystals: list[Crystal], arrays: dict[str, np.ndarray]) -> None:
    columns = [arrays[name].tolist() for name in ("space_group", "crystal_system", "charge_balanced")]
    for crystal, space_group, system, balanced in zip(crystals, *columns, strict=True):
        crystal.info["space_group"] = space_group
        crystal.info["crystal_system"] = system
        crystal.info["charge_balanced"] = balanced
