# SPDX-License-Identifier: MIT
"""Read the structure, the dielectric tensors and the Born charges of one run from VASP's vasprun.xml.

All are in the same frame. VASP writes the clamped-ion tensor with local field effects as ``epsilon`` and the ions'
contribution as ``epsilon_ion`` (tags LEPSILON and IBRION = 7 or 8). ``born_charges`` has a 3x3 matrix for each atom:
rows are directions of the field, columns those of the displacement.
"""

from __future__ import annotations

from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from ...crystals.crystal import Crystal
from ...crystals.elements import atomic_number
from ...errors import BadCrystalError
from .source import PublishedTensors


class DielectricRun(NamedTuple):
    """The crystal of a run, its tensors and Born charges; None for what the run did not compute.

    Args:
        crystal: the final structure.
        tensors: in the frame of its cell.
        born_charges: Z[atom, field, displacement]. [N, 3, 3], e.
    """

    crystal: Crystal
    tensors: PublishedTensors
    born_charges: np.ndarray | None = None


def read_vasprun(text: bytes, id: str) -> DielectricRun:
    """Read a vasprun.xml.

    Args:
        text: the content of the file.
        id: the name of the crystal.

    Returns:
        The final structure and the tensors of the last calculation that has them.

    Raises:
        BadCrystalError: the text is not XML, is truncated, or has no structure.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise BadCrystalError(f"{id}: vasprun.xml is damaged or truncated: {error}") from error
    try:
        crystal = _structure(root, id)
        tensors = PublishedTensors(_last_tensor(root, "epsilon"), _last_tensor(root, "epsilon_ion"))
        return DielectricRun(crystal, tensors, _born_charges(root, crystal.num_atoms))
    except BadCrystalError:
        raise
    except (ValueError, AttributeError, IndexError) as error:
        raise BadCrystalError(f"{id}: vasprun.xml lacks a part of the structure: {error}") from error


def _structure(root: ElementTree.Element, id: str) -> Crystal:
    rows = root.findall("atominfo/array[@name='atoms']/set/rc")
    numbers = [atomic_number((row.findtext("c") or "").strip()) for row in rows]
    structures = root.findall("structure[@name='finalpos']") or root.findall(".//structure")
    if not structures or not numbers:
        raise BadCrystalError(f"{id}: vasprun.xml has no structure")
    cell = _vectors(structures[-1].find("crystal/varray[@name='basis']"))
    fractional = _vectors(structures[-1].find("varray[@name='positions']"))
    return Crystal.from_fractional(id, numbers, fractional, cell)


def _last_tensor(root: ElementTree.Element, name: str) -> np.ndarray | None:
    tensors = root.findall(f"calculation/varray[@name='{name}']")
    return _vectors(tensors[-1]) if tensors else None


def _born_charges(root: ElementTree.Element, num_atoms: int) -> np.ndarray | None:
    arrays = root.findall("calculation/array[@name='born_charges']")
    if not arrays:
        return None
    charges = np.array([_vectors(atom) for atom in arrays[-1].findall("set")])
    if charges.shape != (num_atoms, 3, 3):
        raise ValueError(f"Born charges of shape {list(charges.shape)} for {num_atoms} atoms")
    return charges


def _vectors(varray: ElementTree.Element | None) -> np.ndarray:
    if varray is None:
        raise ValueError("it has no cell or no positions")
    # VASP prints stars where a number is too wide for its column; the error of float() then shows them.
    return np.array([[float(word) for word in (v.text or "").split()] for v in varray.findall("v")])
