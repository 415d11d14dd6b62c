# SPDX-License-Identifier: MIT
"""Read the structure and the dielectric tensors of one run from VASP's vasprun.xml.

Both are in one frame there. VASP writes the clamped-ion tensor with local field effects as ``epsilon`` and the ions'
contribution as ``epsilon_ion`` (tags LEPSILON and IBRION = 7 or 8).
"""

from __future__ import annotations

from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from ...crystals.crystal import Crystal
from ...crystals.elements import atomic_number
from ...errors import BadCrystalError
from .source import Tensors


class DielectricRun(NamedTuple):
    """The crystal of a run, and its tensors, None where the run did not compute them."""

    crystal: Crystal
    tensors: Tensors


def read_vasprun(text: bytes, id: str) -> DielectricRun:
    """Read a vasprun.xml.

    Args:
        text: the content of the file.
        id: the name of the crystal.

    Returns:
        The final structure and the tensors of the last calculation that has them.

    Raises:
        BadCrystalError: it is no XML, it is truncated, or it has no structure.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise BadCrystalError(f"{id}: vasprun.xml is damaged or truncated: {error}") from error
    try:
        return DielectricRun(_structure(root, id), Tensors(_last(root, "epsilon"), _last(root, "epsilon_ion")))
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


def _last(root: ElementTree.Element, name: str) -> np.ndarray | None:
    found = root.findall(f"calculation/varray[@name='{name}']")
    return _vectors(found[-1]) if found else None


def _vectors(varray: ElementTree.Element | None) -> np.ndarray:
    if varray is None:
        raise ValueError("there is no cell or there are no positions")
    # VASP prints stars where a number does not fit its column; float() then names them in its error.
    return np.array([[float(word) for word in (v.text or "").split()] for v in varray.findall("v")])
