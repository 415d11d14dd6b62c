# SPDX-License-Identifier: MIT
"""Input folders of VASP for the dielectric tensors of crystals, and a Python file that runs them by atomate2.

Settings are those of the Materials Project: PBE, with U for oxides and fluorides of transition metals, by pymatgen's
input sets.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..crystals.crystal import Crystal, Rejected
from ..crystals.elements import SYMBOLS
from ..errors import BadFileError, optional_import
from .predicted import PredictedCrystal, write_plan

RELAX_FOLDER, DIELECTRIC_FOLDER, FLOW_FILE = "relax", "dielectric", "dfpt_flow.py"
# In addition to pymatgen's MPRelaxSet: a tight relaxation, since forces and stresses left over shift soft phonons.
TIGHT_RELAXATION: dict[str, Any] = {"EDIFF": 1e-7, "EDIFFG": -0.001, "LREAL": False}
# In addition to MPStaticSet(lepsilon=True).
TIGHT_DIELECTRIC: dict[str, Any] = {"EDIFF": 1e-7}
_PURPOSE = "write inputs of VASP"


def write_inputs(folder: Path, predicted: Sequence[PredictedCrystal]) -> tuple[dict[str, Path], list[Rejected]]:
    """Write input folders for crystals, ``dfpt_flow.py`` and ``dfpt.json``.

    Each crystal has a folder with ``relax/`` (tight relaxation of atoms and cell) and ``dielectric/`` (LEPSILON, IBRION
    = 8): INCAR, KPOINTS, POSCAR, and POTCAR where pymatgen finds the user's, else POTCAR.spec with their names.

    Args:
        folder: created if missing; it must be empty otherwise.
        predicted: the crystals.

    Returns:
        The folder of each crystal by its id, and a record for each crystal that pymatgen has no inputs for.

    Raises:
        BadFileError: the folder is not empty.
        MissingPackageError: pymatgen is not installed.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadFileError(f"{folder}: expected a missing or empty folder")
    optional_import("pymatgen.io.vasp.sets", extra="io", purpose=_PURPOSE)
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, PredictedCrystal] = {}
    rejected = []
    for one in predicted:
        name = _folder_name(one.crystal.id, written)
        try:
            _write_crystal(folder / name, one.crystal)
        except (ValueError, KeyError, LookupError, TypeError) as error:
            rejected.append(Rejected(one.crystal.id, one.crystal.source, f"pymatgen has no inputs for it: {error}"))
            continue
        written[name] = one
    if written:
        write_plan(folder, written)
        (folder / FLOW_FILE).write_text(flow_text(), encoding="utf-8")
    return {one.crystal.id: folder / name for name, one in written.items()}, rejected


def _folder_name(id: str, taken: dict[str, PredictedCrystal]) -> str:
    """Name a folder after an id, without characters that have a meaning in paths and shells."""
    base = re.sub(r"[^A-Za-z0-9._+-]", "_", id).strip(".") or "crystal"
    name, number = base, 2
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    return name


def _write_crystal(folder: Path, crystal: Crystal) -> None:
    core = optional_import("pymatgen.core", extra="io", purpose=_PURPOSE)
    sets = optional_import("pymatgen.io.vasp.sets", extra="io", purpose=_PURPOSE)
    # VASP wants a right-handed cell; the negative lattice vectors span the same lattice.
    cell = crystal.cell if np.linalg.det(crystal.cell) > 0 else -crystal.cell
    symbols = [SYMBOLS[z] for z in crystal.atomic_numbers.tolist()]
    structure = core.Structure(cell, symbols, crystal.positions, coords_are_cartesian=True, to_unit_cell=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about POTCARs that are missing, and old settings
        relax = sets.MPRelaxSet(structure, user_incar_settings=TIGHT_RELAXATION)
        dielectric = sets.MPStaticSet(structure, lepsilon=True, user_incar_settings=TIGHT_DIELECTRIC)
        for name, input_set in ((RELAX_FOLDER, relax), (DIELECTRIC_FOLDER, dielectric)):
            _write_set(folder / name, input_set)


def _write_set(folder: Path, input_set: Any) -> None:
    # All texts before the first file, so that a crystal is written whole or not at all.
    texts = {
        "INCAR": str(input_set.incar),
        "KPOINTS": str(input_set.kpoints),
        "POSCAR": input_set.poscar.get_str(significant_figures=16),
    }
    try:
        texts["POTCAR"] = str(input_set.potcar)
    except (OSError, ValueError, KeyError, RuntimeError):
        texts["POTCAR.spec"] = "\n".join(input_set.potcar_symbols) + "\n"
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / name).write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")


def flow_text() -> str:
    """Return ``dfpt_flow.py``: a flow of atomate2 for each crystal of the folder that the file is in."""
    return f'''"""Relaxation and dielectric tensors of these crystals by atomate2; written by dtnn-fast dfpt.

    pip install atomate2
    python {FLOW_FILE}            # runs VASP here, one crystal after the other; atomate2 and VASP must be set up
    python {FLOW_FILE} --list     # only lists the flows and their jobs

Runs go into CRYSTAL/atomate2/, where dtnn-fast dfpt --collect finds them. For a cluster, import make_flows and submit
them with jobflow-remote or FireWorks.
"""

import json
import sys
from pathlib import Path

from atomate2.vasp.flows.core import DoubleRelaxMaker
from atomate2.vasp.jobs.core import DielectricMaker
from atomate2.vasp.jobs.mp import MPGGARelaxMaker
from jobflow import Flow, run_locally
from pymatgen.core import Structure
from pymatgen.io.vasp.sets import MPRelaxSet, MPStaticSet

HERE = Path(__file__).resolve().parent
TIGHT_RELAXATION = {TIGHT_RELAXATION!r}
TIGHT_DIELECTRIC = {TIGHT_DIELECTRIC!r}


def make_flow(name, structure):
    """Relax twice, because the basis set belongs to the first cell; then the tensors by perturbation theory."""
    relaxation = MPGGARelaxMaker(
        input_set_generator=MPRelaxSet(inherit_incar=False, user_incar_settings=TIGHT_RELAXATION)
    )
    relax = DoubleRelaxMaker.from_relax_maker(relaxation).make(structure)
    dielectric = DielectricMaker(
        input_set_generator=MPStaticSet(lepsilon=True, inherit_incar=False, user_incar_settings=TIGHT_DIELECTRIC)
    ).make(relax.output.structure, prev_dir=relax.output.dir_name)
    return Flow([relax, dielectric], output=dielectric.output, name=f"dfpt {{name}}")


def make_flows():
    """Return the flow of each crystal by the name of its folder."""
    plan = json.loads((HERE / "dfpt.json").read_text(encoding="utf-8"))
    names = [crystal["folder"] for crystal in plan["crystals"]]
    return {{name: make_flow(name, Structure.from_file(HERE / name / "{RELAX_FOLDER}" / "POSCAR")) for name in names}}


if __name__ == "__main__":
    for name, flow in make_flows().items():
        print(name, "->", ", ".join(job.name for job, _ in flow.iterflow()))
        if "--list" not in sys.argv:
            root = HERE / name / "atomate2"
            root.mkdir(exist_ok=True)
            run_locally(flow, create_folders=True, root_dir=root)
'''
