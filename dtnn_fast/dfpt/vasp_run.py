# SPDX-License-Identifier: MIT
"""Read the result of one VASP run: vasprun.xml, or OUTCAR where that lacks the tensors; and whether it converged."""

from __future__ import annotations

import gzip
import warnings
import zlib
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from ..crystals.crystal import Crystal, Rejected
from ..datasets.sources.source import PublishedTensors
from ..datasets.sources.vasprun import DielectricRun, read_vasprun
from ..errors import BadCrystalError, BadFileError, MissingPackageError, optional_import
from ..formats.reading import read_crystals

_ENERGIES_OF_A_STEP = frozenset({"e_fr_energy", "e_wo_entrp", "e_0_energy"})
_RELAXATIONS = ("1", "2", "3")
# What stands in every good OUTCAR, and what it means where it does not.
_OUTCAR_FAULTS = (
    (b"General timing and accounting", "the run has not ended, or died"),
    (b"EDIFF is reached", "the electrons did not converge"),
)


class VaspRun(NamedTuple):
    """A run, and what is wrong with it.

    Args:
        file: vasprun.xml or OUTCAR.
        run: structure and tensors; None where the file cannot be read.
        fault: why the run cannot be used; empty where it can.
    """

    file: Path
    run: DielectricRun | None
    fault: str = ""

    @property
    def has_tensors(self) -> bool:
        """Whether the run computed an electronic or ionic tensor."""
        return self.run is not None and any(tensor is not None for tensor in self.run.tensors)


def find_runs(folder: Path) -> list[VaspRun]:
    """Read the runs in a folder and its subfolders, in the order of their names.

    Args:
        folder: searched for vasprun.xml and OUTCAR, each also with .gz. An OUTCAR counts where its folder has no
            vasprun.xml, or one without tensors.
    """
    runs = []
    names = ("vasprun.xml", "vasprun.xml.gz", "OUTCAR", "OUTCAR.gz")
    folders = sorted({path.parent for name in names for path in folder.rglob(name)})
    for place in folders:
        files = [place / name for name in names if (place / name).is_file()]
        of_place = [_read_xml(file) for file in files if file.name.startswith("vasprun")][:1]
        outcars = [file for file in files if file.name.startswith("OUTCAR")][:1]
        if outcars and not any(run.has_tensors or run.fault for run in of_place):
            from_outcar = _read_outcar(outcars[0])
            if from_outcar.has_tensors or not of_place:
                of_place = [from_outcar]
        runs += of_place
    return runs


def _read_xml(file: Path) -> VaspRun:
    try:
        text = _read_bytes(file)
        run = read_vasprun(text, file.parent.name)
        return VaspRun(file, run, _convergence_fault(ElementTree.fromstring(text)))
    except BadCrystalError as error:
        return VaspRun(
            file, None, str(error).removeprefix(f"{file.parent.name}: ") + ": the run has not ended, or died"
        )
    except (OSError, EOFError, zlib.error) as error:
        return VaspRun(file, None, f"cannot be read: {error}")


def _read_bytes(file: Path) -> bytes:
    data = file.read_bytes()
    return gzip.decompress(data) if file.suffix == ".gz" else data


def _convergence_fault(root: ElementTree.Element) -> str:
    """Say what did not converge, by the numbers of steps; empty where all did or the file has no numbers."""
    calculations = root.findall("calculation")
    if not calculations:
        return "no step was finished"
    # The file has the tags that the user gave first, then all of them.
    tags = {item.get("name", ""): (item.text or "").strip() for item in root.findall(".//incar/i")}
    tags |= {item.get("name", ""): (item.text or "").strip() for item in root.findall(".//parameters//i")}
    largest_electronic = _integer(tags.get("NELM"))
    num_electronic = _num_electronic_steps(calculations[-1])
    if largest_electronic and num_electronic >= largest_electronic:
        return f"the electrons did not converge in {num_electronic} steps (NELM)"
    largest_ionic = _integer(tags.get("NSW"))
    if tags.get("IBRION") in _RELAXATIONS and largest_ionic > 1 and len(calculations) >= largest_ionic:
        return f"the relaxation did not converge in {len(calculations)} steps (NSW)"
    return ""


def _num_electronic_steps(calculation: ElementTree.Element) -> int:
    """Count the steps of the ground state. Behind the first step, those of the response list more energies."""
    steps = calculation.findall("scstep")
    count = min(len(steps), 1)
    for step in steps[1:]:
        if {item.get("name") for item in step.findall("energy/i")} != _ENERGIES_OF_A_STEP:
            break
        count += 1
    return count


def _integer(text: str | None) -> int:
    try:
        return int(text or "")
    except ValueError:
        return 0


def _read_outcar(file: Path) -> VaspRun:
    """Read the tensors of an OUTCAR by pymatgen, with the structure of CONTCAR or POSCAR beside it."""
    outputs = optional_import("pymatgen.io.vasp.outputs", extra="io", purpose="read OUTCAR")
    structure = next((path for path in _structures_beside(file) if path.is_file() and path.stat().st_size), None)
    if structure is None:
        return VaspRun(file, None, "there is no CONTCAR or POSCAR beside the OUTCAR")
    try:
        text = _read_bytes(file)
        crystal = read_crystals(structure)[0]
        if not isinstance(crystal, Crystal):
            return VaspRun(file, None, f"{structure.name}: {crystal.reason}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcar = outputs.Outcar(str(file))
            outcar.read_lepsilon()
            outcar.read_lepsilon_ionic()
    except MissingPackageError:
        raise
    except (BadFileError, OSError, EOFError, zlib.error) as error:
        return VaspRun(file, None, f"cannot be read: {error}")
    except Exception as error:  # whatever pymatgen raises for a file that is cut off
        return VaspRun(file, None, f"OUTCAR cannot be read by pymatgen: {type(error).__name__}: {error}")
    electronic, ionic = (
        _tensor(getattr(outcar, name, None)) for name in ("dielectric_tensor", "dielectric_ionic_tensor")
    )
    fault = next((fault for words, fault in _OUTCAR_FAULTS if words not in text), "")
    return VaspRun(file, DielectricRun(crystal, PublishedTensors(electronic, ionic)), fault)


def _structures_beside(file: Path) -> list[Path]:
    return [file.parent / name for name in ("CONTCAR", "CONTCAR.gz", "POSCAR", "POSCAR.gz")]


def _tensor(rows: object) -> np.ndarray | None:
    try:
        tensor = np.array(rows, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    # pymatgen gives zeros where there is none.
    return tensor if tensor.shape == (3, 3) and tensor.any() else None


def rejected_run(run: VaspRun, id: str) -> Rejected:
    """Return the record of a run that cannot be used."""
    return Rejected(id, str(run.file), run.fault)
