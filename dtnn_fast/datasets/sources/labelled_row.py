# SPDX-License-Identifier: MIT
"""Turn one row of a source into a labelled crystal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ...crystals.convert import to_crystal
from ...crystals.crystal import Crystal
from ...crystals.rejected import Rejected
from ...crystals.targets import dielectric_targets
from ...errors import BadCrystalError
from ...formats.pymatgen_json import read_document
from .dropped import Dropped, Why

# Published parts are rounded; more than this of the largest element is another calculation.
_LARGEST_MISMATCH = 0.01


class Tensors(NamedTuple):
    """The dielectric tensors of a row as they were given, None where one was not. [3, 3] each"""

    electronic: Any = None
    ionic: Any = None
    total: Any = None


def labelled_crystal(
    id: str, source: str, structure: Any, tensors: Tensors, info: Mapping[str, Any] | None = None
) -> Crystal | Dropped:
    """Make a crystal with the three tensors, symmetrised.

    Args:
        id: a name that is unique in the data set.
        source: the data set, for messages.
        structure: a Crystal, a pymatgen Structure, or the dict of one.
        tensors: the total tensor, or two of the three.
        info: what else is known; values that are None are left out.

    Returns:
        The crystal, or why the row was left out.
    """
    try:
        targets = _targets(tensors)
    except BadCrystalError as error:
        return Dropped.of(Why.BAD_TENSOR, id, source, str(error))
    if "total" not in targets:
        return Dropped.of(Why.NO_TENSOR, id, source, _missing(tensors))
    crystal = _crystal(id, source, structure)
    if isinstance(crystal, Rejected):
        return Dropped(crystal, Why.BAD_STRUCTURE)
    known = {key: value for key, value in (info or {}).items() if value is not None}
    return replace(crystal, id=id, source=source, targets=targets, info=known)


def _targets(tensors: Tensors) -> dict[str, np.ndarray]:
    """All three tensors where two are given; `dielectric_targets` checks each of them."""
    electronic, ionic, total = tensors
    parts = dielectric_targets(electronic, total)
    if ionic is None:
        return parts
    given = _ionic(ionic)
    if electronic is None and total is None:
        return {"ionic": given}
    if total is None:
        return parts | {"ionic": given, "total": parts["electronic"] + given}
    if electronic is None:
        return parts | {"ionic": given, "electronic": parts["total"] - given}
    mismatch = np.abs(parts["ionic"] - given).max()
    if mismatch > _LARGEST_MISMATCH * np.abs(parts["total"]).max():
        raise BadCrystalError(
            f"the total tensor is not the electronic plus the ionic one: they differ by {mismatch:.3g}"
        )
    return parts


def _ionic(tensor: Any) -> np.ndarray:
    try:
        return dielectric_targets(total=tensor)["total"]
    except BadCrystalError as error:
        raise BadCrystalError(str(error).replace("total tensor", "ionic tensor")) from None


def _missing(tensors: Tensors) -> str:
    given = [name for name, tensor in zip(Tensors._fields, tensors, strict=True) if tensor is not None]
    return f"only the {given[0]} tensor is given" if given else "no dielectric tensor is given"


def _crystal(id: str, source: str, structure: Any) -> Crystal | Rejected:
    if structure is None:
        return Rejected(id, source, "no structure is given")
    if isinstance(structure, Mapping):
        return read_document(structure, id, source)
    try:
        return to_crystal(structure, id)
    except (BadCrystalError, TypeError) as error:
        return Rejected.because(error, id, source)
