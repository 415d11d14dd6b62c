# SPDX-License-Identifier: MIT
"""The folder and the names with which the code blocks of the pages run, so that pages need no preamble.

A page runs in a folder of its own with these files, and its Python blocks know the names of `page_names`.

| file or folder | content |
| --- | --- |
| NaCl.cif, BaTiO3.cif, SrTiO3.cif, MgO.cif, more.cif, best.cif, POSCAR | single crystals |
| structures/, my_cifs/, huge.json.bz2, more.jsonl | some of them |
| by_id.zip with stable_materials_summary.csv | CIF by id, and a table of properties, as of GNoME |
| alexandria_000.json.bz2; wbm-cses.jsonl.gz with wbm-summary.csv.gz | entries as of these databases |
| mp.npz, mine.npz, labelled.npz, phonons.npz, measured.jsonl | labelled crystals |
| docs/results_notes.md | notes, for the command that writes results.md |
| screening/ | of structures/, with Born charges |
| runs/distilled | a tiny distilled encoder with an energy head |
"""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pymatgen.core import Lattice, Structure
from typer.testing import CliRunner

from dtnn_fast import DTNN
from dtnn_fast.cli.app import app
from dtnn_fast.crystals import to_crystals
from dtnn_fast.datasets import load_labelled
from dtnn_fast.encoders import Channels, NativeEncoder, NativeEncoderConfig
from dtnn_fast.encoders.build import save_encoder
from dtnn_fast.formats import write_packed
from dtnn_fast.potentials.energy_model import EnergyHead, save_energy_head


def rocksalt(cation: str, anion: str, length: float) -> Structure:
    """Make a crystal of NaCl's structure."""
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(length), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


def perovskite(cation: str, length: float) -> Structure:
    """Make a cubic titanate."""
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]
    return Structure.from_spacegroup("Pm-3m", Lattice.cubic(length), [cation, "Ti", "O"], places)


STRUCTURES = {
    "NaCl": rocksalt("Na", "Cl", 5.64),
    "MgO": rocksalt("Mg", "O", 4.21),
    "CaO": rocksalt("Ca", "O", 4.81),
    "BaTiO3": perovskite("Ba", 4.0),
    "SrTiO3": perovskite("Sr", 3.9),
}


def make_folder(folder: Path) -> None:
    """Write the files that pages use; takes two seconds."""
    texts = {name: structure.to(fmt="cif") for name, structure in STRUCTURES.items()}
    for name, text in texts.items():
        (folder / f"{name}.cif").write_text(text)
    (folder / "more.cif").write_text(texts["MgO"])
    (folder / "best.cif").write_text(texts["CaO"])
    (folder / "POSCAR").write_text(STRUCTURES["CaO"].to(fmt="poscar"))
    for name in ("structures", "my_cifs"):
        (folder / name).mkdir()
        for crystal in ("NaCl", "MgO", "BaTiO3", "SrTiO3"):
            shutil.copy(folder / f"{crystal}.cif", folder / name)
        with (folder / name / "properties.csv").open("w", newline="") as file:
            _write_rows(file, [{"id": crystal, "band_gap": 4.0, "e_above_hull": 0.0} for crystal in STRUCTURES])
    dicts = {name: structure.as_dict() for name, structure in STRUCTURES.items()}
    (folder / "huge.json.bz2").write_bytes(bz2.compress(json.dumps(dicts).encode()))
    entries = [
        {"@class": "ComputedStructureEntry", "entry_id": f"agm{k}", "energy": -1.0, "structure": structure}
        for k, structure in enumerate(dicts.values())
    ]
    (folder / "alexandria_000.json.bz2").write_bytes(bz2.compress(json.dumps({"entries": entries}).encode()))
    lines = [
        {"material_id": f"wbm-1-{k}", "computed_structure_entry": {**entry, "entry_id": f"wbm-1-{k}"}}
        for k, entry in enumerate(entries)
    ]
    (folder / "wbm-cses.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    rows = [{"material_id": line["material_id"], "bandgap_pbe": 3.0} for line in lines]
    with gzip.open(folder / "wbm-summary.csv.gz", "wt", newline="") as file:
        _write_rows(file, rows)
    with zipfile.ZipFile(folder / "by_id.zip", "w") as archive:
        for k, text in enumerate(texts.values()):
            archive.writestr(f"by_id/{k:010x}.CIF", text)
    with (folder / "stable_materials_summary.csv").open("w", newline="") as file:
        _write_rows(file, [{"MaterialId": f"{k:010x}", "Bandgap": 2.0 + k} for k in range(len(texts))])
    (folder / "docs").mkdir()
    (folder / "docs" / "results_notes.md").write_text("# Notes\n")
    labelled = [crystal for crystal in load_labelled() if crystal.num_atoms < 5][:8]
    for name in ("mp", "mine", "labelled", "phonons"):
        write_packed(folder / f"{name}.npz", labelled, {"source": "page_folder.py"})
    measured = [
        {
            "id": crystal.id,
            "lattice_angstrom": crystal.cell.tolist(),
            "atomic_numbers": crystal.atomic_numbers.tolist(),
            "frac_coords": (crystal.positions @ np.linalg.inv(crystal.cell)).tolist(),
            "eps_total": crystal.targets["total"].tolist(),
        }
        for crystal in labelled
    ]
    (folder / "measured.jsonl").write_text("\n".join(map(json.dumps, measured)) + "\n")
    shutil.copy(folder / "measured.jsonl", folder / "more.jsonl")
    torch.manual_seed(0)
    encoder = NativeEncoder(NativeEncoderConfig(channels=Channels(scalar=8, vector=4, rank2=4, radial=4)))
    save_encoder(encoder, folder / "runs" / "distilled" / "encoder")
    weight, constants = torch.randn(8, dtype=torch.float64), torch.zeros(119, dtype=torch.float64)
    save_energy_head(EnergyHead(weight, constants, elements=(8, 11, 12, 17)), folder / "runs" / "distilled", {})
    source, output = str(folder / "structures"), str(folder / "screening")
    result = CliRunner().invoke(app, ["screen", source, "--output", output, "--born-charges"])
    assert result.exit_code == 0, result.output


def _write_rows(file: Any, rows: list[dict[str, Any]]) -> None:
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)


def page_names() -> dict[str, Any]:
    """Make the names that the Python blocks of a page know."""
    structures = [STRUCTURES["MgO"], STRUCTURES["NaCl"]]
    crystals = to_crystals(structures)
    model = DTNN.from_pretrained("dielectric-total")
    return {
        "__name__": "page",
        "structure": structures[0],
        "structures": structures,
        "crystal": crystals[0],
        "crystals": crystals,
        "model": model,
        "ionic": 7.5 * np.eye(3),
    }
